"""Units: times are integer nanoseconds everywhere; this is the only place that turns words into them and back."""

from __future__ import annotations

import re
from typing import Final

from rawpunch.errors import BadParameter

US: Final = 1_000
MS: Final = 1_000_000
SECOND: Final = 1_000_000_000

_UNITS: Final = {"ns": 1, "us": US, "ms": MS, "s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND}
_DURATION: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|h)")


def parse_duration_ns(text: str) -> int:
    """Turn ``20ms``, ``1.5 s`` or ``-300us`` into integer nanoseconds.

    Raises:
        BadParameter: there is no number with one of the units ns, us, ms, s, min, h.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise BadParameter(f"{text!r} is not a duration", todo="write a number and a unit: 20ms, 300us, 1.5s")
    return round(float(found[1]) * _UNITS[found[2]])


def format_duration(ns: int) -> str:
    """Write nanoseconds in the largest unit that keeps the number at least 1, with three significant digits."""
    for unit in ("s", "ms", "us"):
        if abs(ns) >= _UNITS[unit]:
            return f"{ns / _UNITS[unit]:.4g} {unit}"
    return f"{ns} ns"
