"""The odds of a spray are those of the urn: exact where numbers are small enough to count, and of dice where they are not."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.punch.birthday import (
    GOAL,
    SHARES,
    Budget,
    afford,
    afford_both,
    both_drawn,
    pairs_needed,
    tries_needed,
    with_repetition,
    without_repetition,
)
from rawpunch.units import SECOND

ALL_PORTS = 64_512


@given(st.integers(1, 300), st.data())
def test_without_repetition_is_the_hypergeometric_law(ports: int, data: st.DataObject) -> None:
    """One minus C(N-k, m) / C(N, m), to the last digits."""
    opened, tried = data.draw(st.integers(0, ports)), data.draw(st.integers(0, ports))
    exact = 1 - math.comb(ports - opened, tried) / math.comb(ports, tried)
    assert without_repetition(opened, tried, ports) == pytest.approx(exact, abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_trying_no_port_twice_is_never_worse(ports: int, data: st.DataObject) -> None:
    """And both formulas grow with each port opened or tried."""
    opened, tried = data.draw(st.integers(0, ports - 1)), data.draw(st.integers(0, ports))
    better = without_repetition(opened, tried, ports)
    assert better >= with_repetition(opened, tried, ports) - 1e-12
    assert 0 <= better <= without_repetition(opened + 1, tried, ports) + 1e-12


@given(st.integers(1, 70_000), st.sampled_from(SHARES), st.data())
def test_what_is_needed_is_enough_and_one_less_is_not(ports: int, share: float, data: st.DataObject) -> None:
    """For tries at a given number of open ports, and for as many of both."""
    opened = data.draw(st.integers(1, min(ports, 1024)))
    tries = tries_needed(share, opened, ports)
    assert tries is not None
    assert without_repetition(opened, tries, ports) >= share
    assert tries == 1 or without_repetition(opened, tries - 1, ports) < share
    each = pairs_needed(share, ports)
    assert without_repetition(each, each, ports) >= share
    assert each == 1 or without_repetition(each - 1, each - 1, ports) < share


def test_the_numbers_of_the_whole_range() -> None:
    """What a symmetric NAT that draws from all ports costs: a few hundred SYNs from each side."""
    assert [pairs_needed(share, ALL_PORTS) for share in SHARES] == [212, 385, 501]
    assert [tries_needed(share, 256, ALL_PORTS) for share in SHARES] == [175, 577, 977]
    assert tries_needed(0.5, 0, ALL_PORTS) is None


def test_dice_agree_with_both_drawn() -> None:
    """Two small NATs that draw, 4,000 times: the share of hits lies within four standard errors of the odds."""
    dice, ports, each, rounds, hits = random.Random(5), 64, 16, 4000, 0
    for _ in range(rounds):
        aims_a, aims_b = dice.sample(range(ports), each), dice.sample(range(ports), each)
        given_a, given_b = dice.sample(range(ports), each), dice.sample(range(ports), each)
        sent = set(zip(given_a, aims_a, strict=True))
        hits += any((aim, given) in sent for given, aim in zip(given_b, aims_b, strict=True))
    odds = both_drawn(each, each, ports, ports)
    assert abs(hits / rounds - odds) < 4 * math.sqrt(odds * (1 - odds) / rounds)


@given(
    st.integers(1, 70_000),
    st.builds(
        Budget,
        packets=st.integers(2, 70_000),
        per_s=st.integers(1, 10**5),
        opened=st.integers(1, 2000),
        tried=st.integers(1, 2000),
    ),
)
def test_a_budget_is_kept(ports: int, budget: Budget) -> None:
    """In packets, in ports and in rate; and no packet is spent beyond the goal."""
    shares = afford(ports, budget)
    assert shares.packets <= budget.packets
    assert shares.opened <= min(budget.opened, ports)
    assert shares.tried <= budget.tried
    assert max(shares.opened, shares.tried) * SECOND <= (shares.lasts_ns + 1) * budget.per_s
    assert shares.odds == pytest.approx(without_repetition(shares.opened, shares.tried, ports))
    assert shares.tried <= 1 or without_repetition(shares.opened, shares.tried - 1, ports) < GOAL


def test_where_few_can_be_tried_more_are_opened() -> None:
    """The odds are the same with the numbers changed round."""
    usual = Budget()
    few = replace(usual, tried=16)
    equal, uneven = afford(2048, usual), afford(2048, few)
    assert equal.opened == equal.tried > uneven.tried == 16
    assert uneven.opened == tries_needed(GOAL, 16, 2048)
    assert min(equal.odds, uneven.odds) >= GOAL


def test_two_narrow_bands_can_be_sprayed_and_two_whole_ranges_cannot() -> None:
    """Both NATs drawing from 2,048 ports give way at 1,024 SYNs each one time in five; from all ports, one in four thousand."""
    assert afford_both(2048, 2048, Budget()).odds == pytest.approx(0.221, abs=0.001)
    assert afford_both(ALL_PORTS, ALL_PORTS, Budget()).odds == pytest.approx(0.00025, abs=0.00001)


@pytest.mark.parametrize("numbers", [(2, 1, 1), (-1, 1, 5), (1, -1, 5), (0, 0, 0)])
def test_impossible_numbers_are_refused(numbers: tuple[int, int, int]) -> None:
    """More open than there are, or less than nothing."""
    with pytest.raises(BadParameter):
        without_repetition(*numbers)
    with pytest.raises(BadParameter):
        tries_needed(1.0, 1, 5)
    with pytest.raises(BadParameter):
        Budget(packets=0)
