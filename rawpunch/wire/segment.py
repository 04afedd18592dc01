"""The one currency: a TCP segment as a frozen value, and the ICMP error that speaks of one."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, TypeVar

from rawpunch.errors import Malformed
from rawpunch.wire import seq as sequence
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Option, Timestamps
from rawpunch.wire.ttl import DEFAULT_TTL

MAX_WINDOW: Final = 65_535

_Opt = TypeVar("_Opt", bound=Option)


class Flags(enum.IntFlag):
    """The control bits of RFC 9293, section 3.1 (plus the accurate-ECN bit)."""

    NONE = 0
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80
    AE = 0x100


# plain integers: the & of an IntFlag takes half a microsecond, and a handshake step asks for a dozen bits
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10


def kind_of(flags: int, payload_length: int = 0) -> str:
    """The field's name for a segment with these control bits: SYN, SYN-ACK, RST, RST-ACK, FIN, FIN-ACK, DATA, ACK or NONE."""
    flags = int(flags)
    for bit, name in ((_RST, "RST"), (_SYN, "SYN"), (_FIN, "FIN")):
        if flags & bit:
            return f"{name}-ACK" if flags & _ACK else name
    if payload_length:
        return "DATA"
    return "ACK" if flags & _ACK else "NONE"


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment with what the network layer must know of it. It cannot be wrong: every field is checked when it is made."""

    source: Endpoint
    destination: Endpoint
    flags: Flags
    seq: int
    """SEG.SEQ, 0 .. 2**32 - 1."""
    ack: int = 0
    """SEG.ACK, 0 .. 2**32 - 1; meaningless without the ACK bit."""
    window: int = MAX_WINDOW
    """The window field as sent, unscaled, in octets."""
    options: tuple[Option, ...] = ()
    payload: bytes = b""
    """The payload's bytes, as many as are known."""
    payload_length: int = field(default=-1)
    """The payload's length on the wire in octets; more than len(payload) where a capture cut it short."""
    ttl: int = DEFAULT_TTL
    """Time to live, or hop limit."""

    def __post_init__(self) -> None:
        if self.payload_length < 0:
            object.__setattr__(self, "payload_length", len(self.payload))
        if not (0 <= self.seq < sequence.MODULUS and 0 <= self.ack < sequence.MODULUS):
            raise Malformed(f"sequence numbers {self.seq}, {self.ack} are not in 0..2**32-1")
        if not (0 <= self.window <= MAX_WINDOW and 0 <= self.ttl <= 255):
            raise Malformed(f"window {self.window} or ttl {self.ttl} does not fit its field")
        if self.payload_length < len(self.payload):
            raise Malformed(f"payload length {self.payload_length} is less than its {len(self.payload)} octets")

    @property
    def flow(self) -> Flow:
        """Source and destination."""
        return Flow(self.source, self.destination)

    @property
    def length(self) -> int:
        """SEG.LEN: octets in sequence space, counting SYN and FIN."""
        return self.payload_length + self.syn + self.fin

    @property
    def end(self) -> int:
        """The sequence number after the segment's last octet."""
        return sequence.add(self.seq, self.length)

    @property
    def syn(self) -> bool:
        """Whether the SYN bit is set."""
        return self.flags._value_ & _SYN != 0

    @property
    def rst(self) -> bool:
        """Whether the RST bit is set."""
        return self.flags._value_ & _RST != 0

    @property
    def fin(self) -> bool:
        """Whether the FIN bit is set."""
        return self.flags._value_ & _FIN != 0

    @property
    def has_ack(self) -> bool:
        """Whether the ACK bit is set."""
        return self.flags._value_ & _ACK != 0

    @property
    def kind(self) -> str:
        """SYN, SYN-ACK, RST, RST-ACK, FIN, FIN-ACK, DATA, ACK or NONE."""
        return kind_of(self.flags, self.payload_length)

    def option(self, kind: type[_Opt]) -> _Opt | None:
        """The first option of a type, or None."""
        return next((option for option in self.options if isinstance(option, kind)), None)

    @property
    def timestamps(self) -> Timestamps | None:
        """The timestamps option, or None."""
        return self.option(Timestamps)


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP or ICMPv6 error about a segment that was sent (RFC 792, RFC 4443)."""

    source: str
    """Address of whoever reports the error."""
    destination: str
    """Address of the segment's sender."""
    type: int
    code: int
    quoted: Flow
    """The flow of the segment that it quotes."""
    quoted_seq: int = 0
    """SEG.SEQ of the segment that it quotes."""
    ttl: int = DEFAULT_TTL

    @property
    def kind(self) -> str:
        """``ICMP type/code``."""
        return f"ICMP {self.type}/{self.code}"


Packet = Segment | IcmpError
"""What a machine may receive or send."""
