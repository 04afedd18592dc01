"""The simulator: what was measured in kernels happens in it too, and one seed is one story."""

from __future__ import annotations

import pytest

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter, UnknownName
from rawpunch.machine import Abort, Changed, Listen, Refused
from rawpunch.nat.behavior import Behavior
from rawpunch.record.pattern import Seen, View, tell
from rawpunch.record.words import Pattern
from rawpunch.scene import VANTAGES, Inside, Nat, Scene, UnsolicitedAnswer
from rawpunch.sim.attempt import PORTS, Aim, Punched, Trial, learn, punch
from rawpunch.sim.world import World
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

OWD = 20 * MS
A, B = Endpoint("10.1.0.2", PORTS["a"]), Endpoint("10.2.0.2", PORTS["b"])
OUT_A, OUT_B = Endpoint("198.51.100.2", PORTS["a"]), Endpoint("203.0.113.2", PORTS["b"])


def _punch(scene: Scene, offset_ns: int = 0, **trial: object) -> Punched:
    return punch(scene, Trial(offset_ns=offset_ns, aim=Aim.ASSUMED, **trial), seed=1, record=True)  # type: ignore[arg-type]


def _kinds(punched: Punched, vantage: str) -> list[str]:
    return [f"{'>' if seen.outgoing else '<'}{seen.packet.kind}" for seen in punched.world.sightings if seen.vantage == vantage]


def _pattern(punched: Punched) -> Pattern:
    """As the one function tells it from what both hosts' devices saw."""

    def view(vantage: str, a: Endpoint, b: Endpoint, at: str) -> View:
        found = (seen for seen in punched.world.sightings if seen.vantage == vantage)
        seen = tuple(Seen(sighting.time_ns, number, sighting.packet) for number, sighting in enumerate(found, 1))
        return View(vantage, a, b, at, seen)  # type: ignore[arg-type]

    return tell([view("hostA:eth0", A, OUT_B, "a"), view("hostB:eth0", OUT_A, B, "b")]).pattern


def test_a_true_crossing_is_the_one_measured() -> None:
    """SYN x 2, SYN-ACK x 2, ACK x 2, and both are established two one-way delays after the later SYN."""
    punched = _punch(Scene.symmetric(OWD), OWD // 2)
    assert _kinds(punched, "hostA:eth0") == [">SYN", "<SYN", ">SYN-ACK", "<SYN-ACK", ">ACK"]
    assert _pattern(punched) is Pattern.SIMULTANEOUS
    assert punched.a.at_ns == OWD // 2 + 2 * OWD - OWD // 2
    assert punched.b.at_ns == OWD // 2 + 2 * OWD
    assert [change.rule for _, change in punched.a.transitions] == ["open", "sent-syn", "linux-received-crossing-syn-ack"]


def test_what_is_dropped_first_makes_a_half_simultaneous_open() -> None:
    """Claim C16: the early SYN is lost, and the far end's SYN finds the hole."""
    punched = _punch(Scene.symmetric(OWD), 2 * OWD)
    assert punched.opened
    assert _kinds(punched, "hostB:eth0") == [">SYN", "<SYN-ACK", ">ACK"]
    assert _pattern(punched) is Pattern.HALF_SIMULTANEOUS


@pytest.mark.parametrize(
    ("answer", "outside", "ending"),
    [
        (UnsolicitedAnswer.DROP, True, Ending.ESTABLISHED),
        (UnsolicitedAnswer.RST, False, Ending.REFUSED),
        (UnsolicitedAnswer.STACK, False, Ending.REFUSED),
        (UnsolicitedAnswer.ICMP, False, Ending.UNREACHABLE),
    ],
)
def test_the_edge_is_the_one_way_delay(answer: UnsolicitedAnswer, outside: bool, ending: Ending) -> None:
    """To the nanosecond, as measured to a few hundred microseconds; and each answer ends the early end in its own way."""
    scene = Scene.symmetric(OWD, answer)
    assert _punch(scene, OWD - 1).opened
    late = _punch(scene, OWD + 1)
    assert late.opened == outside
    assert late.a.ending is ending


def test_without_nats_it_is_the_host_that_refuses_an_early_syn() -> None:
    """Claims C1, C2 and C10: the window is the one-way delay, however long that is."""
    for one_way_ns in (5 * MS, 80 * MS):
        scene = Scene.between(None, None, one_way_ns)
        assert _punch(scene, one_way_ns - 1).opened
        assert _punch(scene, one_way_ns + 1).a.ending is Ending.REFUSED


def test_the_legs_count_and_not_their_sum_alone() -> None:
    """From A to B it is A's leg up and B's leg down; early is early for the far NAT."""
    scene = Scene.model_validate({"leg_a": {"up_ns": 3 * MS, "down_ns": 30 * MS}, "leg_b": {"up_ns": 20 * MS, "down_ns": 7 * MS}})
    punched = _punch(scene)
    arrivals = {seen.vantage: seen.time_ns for seen in punched.world.sightings if seen.packet.kind == "SYN" and not seen.outgoing}
    assert (arrivals["hostB:eth0"], arrivals["hostA:eth0"]) == (10 * MS, 50 * MS)


def test_a_delay_inside_is_kept_each_way_and_is_no_hop() -> None:
    """A SYN leaves A, comes to its NAT later, and leaves that at once; what comes for A leaves the NAT and arrives later."""
    away = {"inside_a": Inside(up_ns=7 * MS, down_ns=3 * MS), "inside_b": Inside(up_ns=5 * MS, down_ns=2 * MS)}
    scene = Scene.symmetric(OWD).model_copy(update=away)
    assert (scene.one_way_ns, scene.nat_to_nat_ns) == ((29 * MS, 28 * MS), (OWD, OWD))
    punched = _punch(scene)
    assert punched.opened
    syns = [seen for seen in punched.world.sightings if seen.packet.kind == "SYN"]
    from_a = {seen.vantage: seen.time_ns for seen in syns if seen.packet.source in (A, OUT_A)}
    from_b = {seen.vantage: seen.time_ns for seen in syns if seen.packet.source in (B, OUT_B)}
    assert [from_a[name] // MS for name in VANTAGES] == [0, 7, 7, 7, 27, 27, 27, 29]
    assert [from_b[name] // MS for name in reversed(VANTAGES)] == [0, 5, 5, 5, 25, 25, 25, 28]
    ttl = {seen.vantage: seen.packet.ttl for seen in syns if seen.packet.source == A}
    assert ttl["hostA:eth0"] == ttl["natA:in"]


@pytest.mark.parametrize(("inside_a", "inside_b"), [(0, 0), (3 * OWD, 3 * OWD), (OWD // 2, 0), (0, OWD // 2), (3 * OWD, OWD)])
def test_the_edge_is_the_delay_between_the_nats(inside_a: int, inside_b: int) -> None:
    """Claim C20, to the nanosecond: it moves with the difference of the ways to the NATs, and not with how long they are."""
    nat = Nat(unsolicited=UnsolicitedAnswer.RST)
    scene = Scene.between(nat, nat, OWD, inside_ns=(inside_a, inside_b))
    last, first = OWD + inside_a - inside_b, inside_a - inside_b - OWD
    assert _punch(scene, last - 1).opened
    assert _punch(scene, first + 1).opened
    assert not _punch(scene, last + 1).opened
    assert not _punch(scene, first - 1).opened


def test_an_inside_may_lose_what_goes_through_it() -> None:
    """All of it: A's NAT never sees a packet of A's. The same seed loses the same."""
    scene = Scene.symmetric(OWD).model_copy(update={"inside_a": Inside(loss=1.0)})
    punched = _punch(scene)
    assert not punched.opened
    assert not any(seen.vantage == "natA:in" and not seen.outgoing for seen in punched.world.sightings)
    half = scene.model_copy(update={"inside_a": Inside(loss=0.5)})
    assert _kinds(_punch(half), "natA:in") == _kinds(_punch(half), "natA:in")


def test_nats_go_through_the_states_of_conntrack() -> None:
    """SYN_SENT, SYN_SENT2, SYN_RECV, ESTABLISHED, at both."""
    punched = _punch(Scene.symmetric(OWD))
    for node in ("natA", "natB"):
        states = [
            happening.what.after
            for happening in punched.world.happenings
            if happening.node == node and isinstance(happening.what, Changed)
        ]
        assert states == ["SYN_SENT", "SYN_SENT2", "SYN_RECV", "ESTABLISHED"]


def test_a_syn_may_die_on_the_way_and_open_its_own_nat() -> None:
    """The core reports it, the NAT translates the report, the session stays, and the peer's SYN finds it."""
    punched = _punch(Scene.symmetric(OWD, UnsolicitedAnswer.RST), 5 * OWD, low_ttl="a")
    assert punched.opened
    assert _kinds(punched, "hostA:eth0")[:2] == [">SYN", "<ICMP 11/0"]
    assert "<SYN" not in _kinds(punched, "natB:out")
    assert _pattern(punched) is Pattern.HALF_SIMULTANEOUS


def test_every_refusal_is_told() -> None:
    """What a NAT does not pass is on record with its reason."""
    punched = _punch(Scene.symmetric(OWD, UnsolicitedAnswer.RST), 2 * OWD)
    reasons = [
        (happening.node, happening.what.reason) for happening in punched.world.happenings if isinstance(happening.what, Refused)
    ]
    assert reasons[0] == ("natB", "no_mapping")


def test_a_packet_is_seen_at_every_vantage_point_in_order() -> None:
    """From A's device to B's, once each; the delay lies in the core."""
    punched = _punch(Scene.symmetric(OWD))
    first = punched.world.sightings[0].packet
    assert isinstance(first, Segment)
    path = [
        seen
        for seen in punched.world.sightings
        if isinstance(seen.packet, Segment) and seen.packet.seq == first.seq and seen.packet.kind == "SYN"
    ]
    assert [seen.vantage for seen in path] == list(VANTAGES)
    assert [seen.time_ns for seen in path] == [0] * 4 + [OWD] * 4
    assert [seen.packet.ttl for seen in path] == [64, 64, 63, 63, 62, 62, 61, 61]


def test_one_seed_is_one_story() -> None:
    """Every packet at every vantage point, equal; another seed, other numbers."""
    scene = Scene.between(Nat(persona="carrier-grade-pool"), Nat(persona="sequence-rewriter"), OWD)
    runs = [punch(scene, Trial(), seed=seed, record=True).world for seed in (3, 3, 4)]
    assert runs[0].sightings == runs[1].sightings
    assert runs[0].happenings == runs[1].happenings
    assert runs[0].sightings != runs[2].sightings


def test_recording_changes_nothing() -> None:
    """It is only left out to be fast."""
    outcomes = {punch(Scene.symmetric(OWD), Trial(), seed=1, record=record).b.at_ns for record in (True, False)}
    assert len(outcomes) == 1


def test_a_private_source_never_crosses_the_core() -> None:
    """A box without rules leaks an INVALID packet: the core counts and drops it, as the lab's does."""
    world = World(Scene.between(Nat(persona="linux-bare"), None, OWD), seed=1)
    end = world.end("hostA", A, Endpoint("198.18.2.2", 80))
    world.open("hostA", end)
    world.run(until_ns=MS)
    bare = Segment(A, Endpoint("198.18.2.2", 80), end.machine.prepare_syn(0).flags ^ 0x12, end.machine.snd_nxt, 5)
    world._leave(world._seats["a"], bare)
    assert world.private_leaks == 1


def test_observers_see_what_the_nat_makes_of_an_endpoint() -> None:
    """Claim C9: asked from the very port that it will open from."""
    world = World(Scene.between(Nat(persona="linux-masquerade-band"), None, OWD), seed=1)
    seen = learn(world, {"a": A, "b": Endpoint("198.18.2.2", 5)})
    assert seen["a"].address == OUT_A.address
    assert 10_000 <= seen["a"].port <= 14_095
    assert seen["b"] == Endpoint("198.18.2.2", 5)


def test_a_symmetric_nat_shows_each_observer_another_port() -> None:
    """And one after the other."""
    world = World(Scene.between(Nat(persona="symmetric-sequential"), None, OWD), seed=1)
    assert learn(world, {"a": A})["a"].port == 40_000
    end = world.end("hostA", A, Endpoint("192.0.2.67", 3478))
    world.open("hostA", end)
    world.run(until=lambda: end.ending is not None)
    remotes = [other.machine.remote for other in world.host("obs2").ends]
    assert [remote.port for remote in remotes if remote is not None] == [40_001]


def test_an_observer_that_is_not_there_teaches_nothing() -> None:
    """After its patience is over, the host is left out."""
    world = World(Scene(), seed=1)
    assert learn(world, {"a": A}, Endpoint("192.0.2.9", 3478)) == {}
    assert world.now == SECOND


def test_an_end_that_is_not_open_yet_refuses_like_any_closed_port() -> None:
    """And a port that nobody has does so too."""
    world = World(Scene.between(None, None, OWD), seed=1)
    a, b = Endpoint("198.18.1.2", 1), Endpoint("198.18.2.2", 2)
    ends = [world.end("hostA", a, b), world.end("hostA", a, Endpoint("198.18.2.2", 3))]
    world.end("hostB", b, a)
    for end in ends:
        world.open("hostA", end)
    world.run(until_ns=SECOND)
    assert [end.ending for end in ends] == [Ending.REFUSED, Ending.REFUSED]


def test_a_connection_can_be_listened_for_and_aborted() -> None:
    """Roles exist in worlds, not in machines."""
    world = World(Scene.between(None, None, OWD), seed=1)
    a, b = Endpoint("198.18.1.2", 1), Endpoint("198.18.2.2", 2)
    server, client = world.end("hostB", b, None), world.end("hostA", a, b)
    world.do("hostB", server, Listen())
    world.open("hostA", client)
    world.run(until=lambda: server.ending is not None)
    assert server.ending is Ending.ESTABLISHED
    world.do("hostA", client, Abort())
    world.run(until_ns=world.now + SECOND)
    assert server.machine.state == "CLOSED"


def test_time_passes_to_where_it_was_asked_to() -> None:
    """Also when nothing happens."""
    world = World(Scene(), seed=1, start_ns=5)
    world.run(until_ns=SECOND)
    assert world.now == SECOND


def test_mistakes_are_told() -> None:
    """A host that is not there, an endpoint that is in use."""
    world = World(Scene(), seed=1)
    with pytest.raises(UnknownName, match="hostA"):
        world.end("hostC", A, OUT_B)
    world.end("hostA", A, OUT_B)
    with pytest.raises(BadParameter):
        world.end("hostA", A, OUT_B)


def test_a_nats_timers_run_in_virtual_time() -> None:
    """Two minutes pass in no time, and the hole is closed."""
    world = World(Scene.between(Nat(behavior=Behavior()), None, OWD), seed=1)
    end = world.end("hostA", A, Endpoint("198.18.2.9", 80), give_up_ns=SECOND)
    world.open("hostA", end)
    box = world.nat("a")
    assert box is not None
    world.run(until_ns=119 * SECOND)
    assert len(box.sessions) == 1
    world.run(until_ns=121 * SECOND)
    assert not box.sessions
