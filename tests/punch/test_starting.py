"""A common start: the bounds hold for any clocks and any delays, and the better of the two ways is chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.punch.starting import DRIFT_PPM, LEAD_NS, AtInstant, Exchange, Offset, OnReceipt, Readiness, agree
from rawpunch.units import MS, SECOND

DELAYS = st.integers(0, 2 * SECOND)
CLOCKS = st.integers(-(10**18), 10**18)


def _exchange(asked_ns: int, ahead_ns: int, there_ns: int, inside_ns: int, back_ns: int) -> Exchange:
    came_ns = asked_ns + there_ns + ahead_ns
    left_ns = came_ns + inside_ns
    return Exchange(asked_ns, came_ns, left_ns, left_ns - ahead_ns + back_ns)


@given(CLOCKS, CLOCKS, st.lists(st.tuples(DELAYS, DELAYS, DELAYS), min_size=1, max_size=5))
def test_the_bound_holds_whatever_the_delays(own_ns: int, ahead_ns: int, delays: list[tuple[int, int, int]]) -> None:
    """However lopsided the ways there and back, the true offset lies within the bound, which is half of the best round trip."""
    exchanges = [_exchange(own_ns, ahead_ns, *each) for each in delays]
    offset = Offset.of(exchanges)
    assert abs(offset.offset_ns - ahead_ns) <= offset.error_ns
    assert offset.error_ns <= min(exchange.rtt_ns for exchange in exchanges) // 2 + 1
    assert offset.to_server(offset.to_own(own_ns)) == own_ns


@given(st.integers(0, 10**13))
def test_the_bound_grows_with_time(later_ns: int) -> None:
    """Clocks drift: an old measurement is worth less, by the drift that is assumed."""
    offset = Offset(5, 1_000, 10 * SECOND)
    assert offset.bound_ns(10 * SECOND + later_ns) == 1_000 + later_ns * DRIFT_PPM // 1_000_000


def test_clocks_that_were_set_meanwhile_tell_nothing() -> None:
    """A round trip of less than no time is none; without another one there is no offset."""
    backwards = Exchange(100, 1_000, 2_000, 110)
    with pytest.raises(BadParameter):
        Offset.of([backwards])
    assert Offset.of([backwards, Exchange(100, 1_100, 1_100, 200)]).offset_ns == 950


ROUND_TRIPS = st.integers(0, SECOND)


@given(ROUND_TRIPS, ROUND_TRIPS, st.floats(0, 1), st.floats(0, 1))
def test_go_reaches_both_at_one_instant(rtt_a_ns: int, rtt_b_ns: int, share_a: float, share_b: float) -> None:
    """On ways as long as the ways back both hear it at once; on any others they are no farther apart than was said."""
    start = agree(0, Readiness(rtt_a_ns, None, 0), Readiness(rtt_b_ns, 5, SECOND))
    assert isinstance(start, OnReceipt)
    assert min(start.delay_a_ns, start.delay_b_ns) == 0
    even = abs((start.delay_a_ns + rtt_a_ns / 2) - (start.delay_b_ns + rtt_b_ns / 2))
    assert even <= 1
    heard_a, heard_b = start.delay_a_ns + share_a * rtt_a_ns, start.delay_b_ns + share_b * rtt_b_ns
    assert abs(heard_a - heard_b) <= start.error_ns + 2


@given(ROUND_TRIPS, ROUND_TRIPS, st.integers(0, SECOND), st.integers(0, SECOND), st.integers(0, SECOND), CLOCKS)
def test_an_instant_is_agreed_where_it_is_good_enough(
    rtt_a_ns: int, rtt_b_ns: int, error_a_ns: int, error_b_ns: int, tolerance_ns: int, now_ns: int
) -> None:
    """Both bounds together must suit both plans, or not be clearly worse than a word; and both learn of it in time."""
    start = agree(now_ns, Readiness(rtt_a_ns, error_a_ns, tolerance_ns), Readiness(rtt_b_ns, error_b_ns, tolerance_ns + MS))
    good = error_a_ns + error_b_ns <= tolerance_ns
    no_worse = error_a_ns + error_b_ns <= 2 * ((rtt_a_ns + rtt_b_ns) // 2)
    assert isinstance(start, AtInstant) is (good or no_worse)
    if isinstance(start, AtInstant):
        assert start.error_ns == error_a_ns + error_b_ns
        assert start.at_ns - now_ns >= max(rtt_a_ns, rtt_b_ns) + LEAD_NS
