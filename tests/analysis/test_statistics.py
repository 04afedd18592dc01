"""The intervals are the textbook ones: checked against printed figures and against what they promise."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.analysis.edges import Edge, logistic_edge, threshold_edge
from rawpunch.analysis.statistics import (
    Estimate,
    Proportion,
    at_confidence,
    clopper_pearson,
    difference,
    ecdf,
    holm,
    holm_by_intervals,
    ratio_of_medians,
    slope,
    stated_confidence,
    wilson,
)
from rawpunch.errors import BadParameter

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_newcombe(successes: int, n: int, low: float, high: float) -> None:
    """The score interval's figures in Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3."""
    found = wilson(successes, n)
    assert [found.low, found.high] == pytest.approx([low, high], abs=5e-5)


def test_clopper_pearson_of_all_successes() -> None:
    """N of n has the lower end alpha/2 to the power of 1/n (a closed form)."""
    found = clopper_pearson(20, 20)
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    assert found.high == 1


@given(counts)
def test_intervals_hold_their_estimate(made: tuple[int, int]) -> None:
    """Low, estimate and high are in order and in [0, 1]; turning success into failure mirrors the interval."""
    successes, n = made
    for method in (wilson, clopper_pearson):
        found = method(successes, n)
        assert 0 <= found.low <= found.estimate + 1e-12
        assert found.estimate - 1e-12 <= found.high <= 1
        mirrored = method(n - successes, n)
        assert mirrored.low == pytest.approx(1 - found.high, abs=1e-9)


def test_no_observations_say_nothing() -> None:
    """0 of 0 may be anything; impossible counts are refused."""
    found = wilson(0, 0)
    assert (found.low, found.high) == (0, 1)
    assert math.isnan(found.estimate)
    for successes, n in ((2, 1), (-1, 3)):
        with pytest.raises(BadParameter):
            wilson(successes, n)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_difference_against_newcombe(one: tuple[int, int], other: tuple[int, int], low: float, high: float) -> None:
    """The figures in Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10."""
    found = difference(wilson(*one), wilson(*other))
    assert [found.low, found.high] == pytest.approx([low, high], abs=5e-5)
    assert found.n == (one[1], other[1])
    with pytest.raises(BadParameter):
        difference(wilson(0, 0), wilson(1, 2))


def test_ratio_of_medians() -> None:
    """Twice the same sample doubled is exactly 2; the seed fixes the interval; the interval holds the value."""
    sample = [10.0 + number % 7 for number in range(50)]
    found = ratio_of_medians([2 * value for value in sample], sample, seed=3, resamples=999)
    assert found.value == 2
    assert found.low <= 2 <= found.high
    assert found == ratio_of_medians([2 * value for value in sample], sample, seed=3, resamples=999)
    assert found.n == (50, 50)
    with pytest.raises(BadParameter, match="two observations"):
        ratio_of_medians([1.0], sample)
    with pytest.raises(BadParameter, match="is 0"):
        ratio_of_medians(sample, [0.0, 0.0])


def test_ecdf_without_censoring() -> None:
    """Each observation is one step of 1/n; quantiles are observations."""
    found = ecdf([3, 1, 2, 4])
    assert found.times == (1.0, 2.0, 3.0, 4.0)
    assert list(found.shares) == pytest.approx([0.25, 0.5, 0.75, 1])
    assert found.quantile(0.5) == 2
    assert all(low <= share <= high for low, share, high in zip(found.low, found.shares, found.high, strict=True))
    assert found.low[-1] < 1  # four of four do not prove certainty


def test_ecdf_with_censoring() -> None:
    """What was watched in vain keeps the curve down: half of the attempts never got there, so neither does the curve."""
    found = ecdf([1, 2], [10, 10])
    assert (found.n, found.censored) == (4, 2)
    assert max(found.shares) == pytest.approx(0.5)
    assert math.isinf(found.quantile(0.75))
    with pytest.raises(BadParameter):
        ecdf([], [1.0])


def test_estimates_print_with_n_and_interval() -> None:
    """No figure without its interval."""
    assert str(wilson(81, 263)) == "81/263 = 0.308 [0.255, 0.366]"
    assert "n = 70, 80" in str(difference(wilson(56, 70), wilson(48, 80)))


@pytest.fixture(scope="module")
def little_garbage() -> Iterator[None]:
    """Statsmodels collects garbage at each call of Holm's procedure: a tenth of a second, unless what is there is set aside."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little_garbage")
@given(st.lists(st.floats(0, 1).filter(lambda p: all(abs(p * tests - 0.05) > 1e-9 for tests in range(1, 13))), max_size=12))
def test_holm_by_intervals_is_holm(p_values: list[float]) -> None:
    """A test whose interval decides at a confidence exactly if its p-value allows it is settled exactly if Holm rejects it."""

    def decided(confidence: float, left: AbstractSet[int]) -> set[int]:
        return {number for number in left if p_values[number] <= 1 - confidence}

    rejected = {number for number, tested in enumerate(holm(p_values)) if tested.rejected}
    assert holm_by_intervals(len(p_values), decided) == rejected


def test_intervals_widen_where_more_confidence_is_asked_for() -> None:
    """Of every kind that verdicts rest on, without being told one by one; and afterwards they are as before."""
    offsets, opened = list(range(40)), [at < 20 or at == 22 for at in range(40)]
    sample = [float(number % 11) for number in range(60)]

    def all_kinds() -> list[Estimate | Edge | Proportion]:
        return [
            wilson(9, 10),
            clopper_pearson(9, 10),
            difference(wilson(9, 10), wilson(3, 10)),
            ratio_of_medians(sample, sample[:30], resamples=99),
            threshold_edge(offsets, opened, resamples=99),
            logistic_edge(offsets, opened),
            slope(offsets, [3.0 * at + at % 3 for at in offsets]),
        ]

    before = all_kinds()
    with at_confidence(0.999):
        strict = all_kinds()
    assert all(wide.low < usual.low and wide.high > usual.high for wide, usual in zip(strict, before, strict=True))
    assert all_kinds() == before
    assert stated_confidence() == 0.95
    with pytest.raises(BadParameter), at_confidence(1):
        pass


def test_slope_against_a_table() -> None:
    """Anscombe's first set: 0.5001, its standard error 0.1179, nine degrees of freedom."""
    at = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    values = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    found = slope(at, values)
    assert found.value == pytest.approx(0.5001, abs=1e-4)
    assert found.high - found.value == pytest.approx(2.2622 * 0.1179, abs=1e-4)
    for few in ([1, 2], [3, 3, 3]):
        with pytest.raises(BadParameter, match="three points"):
            slope(few, few)
