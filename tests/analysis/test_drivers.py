"""Two drivers side by side: what agrees, what differs in which column, and what cannot be said."""

from __future__ import annotations

import pandas as pd
import pytest

from rawpunch.analysis.drivers import side_by_side
from rawpunch.errors import BadParameter

COLUMNS = ("outcome", "syn_a")


def _table(*rows: tuple[str, str, str, int, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["cell", "driver", "outcome", "syn_a", "disturbed"])


def test_agreeing_and_differing_cells() -> None:
    """All undisturbed attempts of a cell count; a difference names both sides' values."""
    table = _table(
        ("one", "sim", "established", 1, False),
        ("one", "lab", "established", 1, False),
        ("one", "lab", "refused", 3, True),
        ("two", "sim", "refused", 1, False),
        ("two", "lab", "timed_out", 1, False),
        ("two", "lab", "refused", 1, False),
    )
    one, two = side_by_side(table, ("sim", "lab"), COLUMNS)
    assert one.agrees
    assert (one.n, str(one)) == ((1, 1), "one: agrees")
    assert not two.agrees
    assert two.differing == {"outcome": ("refused", "refused/timed_out")}
    assert str(two) == "two: outcome refused against refused/timed_out"


def test_a_cell_of_one_driver_is_not_decided() -> None:
    """Nor is one whose attempts were all disturbed."""
    table = _table(("one", "sim", "established", 1, False), ("one", "lab", "established", 1, True))
    (one,) = side_by_side(table, ("sim", "lab"), COLUMNS)
    assert (one.decided, one.agrees, one.differing) == (False, False, {})


def test_a_missing_column_is_named() -> None:
    """With its name."""
    with pytest.raises(BadParameter, match="nosuch"):
        side_by_side(_table(), ("sim", "lab"), ("nosuch",))
