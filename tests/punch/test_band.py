"""A band's edges are found as often as the estimator says, for bands as the NAT machine draws from them."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from rawpunch.errors import BadParameter
from rawpunch.punch.band import estimate, reaches

BANDS = [(1024, 65_535), (30_720, 32_767), (20_000, 24_095), (32_768, 60_999)]


@pytest.mark.parametrize("n", [4, 12, 40])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_the_edges_lie_where_they_are_said_to_95_percent_of_the_time(low: int, high: int, n: int) -> None:
    """Each end on its own 97.5 %, over 1,500 samples of n ports: within four standard errors."""
    dice, rounds = random.Random(n), 1500
    bands = [estimate([dice.randint(low, high) for _ in range(n)]) for _ in range(rounds)]
    for held in (fmean(band.lowest <= low for band in bands), fmean(band.highest >= high for band in bands)):
        assert held > 0.975 - 4 * (0.975 * 0.025 / rounds) ** 0.5
    inside = fmean(band.seen_low <= dice.randint(low, high) <= band.seen_high for band in bands)
    stated = bands[0].inside
    assert abs(inside - stated) < 4 * (stated * (1 - stated) / rounds) ** 0.5


def test_the_estimate_has_no_bias() -> None:
    """The mean of 4,000 estimates of a band's lowest port lies within four standard errors of it."""
    dice, low, width, n, rounds = random.Random(1), 30_720, 2048, 10, 4000
    lows = [estimate([dice.randrange(low, low + width) for _ in range(n)]).low for _ in range(rounds)]
    spread = width / (n + 1)  # about the standard deviation of the lowest of n
    assert abs(fmean(lows) - low) < 4 * spread / rounds**0.5 + 1


def test_how_far_ports_range() -> None:
    """The law of the range, against dice."""
    dice, n, rounds = random.Random(2), 6, 4000
    ranges = []
    for _ in range(rounds):
        drawn = [dice.random() for _ in range(n)]
        ranges.append(max(drawn) - min(drawn))
    for share in (0.3, 0.6, 0.9):
        stated = reaches(share, n)
        assert abs(fmean(r <= share for r in ranges) - stated) < 4 * (stated * (1 - stated) / rounds) ** 0.5


@pytest.mark.parametrize("ports", [[], [5000], [5000, 5000]])
def test_too_little_is_refused(ports: list[int]) -> None:
    """No port, one port, the same port twice."""
    with pytest.raises(BadParameter):
        estimate(ports)
