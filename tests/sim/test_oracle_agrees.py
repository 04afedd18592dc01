"""Oracle and simulator share no code, and agree: for all pairs of personas, and for NATs that nobody has named."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rawpunch.nat import oracle, personas
from rawpunch.nat.behavior import (
    CLOSABLE,
    Allocation,
    Behavior,
    CrossingSyn,
    Filtering,
    Invalid,
    Mapping,
    NumberCheck,
    Pooling,
    Ports,
    Refresh,
    SessionState,
    SynAckOut,
    Timers,
    UnsolicitedAnswer,
    WhenFull,
)
from rawpunch.scene import Leg, Nat, Scene, Side
from rawpunch.sim.attempt import Aim, Trial, punch, reverse
from rawpunch.units import MS, SECOND

OWD = 20 * MS
NATS: dict[str, Nat | None] = {"none": None} | {name: Nat(persona=name) for name in personas.names()}


def _differs(scene: Scene, trial: Trial) -> str:
    """In words, if oracle and simulator do not agree."""
    opened = punch(scene, trial, seed=1).opened
    a, b = scene.nat_a, scene.nat_b
    told = oracle.simultaneous(
        a.behavior if a else None,
        b.behavior if b else None,
        offset_ns=trial.offset_ns,
        one_way_ns=scene.one_way_ns,
        aim=oracle.Aim(trial.aim.value),
        give_up_ns=trial.give_up_ns,
        low_ttl=trial.low_ttl or "",
    )
    return "" if told.works == opened else f"simulator: {'opened' if opened else 'failed'}; oracle: {told.why}"


@pytest.mark.parametrize(
    ("offset_ns", "low_ttl"),
    [(0, None), (OWD - MS, None), (3 * OWD, None), (-3 * OWD, None), (3 * OWD, "a"), (-3 * OWD, "b"), (MS, "b")],
    ids=["together", "inside", "A first", "B first", "A first, dies", "B first, dies", "together, B dies"],
)
def test_all_pairs_of_personas(offset_ns: int, low_ttl: Side | None) -> None:
    """Plain simultaneous open inside and outside the one-way delay, in either order, and with a first SYN that dies."""
    found = {
        (a, b): differs
        for a, nat_a in NATS.items()
        for b, nat_b in NATS.items()
        if (differs := _differs(Scene.between(nat_a, nat_b, OWD), Trial(offset_ns=offset_ns, low_ttl=low_ttl)))
    }
    assert found == {}


@pytest.mark.parametrize("listens", ["a", "b"])
@pytest.mark.parametrize("poke", [False, True], ids=["reversal", "poked reversal"])
def test_reversals_of_all_pairs(listens: Side, poke: bool) -> None:
    """One listens where an observer saw it, after a SYN towards the other's address or without."""
    told = oracle.poked_reversal if poke else oracle.reversal
    found = {}
    for (a, nat_a), (b, nat_b) in product(NATS.items(), NATS.items()):
        caller = nat_b if listens == "a" else nat_a
        if poke and caller is not None and caller.behavior.pooling is Pooling.ARBITRARY:
            continue  # it may come from the address that was poked, by chance
        works = told(nat_a.behavior if nat_a else None, nat_b.behavior if nat_b else None, listens=listens).works
        if works != reverse(Scene.between(nat_a, nat_b, OWD), listens, seed=1, poke=poke).opened:
            found[a, b] = works
    assert found == {}


def test_predictions_of_all_pairs() -> None:
    """Two observers show the step, and both open at the same time."""
    found = {}
    for (a, nat_a), (b, nat_b) in product(NATS.items(), NATS.items()):
        works = oracle.prediction(nat_a.behavior if nat_a else None, nat_b.behavior if nat_b else None).works
        if works != punch(Scene.between(nat_a, nat_b, OWD), Trial(aim=Aim.PREDICTED), seed=1).opened:
            found[a, b] = works
    assert found == {}


def _behavior(kind: Allocation, mapping: Mapping, filtering: Filtering, overloading: bool, **fields: Any) -> Behavior:
    low, high = (20_000, 40_000) if kind is Allocation.BANDED else (1024, 65_535)
    block_size = 4096 if kind is Allocation.BLOCK else 0
    if filtering is Filtering.ENDPOINT_INDEPENDENT:  # with a mapping per remote, whose SYN it is would be anybody's guess
        mapping, overloading = Mapping.ENDPOINT_INDEPENDENT, False
    if fields["unsolicited"] not in {UnsolicitedAnswer.RST, UnsolicitedAnswer.ICMP}:
        fields["unsolicited_hold_ns"] = 0
    ports = Ports(allocation=kind, low=low, high=high, block_size=block_size, overloading=overloading)
    return Behavior(mapping=mapping, filtering=filtering, ports=ports, **fields)


behaviors = st.builds(
    _behavior,
    st.just(Allocation.PRESERVING) | st.sampled_from(Allocation),
    st.just(Mapping.ENDPOINT_INDEPENDENT) | st.sampled_from(Mapping),
    st.sampled_from(Filtering),
    st.booleans(),
    timers=st.builds(Timers, syn_sent_ns=st.sampled_from([5 * SECOND, 120 * SECOND])),
    refreshed_by=st.sampled_from(Refresh),
    unsolicited=st.just(UnsolicitedAnswer.DROP) | st.sampled_from(UnsolicitedAnswer),
    unsolicited_hold_ns=st.sampled_from([0, 500 * MS, 6 * SECOND]),
    crossing_syn=st.sampled_from(CrossingSyn),
    syn_ack_out=st.sampled_from(SynAckOut),
    invalid=st.sampled_from([Invalid.DROP, Invalid.TRANSLATE]),
    picks_up=st.booleans(),
    number_check=st.sampled_from(NumberCheck),
    rst_closes=st.sampled_from([CLOSABLE, (), (SessionState.ESTABLISHED,)]),
    icmp_closes=st.sampled_from([(), CLOSABLE, (SessionState.SYN_SENT,)]),
    icmp_translated=st.booleans(),
    rewrites_sequence=st.booleans(),
    capacity=st.sampled_from(
        [1, 3, 1000]
    ),  # two: a prediction's own queries evict each other, and the oracle gives it up too early
    when_full=st.sampled_from(WhenFull),
)
sides = st.one_of(st.none(), behaviors.map(lambda behavior: Nat(behavior=behavior)))
legs = st.builds(Leg, up_ns=st.integers(1, 40).map(lambda ms: ms * MS), down_ns=st.integers(1, 40).map(lambda ms: ms * MS))
# no packet comes at the very instant of another: who is first is a toss-up there
offsets = st.tuples(
    st.sampled_from([0, 0, 1, 15, 30, 60, 100, 700, 1500, 4000]), st.integers(1, 900), st.sampled_from([1, -1])
).map(lambda parts: parts[2] * (parts[0] * MS + parts[1]))
icmp_kills = Nat(behavior=Behavior(icmp_closes=CLOSABLE, icmp_translated=False))
forgets = Nat(
    behavior=Behavior(
        ports=Ports(allocation=Allocation.SEQUENTIAL), capacity=1, when_full=WhenFull.EVICT_OLDEST, icmp_closes=CLOSABLE
    )
)
refuses = Nat(behavior=Behavior(unsolicited=UnsolicitedAnswer.ICMP, icmp_closes=CLOSABLE))


@settings(max_examples=300)
@given(sides, sides, legs, legs, offsets, st.sampled_from([None, None, "a", "b"]), st.sampled_from(Aim))
@example(icmp_kills, refuses, Leg(), Leg(), 1500 * MS + 1, None, Aim.LEARNED)
@example(forgets, None, Leg(up_ns=MS, down_ns=MS), Leg(up_ns=MS, down_ns=MS), 1, "a", Aim.PREDICTED)
@example(icmp_kills, Nat(persona="crossing-blocker"), Leg(), Leg(), 1, "a", Aim.LEARNED)
@example(icmp_kills, Nat(persona="syn-ack-blocker"), Leg(), Leg(), 1, "a", Aim.ASSUMED)
def test_nats_that_nobody_has_named(
    nat_a: Nat | None, nat_b: Nat | None, leg_a: Leg, leg_b: Leg, offset_ns: int, low_ttl: Side | None, aim: Aim
) -> None:
    """Any two behaviours, any legs, starts up to seconds apart."""
    scene = Scene(nat_a=nat_a, nat_b=nat_b, leg_a=leg_a, leg_b=leg_b)
    assert _differs(scene, Trial(offset_ns=offset_ns, low_ttl=low_ttl, aim=aim)) == ""
