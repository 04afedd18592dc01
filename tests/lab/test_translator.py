"""What a box makes of octets is what the machine says of the packets in them; and nothing that comes can stop it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rawpunch.lab.boxes import STRANGE, Translator
from rawpunch.machine import Arrived, Refused, Send, Woke
from rawpunch.nat.behavior import Behavior
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.wire.codec import decode, encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import Flags, Packet, Segment
from tests.nat.test_box_properties import OWN, behaviors, events

OPTIONS = (Mss(1460), SackPermitted(), Timestamps(1, 0), Nop(), WindowScale(7))


def _octets(packet: Packet) -> bytes:
    if isinstance(packet, Segment):
        return encode(packet)
    quoted = packet.quoted
    return encode_icmp_error(packet, encode(Segment(quoted.source, quoted.destination, Flags.SYN, packet.quoted_seq)))


def _machine(behavior: Behavior) -> NatBox:
    return NatBox(behavior, OWN[: behavior.external_addresses], dice=random.Random(1), inside="10.1.0.1")


@given(behaviors, events)
def test_it_does_what_the_machine_does(behavior: Behavior, story: list[tuple[Arrived | Woke, int]]) -> None:
    """Every behaviour, any packets: the same packets leave at the same ports for the same reasons as by stepping the machine."""
    translator, machine = Translator(_machine(behavior)), _machine(behavior)
    now, refused = 0, 0
    for stimulus, later in story:
        now += later
        if isinstance(stimulus, Arrived):
            data = _octets(stimulus.packet)
            left = translator.take(data, stimulus.port, now)
            told = machine.step(Arrived(decode(data), stimulus.port), now=now)
        else:
            left = translator.wake(now)
            told = machine.step(stimulus, now=now)
        assert [(port, decode(octets)) for port, octets in left] == [(e.port, e.packet) for e in told if isinstance(e, Send)]
        refused += sum(isinstance(effect, Refused) for effect in told)
    assert translator.refused.total() == refused
    assert translator.machine.deadline == machine.deadline


def test_options_pass_as_they_came() -> None:
    """A NAT that does not look at them need not know them."""
    translator = Translator(_machine(Behavior()))
    syn = Segment(Endpoint("10.1.0.2", 4000), Endpoint("192.0.2.2", 80), Flags.SYN, 5, options=OPTIONS)
    ((port, octets),) = translator.take(encode(syn), INSIDE, 0)
    packet = decode(octets)
    assert isinstance(packet, Segment)
    assert (port, packet.options, str(packet.source)) == (OUTSIDE, OPTIONS, f"{OWN[0]}:4000")


@given(st.binary(max_size=60), st.sampled_from([INSIDE, OUTSIDE]))
def test_garbage_is_refused_with_a_reason(data: bytes, port: str) -> None:
    """Whatever the octets are: nothing raises, nothing leaves."""
    translator = Translator(_machine(Behavior()))
    assert translator.take(data, port, 0) == []
    assert translator.refused == {STRANGE: 1}


def test_a_packet_of_another_network_layer_is_garbage() -> None:
    """An IPv6 packet in a frame that says IPv4 has no mapping to be translated by."""
    sixth = encode(Segment(Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2), Flags.SYN, 5))
    translator = Translator(_machine(Behavior()))
    assert translator.take(sixth, INSIDE, 0) == []
    assert translator.refused == {STRANGE: 1}
