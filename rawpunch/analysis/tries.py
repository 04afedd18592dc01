"""How many tries it takes: the median, with those that gave up counted as longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rawpunch.analysis.statistics import ecdf, stated_confidence

_INFINITE: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Median:
    """The median number of tries with its interval; what is not known because too many gave up is infinite."""

    value: float
    low: float
    high: float
    ninth: float
    """What nine in ten attempts do with."""
    n: int
    gave_up: int

    def __str__(self) -> str:
        return f"{self.value:.0f} [{self.low:.0f}, {self.high:.0f}] (n = {self.n}, {self.gave_up} gave up)"


def median_tries(tries: Sequence[float], vain: Sequence[float] = (), confidence: float | None = None) -> Median:
    """Tries at the median attempt.

    The distribution is Kaplan's and Meier's, and the interval of its median that of Brookmeyer and Crowley (1982): the numbers of
    tries at which one half lies within the distribution's own interval.

    Args:
        tries: of those that came through.
        vain: of those that gave up, and would have needed more.
        confidence: of the interval; what is stated (`statistics.at_confidence`) if not given.
    """
    confidence = confidence or stated_confidence()
    n = len(tries) + len(vain)
    least = min(vain, default=_INFINITE)
    if not tries:  # the median lies below all of them as rarely as so many coins fall alike
        return Median(_INFINITE, least if n and 2 / 2**n <= 1 - confidence else 0.0, _INFINITE, _INFINITE, n, n)
    curve = ecdf(tries, vain, confidence)

    def first(shares: Sequence[float], beyond: float) -> float:
        return next((at for at, share in zip(curve.times, shares, strict=True) if share >= 1 / 2), beyond)

    low, high = first(curve.high, least), first(curve.low, _INFINITE)
    return Median(curve.quantile(1 / 2), low, high, curve.quantile(0.9), n, len(vain))
