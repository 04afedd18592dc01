"""The only real clock: what the kernel stamps packets with, in integer nanoseconds, and how to wake at an instant of it.

A sleep alone is 150 us late at the median; sleeping until shortly before and spinning the rest brings that to a few microseconds.
"""

from __future__ import annotations

import time
from typing import Final

from rawpunch.units import US

SPIN_NS: Final = 500 * US
"""How long before an instant sleeping ends and spinning begins."""

SOURCE: Final = "CLOCK_REALTIME"
"""The clock that packet time stamps are in, for the manifest."""

now_ns = time.time_ns


def spin_until(instant_ns: int) -> int:
    """Spin until an instant; returns the time it ended."""
    while (now := now_ns()) < instant_ns:
        pass
    return now


def sleep_until(instant_ns: int) -> int:
    """Sleep, then spin, until an instant; returns the time it ended."""
    rest = instant_ns - now_ns() - SPIN_NS
    if rest > 0:
        time.sleep(rest / 1e9)
    return spin_until(instant_ns)
