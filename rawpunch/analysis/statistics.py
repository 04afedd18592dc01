"""Intervals for what was counted and measured: scipy and statsmodels in thin wrappers, so that no figure goes without its n."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from rawpunch.errors import BadParameter

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE: Final = 0.95
_RESAMPLES: Final = 9_999
_BEYOND: Final = 10
"""Resamples that are to lie beyond each end of a bootstrap's interval."""
_MOST_IN_MEMORY: Final = 200_000


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of successes with its interval."""

    successes: int
    n: int
    low: float
    high: float

    @property
    def estimate(self) -> float:
        """Successes over n; not a number when n is 0."""
        return self.successes / self.n if self.n else float("nan")

    def __str__(self) -> str:
        return f"{self.successes}/{self.n} = {self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, and how many observations of each sample made it."""

    value: float
    low: float
    high: float
    n: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}], n = {', '.join(map(str, self.n))}"


@dataclass(frozen=True, slots=True)
class Ecdf:
    """An empirical distribution of times, some of which were only seen to be longer than something (censored)."""

    times: tuple[float, ...]
    """Where it steps, ascending."""
    shares: tuple[float, ...]
    """Share at or below each time."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Pointwise interval: Greenwood's formula, log-log; Wilson's where the share is 0 or 1 and it has none."""
    n: int
    censored: int

    def quantile(self, share: float) -> float:
        """The least time at or below which that share lies; infinite when too many are censored."""
        return next((time for time, reached in zip(self.times, self.shares, strict=True) if reached >= share), float("inf"))


@dataclass(frozen=True, slots=True)
class Tested:
    """One of several tests."""

    p: float
    """Corrected for their number."""
    rejected: bool
    """Whether its hypothesis is rejected."""


_stated: ContextVar[float] = ContextVar("confidence", default=CONFIDENCE)


def stated_confidence() -> float:
    """The confidence of intervals for which none is given: 95 %, if nobody asks `at_confidence`."""
    return _stated.get()


@contextmanager
def at_confidence(confidence: float) -> Iterator[None]:
    """Within it, all intervals for which no confidence is given have this one: the same verdicts, asked more strictly.

    Raises:
        BadParameter: it is no probability between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise BadParameter(f"an interval cannot have a confidence of {confidence}", why="it lies between 0 and 1")
    token = _stated.set(confidence)
    try:
        yield
    finally:
        _stated.reset(token)


def enough_resamples(least: int, confidence: float) -> int:
    """How many resamples a percentile bootstrap needs so that its ends are not those of a handful."""
    return max(least, math.ceil(2 * _BEYOND / (1 - confidence)))


def wilson(successes: int, n: int, confidence: float | None = None) -> Proportion:
    """A proportion with Wilson's score interval (Wilson 1927); n of 0 gives [0, 1].

    Raises:
        BadParameter: the counts are impossible.
    """
    return _proportion(successes, n, confidence, "wilson")


def clopper_pearson(successes: int, n: int, confidence: float | None = None) -> Proportion:
    """A proportion with the exact interval of Clopper and Pearson (1934), which never covers less than it says.

    Raises:
        BadParameter: the counts are impossible.
    """
    return _proportion(successes, n, confidence, "exact")


def _proportion(successes: int, n: int, confidence: float | None, method: Literal["wilson", "exact"]) -> Proportion:
    from scipy.stats import binomtest  # noqa: PLC0415  scipy takes most of a second to come

    if not 0 <= successes <= n:
        raise BadParameter(f"{successes} successes of {n} are impossible")
    if n == 0:
        return Proportion(0, 0, 0.0, 1.0)
    interval = binomtest(successes, n).proportion_ci(confidence or stated_confidence(), method)
    return Proportion(successes, n, float(interval.low), float(interval.high))


def difference(one: Proportion, other: Proportion, confidence: float | None = None) -> Estimate:
    """Share of `one` minus share of `other`, with Newcombe's interval from the two Wilson intervals (Newcombe 1998, method 10).

    Raises:
        BadParameter: one of them has no observations.
    """
    if not (one.n and other.n):
        raise BadParameter("a difference needs observations on both sides", why=f"n = {one.n} and {other.n}")
    from statsmodels.stats.proportion import confint_proportions_2indep  # noqa: PLC0415  as above

    # where a share is 0 or 1 an end may lie outside [-1, 1] by rounding alone
    low, high = confint_proportions_2indep(
        one.successes,
        one.n,
        other.successes,
        other.n,
        method="newcomb",
        compare="diff",
        alpha=1 - (confidence or stated_confidence()),
    )
    return Estimate(one.estimate - other.estimate, max(float(low), -1.0), min(float(high), 1.0), (one.n, other.n))


def holm(p_values: Sequence[float], *, level: float = 1 - CONFIDENCE) -> tuple[Tested, ...]:
    """Which of several tests say something, with the chance of one false alarm among all kept at a level (Holm 1979).

    Args:
        p_values: one for each test.
        level: the chance.

    Raises:
        BadParameter: a value is no probability.
    """
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415  as above

    strange = [p for p in p_values if not 0 <= p <= 1]
    if strange:
        raise BadParameter(f"{strange[0]} is no probability")
    if not p_values:
        return ()
    rejected, corrected, _, _ = multipletests(list(p_values), alpha=level, method="holm")
    return tuple(Tested(float(p), bool(no)) for p, no in zip(corrected, rejected, strict=True))


def holm_by_intervals(
    n: int, decided: Callable[[float, AbstractSet[int]], AbstractSet[int]], *, level: float = 1 - CONFIDENCE
) -> frozenset[int]:
    """Holm's procedure where a test is an interval that decides or does not, and has no p-value at hand (Holm 1979).

    With k tests left, those that decide at a confidence of 1 - level/k are settled; then those that are left are asked again,
    until none more is settled. A test decides at a confidence if and only if its p-value is no more than one minus that.

    Args:
        n: how many tests there are.
        decided: given a confidence and the tests that are left, those of them that decide at it.
        level: the chance of one false verdict among all.

    Returns:
        The tests that decide together, by number.
    """
    left = frozenset(range(n))
    while left:
        settled = left & decided(1 - level / len(left), left)
        if not settled:
            break
        left -= settled
    return frozenset(range(n)) - left


def slope(at: Sequence[float], values: Sequence[float], confidence: float | None = None) -> Estimate:
    """How much the values grow with where they were taken: least squares, with Student's interval.

    Raises:
        BadParameter: there are fewer than three points, or all were taken at one place.
    """
    from scipy.stats import linregress, t  # noqa: PLC0415  as above

    if len(at) < 3 or len(set(at)) < 2:
        raise BadParameter("a slope with an interval needs three points, not all at one place", why=f"n = {len(at)}")
    fit = linregress(at, values)
    reach = float(t.ppf((1 + (confidence or stated_confidence())) / 2, len(at) - 2)) * float(fit.stderr)
    return Estimate(float(fit.slope), float(fit.slope) - reach, float(fit.slope) + reach, (len(at),))


def ratio_of_medians(
    one: Sequence[float],
    other: Sequence[float],
    *,
    seed: int = 0,
    confidence: float | None = None,
    resamples: int = _RESAMPLES,
) -> Estimate:
    """Median of `one` over median of `other`, with a percentile bootstrap interval (samples drawn independently).

    Args:
        one: observations.
        other: observations, their median not 0.
        seed: of the resampling; the same seed gives the same interval.
        confidence: of the interval.
        resamples: how many times to draw, or more if the confidence asks for it.

    Raises:
        BadParameter: a sample has fewer than two observations, or a median of 0 below the line.
    """
    import numpy as np  # noqa: PLC0415  as above
    from scipy.stats import bootstrap  # noqa: PLC0415  as above

    confidence = confidence or stated_confidence()
    above, below = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if min(above.size, below.size) < 2:
        raise BadParameter("a bootstrap needs two observations of each sample", why=f"n = {above.size} and {below.size}")
    if np.median(below) == 0:
        raise BadParameter("the median below the line is 0")

    def ratio(top: np.ndarray, bottom: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.median(top, axis=axis) / np.median(bottom, axis=axis))

    batch = max(1, _MOST_IN_MEMORY // max(above.size, below.size))
    drawn = bootstrap(
        (above, below),
        ratio,
        n_resamples=enough_resamples(resamples, confidence),
        batch=batch,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = drawn.confidence_interval
    return Estimate(float(ratio(above, below)), float(interval.low), float(interval.high), (above.size, below.size))


def ecdf(times: Sequence[float], censored: Sequence[float] = (), confidence: float = CONFIDENCE) -> Ecdf:
    """The distribution of times, with those that were cut off counted as longer than that (Kaplan and Meier 1958).

    Args:
        times: times that were seen to the end.
        censored: for each that was not, how long it was watched.
        confidence: of the pointwise interval.

    Raises:
        BadParameter: no time was seen to the end.
    """
    import numpy as np  # noqa: PLC0415  as above
    from scipy.stats import CensoredData  # noqa: PLC0415  as above
    from scipy.stats import ecdf as scipy_ecdf  # noqa: PLC0415  as above

    if not len(times):
        raise BadParameter("no time was seen to the end", why=f"{len(censored)} were cut off")
    data = CensoredData(uncensored=np.asarray(times, dtype=float), right=np.asarray(censored, dtype=float))
    found = scipy_ecdf(data).cdf
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # the formula has no interval where the share is 0 or 1
        interval: Any = found.confidence_interval(confidence, method="log-log")
    n = len(times) + len(censored)
    shares = found.probabilities
    low = np.where(
        np.isnan(interval.low.probabilities), np.where(shares < 1, 0.0, wilson(n, n, confidence).low), interval.low.probabilities
    )
    high = np.where(
        np.isnan(interval.high.probabilities),
        np.where(shares > 0, 1.0, wilson(0, n, confidence).high),
        interval.high.probabilities,
    )
    return Ecdf(
        tuple(map(float, found.quantiles)),
        tuple(map(float, shares)),
        tuple(map(float, low)),
        tuple(map(float, high)),
        n,
        len(censored),
    )
