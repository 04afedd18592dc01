"""Predictions against the NAT machine's own allocator: what can be foretold is, and stated odds are the share of hits."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.nat.behavior import Allocation, Pick, Ports
from rawpunch.punch.ports import Kind, Mapped
from rawpunch.punch.predict import forecast
from tests.punch.nat_watch import Watched

SEQUENTIAL, BANDED, BLOCK = Allocation.SEQUENTIAL, Allocation.BANDED, Allocation.BLOCK
FAMILIES: dict[str, tuple[Ports, Kind]] = {
    "one by one": (Ports(allocation=SEQUENTIAL, start=40_000), Kind.STEPS),
    "two by two, round the end": (Ports(allocation=SEQUENTIAL, start=65_500, stride=2), Kind.STEPS),
    "downwards": (Ports(allocation=SEQUENTIAL, start=5000, stride=-1), Kind.STEPS),
    "by an odd stride": (Ports(allocation=SEQUENTIAL, start=9000, stride=7), Kind.STEPS),
    "with parity": (Ports(allocation=SEQUENTIAL, start=40_000, keeps_parity=True), Kind.STEPS),
    "one by one in a block": (Ports(allocation=BLOCK, block_size=512, block_pick=Pick.SEQUENTIAL), Kind.STEPS),
    "any of a block": (Ports(allocation=BLOCK, block_size=512), Kind.DRAWN),
    "any of a chunk": (Ports(allocation=BANDED, low=30_720, high=32_767), Kind.DRAWN),
    "any of a band, with parity": (Ports(allocation=BANDED, low=20_000, high=24_095, keeps_parity=True), Kind.DRAWN),
    "any": (Ports(allocation=Allocation.RANDOM), Kind.DRAWN),
    "the inside one": (Ports(), Kind.KEPT),
}
COUNTS = (1, 2, 4, 16, 64, 256)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_rule_is_recognized(family: str) -> None:
    """From eight mappings, with few others between, and it is all but certain."""
    ports, kind = FAMILIES[family]
    nat = Watched(ports, seed=3, others=0.5)
    told = forecast([nat.next() for _ in range(8)])
    assert told.kind is kind
    assert told.certainty > 0.99


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, -1, 3, 4, 7, 8, 16, 100, 256, -2, -8]),
    st.integers(1024, 65_535),
    st.booleans(),
    st.integers(3, 10),
    st.integers(0, 1000),
)
def test_a_quiet_sequential_nat_is_foretold(stride: int, start: int, keeps_parity: bool, n: int, seed: int) -> None:
    """Whatever the stride, round the end of the range too: the next port is the first guess, or with parity among two."""
    parity = keeps_parity and stride == 1
    nat = Watched(Ports(allocation=SEQUENTIAL, start=start, stride=stride, keeps_parity=parity), seed=seed)
    seen = [nat.next() for _ in range(n + 4 * parity)]
    after = nat.next()
    told = forecast(seen, inside_port=after.inside_port)
    assert after.port in [guess.port for guess in told.ranked(2 if parity else 1)]


def test_it_goes_round_in_a_range_that_nobody_named() -> None:
    """Once the ports were seen to begin anew, the place is known."""
    nat = Watched(Ports(allocation=SEQUENTIAL, low=5000, high=9000, start=8990), seed=1)
    seen = [nat.next() for _ in range(14)]
    assert seen[0].port > seen[-1].port
    told = forecast(seen)
    assert told.ranked(1)[0].port == nat.next().port
    assert "5000..9000" in told.why


@pytest.mark.parametrize("n", [3, 6, 15])
def test_stated_odds_are_the_share_of_hits(n: int) -> None:
    """Over all kinds of NAT and cross traffic together, 200 forecasts: for each number of guesses within four standard errors."""
    dice, stated, hits = random.Random(n), [], []
    families = list(FAMILIES.values())
    for seed in range(200):
        ports, _ = families[seed % len(families)]
        nat = Watched(ports, seed=seed, others=dice.choice([0.0, 0.0, 0.3, 1.0, 3.0, 10.0]))
        seen = [nat.next() for _ in range(n)]
        after = nat.next()
        told = forecast(seen, inside_port=after.inside_port)
        place = int(np.flatnonzero(told.order == after.port)[0])
        stated.append([told.odds(count) for count in COUNTS])
        hits.append([place < count for count in COUNTS])
    odds = np.array(stated)
    misses = np.abs(odds.sum(axis=0) - np.array(hits).sum(axis=0))
    assert (misses < 4 * np.sqrt((odds * (1 - odds)).sum(axis=0)) + 4).all(), (odds.mean(axis=0), np.mean(hits, axis=0))


@pytest.mark.parametrize("others", [0.0, 0.5, 2.0, 8.0])
def test_cross_traffic_costs_what_it_is_said_to(others: float) -> None:
    """A NAT that counts up, 12 mappings seen, 80 times over: hits are what was stated for each number of guesses."""
    stated, hits = np.zeros(len(COUNTS)), np.zeros(len(COUNTS))
    rounds = 80
    for seed in range(rounds):
        nat = Watched(Ports(allocation=SEQUENTIAL, start=30_000), seed=seed, others=others)
        told = forecast([nat.next() for _ in range(12)])
        place = int(np.flatnonzero(told.order == nat.next().port)[0])
        stated += [told.odds(count) for count in COUNTS]
        hits += [place < count for count in COUNTS]
    assert np.abs(stated - hits).max() < 4 * (0.25 * rounds) ** 0.5
    assert hits[-1] == rounds


def test_time_between_mappings_counts() -> None:
    """A host that waits a hundred times longer has to look ten times further: others went on in the meantime."""
    dice, port, seen = random.Random(8), 40_000, []
    for number in range(30):
        port += dice.choice([2, 3, 4, 5, 6, 6, 7, 8])
        seen.append(Mapped(port, at_ns=number * 10**9))
    soon, late = forecast(seen, after_ns=10**8), forecast(seen, after_ns=10**10)
    assert soon.ranked(1)[0].port - seen[-1].port < 3
    assert 25 < late.ranked(1)[0].port - seen[-1].port < 80
    assert late.odds(1) < soon.odds(1)


def test_odds_are_a_distribution_and_count_up() -> None:
    """They sum to one at most, fall along the ranks, and what is needed for a share has that share."""
    for ports, _ in FAMILIES.values():
        nat = Watched(ports, seed=9, others=1.0)
        told = forecast([nat.next() for _ in range(5)])
        assert 0.9 < told.by_port.sum() < 1 + 1e-9
        assert told.by_port.min() >= 0
        ranked = told.ranked(50)
        assert [guess.odds for guess in ranked] == sorted((guess.odds for guess in ranked), reverse=True)
        for share in (0.5, 0.9):
            needed = told.needed(share)
            if needed is not None:
                assert told.odds(needed) >= share - 1e-9
                assert needed == 1 or told.odds(needed - 1) < share
    assert told.needed(1.5) is None


def test_ports_that_are_held_are_not_given_again() -> None:
    """Where mappings still live and ports are drawn, theirs have no odds."""
    nat = Watched(FAMILIES["any of a chunk"][0], seed=4)
    seen = [nat.next() for _ in range(30)]
    told = forecast(seen, held=True)
    assert told.by_port[[mapped.port for mapped in seen]].sum() == 0
    assert told.needed(0.5) is not None


def test_a_mapping_that_is_used_again() -> None:
    """The same port for every remote: it will be the next one, too."""
    told = forecast([Mapped(40_000, 5000)] * 3)
    assert (told.kind, told.ranked(1)[0].port) == (Kind.SAME, 40_000)


def test_nothing_seen_is_nothing_known() -> None:
    """No forecast from no observation; and a port is a port."""
    with pytest.raises(BadParameter, match="nobody has seen"):
        forecast([])
    with pytest.raises(BadParameter, match="no port"):
        Mapped(0)
