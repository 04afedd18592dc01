"""wire: what is on the wire, as values. Segments, endpoints, options, ICMP errors, their bytes, their text, scapy packets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "End": "options",
    "Endpoint": "endpoint",
    "FastOpen": "options",
    "Flags": "segment",
    "Flow": "endpoint",
    "IcmpError": "segment",
    "Mss": "options",
    "Nop": "options",
    "Option": "options",
    "Packet": "segment",
    "Sack": "options",
    "SackPermitted": "options",
    "Segment": "segment",
    "Timestamps": "options",
    "Unknown": "options",
    "WindowScale": "options",
    "decode": "codec",
    "encode": "codec",
    "encode_icmp_error": "codec",
    "format_segment": "notation",
    "parse_segment": "notation",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: who needs an endpoint does not load the codec (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(f"rawpunch.wire.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
