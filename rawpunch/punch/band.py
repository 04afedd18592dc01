"""The band that ports are drawn from, by order statistics of those that were seen.

Of n ports drawn evenly from a band, the range R = max - min falls short of the band's width W by a known law, and so does the gap
beyond each end (David and Nagaraja, Order Statistics, section 2.3; as if ports were continuous, so a little too wide):

    next port within min .. max:    (n - 1) / (n + 1)
    gap below the lowest:           P(gap > t R) = (1 + t)^-(n - 1),  whatever W is
    width:                          P(R / W <= r) = n r^(n-1) - (n - 1) r^n
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.wire.endpoint import MAX_PORT

_TAIL: Final = 0.025


@dataclass(frozen=True, slots=True)
class Band:
    """Where ports were seen, and how far the band may reach at most."""

    n: int
    """Ports seen."""
    seen_low: int
    seen_high: int
    low: int
    """Lowest port of the band, estimated without bias."""
    high: int
    lowest: int
    """Lowest port that is not excluded: 97.5 % of the time it is the band's or below."""
    highest: int

    @property
    def width(self) -> int:
        """Ports in the band, as estimated."""
        return self.high - self.low + 1

    @property
    def inside(self) -> float:
        """How likely the next port lies between those that were seen."""
        return (self.n - 1) / (self.n + 1)


def estimate(ports: Sequence[int]) -> Band:
    """The band of ports drawn evenly from it.

    Args:
        ports: at least two, seen in any order.

    Raises:
        BadParameter: there are fewer, or they are all the same: nothing is drawn there.
    """
    if len(ports) < 2 or min(ports) == max(ports):
        raise BadParameter(
            "a band cannot be told from one port", why=f"{len(ports)} ports were seen, {len(set(ports))} different"
        )
    n, low, high = len(ports), min(ports), max(ports)
    beyond = (high - low) / (n - 1)
    reach = (high - low) * (_TAIL ** (-1 / (n - 1)) - 1)
    return Band(
        n,
        low,
        high,
        max(1, round(low - beyond)),
        min(MAX_PORT, round(high + beyond)),
        max(1, math.floor(low - reach)),
        min(MAX_PORT, math.ceil(high + reach)),
    )


def reaches(share: float, n: int) -> float:
    """How likely n ports range over at most that share of their band.

    A share of 0.3 among 20 ports is next to impossible: then they were not drawn from the band that one thought.
    """
    return n * share ** (n - 1) - (n - 1) * share**n
