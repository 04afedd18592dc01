"""wire: what is on the wire, as values. Segments, endpoints, options, ICMP errors, their bytes, their text, scapy packets."""

from rawpunch.wire.codec import decode, encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.notation import format_segment, parse_segment
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
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

__all__ = [
    "End",
    "Endpoint",
    "FastOpen",
    "Flags",
    "Flow",
    "IcmpError",
    "Mss",
    "Nop",
    "Option",
    "Packet",
    "Sack",
    "SackPermitted",
    "Segment",
    "Timestamps",
    "Unknown",
    "WindowScale",
    "decode",
    "encode",
    "encode_icmp_error",
    "format_segment",
    "parse_segment",
]
