"""Statistics of sampled ports. All of it is exact or scipy's; samples are few."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PORTS: Final = 65_535 - 1_024 + 1
"""Ports that a NAT that draws from all gives out."""


def wrapped(step: int, size: int = 65_536) -> int:
    """A step on a circle of that many ports, as the shorter way round."""
    return (step + size // 2) % size - size // 2


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps from each sample to the next."""

    n: int
    mode: int
    """The most frequent one."""
    share: float
    """Its share."""
    ups: int
    """Steps upwards."""
    sign_p: float
    """Two-sided p-value of the sign test: as many ups of n if up and down were equally likely."""


def steps(differences: Sequence[int]) -> Steps:
    """What the steps between neighbours have in common."""
    from scipy.stats import binomtest  # noqa: PLC0415  0.5 s, for those who probe

    if not differences:
        return Steps(0, 0, 0.0, 0, 1.0)
    mode, count = Counter(differences).most_common(1)[0]
    moved = [difference for difference in differences if difference]
    ups = sum(difference > 0 for difference in moved)
    sign_p = float(binomtest(ups, len(moved)).pvalue) if moved else 1.0
    return Steps(len(differences), mode, count / len(differences), ups, sign_p)


@dataclass(frozen=True, slots=True)
class Spread:
    """Where ports lie, taken as drawn from one range."""

    n: int
    low: int
    high: int
    band: tuple[int, int]
    """The range that they are estimated to be drawn from: unbiased, from the lowest and highest of n."""
    margin: int
    """How far each end of the range may lie beyond the lowest and highest seen, with 95 % confidence."""
    whole_p: float
    """Chance that as many ports drawn from all would lie in so narrow a range."""
    uniform_p: float
    """p-value of the Kolmogorov-Smirnov test against evenly drawn from low to high, the ends left out."""
    entropy_bits: float
    """log2 of the range's size: what there is to guess about the next port, if it is evenly drawn."""


def spread(ports: Sequence[int]) -> Spread:
    """Describe a sample of at least three ports."""
    from scipy.stats import kstest  # noqa: PLC0415

    ordered = sorted(ports)
    n, low, high = len(ordered), ordered[0], ordered[-1]
    width = high - low
    beyond = width / (n - 1) if n > 1 else 0.0
    band = max(1, math.floor(low - beyond + 0.5)), min(65_535, math.ceil(high + beyond - 0.5))
    inner = ordered[1:-1]
    uniform_p = float(kstest(inner, "uniform", args=(low, width)).pvalue) if inner and width else 1.0
    margin = math.ceil((width + 1) * (0.05 ** (-1 / max(1, n - 1)) - 1))
    return Spread(n, low, high, band, margin, range_p(n, (width + 1) / PORTS), uniform_p, math.log2(band[1] - band[0] + 1))


def range_p(n: int, share: float) -> float:
    """Chance that n values evenly drawn from 0 .. 1 lie within some range of that size."""
    share = min(1.0, share)
    return float(min(1.0, n * share ** (n - 1) * (1 - share) + share**n))


def drawn_p(ports: Sequence[int], differences: Sequence[int], width: int) -> float:
    """How likely the most frequent port and step are to occur as often, if each port is drawn on its own from so many.

    An upper bound, fit for ranges of any size: any one port has a chance of 1 / width, any one step of no more.
    """
    return min(_most_p(ports, width, width), _most_p(differences, width, 2 * width - 1))


def _most_p(values: Sequence[int], width: int, outcomes: int) -> float:
    from scipy.stats import binom  # noqa: PLC0415

    if not values or width < 3:
        return 1.0
    most = Counter(values).most_common(1)[0][1]
    return min(1.0, float(binom.sf(most - 1, len(values), 1 / width)) * outcomes)


@dataclass(frozen=True, slots=True)
class Odds:
    """How often the next port was the expected one."""

    hits: int
    n: int
    low: float
    high: float
    """Ends of the 95 % interval (Wilson) of the chance to hit."""


def odds(hits: int, n: int) -> Odds:
    """The chance of a hit, with its interval."""
    from scipy.stats import binomtest  # noqa: PLC0415

    if n == 0:
        return Odds(0, 0, 0.0, 1.0)
    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Odds(hits, n, float(interval.low), float(interval.high))
