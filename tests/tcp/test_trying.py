"""A handshake that tries harder: a first SYN that dies, a peer's SYN that is only told of, another try after a failure."""

from __future__ import annotations

from rawpunch.ending import Ending
from rawpunch.machine import Abort, Arrived, Changed, Concluded, Effect, Open, Send, Woke
from rawpunch.tcp import LINUX, State
from rawpunch.tcp.trying import Habits, Trying
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Segment

A, B = Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 5000)
ISS, PEER = 1000, 3000


def _trying(habits: Habits) -> Trying:
    return Trying(A, B, iss=ISS, profile=LINUX, habits=habits)


def _sent(effects: list[Effect]) -> list[Segment]:
    return [effect.packet for effect in effects if isinstance(effect, Send) and isinstance(effect.packet, Segment)]


def _ended(effects: list[Effect]) -> list[Ending]:
    return [effect.ending for effect in effects if isinstance(effect, Concluded)]


def _rst(ack: int) -> Arrived:
    return Arrived(Segment(B, A, Flags.RST | Flags.ACK, 0, ack))


def test_only_the_first_syn_dies_and_its_death_does_not_matter() -> None:
    """It is what was prepared; the ICMP error about it is not believed, and the repetition has the usual time to live."""
    machine = _trying(Habits(first_ttl=2))
    prepared = machine.prepare_syn(0)
    assert _sent(machine.step(Open(), now=0)) == [prepared]
    assert prepared.ttl == 2
    expired = IcmpError("10.0.0.9", A.address, 11, 0, Flow(A, B), ISS)
    assert machine.step(Arrived(expired), now=MS) == []
    assert machine.state is State.SYN_SENT
    (again,) = _sent(machine.step(Woke(), now=machine.deadline or 0))
    assert (again.ttl, again.seq) == (64, ISS)


def test_a_syn_that_it_is_told_of_counts_as_come() -> None:
    """It answers SYN-ACK with its own SYN's number, and the peer's SYN-ACK opens."""
    machine = _trying(Habits(told_ns=30 * MS, peer_iss=PEER))
    machine.step(Open(), now=0)
    assert machine.deadline == 30 * MS
    (answer,) = _sent(machine.step(Woke(), now=30 * MS))
    assert (answer.kind, answer.seq, answer.ack) == ("SYN-ACK", ISS, PEER + 1)
    crossing = Segment(B, A, Flags.SYN | Flags.ACK, PEER, ISS + 1)
    assert _ended(machine.step(Arrived(crossing), now=50 * MS)) == [Ending.ESTABLISHED]


def test_a_syn_that_came_before_it_was_told_of_changes_nothing() -> None:
    """The story is then about one that is known already."""
    machine = _trying(Habits(told_ns=30 * MS, peer_iss=PEER))
    machine.step(Open(), now=0)
    machine.step(Arrived(Segment(B, A, Flags.SYN, PEER)), now=10 * MS)
    machine.step(Arrived(Segment(B, A, Flags.ACK, PEER + 1, ISS + 1)), now=20 * MS)
    machine.step(Woke(), now=30 * MS)
    assert machine.state is State.ESTABLISHED


def test_it_tries_again_after_a_reset() -> None:
    """Silently in between, with a new number and the same port; the ending is not told before the last try's."""
    machine = _trying(Habits(retry_ns=10 * MS, until_ns=SECOND))
    machine.step(Open(), now=0)
    effects = machine.step(_rst(ISS + 1), now=5 * MS)
    assert _ended(effects) == []
    assert any(isinstance(effect, Changed) for effect in effects)
    assert machine.deadline == 15 * MS
    assert machine.step(Arrived(Segment(B, A, Flags.SYN, PEER)), now=8 * MS) == []
    (syn,) = _sent(machine.step(Woke(), now=15 * MS))
    assert syn.kind == "SYN"
    assert syn.seq != ISS
    (ack,) = _sent(machine.step(Arrived(Segment(B, A, Flags.SYN | Flags.ACK, PEER, syn.seq + 1)), now=20 * MS))
    assert ack.kind == "ACK"
    assert machine.state is State.ESTABLISHED


def test_it_gives_up_when_there_is_no_time_for_another_try() -> None:
    """The last failure is told."""
    machine = _trying(Habits(retry_ns=10 * MS, until_ns=12 * MS))
    machine.step(Open(), now=0)
    assert _ended(machine.step(_rst(ISS + 1), now=5 * MS)) == [Ending.REFUSED]
    assert machine.deadline is None


def test_an_abort_ends_the_waiting() -> None:
    """Nothing is sent afterwards."""
    machine = _trying(Habits(retry_ns=10 * MS, until_ns=SECOND))
    machine.step(Open(), now=0)
    machine.step(_rst(ISS + 1), now=5 * MS)
    assert machine.step(Abort(), now=6 * MS) == []
    assert machine.deadline is None


def test_without_habits_it_is_a_handshake() -> None:
    """The same SYN, the same ending."""
    machine = _trying(Habits())
    assert not machine.habits.any
    assert _sent(machine.step(Open(), now=0))[0].ttl == 64
    assert _ended(machine.step(_rst(ISS + 1), now=5 * MS)) == [Ending.REFUSED]
