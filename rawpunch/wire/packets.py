"""Segments to scapy packets and back: the one place where scapy crafts and dissects.

scapy takes 0.3 s to import; nothing else in the pure floors imports it.
"""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, IPerror, TCPerror
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from rawpunch.errors import Malformed
from rawpunch.wire.codec import decode
from rawpunch.wire.options import (
    End,
    FastOpen,
    Mss,
    Nop,
    Option,
    Sack,
    SackPermitted,
    Timestamps,
    Unknown,
    WindowScale,
)
from rawpunch.wire.segment import IcmpError, Packet, Segment


def to_scapy(packet: Packet) -> ScapyPacket:
    """The scapy packet of a segment or ICMP error, from the IP layer up; checksums are left to scapy."""
    if isinstance(packet, IcmpError):
        quoted = packet.quoted
        if quoted.source.is_ipv6:
            raise Malformed("ICMPv6 errors have no scapy form here")
        return (
            IP(src=packet.source, dst=packet.destination, ttl=packet.ttl, id=0, flags="DF")
            / ICMP(type=packet.type, code=packet.code)
            / IPerror(src=quoted.source.address, dst=quoted.destination.address)
            / TCPerror(sport=quoted.source.port, dport=quoted.destination.port, seq=packet.quoted_seq)
        )
    source, destination = packet.source, packet.destination
    network = (
        IPv6(src=source.address, dst=destination.address, hlim=packet.ttl)
        if source.is_ipv6
        else IP(src=source.address, dst=destination.address, ttl=packet.ttl, id=0, flags="DF")
    )
    transport = TCP(
        sport=source.port,
        dport=destination.port,
        seq=packet.seq,
        ack=packet.ack,
        flags=int(packet.flags),
        window=packet.window,
        options=[_option(option) for option in packet.options],
    )
    return network / transport / Raw(packet.payload) if packet.payload else network / transport


def from_scapy(packet: ScapyPacket) -> Packet:
    """The segment or ICMP error in a scapy packet; layers below IP are dropped.

    Raises:
        Malformed: there is neither in it.
    """
    network = packet.getlayer(IP) or packet.getlayer(IPv6)
    if network is None:
        raise Malformed(f"no IP layer in {packet.summary()}")
    return decode(bytes(network))


def craft(segment: Segment) -> bytes:
    """Ready bytes of a segment, built by scapy (150-280 us: do it ahead of the deadline)."""
    return bytes(to_scapy(segment))


def _option(option: Option) -> tuple[str | int, object]:
    match option:
        case Mss(value):
            return "MSS", value
        case WindowScale(shift):
            return "WScale", shift
        case SackPermitted():
            return "SAckOK", b""
        case Sack(blocks):
            return "SAck", tuple(edge for block in blocks for edge in block)
        case Timestamps(value, echo):
            return "Timestamp", (value, echo)
        case FastOpen(cookie):
            return 34, cookie
        case Unknown(kind, data):
            return kind, data
        case Nop():
            return "NOP", None
        case End():
            return "EOL", None
