"""The median number of tries: an order statistic when all came through, and never too small when some gave up."""

from __future__ import annotations

from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.analysis.statistics import at_confidence
from rawpunch.analysis.tries import median_tries

COUNTS = st.lists(st.integers(1, 10_000).map(float), min_size=1, max_size=40)


@given(COUNTS)
def test_without_anybody_who_gave_up_it_is_the_median(tries: list[float]) -> None:
    """Within its interval, and nine in ten do with no less."""
    found = median_tries(tries)
    assert found.value == median_low(tries)
    assert found.low <= found.value <= found.high
    assert found.value <= found.ninth <= max(tries)
    assert (found.n, found.gave_up) == (len(tries), 0)


@given(COUNTS, st.lists(st.integers(1, 10_000).map(float), max_size=20))
def test_giving_up_makes_it_no_smaller(tries: list[float], vain: list[float]) -> None:
    """Than if those who gave up had come through at that moment."""
    found, through = median_tries(tries, vain), median_tries(tries + vain)
    assert found.value >= through.value
    assert found.ninth >= through.ninth
    assert found.n == through.n


def test_where_all_gave_up_the_least_is_known() -> None:
    """If there are enough of them, at that confidence."""
    assert median_tries([], [700, 500] * 3).low == 500
    assert median_tries([], [700, 500]).low == 0
    with at_confidence(0.99):
        assert median_tries([], [700, 500] * 3).low == 0
    assert median_tries([]).n == 0


def test_a_wider_confidence_has_a_wider_interval() -> None:
    """The interval of a hundred different counts holds the middle third and not much more."""
    tries = [float(count) for count in range(1, 101)]
    usual, strict = median_tries(tries), median_tries(tries, confidence=0.999)
    assert 38 < usual.low < 50 < usual.high < 62
    assert strict.low < usual.low < usual.high < strict.high
    assert str(usual) == f"50 [{usual.low:.0f}, {usual.high:.0f}] (n = 100, 0 gave up)"


@pytest.mark.parametrize(("gave_up", "least"), [(55, 10), (90, 5_000)])
def test_too_many_who_gave_up_leave_no_upper_end(gave_up: int, least: int) -> None:
    """Nor a median, if they are more than half; the lower end is what is known."""
    found = median_tries([10.0] * (100 - gave_up), [5_000.0] * gave_up)
    assert (found.value, found.high) == (float("inf"), float("inf"))
    assert found.low == least
