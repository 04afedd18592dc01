"""A packet changed in place, as routers and NATs do: what a segment does not tell stays as it was, checksums are updated.

Identification, type of service, IP options, urgent pointer and bytes of options survive, and a checksum that was wrong stays
wrong.
"""

from __future__ import annotations

import struct
from typing import Final

from rawpunch.wire.codec import encode, option_bytes, packed_address
from rawpunch.wire.segment import Segment

_ADDRESSES: Final = slice(12, 20)
_TTL_AT: Final = 8
_IP_SUM_AT: Final = 10
_NUMBERS: Final = struct.Struct("!HHII")
"""Ports, sequence number, acknowledgement number: how a TCP header begins."""
_TCP_SUM_AT: Final = 16
_OPTIONS_AT: Final = 20


def rewrite(data: bytes, before: Segment, after: Segment) -> bytes:
    """The packet of `after`, made by changing the packet of `before` as little as possible.

    Where more differs than addresses, ports, TTL, numbers and options of the same length, or the packet is IPv6, it is made anew.

    Args:
        data: the packet that `before` was decoded from.
        before: what it says.
        after: what it is to say.

    Raises:
        Malformed: it has to be made anew, and cannot be; see `encode`.
    """
    same = before.flags is after.flags and before.window == after.window and before.payload == after.payload
    if not same or data[0] >> 4 != 4 or before.payload_length != len(before.payload):
        return encode(after)
    at = (data[0] & 15) * 4
    end = at + (data[at + 12] >> 4) * 4 + before.payload_length
    out = bytearray(data[:end])
    addresses = packed_address(after.source.address) + packed_address(after.destination.address)
    numbers = _NUMBERS.pack(after.source.port, after.destination.port, after.seq, after.ack)
    # 2**16 is 1 modulo 0xffff, so the sum of words is the number that they are together (RFC 1071, RFC 1624)
    moved = int.from_bytes(addresses, "big") - int.from_bytes(data[_ADDRESSES], "big")
    changed = moved + int.from_bytes(numbers, "big") - int.from_bytes(data[at : at + _NUMBERS.size], "big")
    if before.options is not after.options and before.options != after.options:
        options = option_bytes(after.options)
        old = data[at + _OPTIONS_AT : end - before.payload_length]
        if len(options) != len(old):
            return encode(after)
        changed += int.from_bytes(options, "big") - int.from_bytes(old, "big")
        out[at + _OPTIONS_AT : end - before.payload_length] = options
    out[_ADDRESSES] = addresses
    out[_TTL_AT] = after.ttl
    out[_IP_SUM_AT : _IP_SUM_AT + 2] = _updated(data, _IP_SUM_AT, moved + ((after.ttl - data[_TTL_AT]) << 8))
    out[at : at + _NUMBERS.size] = numbers
    out[at + _TCP_SUM_AT : at + _TCP_SUM_AT + 2] = _updated(data, at + _TCP_SUM_AT, changed)
    return bytes(out)


def _updated(data: bytes, at: int, change: int) -> bytes:
    """A checksum after the sum of what it covers has changed (RFC 1624, equation 3: ~(~HC + ~m + m'))."""
    total = (~(data[at] << 8 | data[at + 1]) & 0xFFFF) + change
    return (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
