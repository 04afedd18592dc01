"""A peer's clock shows what it should, and starts its peer as late as it is behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rawpunch.study.peer_clock import PeerClock
from rawpunch.units import MS, SECOND, US

clocks = st.builds(PeerClock, st.integers(-SECOND, SECOND), st.integers(-500_000, 500_000))


@given(clocks, st.integers(2 * SECOND, 10_000 * SECOND))
def test_an_instant_is_the_first_at_which_it_is_shown(clock: PeerClock, shown_ns: int) -> None:
    """Not earlier by a nanosecond."""
    true_ns = clock.true_ns(shown_ns)
    assert clock.shows(true_ns) >= shown_ns
    assert clock.shows(true_ns - 1) <= shown_ns


def test_fast_clocks_start_early() -> None:
    """15 ms ahead is 15 ms early; 50 ppm slow is 30 ms late after ten minutes; a true clock is on time."""
    assert PeerClock(ahead_ns=15 * MS).late_ns(600 * SECOND) == -15 * MS
    assert abs(PeerClock(drift_ppb=-50_000).late_ns(600 * SECOND) - 30 * MS) < 2 * US
    assert PeerClock().late_ns(600 * SECOND) == 0
