"""The whole probe in the simulator: what it says of NATs whose behaviour is known, of no NAT, and when luck is bad."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from rawpunch.errors import PartialData
from rawpunch.nat import personas
from rawpunch.nat.behavior import Behavior
from rawpunch.probe.confusion import Match, compare
from rawpunch.probe.finding import Status
from rawpunch.probe.report import Report
from rawpunch.probe.rfc5382 import Verdict
from rawpunch.probe.run import Options, probe
from rawpunch.rng import stream
from rawpunch.scene import Leg, Nat, Scene
from rawpunch.sim.middles import Proxy, TwoNats
from rawpunch.sim.probing import Circumstances, SimGround
from rawpunch.sim.world import World
from rawpunch.units import MS, SECOND
from tests.sim.random_nats import behaviors

ONE_WAY_NS = 20 * MS


def scene(name: str | None, *, loss: float = 0) -> Scene:
    """A host behind a persona, 20 ms from the observer."""
    nat = Nat(persona=name) if name is not None else None
    return Scene(nat_a=nat, nat_b=None, leg_a=Leg(up_ns=ONE_WAY_NS, down_ns=ONE_WAY_NS, loss=loss))


def probed(
    where: Scene,
    seed: int,
    how: Circumstances | None = None,
    *,
    prepare: Callable[[World], None] = lambda _: None,
    options: Options | None = None,
) -> tuple[Report, int]:
    """A report, and how long it took (ns)."""
    ground = SimGround(where, seed=seed, circumstances=how, prepare=prepare)
    began = ground.now()
    return ground.run(probe(ground, options)), ground.now() - began


def wrong(report: Report, behavior: Behavior) -> list[str]:
    """What a report says that is not so."""
    rows = compare(report, behavior)
    return [f"{row.axis} is {row.truth}, found {row.found}" for row in rows if row.match is Match.WRONG]


def persona(name: str) -> Behavior:
    """What a persona does."""
    return personas.load(name).behavior


@pytest.mark.parametrize("name", personas.names())
def test_every_persona_is_told_as_it_is(name: str) -> None:
    """No class is wrong and none is left open, within 15 s at 20 ms one way."""
    report, took_ns = probed(scene(name), seed=7)
    rows = compare(report, persona(name))
    assert [row for row in rows if row.match in {Match.WRONG, Match.NOT_DETERMINED}] == []
    assert took_ns < 15 * SECOND
    assert report.broken_off == ""


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking a whole probe takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(behaviors())
def test_no_nat_is_told_wrongly(behavior: Behavior) -> None:
    """Whatever a NAT does, what the report says of it is so, or it says that it does not know."""
    leg = Leg(up_ns=ONE_WAY_NS, down_ns=ONE_WAY_NS)
    report, _ = probed(Scene(nat_a=Nat(behavior=behavior), nat_b=None, leg_a=leg), seed=1)
    assert wrong(report, behavior) == []


def test_the_same_seed_gives_the_same_report() -> None:
    """To the last packet number."""
    one, other = (probed(scene("carrier-grade-pool", loss=0.05), seed=11)[0] for _ in range(2))
    assert one == other
    assert probed(scene("carrier-grade-pool", loss=0.05), seed=12)[0] != one


@pytest.mark.parametrize("name", ["linux-masquerade", "rst-killer", "symmetric-sequential", "address-dependent", "full-cone"])
def test_a_tenth_of_all_packets_lost_misleads_nobody(name: str) -> None:
    """It takes longer, and the classes are the same."""
    report, took_ns = probed(scene(name, loss=0.1), seed=5)
    assert wrong(report, persona(name)) == []
    assert took_ns < 60 * SECOND
    assert report.loss_at_most > 0.02
    open_ones = [axis for axis, finding in report.findings.items() if finding.status is Status.NOT_DETERMINED]
    assert len(open_ones) <= 2


@pytest.mark.parametrize(
    ("name", "per_s"), [("symmetric-sequential-2", 400), ("linux-masquerade", 400), ("carrier-grade-band", 50)]
)
def test_others_traffic_is_not_taken_for_ours(name: str, per_s: int) -> None:
    """Hundreds of connections a second of a third host: a stride is still a stride."""
    report, _ = probed(scene(name), 3, Circumstances(cross_per_s=per_s))
    assert wrong(report, persona(name)) == []
    assert report.port_allocation.klass == persona(name).ports.allocation


def test_an_observer_with_one_address_leaves_open_what_takes_two() -> None:
    """Whether a mapping or a filter depends on the address cannot be told; whether on the port can."""
    report, _ = probed(scene("address-restricted"), 3, Circumstances(addresses=1))
    assert report.findings["mapping"].detail["candidates"] == ["endpoint_independent", "address_dependent"]
    assert report.filtering.klass is None
    assert "one address" in report.findings["filtering"].why
    symmetric, _ = probed(scene("symmetric-random"), 3, Circumstances(addresses=1))
    assert symmetric.mapping.klass == "address_and_port_dependent"
    assert symmetric.filtering.klass == "address_and_port_dependent"


def test_one_inside_address_leaves_open_what_takes_two() -> None:
    """Overloading takes two hosts, and so does telling a band from a block."""
    report, _ = probed(scene("port-block"), 3, Circumstances(insiders=1))
    assert report.overloading is None
    assert report.port_allocation.klass is None
    assert "second inside address" in report.findings["port_allocation"].why
    assert wrong(report, persona("port-block")) == []


@pytest.mark.parametrize("name", ["linux-masquerade", "rfc5382-model", "symmetric-sequential", "rst-sender"])
def test_an_observer_without_raw_sockets_is_of_some_use(name: str) -> None:
    """Mapping, ports, filtering and the answer to a SYN are told; what takes crafted packets is not tested."""
    report, _ = probed(scene(name), 3, Circumstances(raw=False))
    assert wrong(report, persona(name)) == []
    assert report.mapping.klass == persona(name).mapping
    assert report.filtering.klass == persona(name).filtering
    assert report.port_allocation.klass == persona(name).ports.allocation
    assert report.findings["crossing_syn"].status is Status.NOT_TESTED
    assert "raw sockets" in report.findings["crossing_syn"].why


@pytest.mark.parametrize("gone_ns", [300 * MS, SECOND, 3 * SECOND])
def test_an_observer_that_goes_away_is_named(gone_ns: int) -> None:
    """What was found before is reported, nothing is made up, and it ends."""
    report, took_ns = probed(scene("linux-masquerade"), 3, Circumstances(gone_ns=gone_ns))
    assert "observer is gone" in report.broken_off
    assert wrong(report, persona("linux-masquerade")) == []
    assert took_ns < 60 * SECOND
    assert report.findings["syn_timer"].klass is None


def test_an_observer_that_was_never_there_is_an_error() -> None:
    """Without a first connection there is nothing to report."""
    with pytest.raises(PartialData, match="gone"):
        probed(scene("linux-masquerade"), 3, Circumstances(gone_ns=1))


def test_no_nat_is_no_nat() -> None:
    """Its class is "none", and nothing is required of it."""
    report, _ = probed(scene(None), 3)
    assert report.mapping.klass == "none"
    assert report.filtering.klass == "endpoint_independent"
    assert report.findings["unsolicited_syn"].status is Status.NOT_TESTED
    assert {requirement.verdict for requirement in report.rfc5382} == {Verdict.NOT_TESTED}


@pytest.mark.parametrize("raw", [True, False])
def test_a_proxy_that_terminates_tcp_is_named(raw: bool) -> None:
    """Ports that answer nothing seem to answer; nothing else is concluded."""

    def prepare(world: World) -> None:
        world.seat("a", Proxy(persona("linux-masquerade"), ["198.51.100.2"], dice=stream(1, "proxy")))

    report, _ = probed(scene("linux-masquerade"), 3, Circumstances(raw=raw), prepare=prepare)
    assert report.terminates_tcp is True
    assert report.mapping.klass is None
    assert "proxy" in report.findings["mapping"].why


def test_two_nats_in_a_row_are_named_as_likely() -> None:
    """A private router beyond the first one, and what both do together."""

    def prepare(world: World) -> None:
        inner, outer = persona("linux-masquerade"), persona("symmetric-random")
        world.seat("a", TwoNats(inner, outer, ["198.51.100.2"], dice=stream(1, "two")))

    report, _ = probed(scene("linux-masquerade"), 3, prepare=prepare)
    assert report.path.second_nat_likely is True
    assert report.path.steps[1].address == "100.64.7.1"
    assert report.mapping.klass == "address_and_port_dependent"
    assert probed(scene("linux-masquerade"), 3)[0].path.second_nat_likely is False


def test_long_timers_are_bracketed() -> None:
    """An idle connection of 30 s and an opening of 5 s, found by waiting, in virtual time."""
    report, _ = probed(scene("short-timer"), 3, options=Options(timers=True, timer_limit_ns=120 * SECOND))
    assert wrong(report, persona("short-timer")) == []
    detail = report.findings["established_timer"].detail
    assert 20 * SECOND < detail["at_least_ns"] < 30.2 * SECOND < detail["at_most_ns"] + SECOND
    assert detail["at_most_ns"] - detail["at_least_ns"] < 3 * SECOND
    assert next(one for one in report.rfc5382 if one.req == "REQ-5").verdict is Verdict.FAIL


def test_a_deadline_ends_a_probe_with_what_it_has() -> None:
    """Nothing hangs."""
    report, took_ns = probed(scene("linux-masquerade"), 3, options=Options(deadline_ns=2 * SECOND))
    assert "not done after 2 s" in report.broken_off
    assert took_ns < 3 * SECOND
    assert report.port_allocation.klass == "preserving"


def test_the_report_is_json_of_the_promised_form() -> None:
    """Keys and classes, and evidence in packet numbers that exist."""
    ground = SimGround(scene("rfc5382-model"), seed=3)
    table = json.loads(json.dumps(ground.run(probe(ground)).to_json()))
    assert table["mapping"]["class"] == "endpoint_independent"
    assert table["port_allocation"] == table["port_allocation"] | {"class": "preserving", "stride": None, "band": None}
    assert table["filtering"]["class"] == "endpoint_independent"
    assert table["unsolicited_syn"]["answer"] == "icmp"
    assert table["rst_in_syn_sent"] == {"mapping": "closed"}
    assert (table["crossing_syn"], table["hairpin"], table["overloading"], table["terminates_tcp"]) == (
        "passes",
        True,
        False,
        False,
    )
    verdicts = {row["req"]: row["verdict"] for row in table["rfc5382"]}
    assert verdicts == {f"REQ-{n}": "pass" for n in range(1, 11)} | {"REQ-5": "not_tested", "REQ-6": "not_tested"}
    for finding in table["findings"].values():
        assert all(1 <= number <= ground.packets for number in finding["evidence"])
        assert (finding["status"] == "found") == (finding["class"] is not None)
