"""The packets that an observer makes for a probe, as octets."""

from __future__ import annotations

from typing import Final

from rawpunch.probe.messages import Craft, SendPacket
from rawpunch.wire.codec import encode, encode_icmp_error
from rawpunch.wire.endpoint import Flow
from rawpunch.wire.options import Mss, Nop, Option, SackPermitted, WindowScale
from rawpunch.wire.segment import Flags, IcmpError, Segment
from rawpunch.wire.seq import add

SYN_OPTIONS: Final[tuple[Option, ...]] = (Mss(1460), Nop(), Nop(), SackPermitted(), Nop(), WindowScale(7))
"""What a SYN of ours carries; a probe sees from them what a NAT on the way changed."""

_FLAGS: Final = {
    Craft.SYN: Flags.SYN,
    Craft.SYN_ACK: Flags.SYN | Flags.ACK,
    Craft.ACK: Flags.ACK,
    Craft.RST: Flags.RST,
    Craft.RST_ACK: Flags.RST | Flags.ACK,
}


def crafted(wish: SendPacket) -> bytes:
    """The IP packet that a probe wishes for.

    An ICMP error comes from the observer itself and quotes a SYN that the probe has sent to the held endpoint.

    Raises:
        Malformed: source and destination are of different families.
    """
    if wish.kind is Craft.ICMP:
        quoted = Segment(wish.to, wish.source, Flags.SYN, wish.seq, wish.ack, wish.window)
        error = IcmpError(
            wish.source.address,
            wish.to.address,
            wish.icmp_type,
            wish.icmp_code,
            Flow(wish.to, wish.source),
            wish.seq,
            wish.ttl,
        )
        return encode_icmp_error(error, encode(quoted))
    flags = _FLAGS[wish.kind]
    options = SYN_OPTIONS if flags & Flags.SYN else ()
    return encode(Segment(wish.source, wish.to, flags, wish.seq, wish.ack, wish.window, options, ttl=wish.ttl))


def answer_to(syn: Segment, kind: Craft, *, iss: int, ttl: int) -> bytes:
    """The packet of a kind that fits a SYN that has come: its numbers are those that a peer in that place would use.

    A RST-ACK is one that RFC 9293 lets through in SYN-SENT (section 3.10.7.3: SEG.ACK = ISS + 1); a RST without ACK is not.
    """
    numbers = {
        Craft.SYN: (iss, 0),
        Craft.SYN_ACK: (iss, add(syn.seq, 1)),
        Craft.ACK: (iss, add(syn.seq, 1)),
        Craft.RST: (iss, 0),
        Craft.RST_ACK: (0, add(syn.seq, 1)),
        Craft.ICMP: (syn.seq, 0),
    }
    seq, ack = numbers[kind]
    return crafted(SendPacket(kind=kind, source=syn.destination, to=syn.source, seq=seq, ack=ack, ttl=ttl))
