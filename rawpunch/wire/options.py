"""TCP options: typed values, their bytes and back (RFC 9293 section 3.2, RFC 7323, RFC 2018, RFC 2883, RFC 7413)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from rawpunch.errors import Malformed

MAX_OPTION_BYTES: Final = 40


@dataclass(frozen=True, slots=True)
class End:
    """End of the option list (kind 0)."""


@dataclass(frozen=True, slots=True)
class Nop:
    """Padding (kind 1)."""


@dataclass(frozen=True, slots=True)
class Mss:
    """Maximum segment size (kind 2), in octets."""

    value: int


@dataclass(frozen=True, slots=True)
class WindowScale:
    """Window scale (kind 3): the window field is shifted left by this."""

    shift: int


@dataclass(frozen=True, slots=True)
class SackPermitted:
    """SACK permitted (kind 4)."""


@dataclass(frozen=True, slots=True)
class Sack:
    """SACK blocks (kind 5): pairs of (left edge, right edge); a first block below SEG.ACK is a DSACK."""

    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Timestamps:
    """Timestamps (kind 8): TSval and TSecr, in the sender's own ticks."""

    value: int
    echo: int


@dataclass(frozen=True, slots=True)
class FastOpen:
    """Fast Open cookie (kind 34); empty when one is asked for."""

    cookie: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any other option, kept as it was."""

    kind: int
    data: bytes


Option = End | Nop | Mss | WindowScale | SackPermitted | Sack | Timestamps | FastOpen | Unknown

_SACK_BLOCK: Final = struct.Struct("!II")


def encode_options(options: tuple[Option, ...]) -> bytes:
    """The bytes of an option list, padded with zeroes to a multiple of four.

    Raises:
        Malformed: they take more than 40 octets.
    """
    out = b"".join(map(_encode_one, options))
    out += b"\0" * (-len(out) % 4)
    if len(out) > MAX_OPTION_BYTES:
        raise Malformed(f"TCP options of {len(out)} octets do not fit into {MAX_OPTION_BYTES}")
    return out


def _encode_one(option: Option) -> bytes:
    match option:
        case Nop():
            return b"\x01"
        case Timestamps(value, echo):
            return struct.pack("!BBII", 8, 10, value, echo)
        case Mss(value):
            return struct.pack("!BBH", 2, 4, value)
        case WindowScale(shift):
            return struct.pack("!BBB", 3, 3, shift)
        case SackPermitted():
            return b"\x04\x02"
        case Sack(blocks):
            return struct.pack("!BB", 5, 2 + 8 * len(blocks)) + b"".join(_SACK_BLOCK.pack(*block) for block in blocks)
        case FastOpen(cookie):
            return struct.pack("!BB", 34, 2 + len(cookie)) + cookie
        case Unknown(kind, data):
            return struct.pack("!BB", kind, 2 + len(data)) + data
        case End():
            return b"\x00"


def decode_options(data: bytes) -> tuple[Option, ...]:
    """The option list in these bytes; trailing zero padding is dropped, an explicit End is not kept.

    Raises:
        Malformed: an option's length runs past the end or is below two.
    """
    options: list[Option] = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == 0:
            break
        if kind == 1:
            options.append(Nop())
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            raise Malformed(f"TCP option {kind} at octet {at} has a bad length ({length})")
        options.append(_decode_one(kind, data[at + 2 : at + length]))
        at += length
    return tuple(options)


def _decode_one(kind: int, body: bytes) -> Option:
    match kind, len(body):
        case 2, 2:
            return Mss(int.from_bytes(body, "big"))
        case 3, 1:
            return WindowScale(body[0])
        case 4, 0:
            return SackPermitted()
        case 5, length if length and length % 8 == 0:
            blocks = tuple((left, right) for left, right in _SACK_BLOCK.iter_unpack(body))
            return Sack(blocks)
        case 8, 8:
            return Timestamps(*struct.unpack("!II", body))
        case 34, _:
            return FastOpen(body)
        case _:
            return Unknown(kind, body)
