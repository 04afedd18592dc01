"""Conversations as text: one segment a line, the same words in tests, scripts and ladders.

    A:4000 > B:5000  SYN-ACK  seq 100 ack 301 win 65535 len 0 ttl 64 <mss 1460,sackOK,ts 7/3,nop,wscale 7>

Endpoints are ADDRESS:PORT or, with a table of names, NAME:PORT. Defaults are left out: ack when there is no ACK bit, win 65535,
len 0, ttl 64. Flags beyond the kind's own are added to it with a plus: ``SYN+ECE+CWR``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint
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
from rawpunch.wire.segment import MAX_WINDOW, Flags, Segment
from rawpunch.wire.ttl import DEFAULT_TTL

_KINDS: Final = {
    "SYN": Flags.SYN,
    "SYN-ACK": Flags.SYN | Flags.ACK,
    "RST": Flags.RST,
    "RST-ACK": Flags.RST | Flags.ACK,
    "FIN": Flags.FIN,
    "FIN-ACK": Flags.FIN | Flags.ACK,
    "ACK": Flags.ACK,
    "DATA": Flags.ACK,
    "NONE": Flags.NONE,
}
_LINE: Final = re.compile(
    r"(?P<source>\S+) > (?P<destination>\S+)\s+(?P<kind>[A-Z-]+)(?P<more>(?:\+[A-Z]+)*)"
    r"(?P<fields>(?:\s+(?:seq|ack|win|len|ttl) \d+)*)"
    r"(?:\s+<(?P<options>[^>]*)>)?"
)


def format_options(options: tuple[Option, ...]) -> str:
    """An option list as text, without the angle brackets."""
    return ",".join(map(_format_option, options))


def _format_option(option: Option) -> str:
    match option:
        case Mss(value):
            return f"mss {value}"
        case WindowScale(shift):
            return f"wscale {shift}"
        case SackPermitted():
            return "sackOK"
        case Sack(blocks):
            return "sack " + " ".join(f"{left}:{right}" for left, right in blocks)
        case Timestamps(value, echo):
            return f"ts {value}/{echo}"
        case FastOpen(cookie):
            return f"tfo {cookie.hex() or '-'}"
        case Unknown(kind, data):
            return f"opt {kind} {data.hex() or '-'}"
        case Nop():
            return "nop"
        case End():
            return "eol"


def parse_options(text: str) -> tuple[Option, ...]:
    """The option list in a text.

    Raises:
        Malformed: an option is unknown or lacks its value.
    """
    return tuple(_parse_option(part.strip()) for part in text.split(",") if part.strip())


def _parse_option(text: str) -> Option:
    word, _, rest = text.partition(" ")
    try:
        match word:
            case "mss":
                return Mss(int(rest))
            case "wscale":
                return WindowScale(int(rest))
            case "sackOK":
                return SackPermitted()
            case "sack":
                edges = [tuple(map(int, block.split(":"))) for block in rest.split()]
                return Sack(tuple((left, right) for left, right in edges))
            case "ts":
                value, echo = rest.split("/")
                return Timestamps(int(value), int(echo))
            case "tfo":
                return FastOpen(b"" if rest == "-" else bytes.fromhex(rest))
            case "opt":
                kind, data = rest.split()
                return Unknown(int(kind), b"" if data == "-" else bytes.fromhex(data))
            case "nop":
                return Nop()
            case "eol":
                return End()
    except ValueError as error:
        raise Malformed(f"{text!r} is not a TCP option") from error
    raise Malformed(f"{text!r} is not a TCP option")


def format_segment(segment: Segment, names: Mapping[str, str] | None = None) -> str:
    """One line for a segment.

    Args:
        segment: the segment; payload bytes are not written, only their length.
        names: address -> name; an address without one is written as it is.
    """
    kind = segment.kind if segment.kind != "DATA" or segment.has_ack else "NONE"  # DATA is read with the ACK bit
    more = "".join(f"+{flag.name}" for flag in Flags if flag & segment.flags & ~_KINDS[kind])
    fields = [f"seq {segment.seq}"]
    if segment.has_ack:
        fields.append(f"ack {segment.ack}")
    if segment.window != MAX_WINDOW:
        fields.append(f"win {segment.window}")
    if segment.payload_length:
        fields.append(f"len {segment.payload_length}")
    if segment.ttl != DEFAULT_TTL:
        fields.append(f"ttl {segment.ttl}")
    tail = f" <{format_options(segment.options)}>" if segment.options else ""
    return f"{_name(segment.source, names)} > {_name(segment.destination, names)}  {kind}{more}  {' '.join(fields)}{tail}"


def _name(endpoint: Endpoint, names: Mapping[str, str] | None) -> str:
    name = (names or {}).get(endpoint.address)
    return f"{name}:{endpoint.port}" if name else str(endpoint)


def parse_segment(line: str, names: Mapping[str, str] | None = None) -> Segment:
    """The segment in a line; its payload is zero octets of the length given.

    Args:
        line: one line of the notation.
        names: name -> address, for endpoints written with a name.

    Raises:
        Malformed: the line does not follow the notation.
    """
    found = _LINE.fullmatch(line.strip())
    if found is None or found["kind"] not in _KINDS:
        raise Malformed(f"{line!r} is not a segment in the notation", todo="write: A:1 > B:2  SYN  seq 100")
    words = found["fields"].split()
    fields = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    return Segment(
        _endpoint(found["source"], names),
        _endpoint(found["destination"], names),
        parse_flags(found["kind"] + found["more"]),
        fields.get("seq", 0),
        fields.get("ack", 0),
        fields.get("win", MAX_WINDOW),
        parse_options(found["options"] or ""),
        bytes(fields.get("len", 0)),
        ttl=fields.get("ttl", DEFAULT_TTL),
    )


def parse_flags(text: str) -> Flags:
    """The control bits in a word such as ``SYN-ACK`` or ``SYN+FIN``.

    Raises:
        Malformed: it names no kind, or no flag.
    """
    kind, *more = text.split("+")
    if kind not in _KINDS:
        raise Malformed(f"{kind!r} is no kind of segment", todo=f"one of {', '.join(_KINDS)}")
    flags = _KINDS[kind]
    for extra in more:
        if extra not in Flags.__members__:
            raise Malformed(f"{extra!r} is not a TCP flag")
        flags |= Flags[extra]
    return flags


def _endpoint(text: str, names: Mapping[str, str] | None) -> Endpoint:
    name, _, port = text.rpartition(":")
    if names and name in names and port.isdecimal():
        return Endpoint(names[name], int(port))
    return Endpoint.parse(text)
