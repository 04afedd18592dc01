"""Port allocation, parity and pooling from made samples: what is drawn, what is counted, and what cannot be known."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.probe import facts
from rawpunch.probe.facts import Facts, Sample
from rawpunch.probe.finding import Status
from rawpunch.probe.inference_ports import allocation, parity, pooling
from rawpunch.probe.statistics import Odds, drawn_p, odds, range_p, spread, steps
from rawpunch.wire.endpoint import Endpoint

MINE, THEIRS, OUT = "10.0.0.2", "10.0.0.3", "198.51.100.2"


def known(
    ports: Sequence[int | None], crossed: Sequence[tuple[int, int]] = (), address: Callable[[int], str] = lambda _: OUT
) -> Facts:
    """Facts with these mapped ports of our own, and (insider, port) of both hosts in turn."""
    dice = random.Random(1)
    samples = [
        Sample(
            facts.SAMPLING_ALONE,
            0,
            Endpoint(MINE, 20_000 + 2 * dice.randrange(10_000) + place % 2),
            None if port is None else Endpoint(address(place), port),
            (place + 1,),
        )
        for place, port in enumerate(ports)
    ]
    samples += [
        Sample(
            facts.SAMPLING_CROSSED,
            host,
            Endpoint((MINE, THEIRS)[host], 40_000 + dice.randrange(20_000)),
            Endpoint(OUT, port),
            (1_000 + place,),
        )
        for place, (host, port) in enumerate(crossed)
    ]
    return Facts(insiders=2, samples=tuple(samples), loss=0.01)


def drawn(low: int, high: int, count: int = 150, seed: int = 3) -> list[int]:
    """Ports drawn evenly."""
    dice = random.Random(seed)
    return [dice.randint(low, high) for _ in range(count)]


def in_turn(ours: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int]]:
    """Both hosts' ports in turn."""
    return [pair for one, two in zip(ours, theirs, strict=True) for pair in ((0, one), (1, two))]


@given(st.integers(1_024, 30_000), st.sampled_from([1, 2, 3, 7, -1, -4, 256]), st.sets(st.integers(0, 47), max_size=12))
def test_a_stride_is_found_through_gaps(start: int, stride: int, lost: set[int]) -> None:
    """Even if a quarter of the samples got lost."""
    start += 48 * 256
    ports = [None if place in lost else start + stride * place for place in range(48)]
    after = start + stride * 48
    crossed = in_turn([after + 2 * stride * n for n in range(8)], [after + (2 * n + 1) * stride for n in range(8)])
    finding = allocation(known(ports, crossed))
    assert (finding.klass, finding.detail["stride"]) == ("sequential", stride)


def test_a_stride_is_found_among_others() -> None:
    """Others take a random number of steps between any two of ours."""
    dice = random.Random(5)
    ports = [5_000]
    while len(ports) < 60:
        ports.append(ports[-1] + 4 * (1 + dice.randrange(5)))
    crossed = in_turn(range(9_000, 9_800, 80), range(9_040, 9_840, 80))
    finding = allocation(known(ports, crossed))
    assert (finding.klass, finding.detail["stride"]) == ("sequential", 4)


def test_a_counter_that_keeps_parity_has_the_stride_of_its_smallest_steps() -> None:
    """One step to the other parity, two to the same."""
    dice = random.Random(7)
    rows: list[Sample] = []
    port = 10_000
    for place in range(60):
        inside = 30_000 + dice.randrange(20_000)
        port += 1 if (port + 1 ^ inside) & 1 == 0 else 2
        rows.append(Sample(facts.SAMPLING_ALONE, 0, Endpoint(MINE, inside), Endpoint(OUT, port), (place,)))
    both = Facts(insiders=1, samples=tuple(rows), loss=0.01)
    assert allocation(both).detail["stride"] == 1
    assert parity(both).klass == "kept"


def test_evenly_drawn_ports_of_the_whole_range_are_random() -> None:
    """And their parity is nobody's."""
    facts_ = known(drawn(1_024, 65_535))
    finding = allocation(facts_)
    assert finding.klass == "random"
    assert finding.detail["spread"]["entropy_bits"] == pytest.approx(15.97, abs=0.05)
    assert parity(facts_).klass == "not_kept"


def test_a_band_is_one_that_both_hosts_share() -> None:
    """Its ends are estimated from the lowest and highest port seen."""
    finding = allocation(known(drawn(20_000, 24_095), in_turn(drawn(20_000, 24_095, 16), drawn(20_000, 24_095, 16, 9))))
    assert finding.klass == "banded"
    low, high = finding.detail["band"]
    assert abs(low - 20_000) < 120
    assert abs(high - 24_095) < 120


@pytest.mark.parametrize("counted", [False, True])
def test_a_block_is_one_that_the_other_host_does_not_share(counted: bool) -> None:
    """Whether its ports are drawn or counted up."""
    mine = list(range(8_192, 8_242)) if counted else drawn(8_192, 8_703)
    ours, theirs = (
        (range(8_250, 8_266), range(30_208, 30_224)) if counted else (drawn(8_192, 8_703, 16), drawn(30_208, 30_719, 16))
    )
    finding = allocation(known(mine, in_turn(list(ours), list(theirs))))
    assert finding.klass == "block"
    low, high = finding.detail["band"]
    assert low <= min(mine)
    assert max(mine) <= high


@pytest.mark.parametrize(
    ("ports", "why"),
    [
        (drawn(5_000, 5_500), "second inside address"),
        (drawn(1_024, 58_000, 40), "most of the range or all"),
        ([7_000 + (n * n) % 29 * (n % 3) for n in range(150)], "neither kept nor counted up nor evenly drawn"),
        ([9_000], "only 1"),
        ([], "only 0"),
    ],
)
def test_what_cannot_be_told_is_not_told(ports: list[int], why: str) -> None:
    """A narrow range of one host; almost all ports; a pattern of its own; too few."""
    finding = allocation(known(ports))
    assert finding.status is Status.NOT_DETERMINED
    assert why in finding.why


def test_a_pool_shows_in_the_addresses() -> None:
    """One address for all mappings of a host is paired; any other is arbitrary."""
    assert pooling(known(drawn(1_024, 65_535))).klass == "paired"
    several = known(drawn(1_024, 65_535), address=lambda place: f"198.51.100.{2 + place % 3}")
    assert pooling(several).klass == "arbitrary"
    assert len(pooling(several).detail["addresses"]) == 3


def test_few_samples_of_a_pool_say_nothing() -> None:
    """Two equally likely addresses would show in twelve samples, and five are too few."""
    assert pooling(known(drawn(1_024, 65_535, 5))).klass is None


def test_a_range_is_narrow_only_if_chance_would_not_make_it_so() -> None:
    """The distribution of the range of n even draws."""
    assert range_p(2, 0.5) == pytest.approx(0.75)
    assert range_p(100, 1.0) == 1.0
    assert range_p(176, 0.8) < 1e-12
    assert spread(drawn(1_024, 65_535)).whole_p > 1e-3


def test_even_draws_are_not_too_regular_and_patterns_are() -> None:
    """An upper bound: small bands repeat steps by chance, and that is allowed for."""
    small = drawn(100, 115, 176)
    assert drawn_p(small, [two - one for one, two in itertools.pairwise(small)], 16) > 1e-3
    assert drawn_p(small, [3] * 60 + [-7] * 60, 16) < 1e-9
    assert drawn_p([100] * 40 + small, [], 16) < 1e-6


def test_the_sign_test_knows_up_from_any() -> None:
    """Forty steps up are no accident, twenty of forty are."""
    assert steps([1] * 40).sign_p < 1e-10
    assert steps([1, -1] * 20).sign_p == pytest.approx(1)
    assert steps([]).n == 0


def test_odds_have_an_interval() -> None:
    """Wilson's; without trials it is everything."""
    assert odds(0, 0) == Odds(0, 0, 0.0, 1.0)
    good = odds(40, 40)
    assert good.low == pytest.approx(0.912, abs=0.001)
    assert good.high == pytest.approx(1)
