"""Ports told beforehand: the rules that a peer could follow, and how often they hit."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.analysis.ports import guesses, hits, ports_of, samples
from rawpunch.dataset.store import load
from rawpunch.errors import BadParameter

ports = st.integers(1024, 65_535)


def _guessed(internal: list[int], external: list[int], coming: int, tries: int = 3) -> list[int]:
    return list(islice(guesses(internal, external, coming), tries))


def _table(*attempts: tuple[list[int], list[int]]) -> pd.DataFrame:
    rows = [
        (f"a{number}", True, inside, outside)
        for number, pair in enumerate(attempts)
        for inside, outside in zip(*pair, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["attempt", "own", "internal_port", "external_port"])
    table["step"] = table.groupby("attempt")["external_port"].diff().astype("Int64")
    return table


@given(st.lists(ports, min_size=1), ports)
def test_a_kept_port_is_kept_again(known: list[int], coming: int) -> None:
    """Whatever the inside ports are."""
    assert _guessed(known, known, coming)[0] == coming


@given(st.lists(ports, min_size=2, unique=True), ports, st.integers(-3, 3).filter(bool))
def test_steps_go_on(inside: list[int], first: int, step: int) -> None:
    """Up or down, by one or more; further guesses go farther the same way."""
    outside = [first + number * step for number in range(len(inside))]
    if inside != outside:
        end = outside[-1]
        assert _guessed(inside, outside, 5000) == [end + step, end + 2 * step, end + 3 * step]


def test_one_port_for_all_is_used_again() -> None:
    """Endpoint-independent mapping, one inside port: the only port seen so far comes first."""
    assert _guessed([4000] * 3, [777] * 3, 4000)[0] == 777


def test_steps_that_were_seen_come_first() -> None:
    """With cross traffic: the commonest, then the others."""
    assert _guessed([1, 2, 3, 4, 5], [100, 101, 103, 104, 107], 6) == [108, 109, 110]


def test_hits_are_counted_over_samples() -> None:
    """From the fourth mapping of each sample on."""
    rising, drawn = ([9, 5, 7, 2, 8], [10, 11, 12, 13, 14]), ([1, 2, 3, 4, 5], [50, 7, 90, 33, 61])
    assert hits(_table(rising)) == (2, 2)
    assert hits(_table(rising, drawn)) == (2, 4)
    assert hits(_table(rising).iloc[:3]) == (0, 0)


def test_a_cell_in_figures() -> None:
    """Lost SYNs, band, commonest step; a cell without any mapping has figures too."""
    found = ports_of(_table(([9, 5, 7, 2, 8], [10, 11, 12, 13, 14])), 7)
    assert (found.sent, found.mapped, found.lost, found.low, found.high, found.step, found.kept) == (7, 5, 2, 10, 14, 1, 0.0)
    none = ports_of(_table(([9], [10])).iloc[:0], 7)
    assert (none.mapped, none.lost, none.step, none.next_port.n) == (0, 7, None, 0)


@pytest.mark.parametrize(
    ("inside", "outside", "rule"),
    [
        ([9, 5, 7, 2], [9, 5, 7, 2], "kept"),
        ([9, 5, 7, 2], [77, 77, 77, 77], "one"),
        ([9, 9, 9, 9, 9, 9], [10, 11, 10, 11, 10, 11], "few"),
        ([9, 5, 7, 2], [40, 42, 47, 48], "counted"),
        ([9, 5, 7, 2], [48, 44, 43, 40], "counted"),
        ([9, 5, 7, 2], [48, 4000, 43, 9000], "drawn"),
    ],
)
def test_rules_have_names(inside: list[int], outside: list[int], rule: str) -> None:
    """As far as the ports show one."""
    assert ports_of(_table((inside, outside)), len(inside)).rule == rule


def test_a_run_without_samples_is_named() -> None:
    """Attempts at connections have no samples."""
    with pytest.raises(BadParameter, match="sampled no ports"):
        samples(load("raw_vs_kernel", root=Path(__file__).resolve().parents[2] / "data"))
