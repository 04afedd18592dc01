"""Whatever comes, in whatever order, at whatever NAT: nothing raises, nothing private leaves, and the books are right."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rawpunch.machine import Arrived, Effect, Refused, Send, Woke
from rawpunch.nat.behavior import (
    CLOSABLE,
    Allocation,
    Behavior,
    CrossingSyn,
    Filtering,
    Hairpinning,
    Invalid,
    Mapping,
    NumberCheck,
    Pick,
    Ports,
    SynAckOut,
    Timers,
    UnsolicitedAnswer,
    WhenFull,
)
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.reasons import Reason
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Sack
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

HOSTS = ("10.1.0.2", "10.1.0.3")
OWN = ("198.51.100.2", "198.51.100.3")
REMOTES = ("203.0.113.2", "192.0.2.2")

ports = st.one_of(
    st.builds(Ports, fallback=st.sampled_from(Pick), low=st.just(2000), high=st.just(2005), overloading=st.booleans()),
    st.builds(
        Ports, allocation=st.just(Allocation.SEQUENTIAL), low=st.just(2000), high=st.just(2005), keeps_parity=st.booleans()
    ),
    st.builds(Ports, allocation=st.just(Allocation.BANDED), low=st.just(2000), high=st.just(2002)),
    st.builds(Ports, allocation=st.just(Allocation.BLOCK), low=st.just(2000), high=st.just(2007), block_size=st.just(4)),
)


def _behavior(**fields: Any) -> Behavior:
    if fields["ports"].overloading:
        fields["filtering"] = Filtering.ADDRESS_AND_PORT_DEPENDENT
    if fields["unsolicited"] not in {UnsolicitedAnswer.RST, UnsolicitedAnswer.ICMP}:
        fields["unsolicited_hold_ns"] = 0
    return Behavior(**fields)


behaviors = st.builds(
    _behavior,
    mapping=st.sampled_from(Mapping),
    filtering=st.sampled_from(Filtering),
    ports=ports,
    external_addresses=st.integers(1, 2),
    hairpinning=st.sampled_from(Hairpinning),
    timers=st.builds(Timers, syn_sent_ns=st.integers(1, 50), established_ns=st.integers(1, 50)),
    unsolicited=st.sampled_from(UnsolicitedAnswer),
    unsolicited_hold_ns=st.sampled_from([0, 30]),
    crossing_syn=st.sampled_from(CrossingSyn),
    syn_ack_out=st.sampled_from(SynAckOut),
    invalid=st.sampled_from([Invalid.DROP, Invalid.TRANSLATE]),
    number_check=st.sampled_from(NumberCheck),
    rst_closes=st.sets(st.sampled_from(CLOSABLE)).map(tuple),
    icmp_closes=st.sets(st.sampled_from(CLOSABLE)).map(tuple),
    icmp_translated=st.booleans(),
    rewrites_sequence=st.booleans(),
    capacity=st.integers(1, 6),
    when_full=st.sampled_from(WhenFull),
)

few_ports = st.integers(2000, 2005)
inside = st.builds(Endpoint, st.sampled_from(HOSTS), few_ports)
own = st.builds(Endpoint, st.sampled_from(OWN), few_ports)
remote = st.builds(Endpoint, st.sampled_from(REMOTES), st.integers(80, 81))
flags = st.sampled_from(
    [Flags.SYN, Flags.SYN | Flags.ACK, Flags.ACK, Flags.RST, Flags.RST | Flags.ACK, Flags.FIN | Flags.ACK, Flags.NONE]
)
numbers = st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)


def _segments(source: st.SearchStrategy[Endpoint], destination: st.SearchStrategy[Endpoint]) -> st.SearchStrategy[Packet]:
    options = st.sampled_from([(), (Sack(((5, 6),)),)])
    ttl = st.sampled_from([0, 1, 2, 64])
    return st.builds(Segment, source, destination, flags, numbers, numbers, options=options, ttl=ttl)


def _errors(source: st.SearchStrategy[Endpoint], destination: st.SearchStrategy[Endpoint]) -> st.SearchStrategy[Packet]:
    told = st.sampled_from([(3, 3), (3, 13), (11, 0)])
    return st.builds(
        lambda who, one, other, kind, seq, ttl: IcmpError(who, one.address, kind[0], kind[1], Flow(one, other), seq, ttl),
        st.sampled_from([*HOSTS, *REMOTES]),
        source,
        destination,
        told,
        numbers,
        st.sampled_from([0, 1, 64]),
    )


events = st.lists(
    st.tuples(
        st.one_of(
            _segments(inside, remote | own).map(lambda packet: Arrived(packet, INSIDE)),
            _segments(remote, own).map(lambda packet: Arrived(packet, OUTSIDE)),
            _errors(own, remote).map(lambda packet: Arrived(packet, OUTSIDE)),
            _errors(remote, inside).map(lambda packet: Arrived(packet, INSIDE)),
            st.just(Woke()),
        ),
        st.integers(0, 20),
    ),
    max_size=40,
)


def _play(behavior: Behavior, story: list[tuple[Arrived | Woke, int]], seed: int = 1) -> tuple[NatBox, list[list[Effect]]]:
    box = NatBox(behavior, OWN[: behavior.external_addresses], dice=random.Random(seed), inside="10.1.0.1")
    now, told = 0, []
    for stimulus, later in story:
        now += later
        told.append(box.step(stimulus, now=now))
    return box, told


@given(behaviors, events)
def test_every_packet_is_accounted_for(behavior: Behavior, story: list[tuple[Arrived | Woke, int]]) -> None:
    """It is passed on or refused with a word of the list; nothing is silently lost."""
    _, told = _play(behavior, story)
    for (stimulus, _), effects in zip(story, told, strict=True):
        assert isinstance(stimulus, Woke) or any(isinstance(effect, Send | Refused) for effect in effects)
        assert all(Reason(effect.reason) for effect in effects if isinstance(effect, Refused))


@given(behaviors, events)
def test_nothing_private_leaves_and_nothing_external_stays_in(
    behavior: Behavior, story: list[tuple[Arrived | Woke, int]]
) -> None:
    """Outside, every packet comes from an address of the NAT's; inside, every packet is for an inside host."""
    _, told = _play(behavior, story)
    for effect in (effect for effects in told for effect in effects if isinstance(effect, Send)):
        packet = effect.packet
        if effect.port == INSIDE:
            told_host = packet.destination.address if isinstance(packet, Segment) else packet.destination
            assert told_host in HOSTS
        elif isinstance(packet, Segment):
            assert packet.source.address in OWN
        else:
            assert packet.source in OWN or packet.destination in REMOTES
            assert not packet.quoted.source.address.startswith("10.")
            assert not packet.quoted.destination.address.startswith("10.")


@given(behaviors, events)
def test_the_books_are_right(behavior: Behavior, story: list[tuple[Arrived | Woke, int]]) -> None:
    """Sessions and mappings agree, the table is never over its size, no packet from outside could belong to two."""
    box, _ = _play(behavior, story)
    sessions = box.sessions
    assert len(sessions) <= behavior.capacity
    assert len({(session.external, session.remote) for session in sessions}) == len(sessions)
    connected = {(binding.internal, binding.external, remote) for binding in box.bindings for remote in binding.remotes}
    assert connected == {(session.internal, session.external, session.remote) for session in sessions}
    if not behavior.ports.overloading:
        owners: dict[Endpoint, set[Endpoint]] = {}
        for session in sessions:
            owners.setdefault(session.external, set()).add(session.internal)
        assert all(len(inside_ends) == 1 for inside_ends in owners.values())


@given(behaviors, events)
def test_left_alone_a_box_forgets_everything(behavior: Behavior, story: list[tuple[Arrived | Woke, int]]) -> None:
    """Every session ends by its timer: stepping at the deadlines comes to an end, and nothing is left."""
    box, _ = _play(behavior, story)
    for _ in range(1000):
        if box.deadline is None:
            break
        box.step(Woke(), now=box.deadline)
    assert box.deadline is None
    assert box.sessions == ()
    assert list(box.bindings) == []


@given(behaviors, events)
def test_the_same_seed_and_packets_give_the_same_effects(behavior: Behavior, story: list[tuple[Arrived | Woke, int]]) -> None:
    """There is no other source of chance than the dice."""
    assert _play(behavior, story)[1] == _play(behavior, story)[1]
