"""The only real clock: what the kernel stamps packets with, in integer nanoseconds, and how to wake at an instant of it.

A sleep alone is 150 us late at the median; sleeping until shortly before and spinning the rest brings that to a few microseconds.
A process that measures also asks the kernel for exact timers and short time slices, which takes no privilege.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import time
from typing import Final

from rawpunch.units import US

SPIN_NS: Final = 350 * US
"""How long before an instant sleeping ends and spinning begins."""

SOURCE: Final = "CLOCK_REALTIME"
"""The clock that packet time stamps are in, for the manifest."""

now_ns = time.time_ns

_PR_SET_TIMERSLACK: Final = 29
_SYS_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_SLICE_NS: Final = 100 * US


def be_punctual() -> None:
    """Ask for timers without slack (prctl(2)) and for time slices of 100 us (sched_setattr(2), EEVDF since Linux 6.12).

    A task with short slices runs sooner when it wakes beside others that want the processor. What the kernel does not know it
    refuses, and nothing is lost.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is not None:
        attributes = struct.pack("=IIQiIQQQII", 56, 0, 0, 0, 0, _SLICE_NS, 0, 0, 0, 0)
        libc.syscall(number, 0, ctypes.create_string_buffer(attributes), 0)


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
