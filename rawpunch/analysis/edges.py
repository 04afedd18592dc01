"""Where a window ends: the edge between what opens and what does not, with an interval.

Two models. A *sharp* edge is a threshold: everything below opens, everything above fails, and a few attempts may be on
the wrong side. A *soft* one is a logistic curve, whose middle is the edge; where the data are parted without an overlap it has no
finite slope, and the threshold is the model to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.statistics import enough_resamples, stated_confidence
from rawpunch.errors import BadParameter

if TYPE_CHECKING:
    import numpy as np

_RESAMPLES: Final = 1_999


@dataclass(frozen=True, slots=True)
class Edge:
    """A window's edge, in the unit of its offsets."""

    value: float
    low: float
    high: float
    n: int
    misplaced: int
    """Attempts on the wrong side of it."""

    @property
    def width(self) -> float:
        """Of the interval."""
        return self.high - self.low

    def __str__(self) -> str:
        return f"{self.value:.6g} [{self.low:.6g}, {self.high:.6g}], n = {self.n}, {self.misplaced} on the wrong side"


def threshold_edge(
    offsets: Sequence[float],
    opened: Sequence[bool],
    *,
    seed: int = 0,
    confidence: float | None = None,
    resamples: int = _RESAMPLES,
) -> Edge:
    """The threshold with the fewest attempts on the wrong side: what is below opens, what is above does not.

    Its interval is that of a percentile bootstrap over the attempts, and never narrower than the gap in which no attempt lies:
    within that gap the data cannot tell one threshold from another.

    Args:
        offsets: of the attempts.
        opened: whether each of them opened.
        seed: of the resampling; the same seed gives the same interval.
        confidence: of the interval.
        resamples: how many times to draw, or more if the confidence asks for it.

    Raises:
        BadParameter: all opened or none did, so that there is no edge among them, or the two lists differ in length.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`

    confidence = confidence or stated_confidence()
    at, good = _checked(offsets, opened)
    order = np.argsort(at, kind="stable")
    at, good = at[order], good[order]
    value, gap, wrong = _fit(at, good, np.ones((1, len(at)), dtype=int))
    dice = np.random.default_rng(seed)
    weights = dice.multinomial(len(at), np.full(len(at), 1 / len(at)), size=enough_resamples(resamples, confidence))
    drawn, _, _ = _fit(at, good, weights)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Edge(float(value[0]), float(min(low, gap[0, 0])), float(max(high, gap[1, 0])), len(at), int(wrong[0]))


def _fit(at: np.ndarray, good: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of weights: the threshold, the gap it lies in, and how much is on the wrong side.

    A cut after k attempts has those k below it. A resample that drew only one kind of attempts has its threshold at an end.
    """
    import numpy as np  # noqa: PLC0415  as above

    start = np.zeros((len(weights), 1), dtype=int)
    failed_below = np.hstack([start, np.cumsum(weights * ~good, axis=1)])
    opened_below = np.hstack([start, np.cumsum(weights * good, axis=1)])
    wrong = failed_below + opened_below[:, -1:] - opened_below
    best = wrong == wrong.min(axis=1, keepdims=True)
    first = best.argmax(axis=1)
    last = wrong.shape[1] - 1 - best[:, ::-1].argmax(axis=1)
    padded = np.concatenate([at[:1], at, at[-1:]])
    low, high = padded[first], padded[last + 1]
    return (low + high) / 2, np.vstack([low, high]), wrong.min(axis=1)


def logistic_edge(offsets: Sequence[float], opened: Sequence[bool], *, confidence: float | None = None) -> Edge:
    """The offset at which a logistic curve crosses one half, its interval by the delta method.

    Args:
        offsets: of the attempts.
        opened: whether each of them opened.
        confidence: of the interval.

    Raises:
        BadParameter: all opened or none did, or an offset parts those that opened from those that did not (use the threshold).
    """
    import numpy as np  # noqa: PLC0415  as above
    from scipy.stats import norm  # noqa: PLC0415  as above
    from statsmodels.discrete.discrete_model import Logit  # noqa: PLC0415  as above
    from statsmodels.tools import add_constant  # noqa: PLC0415  as above

    confidence = confidence or stated_confidence()
    at, good = _checked(offsets, opened)
    if at[good].max() < at[~good].min() or at[good].min() > at[~good].max():
        raise BadParameter(
            "a logistic curve has no finite slope here", why="no failure lies among the successes", todo="threshold_edge"
        )
    middle, scale = at.mean(), at.std()
    fitted: Any = Logit(good.astype(float), add_constant((at - middle) / scale)).fit(disp=False)
    intercept, slope = fitted.params
    value = -intercept / slope
    gradient = np.array([-1 / slope, intercept / slope**2])
    error = float(np.sqrt(gradient @ fitted.cov_params() @ gradient)) * float(norm.ppf((1 + confidence) / 2))
    low, centre, high = (float(middle + scale * each) for each in (value - error, value, value + error))
    falling = slope < 0
    wrong = int(np.sum(good != ((at < centre) == falling)))
    return Edge(centre, low, high, len(at), wrong)


def _checked(offsets: Sequence[float], opened: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np  # noqa: PLC0415  as above

    at, good = np.asarray(offsets, dtype=float), np.asarray(opened, dtype=bool)
    if len(at) != len(good):
        raise BadParameter(f"{len(at)} offsets and {len(good)} results do not belong together")
    if not len(at) or good.all() or not good.any():
        raise BadParameter("there is no edge", why=f"{int(good.sum())} of {len(good)} attempts opened")
    return at, good
