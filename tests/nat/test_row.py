"""Two NATs in a row, as one machine and in the simulator."""

from __future__ import annotations

import pytest

from rawpunch.errors import BadParameter
from rawpunch.machine import Arrived, Refused, Send, Woke
from rawpunch.nat.behavior import Behavior, Timers
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.row import Row
from rawpunch.rng import stream
from rawpunch.scene import EXTERNAL, SHARED, Nat, Scene
from rawpunch.sim.attempt import Trial, punch
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Segment

HOST, PEER = Endpoint("10.1.0.2", 5000), Endpoint("192.0.2.2", 80)
SYN = Segment(HOST, PEER, Flags.SYN, 1 << 30)


def _row(inner: Behavior | None = None, outer: Behavior | None = None) -> Row:
    dice = stream(1, "row")
    return Row(
        NatBox(inner or Behavior(), (SHARED,), dice=dice, inside="10.1.0.1"),
        NatBox(outer or Behavior(), (EXTERNAL["a"],), dice=dice, inside="100.64.1.1"),
    )


def test_a_packet_is_translated_twice_each_way() -> None:
    """Out by the inner NAT first, in by the outer one first; each takes a hop."""
    row = _row()
    (out,) = [effect for effect in row.step(Arrived(SYN, INSIDE), now=0) if isinstance(effect, Send)]
    assert isinstance(out.packet, Segment)
    assert (out.port, str(out.packet.source), out.packet.ttl) == (OUTSIDE, f"{EXTERNAL['a']}:5000", 62)
    answer = Segment(PEER, out.packet.source, Flags.SYN | Flags.ACK, 7, (1 << 30) + 1)
    (back,) = [effect for effect in row.step(Arrived(answer, OUTSIDE), now=MS) if isinstance(effect, Send)]
    assert isinstance(back.packet, Segment)
    assert (back.port, back.packet.destination, back.packet.ttl) == (INSIDE, HOST, 62)


def test_each_answers_for_itself() -> None:
    """A time to live of 2 ends at the outer one, and its error comes back through the inner one; what is not passed says why."""
    row = _row()
    effects = row.step(Arrived(Segment(HOST, PEER, Flags.SYN, 1 << 30, ttl=2), INSIDE), now=0)
    (told,) = [effect.packet for effect in effects if isinstance(effect, Send)]
    assert isinstance(told, IcmpError)
    assert (told.source, told.destination, told.quoted.source) == ("100.64.1.1", HOST.address, HOST)
    stranger = Segment(PEER, Endpoint(EXTERNAL["a"], 999), Flags.SYN, 5)
    assert [type(effect) for effect in row.step(Arrived(stranger, OUTSIDE), now=0)] == [Refused]


def test_it_wakes_for_the_earlier_of_both() -> None:
    """And both look at what is due."""
    row = _row(outer=Behavior(timers=Timers(syn_sent_ns=SECOND)))
    row.step(Arrived(SYN, INSIDE), now=0)
    assert row.deadline == SECOND
    row.step(Woke(), now=SECOND)
    assert row.outer.sessions == ()
    assert len(row.inner.sessions) == 1


def test_a_scene_may_have_a_carrier() -> None:
    """The core sees the carrier's address; the own NAT has a shared one; a carrier without a NAT behind it is none."""
    scene = Scene(carrier_a=Nat(persona="linux-masquerade"))
    assert (scene.external_addresses("a"), scene.own_addresses("a")) == ((EXTERNAL["a"],), (SHARED,))
    assert scene.own_addresses("b") == scene.external_addresses("b") == (EXTERNAL["b"],)
    with pytest.raises(BadParameter, match="no nat_a"):
        Scene(carrier_a=Nat(), nat_a=None)


def test_two_hosts_punch_through_three_nats() -> None:
    """In the simulator, two of them in a row."""
    assert punch(Scene(carrier_a=Nat()), Trial(), seed=1).opened
    rst = Nat(persona="rst-sender")
    assert not punch(Scene(nat_a=Nat(), nat_b=Nat(), carrier_a=rst), Trial(offset_ns=-SECOND), seed=1).opened
