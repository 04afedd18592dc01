"""Tables count what is to be counted, and say what they left out."""

from __future__ import annotations

import pandas as pd
import pytest

from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep, patterns, proportion, success_by
from rawpunch.errors import BadParameter


@pytest.fixture
def attempts() -> pd.DataFrame:
    """Nine attempts in two cells: one disturbed, one not measured, and one both."""
    rows = [
        ("raw", "drop", "established", "simultaneous", False),
        ("raw", "drop", "established", "half_simultaneous", False),
        ("raw", "drop", "refused", "refused", True),
        ("raw", "rst", "refused", "refused", False),
        ("raw", "rst", "not_measured", "truncated", False),
        ("kernel", "drop", "established", "simultaneous", False),
        ("kernel", "drop", "refused", "refused", False),
        ("kernel", "drop", "timed_out", "unanswered", False),
        ("kernel", "drop", "not_measured", "truncated", True),
    ]
    return pd.DataFrame(rows, columns=["ends", "nat", "outcome", "pattern", "disturbed"])


def test_success_by_factors(attempts: pd.DataFrame) -> None:
    """One row per combination that occurred, with n and the Wilson interval; the disturbed are counted apart."""
    found = success_by(attempts, ["ends", "nat"])
    assert found.table[["ends", "nat", "successes", "n", "disturbed"]].to_numpy().tolist() == [
        ["kernel", "drop", 1, 3, 1],
        ["raw", "drop", 2, 2, 1],
        ["raw", "rst", 0, 1, 0],
    ]
    assert found.table["low"].tolist() == [wilson(1, 3).low, wilson(2, 2).low, wilson(0, 1).low]
    assert found.table["estimate"].tolist() == pytest.approx([1 / 3, 1, 0])
    assert (found.kept.disturbed, found.kept.not_measured) == (2, 1)
    assert "left out: 2 disturbed, 1 not measured" in str(found)
    assert "<table" in found._repr_html_()


def test_one_factor_and_none(attempts: pd.DataFrame) -> None:
    """A single name is a factor too; without one there is one row for all."""
    assert success_by(attempts, "ends").table["n"].tolist() == [3, 3]
    assert success_by(attempts).table[["successes", "n"]].to_numpy().tolist() == [[3, 6]]
    assert proportion(attempts) == wilson(3, 6)
    assert proportion(attempts, outcome="refused") == wilson(2, 6)


def test_a_cell_with_nothing_left_stays(attempts: pd.DataFrame) -> None:
    """A cell of which every attempt was disturbed has n = 0 and knows nothing; it does not vanish."""
    attempts.loc[attempts["nat"] == "rst", "disturbed"] = True
    row = success_by(attempts, "nat").table.set_index("nat").loc["rst"]
    assert (row["n"], row["low"], row["high"], row["disturbed"]) == (0, 0, 1, 2)


def test_patterns(attempts: pd.DataFrame) -> None:
    """Each wire pattern that occurred is a column; rows add up to n."""
    table = patterns(attempts, "ends")
    assert table.columns.tolist() == ["ends", "half_simultaneous", "refused", "simultaneous", "unanswered", "n"]
    assert table.to_numpy().tolist() == [["kernel", 0, 1, 1, 1, 3], ["raw", 1, 1, 1, 0, 3]]
    assert patterns(attempts)["n"].tolist() == [6]


def test_all_attempts_stay_as_they_were(attempts: pd.DataFrame) -> None:
    """Leaving out is a view: the table given is not changed."""
    before = attempts.copy()
    keep(attempts)
    success_by(attempts, "ends")
    pd.testing.assert_frame_equal(attempts, before)


def test_unknown_factors_are_named(attempts: pd.DataFrame) -> None:
    """A factor that is no column is a usage error, not a KeyError."""
    for call in (success_by, patterns):
        with pytest.raises(BadParameter, match="mood"):
            call(attempts, "mood")
