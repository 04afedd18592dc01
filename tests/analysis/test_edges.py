"""A window's edge is found where it was put, with an interval that holds it as often as it says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawpunch.analysis.edges import logistic_edge, threshold_edge
from rawpunch.analysis.statistics import holm
from rawpunch.errors import BadParameter


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=40, unique=True), st.integers(1, 999))
@settings(max_examples=40)
def test_a_sharp_edge_lies_in_its_gap(offsets: list[int], edge: int) -> None:
    """Between the last that opened and the first that did not; the interval covers that gap."""
    opened = [offset < edge for offset in offsets]
    if all(opened) or not any(opened):
        with pytest.raises(BadParameter, match="no edge"):
            threshold_edge(offsets, opened)
        return
    found = threshold_edge(offsets, opened, resamples=199)
    last = max(offset for offset in offsets if offset < edge)
    first = min(offset for offset in offsets if offset >= edge)
    assert found.value == pytest.approx((last + first) / 2)
    assert found.low <= last
    assert found.high >= first
    assert found.misplaced == 0


def test_an_attempt_on_the_wrong_side_moves_nothing() -> None:
    """One stray failure far below leaves the edge where it was, and is counted."""
    offsets = [float(each) for each in range(40)]
    opened = [each < 20 and each != 3 for each in range(40)]
    found = threshold_edge(offsets, opened)
    assert found.value == 19.5
    assert found.misplaced == 1


def test_the_seed_fixes_the_interval() -> None:
    """Same seed, same interval."""
    offsets, opened = [1.0, 2, 3, 4, 5, 6], [True, True, False, True, False, False]
    assert threshold_edge(offsets, opened, seed=4) == threshold_edge(offsets, opened, seed=4)


@pytest.mark.parametrize("fit", [threshold_edge, logistic_edge])
def test_intervals_cover(fit: object) -> None:
    """Of forty windows with a blurred edge at 100, hardly any interval misses it (95 % are to hold it)."""
    dice = random.Random(5)
    missed = 0
    for _ in range(40):
        offsets = [dice.uniform(60, 140) for _ in range(80)]
        opened = [offset + dice.gauss(0, 8) < 100 for offset in offsets]
        found = threshold_edge(offsets, opened, resamples=299) if fit is threshold_edge else logistic_edge(offsets, opened)
        missed += not found.low <= 100 <= found.high
    assert missed <= 6


def test_a_logistic_curve_needs_an_overlap() -> None:
    """Where one offset parts the attempts, the threshold is named instead."""
    with pytest.raises(BadParameter) as caught:
        logistic_edge([1, 2, 3, 4], [True, True, False, False])
    assert caught.value.todo == "threshold_edge"
    with pytest.raises(BadParameter, match="belong together"):
        threshold_edge([1.0], [True, False])


def test_holm_against_its_definition() -> None:
    """The least p times n, the next times n - 1 ..., never falling; the tests keep their order."""
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert [each.p for each in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [each.rejected for each in found] == [True, False, False, True]
    assert holm([]) == ()
    with pytest.raises(BadParameter):
        holm([1.5])
