"""Segments to IP packets' bytes and back, fast enough to answer a SYN with (about 10 us each way).

scapy is the tests' oracle for both directions; for packets made by hand use `rawpunch.wire.packets`.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Option, decode_options, encode_options
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

PROTO_ICMP: Final = 1
PROTO_TCP: Final = 6
PROTO_ICMPV6: Final = 58

ICMP_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
ICMPV6_ERRORS: Final = frozenset({1, 2, 3, 4})

_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_TCP: Final = struct.Struct("!HHIIHHHH")
_MIN_QUOTE: Final = 8
_FLAGS: Final = tuple(map(Flags, range(0x200)))
"""All combinations of control bits, made once: that takes longer than reading a header."""


@lru_cache(maxsize=65_536)
def packed_address(address: str) -> bytes:
    """The 4 or 16 octets of an address in canonical spelling."""
    return ip_address(address).packed


@lru_cache(maxsize=65_536)
def _address(packed: bytes) -> str:
    return str(ip_address(packed))


@lru_cache(maxsize=65_536)
def _endpoint(packed: bytes, port: int) -> Endpoint:
    return Endpoint(_address(packed), port)


_cached_options = lru_cache(maxsize=1024)(decode_options)


@lru_cache(maxsize=1024)
def option_bytes(options: tuple[Option, ...]) -> bytes:
    """`encode_options`, remembering what it did."""
    return encode_options(options)


def internet_checksum(data: bytes) -> int:
    """The ones' complement checksum of RFC 1071.

    The sum of 16-bit words modulo 0xffff is the whole number modulo 0xffff, which Python divides faster than it loops.
    """
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xFFFF
    return (~total & 0xFFFF) if total or not any(data) else 0


def _ip_header(source: bytes, destination: bytes, protocol: int, length: int, ttl: int) -> bytes:
    if len(source) == 4:
        blank = _IPV4.pack(0x45, 0, 20 + length, 0, 0x4000, ttl, protocol, 0, source, destination)
        return blank[:10] + internet_checksum(blank).to_bytes(2, "big") + blank[12:]
    return _IPV6.pack(0x6000_0000, length, protocol, ttl, source, destination)


def _transport_checksum(source: bytes, destination: bytes, protocol: int, body: bytes) -> int:
    return internet_checksum(source + destination + struct.pack("!II", len(body), protocol) + body)


def encode(segment: Segment) -> bytes:
    """The IPv4 or IPv6 packet of a segment, both checksums right.

    Raises:
        Malformed: the endpoints mix address families, the options are too long, or payload bytes are missing.
    """
    if segment.payload_length != len(segment.payload):
        raise Malformed("a segment whose payload was cut short cannot be sent")
    source, destination = packed_address(segment.source.address), packed_address(segment.destination.address)
    if len(source) != len(destination):
        raise Malformed(f"{segment.flow} mixes IPv4 and IPv6")
    options = option_bytes(segment.options) if segment.options else b""
    flags = int(segment.flags)
    offset_and_flags = (5 + len(options) // 4) << 12 | flags & 0x1FF
    head = _TCP.pack(
        segment.source.port, segment.destination.port, segment.seq, segment.ack, offset_and_flags, segment.window, 0, 0
    )
    body = head + options + segment.payload
    checksum = _transport_checksum(source, destination, PROTO_TCP, body)
    return b"".join(
        (
            _ip_header(source, destination, PROTO_TCP, len(body), segment.ttl),
            body[:16],
            checksum.to_bytes(2, "big"),
            body[18:],
        )
    )


def encode_icmp_error(error: IcmpError, quoted: bytes) -> bytes:
    """The ICMP or ICMPv6 packet of an error.

    Args:
        error: who tells whom what.
        quoted: the IP packet that caused it; its first 28 (IPv4) or 1,232 (IPv6) octets are quoted.
    """
    source, destination = packed_address(error.source), packed_address(error.destination)
    ipv4 = len(source) == 4
    body = struct.pack("!BBHI", error.type, error.code, 0, 0) + quoted[: 28 if ipv4 else 1232]
    checksum = internet_checksum(body) if ipv4 else _transport_checksum(source, destination, PROTO_ICMPV6, body)
    body = body[:2] + checksum.to_bytes(2, "big") + body[4:]
    return _ip_header(source, destination, PROTO_ICMP if ipv4 else PROTO_ICMPV6, len(body), error.ttl) + body


def encode_packet(packet: Packet) -> bytes:
    """The IP packet of a segment, or of an ICMP error that quotes a SYN without options: all that the error tells of it.

    Raises:
        Malformed: see `encode`.
    """
    if isinstance(packet, Segment):
        return encode(packet)
    quoted = Segment(packet.quoted.source, packet.quoted.destination, Flags.SYN, packet.quoted_seq)
    return encode_icmp_error(packet, encode(quoted))


def decode(packet: bytes | memoryview, *, options: bool = True) -> Packet:
    """The segment or ICMP error in an IP packet; link-layer padding behind it is dropped.

    Args:
        packet: its octets.
        options: whether TCP options are read; the segment has none otherwise. That saves a third of the time.

    Raises:
        Malformed: it is neither, is cut short inside a header, or is a later fragment.
    """
    data = bytes(packet)
    if len(data) < 20:
        raise Malformed(f"{len(data)} octets are too few for an IP packet")
    version = data[0] >> 4
    if version == 4:
        header = (data[0] & 15) * 4
        total = int.from_bytes(data[2:4], "big")
        ttl, protocol, source, destination = data[8], data[9], data[12:16], data[16:20]
        if header < 20 or total < header:
            raise Malformed("the IPv4 header's lengths contradict each other")
        if int.from_bytes(data[6:8], "big") & 0x1FFF:
            raise Malformed("a later fragment carries no TCP header")
    elif version == 6 and len(data) >= 40:
        header = 40
        total = 40 + int.from_bytes(data[4:6], "big")
        ttl, protocol, source, destination = data[7], data[6], data[8:24], data[24:40]
    else:
        raise Malformed(f"IP version {version} is unknown or its header is cut short")
    if protocol == PROTO_TCP:
        return _decode_tcp(data, header, total, ttl, source, destination, options=options)
    if protocol == (PROTO_ICMP if version == 4 else PROTO_ICMPV6):
        return _decode_icmp(data[header:total], protocol, ttl, source, destination)
    raise Malformed(f"IP protocol {protocol} is neither TCP nor ICMP")


def _decode_tcp(data: bytes, at: int, total: int, ttl: int, source: bytes, destination: bytes, *, options: bool) -> Segment:
    if len(data) < at + 20:
        raise Malformed("the TCP header is cut short")
    sport, dport, seq, ack, offset_and_flags, window, _, _ = _TCP.unpack_from(data, at)
    header = (offset_and_flags >> 12) * 4
    if header < 20 or at + header > total or at + header > len(data):
        raise Malformed(f"TCP data offset {header} does not fit the packet")
    return Segment(
        _endpoint(source, sport),
        _endpoint(destination, dport),
        _FLAGS[offset_and_flags & 0x1FF],
        seq,
        ack,
        window,
        _cached_options(data[at + 20 : at + header]) if options and header > 20 else (),
        data[at + header : total],
        total - at - header,
        ttl,
    )


def _decode_icmp(body: bytes, protocol: int, ttl: int, source: bytes, destination: bytes) -> IcmpError:
    errors = ICMP_ERRORS if protocol == PROTO_ICMP else ICMPV6_ERRORS
    if len(body) < _MIN_QUOTE or body[0] not in errors:
        raise Malformed("an ICMP message that is not an error")
    quote = body[8:]
    ipv4 = protocol == PROTO_ICMP
    at = max(20, (quote[0] & 15) * 4) if ipv4 and quote else 40
    where = (slice(12, 16), slice(16, 20), 9) if ipv4 else (slice(8, 24), slice(24, 40), 6)
    if len(quote) < at + _MIN_QUOTE or quote[where[2]] != PROTO_TCP:
        raise Malformed("an ICMP error that quotes no TCP segment")
    sport, dport, seq = struct.unpack_from("!HHI", quote, at)
    return IcmpError(
        _address(source),
        _address(destination),
        body[0],
        body[1],
        Flow(_endpoint(quote[where[0]], sport), _endpoint(quote[where[1]], dport)),
        seq,
        ttl,
    )
