"""The only real clock: what the kernel stamps packets with, in integer nanoseconds, and how to wake at an instant of it.

A sleep alone is 150 us late at the median; sleeping until shortly before and spinning the rest brings that to a few microseconds.
"""

from __future__ import annotations

import ctypes
import time
from typing import Final

from rawpunch.units import US

SPIN_NS: Final = 500 * US
"""How long before an instant sleeping ends and spinning begins."""

SOURCE: Final = "CLOCK_REALTIME"
"""The clock that packet time stamps are in, for the manifest."""

now_ns = time.time_ns

_PR_SET_TIMERSLACK: Final = 29


def be_punctual() -> None:
    """Ask for timers without the 50 us of slack that a process has by default (prctl(2)); it takes no privilege."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


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
