"""A filter for a packet socket: on a busy host it would otherwise hear everybody's traffic (classic BPF, linux/filter.h)."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

from rawpunch.wire.codec import PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP
from rawpunch.wire.endpoint import Endpoint

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30  # BPF_LD | size | BPF_ABS
_LOAD_HALF_INDEXED: Final = 0x48  # BPF_LD | BPF_H | BPF_IND
_LOAD_HEADER_LENGTH: Final = 0xB1  # BPF_LDX | BPF_B | BPF_MSH: four times the low half of an octet
_JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT = 0x15, 0x45
_RETURN: Final = 0x06
_ALL: Final = 0x4_0000

_AT_FRAGMENT, _AT_PROTOCOL, _AT_SOURCE = 6, 9, 12
_AT_NEXT_6, _AT_SOURCE_6, _AT_PORTS_6 = 6, 8, 40
_FRAGMENT_OFFSET: Final = 0x1FFF


def one_flow(local: Endpoint, remote: Endpoint) -> bytes:
    """The program that passes packets of one flow's TCP segments towards us, and ICMP; offsets count from the IP header.

    Of IPv6, segments behind extension headers do not pass: no TCP puts any before an opening.

    Args:
        local: our endpoint; its port is what a segment must be for.
        remote: the peer's; a segment must come from its address and port.
    """
    if remote.is_ipv6:
        return _packed(_one_ipv6_flow(local, remote))
    peer = int(ipaddress.IPv4Address(remote.address))
    lines = [  # code, jump if true, jump if false, operand; jumps count the lines that are skipped
        (_LOAD_BYTE, 0, 0, _AT_PROTOCOL),
        (_JUMP_IF_EQUAL, 10, 0, PROTO_ICMP),
        (_JUMP_IF_EQUAL, 0, 10, PROTO_TCP),
        (_LOAD_WORD, 0, 0, _AT_SOURCE),
        (_JUMP_IF_EQUAL, 0, 8, peer),
        (_LOAD_HALF, 0, 0, _AT_FRAGMENT),
        (_JUMP_IF_ANY_BIT, 6, 0, _FRAGMENT_OFFSET),
        (_LOAD_HEADER_LENGTH, 0, 0, 0),
        (_LOAD_HALF_INDEXED, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 3, remote.port),
        (_LOAD_HALF_INDEXED, 0, 0, 2),
        (_JUMP_IF_EQUAL, 0, 1, local.port),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    ]
    return _packed(lines)


def _one_ipv6_flow(local: Endpoint, remote: Endpoint) -> list[tuple[int, int, int, int]]:
    peer = struct.unpack("!4I", ipaddress.IPv6Address(remote.address).packed)
    tests = [(_LOAD_WORD, _AT_SOURCE_6 + 4 * place, word) for place, word in enumerate(peer)]
    tests += [(_LOAD_HALF, _AT_PORTS_6, remote.port), (_LOAD_HALF, _AT_PORTS_6 + 2, local.port)]
    rest = 2 * len(tests)
    lines = [
        (_LOAD_BYTE, 0, 0, _AT_NEXT_6),
        (_JUMP_IF_EQUAL, rest + 1, 0, PROTO_ICMPV6),
        (_JUMP_IF_EQUAL, 0, rest + 1, PROTO_TCP),
    ]
    for place, (load, at, wanted) in enumerate(tests, 1):
        lines += [(load, 0, 0, at), (_JUMP_IF_EQUAL, 0, rest - 2 * place + 1, wanted)]
    return [*lines, (_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, 0)]


def _packed(lines: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("HBBI", *line) for line in lines)
