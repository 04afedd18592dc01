"""Plans do what works: for all pairs of personas the first step opens in the simulator whenever anything does."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from rawpunch.errors import BadParameter
from rawpunch.nat import oracle, personas
from rawpunch.nat.behavior import Allocation, Behavior, Filtering, Mapping, Ports
from rawpunch.nat.oracle import Strategy
from rawpunch.punch.birthday import Budget, without_repetition
from rawpunch.punch.known import Known
from rawpunch.punch.plan import Certainty, Deed, Path, Plan, Step, make_plan, spray_costs
from rawpunch.punch.ports import Mapped
from rawpunch.scene import Nat, Scene, Side
from rawpunch.sim.attempt import Aim, Trial, punch, reverse
from rawpunch.sim.spray import spray
from rawpunch.units import MS
from tests.punch.report import findings_of

OWD = 20 * MS
NATS: dict[str, Behavior | None] = {"none": None} | {name: personas.load(name).behavior for name in personas.names()}
PAIRS = list(product(NATS, NATS))
PLANS: dict[tuple[str, str], Plan] = {(a, b): make_plan(Known.of_behavior(NATS[a]), Known.of_behavior(NATS[b])) for a, b in PAIRS}


def _opens(a: str, b: str, step: Step, seed: int = 1) -> bool:
    """Carry a step out in the simulator, as its moves say."""
    nat_a, nat_b = (None if name == "none" else Nat(persona=name) for name in (a, b))
    scene = Scene.between(nat_a, nat_b, OWD)
    low_ttl: Side | None
    if step.strategy in {Strategy.REVERSAL, Strategy.POKED_REVERSAL}:
        listens: Side = "b" if step.a.deed is Deed.OPEN else "a"
        return reverse(scene, listens, seed=1, poke=step.strategy is Strategy.POKED_REVERSAL).opened
    if step.strategy is Strategy.SPRAY:
        drawing: Side = "a" if step.a.deed is Deed.HOLD else "b"
        hold, tries = step.move(drawing), step.move("b" if drawing == "a" else "a")
        nat = NATS[a if drawing == "a" else b]
        assert nat is not None
        ports = (nat.ports.low, nat.ports.high)
        return spray(scene, drawing, hold.syns, tries.syns, seed=seed, ports=ports, first_ttl=hold.first_ttl).established > 0
    low_ttl = "a" if step.a.first_ttl < 64 else "b" if step.b.first_ttl < 64 else None
    aim = Aim.PREDICTED if step.strategy is Strategy.PREDICTION else Aim.LEARNED
    return punch(scene, Trial(offset_ns=step.b.begins_ns - step.a.begins_ns, aim=aim, low_ttl=low_ttl), seed=1).opened


def test_the_strategy_is_one_that_the_oracle_says_works() -> None:
    """For all 841 pairs, whenever one works; and the relay, and nothing else, where none does."""
    for (a, b), plan in PLANS.items():
        working = {answer.strategy for answer in oracle.ways(NATS[a], NATS[b]) if answer.works}
        assert plan.first.strategy in working, (a, b)
        assert plan.first.strategy is plan.predicted.strategy, (a, b)
        assert (plan.first.strategy is Strategy.RELAY) == (working == {Strategy.RELAY}), (a, b)
        assert plan.steps[-1].strategy is Strategy.RELAY


def test_the_first_step_opens_in_the_simulator() -> None:
    """Each pair's plan is carried out as its moves say: offsets, times to live, who listens, who sprays."""
    chosen = [pair for pair, plan in PLANS.items() if plan.first.strategy not in {Strategy.RELAY, Strategy.SPRAY}]
    assert len(chosen) > 500
    assert [pair for pair in chosen if not _opens(*pair, PLANS[pair].first)] == []


@pytest.mark.parametrize("drawing", ["symmetric-random", "carrier-grade-band"])
@pytest.mark.parametrize("other", ["port-restricted", "rst-sender", "none", "full-cone"])
def test_sprays_hit_in_the_simulator(drawing: str, other: str) -> None:
    """A step whose odds are 99.9 % opens, in either order of the two."""
    for pair in ((drawing, other), (other, drawing)):
        step = PLANS[pair].first
        if step.strategy is Strategy.SPRAY:
            assert step.odds is not None
            assert step.odds > 0.99
            assert _opens(*pair, step)
        else:
            assert step.strategy is Strategy.REVERSAL


@pytest.mark.parametrize(
    ("drawing", "other", "syns"),
    [
        ("carrier-grade-pool", "port-restricted", (1024, 1024)),
        ("carrier-grade-band", "tiny-table", (1024, 8)),
        ("linux-masquerade-band-random", "tiny-table", (1024, 8)),
    ],
)
def test_sprays_hit_as_often_as_is_said(drawing: str, other: str, syns: tuple[int, int]) -> None:
    """Also where the NAT draws its address too, and where the other one's table holds few of the tries until the answers come."""
    step = PLANS[drawing, other].first
    assert (step.strategy, step.a.syns, step.b.syns) == (Strategy.SPRAY, *syns)
    assert step.odds is not None
    hits = sum(_opens(drawing, other, step, seed) for seed in range(40))
    low, high = binom.interval(0.999, 40, step.odds)
    assert low <= hits <= high


def test_the_odds_are_those_of_the_side_that_draws() -> None:
    """For all pairs that spray, in either order; the other side's own range, be it wider, does not come into it."""
    sprays = [(pair, plan.first) for pair, plan in PLANS.items() if plan.first.strategy is Strategy.SPRAY]
    assert len(sprays) > 100
    for (a, b), step in sprays:
        draws, hold, tries = (NATS[a], step.a, step.b) if step.a.deed is Deed.HOLD else (NATS[b], step.b, step.a)
        assert draws is not None
        assert step.odds == pytest.approx(without_repetition(hold.syns, tries.syns, oracle.endpoints(draws))), (a, b)


def test_no_spray_is_planned_that_a_small_table_would_forget() -> None:
    """Eight tries among all ports hit one time in ten; the relay is what works."""
    plan = PLANS["symmetric-random", "tiny-table"]
    assert {step.strategy for step in plan.steps} == {Strategy.RELAY}
    assert plan.predicted.strategy is Strategy.RELAY


def test_every_sure_step_opens_in_the_simulator() -> None:
    """The ones that come after the first, too: for pairs that have several."""
    plans = {pair: plan for pair, plan in PLANS.items() if pair[0] in {"rst-sender", "crossing-blocker", "rfc5382-model"}}
    failed = [
        (pair, step.strategy)
        for pair, plan in plans.items()
        for step in plan.steps[1:-1]
        if step.strategy is not Strategy.SPRAY and not _opens(*pair, step)
    ]
    assert failed == []


def test_findings_lead_to_the_same_plan_as_the_nat_itself() -> None:
    """What a complete report says of each persona is enough: same first strategy, no doubts."""
    for a, b in PAIRS[::5]:
        told = make_plan(Known.of_findings(findings_of(NATS[a])), Known.of_findings(findings_of(NATS[b])))
        assert told.doubts == ()
        assert told.first.strategy is PLANS[a, b].first.strategy, (a, b)


@settings(max_examples=60)
@given(st.sampled_from(PAIRS), st.data())
def test_doubt_never_makes_surer(pair: tuple[str, str], data: st.DataObject) -> None:
    """With any findings left out, what is called sure is so: the oracle agrees for the NATs that are really there."""
    kept = []
    for name in pair:
        whole = findings_of(NATS[name])
        axes = data.draw(st.sets(st.sampled_from(sorted(whole))))
        kept.append(Known.of_findings({axis: whole[axis] for axis in axes}))
    plan = make_plan(kept[0], kept[1])
    truth = {answer.strategy for answer in oracle.ways(NATS[pair[0]], NATS[pair[1]]) if answer.works}
    for step in plan.steps[:-1]:
        if step.certainty is Certainty.SURE and step.strategy is not Strategy.SPRAY:
            assert step.strategy in truth


def test_nothing_known_is_tried_as_usual() -> None:
    """Without any finding: simultaneous open first, said to be no more than usual, and all that is open is named."""
    plan = make_plan(Known.of_findings({}), Known.of_findings({}))
    assert (plan.first.strategy, plan.first.certainty) == (Strategy.SIMULTANEOUS, Certainty.USUAL)
    assert "A's mapping" in plan.doubts
    assert plan.explain().startswith("not determined: A's mapping")


def test_clocks_that_are_off_by_more_than_the_delay() -> None:
    """Two NATs that reset leave no window then: order by a margin, with a SYN that dies, is what is left."""
    known = Known.of_behavior(NATS["rst-sender"])
    plan = make_plan(known, known, Path(start_error_ns=50 * MS))
    assert plan.first.strategy is Strategy.LOW_TTL
    assert abs(plan.first.a.begins_ns - plan.first.b.begins_ns) > 2 * OWD + 2 * 50 * MS
    assert make_plan(known, known, Path(start_error_ns=5 * MS)).first.strategy is Strategy.SIMULTANEOUS


def test_a_proxy_leaves_the_relay() -> None:
    """Where something terminates TCP nothing can be punched, and the plan says why."""
    findings = findings_of(NATS["port-restricted"]) | {"terminates_tcp": {"class": "true"}}
    plan = make_plan(Known.of_findings(findings), Known.of_behavior(None))
    assert [step.strategy for step in plan.steps] == [Strategy.RELAY]
    assert "terminates TCP" in plan.explain()


def test_predicted_ports_are_named() -> None:
    """From what was seen of a NAT that counts by two: the next one first, and more of them for who can send to many."""
    seen = tuple(Mapped(40_000 + 2 * number) for number in range(5))
    sequential = Known.of_behavior(NATS["symmetric-sequential-2"], seen)
    step = make_plan(sequential, Known.of_behavior(NATS["port-restricted"])).first
    assert step.strategy is Strategy.PREDICTION
    assert step.b.ports[0].port == 40_010
    assert step.a.ports == ()
    assert step.odds is not None
    assert step.odds > 0.95
    both = make_plan(sequential, sequential).first
    assert [move.syns for move in (both.a, both.b)] == [1, 1]
    assert "to 40010" in make_plan(sequential, sequential).explain()


def test_two_nats_that_draw_get_their_odds_and_the_relay() -> None:
    """Nothing is sprayed that cannot hit; the number is in the plan."""
    plan = PLANS["carrier-grade-band", "carrier-grade-band"]
    assert plan.first.strategy is Strategy.RELAY
    assert "22.1 %" in plan.explain()
    assert spray_costs(2048)[0] == (0.5, 38)


@given(st.integers(2, 4000), st.integers(1, 2000))
def test_a_spray_keeps_its_budget(packets: int, opened: int) -> None:
    """Both sides' SYNs together."""
    known = Known.of_behavior(NATS["symmetric-random"])
    plan = make_plan(known, Known.of_behavior(NATS["port-restricted"]), budget=Budget(packets=packets, opened=opened))
    sprays = [step for step in plan.steps if step.strategy is Strategy.SPRAY]
    assert all(step.a.syns + step.b.syns <= packets and step.a.syns <= opened for step in sprays)
    assert sprays or packets < 500 or opened < 200


@pytest.mark.parametrize(
    "findings",
    [
        {"mapping": {"class": "sideways"}},
        {"port_allocation": {"class": "banded", "detail": {"band": [9, "x"]}}},
        {"port_allocation": {"class": "banded", "detail": {"band": 7}}},
        {"port_allocation": {"class": "sequential", "detail": {"stride": 70_000}}},
        {"table": {"class": "small", "detail": {"lived": "many"}}},
    ],
)
def test_garbage_for_findings_is_refused(findings: dict[str, Any]) -> None:
    """A peer may send anything: it ends in one sentence."""
    with pytest.raises(BadParameter):
        Known.of_findings(findings)
    with pytest.raises(BadParameter):
        Path(nat_hops=(0, 1))


def test_candidates_that_a_finding_leaves_open() -> None:
    """An observer with one address cannot tell two mappings apart: the worse one counts for what is sure."""
    open_axis = {"mapping": {"class": None, "detail": {"candidates": ["endpoint_independent", "address_dependent"]}}}
    findings = findings_of(NATS["port-restricted"]) | open_axis
    findings |= {"port_allocation": {"class": "random"}, "port_parity": {"class": "not_kept"}}
    known = Known.of_findings(findings)
    assert (known.usual and known.usual.mapping, known.worst and known.worst.mapping) == (
        Mapping.ENDPOINT_INDEPENDENT,
        Mapping.ADDRESS_DEPENDENT,
    )
    assert known.usual is not None
    assert known.usual.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    assert known.usual.ports == Ports(allocation=Allocation.RANDOM)
    assert make_plan(known, Known.of_behavior(NATS["port-restricted"])).first.certainty is Certainty.USUAL
