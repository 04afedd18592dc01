"""The codec: what it writes it reads back, scapy reads and writes the same bytes, broken bytes are Malformed and nothing else."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, IPv6

from rawpunch.errors import Malformed
from rawpunch.wire.codec import decode, encode, encode_icmp_error, internet_checksum
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Mss, Timestamps
from rawpunch.wire.packets import craft, from_scapy, to_scapy
from rawpunch.wire.segment import Flags, IcmpError, Segment
from tests.wire.packets_strategies import icmp_errors, icmpv6_errors, segments

A, B = Endpoint("192.0.2.1", 4000), Endpoint("198.51.100.2", 5000)
SYN = Segment(A, B, Flags.SYN, 1, options=(Mss(1460),))


def quoted_by(error: IcmpError) -> bytes:
    """The packet that an error complains of."""
    return encode(Segment(error.quoted.source, error.quoted.destination, Flags.SYN, error.quoted_seq))


@given(segments())
def test_a_segment_is_read_back_as_it_was_written(segment: Segment) -> None:
    """Every field survives, over IPv4 and IPv6, with any options that fit."""
    assert decode(encode(segment)) == segment


@given(segments())
@settings(max_examples=60, deadline=None)
def test_scapy_reads_what_we_write(segment: Segment) -> None:
    """Scapy finds every field where it belongs, and agrees with both checksums."""
    data = encode(segment)
    packet = IPv6(data) if segment.source.is_ipv6 else IP(data)
    tcp = packet[TCP]
    assert Flow(Endpoint(packet.src, tcp.sport), Endpoint(packet.dst, tcp.dport)) == segment.flow
    assert (tcp.seq, tcp.ack) == (segment.seq, segment.ack)
    assert (int(tcp.flags), tcp.window) == (int(segment.flags), segment.window)
    assert bytes(tcp.payload) == segment.payload
    assert (packet.hlim if segment.source.is_ipv6 else packet.ttl) == segment.ttl
    told = packet[TCP].chksum, None if segment.source.is_ipv6 else packet.chksum
    del tcp.chksum
    if not segment.source.is_ipv6:
        del packet.chksum
    again = packet.__class__(bytes(packet))
    assert told == (again[TCP].chksum, None if segment.source.is_ipv6 else again.chksum)


@given(segments())
@settings(max_examples=60, deadline=None)
def test_scapy_crafts_the_same_bytes(segment: Segment) -> None:
    """A segment turned into a scapy packet and built there is what the codec writes, octet for octet, and comes back the same."""
    packet = to_scapy(segment)
    assert craft(segment) == encode(segment)
    assert from_scapy(packet) == segment


@given(icmp_errors)
@settings(max_examples=60, deadline=None)
def test_icmp_errors_go_through_codec_and_scapy(error: IcmpError) -> None:
    """An ICMP error is read back as it was written; scapy agrees with fields and checksum, and its own form is read the same."""
    data = encode_icmp_error(error, quoted_by(error))
    assert decode(data) == error
    assert decode(bytes(to_scapy(error))) == error
    packet = IP(data)
    assert (packet[ICMP].type, packet[ICMP].code) == (error.type, error.code)
    told = packet[ICMP].chksum
    assert internet_checksum(bytes(packet[ICMP])) == 0
    assert told == int.from_bytes(data[22:24], "big")


@given(icmpv6_errors)
@settings(max_examples=60, deadline=None)
def test_icmpv6_errors_go_through_the_codec(error: IcmpError) -> None:
    """An ICMPv6 error is read back as it was written, and scapy agrees with its checksum, which covers the pseudo header."""
    data = encode_icmp_error(error, quoted_by(error))
    assert decode(data) == error
    layer = {1: ICMPv6DestUnreach, 3: ICMPv6TimeExceeded}.get(error.type)
    if layer is not None:
        packet = IPv6(data)
        told = packet[layer].cksum
        del packet[layer].cksum
        assert IPv6(bytes(packet))[layer].cksum == told


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_malformed_or_a_packet(data: bytes) -> None:
    """Noise never raises anything but Malformed."""
    with contextlib.suppress(Malformed):
        decode(data)


@given(segments(), st.data())
@settings(max_examples=300)
def test_mutated_segments_are_malformed_or_a_packet(segment: Segment, data: st.DataObject) -> None:
    """Octets changed, cut off, put in: Malformed or a value that is sound enough to be compared and printed."""
    _mutate_and_decode(bytearray(encode(segment)), data)


@given(st.one_of(icmp_errors, icmpv6_errors), st.data())
@settings(max_examples=300)
def test_mutated_icmp_errors_are_malformed_or_a_packet(error: IcmpError, data: st.DataObject) -> None:
    """The same for ICMP errors, whose quotation is another packet to stumble over."""
    _mutate_and_decode(bytearray(encode_icmp_error(error, quoted_by(error))), data)


def _mutate_and_decode(raw: bytearray, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1)) if raw else 0
        match data.draw(st.sampled_from(["change", "cut", "insert", "delete"])):
            case "change" if raw:
                raw[at] = data.draw(st.integers(0, 255))
            case "cut":
                del raw[at:]
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=8))
            case _:
                del raw[at : at + 1]
    try:
        packet = decode(bytes(raw))
    except Malformed:
        return
    assert repr(packet)
    assert len({packet, decode(bytes(raw))}) == 1


@given(st.binary(min_size=1, max_size=80))
@example(b"\xff\xff")
@example(b"\0\0")
@example(b"\xff\xfe\x00\x01")
def test_the_checksum_is_rfc_1071s(data: bytes) -> None:
    """It is the complement of the ones' complement sum, done the slow way."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert internet_checksum(data) == ~total & 0xFFFF


def test_padding_of_the_link_layer_is_dropped() -> None:
    """An Ethernet frame is at least 60 octets long; what lies behind the IP packet is not payload."""
    assert decode(encode(SYN) + bytes(20)) == SYN


def test_a_cut_payload_is_told_from_a_short_one() -> None:
    """Where a capture cut the payload, its length on the wire is kept, and such a segment is not sent."""
    whole = Segment(A, B, Flags.ACK, 1, 2, payload=b"hello world")
    cut = decode(encode(whole)[:-6])
    assert isinstance(cut, Segment)
    assert (cut.payload, cut.payload_length, cut.end) == (b"hello", 11, 12)
    with pytest.raises(Malformed):
        encode(cut)


def test_later_fragments_and_other_protocols_are_malformed() -> None:
    """A later fragment has no TCP header, UDP is not TCP, an ICMP echo is no error, IPv5 is nothing."""
    fragment = bytearray(encode(SYN))
    fragment[6:8] = b"\x20\x01"
    udp = bytearray(encode(SYN))
    udp[9] = 17
    echo = bytearray(encode_icmp_error(IcmpError("192.0.2.9", A.address, 3, 1, Flow(A, B), 1), encode(SYN)))
    echo[20] = 8
    strange = bytearray(encode(SYN))
    strange[0] = 0x55
    for raw in (fragment, udp, echo, strange, b""):
        with pytest.raises(Malformed):
            decode(bytes(raw))


def test_a_quotation_with_a_broken_header_is_malformed() -> None:
    """The quoted packet's own header length is a claim too: too short a header, or one that runs past the end."""
    error = IcmpError("192.0.2.9", A.address, 3, 1, Flow(A, B), 1)
    for first in range(0x40, 0x50):
        for length in range(28, 56):
            raw = bytearray(encode_icmp_error(error, encode(SYN)))[:length]
            raw[2:4] = len(raw).to_bytes(2, "big")
            if length > 28:
                raw[28] = first
            with pytest.raises(Malformed):
                decode(bytes(raw))


def test_each_family_has_its_own_icmp() -> None:
    """ICMPv6 inside IPv4 is neither."""
    raw = bytearray(encode_icmp_error(IcmpError("192.0.2.9", A.address, 3, 1, Flow(A, B), 1), encode(SYN)))
    raw[9] = 58
    with pytest.raises(Malformed):
        decode(bytes(raw))


def test_mixed_families_and_long_options_cannot_be_sent() -> None:
    """IPv4 to IPv6, and options of more than 40 octets, have no bytes."""
    with pytest.raises(Malformed, match="mixes"):
        encode(Segment(A, Endpoint("2001:db8::1", 1), Flags.SYN, 1))
    with pytest.raises(Malformed, match="40"):
        encode(Segment(A, B, Flags.SYN, 1, options=(Timestamps(1, 1),) * 5))


def test_scapy_packets_without_tcp_are_malformed() -> None:
    """A scapy packet must have an IP layer, and TCP or an ICMP error in it."""
    for packet in (TCP(), IP() / ICMP()):
        with pytest.raises(Malformed):
            from_scapy(packet)
