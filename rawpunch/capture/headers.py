"""Headers of many packets at once: link layer, IPv4 and IPv6, as arrays over whole pieces of a capture.

Every function takes arrays of equal length and drops the packets it cannot go on with, counting the reason. What it looks at may
be any octets at all: it never looks outside the piece (there is padding behind it) and never loops on what a packet says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.records import INBOUND, OUTBOUND, Bytes, Ints, gather

NOT_IP: Final = "not IP"
CUT_SHORT: Final = "cut short by the capture"
MALFORMED: Final = "malformed"
LATER_FRAGMENT: Final = "later fragment"
FIRST_FRAGMENT: Final = "first fragment"
LINK_TYPE: Final = "link type "
"""How the reason begins that names a link type which is not known."""

LINK_NULL, LINK_ETHERNET, LINK_LOOP, LINK_SLL, LINK_IPV4, LINK_IPV6, LINK_SLL2 = 0, 1, 108, 113, 228, 229, 276
LINK_RAW: Final = frozenset({12, 14, 101})
_VLAN_TAGS: Final = (0x8100, 0x88A8, 0x9100)
_VLAN_MOST: Final = 4
_IPV4_TYPE, _IPV6_TYPE = 0x0800, 0x86DD
_FAMILY_IPV6: Final = (10, 24, 28, 30)  # AF_INET6 of Linux, NetBSD, FreeBSD, macOS
_SLL_OUTGOING: Final = 4

_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY = 0, 43, 44, 51, 60, 135
_EXTENSIONS: Final = (_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY)
_EXTENSIONS_MOST: Final = 16

_IPV4: Final = np.dtype(
    [
        ("version", "u1"),
        ("tos", "u1"),
        ("total", ">u2"),
        ("id", ">u2"),
        ("fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("source", ">u4"),
        ("destination", ">u4"),
    ]
)
_IPV6: Final = np.dtype(
    [("version", ">u4"), ("payload", ">u2"), ("next", "u1"), ("ttl", "u1"), ("source", "V16"), ("destination", "V16")]
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What IP packets carry: n packets that have a whole IP header, in arrays of equal length."""

    row: Ints
    """Which record of the piece."""
    at: Ints
    """Where the carried octets begin in the piece's data."""
    length: Ints
    """Carried octets on the wire."""
    captured: Ints
    """Carried octets in the file."""
    protocol: npt.NDArray[np.uint8]
    ttl: npt.NDArray[np.uint8]
    source: npt.NDArray[np.generic]
    """Source address: a number for IPv4, 16 octets for IPv6."""
    destination: npt.NDArray[np.generic]
    more: npt.NDArray[np.bool_]
    """Whether more fragments follow."""

    def take(self, which: npt.NDArray[np.bool_] | Ints) -> Carried:
        """Some of them, by index or mask."""
        return Carried(*(getattr(self, name)[which] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Framed:
    """IP packets in records, in arrays of equal length."""

    row: Ints
    at: Ints
    """Where the IP header begins."""
    length: Ints
    """Octets on the wire from there on."""
    captured: Ints
    """Octets in the file from there on."""

    def take(self, which: npt.NDArray[np.bool_] | Ints) -> Framed:
        """Some of them, by index or mask."""
        return Framed(self.row[which], self.at[which], self.length[which], self.captured[which])


def strip_link(link_type: int, data: Bytes, frames: Framed, skipped: Counter[str]) -> tuple[Framed, Framed]:
    """The IPv4 and the IPv6 packets in frames of one link type."""
    at, count = frames.at, len(frames.at)
    expected: npt.NDArray[np.int64] | None = None  # IP version that the link layer announces
    header = np.zeros(count, np.int64)
    if link_type == LINK_ETHERNET:
        header, kind = _ethernet(data, frames)
        expected = _version_of(kind)
    elif link_type in (LINK_SLL, LINK_SLL2):
        header += 16 if link_type == LINK_SLL else 20
        expected = _version_of(gather(data, at + (14 if link_type == LINK_SLL else 0), ">u2"))
    elif link_type in (LINK_NULL, LINK_LOOP):
        header += 4
        family = gather(data, at, ">u4")
        family = np.where(family > 0xFFFF, family.astype(np.uint32).byteswap(), family)
        expected = np.where(family == 2, 4, np.where(np.isin(family, _FAMILY_IPV6), 6, 0))
    elif link_type == LINK_IPV4:
        expected = np.full(count, 4)
    elif link_type == LINK_IPV6:
        expected = np.full(count, 6)
    elif link_type not in LINK_RAW:
        _count(skipped, f"{LINK_TYPE}{link_type}", count)
        return frames.take(header[:0]), frames.take(header[:0])
    inner = Framed(frames.row, at + header, frames.length - header, frames.captured - header)
    there = inner.captured > 0
    version = data[inner.at] >> 4
    known = (version == 4) | (version == 6)
    if expected is not None:
        known &= version == expected
    good = known & there
    if not good.all():
        _count(skipped, CUT_SHORT, int((~there).sum()))
        _count(skipped, NOT_IP, int((there & ~known).sum()))
    four, six = good & (version == 4), good & (version == 6)
    return (inner if four.all() else inner.take(four)), inner.take(six)


def sll_direction(link_type: int, data: Bytes, at: Ints) -> npt.NDArray[np.int8] | None:
    """The direction that a Linux cooked header tells (its packet type); None for other link types."""
    if link_type == LINK_SLL:
        kind = gather(data, at, ">u2")
    elif link_type == LINK_SLL2:
        kind = data[at + 10].astype(np.uint16)
    else:
        return None
    return np.where(kind == _SLL_OUTGOING, OUTBOUND, np.where(kind <= 2, INBOUND, 0)).astype(np.int8)


def _version_of(ethertype: npt.NDArray[np.uint16]) -> Ints:
    return np.where(ethertype == _IPV4_TYPE, 4, np.where(ethertype == _IPV6_TYPE, 6, 0))


def _ethernet(data: Bytes, frames: Framed) -> tuple[Ints, npt.NDArray[np.uint16]]:
    """Octets before the network layer, and its EtherType, behind up to four VLAN tags."""
    header = np.full(len(frames.at), 14, np.int64)
    kind = gather(data, frames.at + 12, ">u2")
    for _ in range(_VLAN_MOST):
        tagged = np.flatnonzero(np.isin(kind, _VLAN_TAGS) & (header + 4 <= frames.captured))
        if not len(tagged):
            break
        kind[tagged] = gather(data, frames.at[tagged] + header[tagged] + 2, ">u2")
        header[tagged] += 4
    return header, kind


def strip_ipv4(data: Bytes, packets: Framed, skipped: Counter[str]) -> Carried:
    """What IPv4 packets carry (RFC 791, section 3.1). A total length of 0 (offloaded) means all there is."""
    head = gather(data, packets.at, _IPV4)
    header = (head["version"] & 15).astype(np.int64) * 4
    total = head["total"].astype(np.int64)
    total = np.where(total == 0, packets.length, np.minimum(total, packets.length))
    bad = (header < 20) | (total < header)
    cut = packets.captured < np.maximum(header, 20)
    later = (head["fragment"] & 0x1FFF) != 0
    carried = Carried(
        packets.row,
        packets.at + header,
        total - header,
        np.minimum(packets.captured, total) - header,
        head["protocol"],
        head["ttl"],
        head["source"].astype(np.uint32),
        head["destination"].astype(np.uint32),
        (head["fragment"] & 0x2000) != 0,
    )
    return _sift(carried, skipped, bad, cut, later)


def strip_ipv6(data: Bytes, packets: Framed, skipped: Counter[str]) -> Carried:
    """What IPv6 packets carry, behind their extension headers (RFC 8200, section 4)."""
    head = gather(data, packets.at, _IPV6)
    payload = head["payload"].astype(np.int64)
    total = np.where(payload == 0, packets.length, np.minimum(payload + 40, packets.length))
    captured = np.minimum(packets.captured, total)
    header = np.full(len(packets.at), 40, np.int64)
    following = head["next"].copy()
    later = np.zeros(len(header), np.bool_)
    first = np.zeros(len(header), np.bool_)
    for _ in range(_EXTENSIONS_MOST):
        more = np.flatnonzero(np.isin(following, _EXTENSIONS) & (header + 8 <= captured) & ~later)
        if not len(more):
            break
        where, kind = packets.at[more] + header[more], following[more]
        fragment = np.where(kind == _FRAGMENT, gather(data, where + 2, ">u2"), 0)
        later[more] = fragment & 0xFFF8 != 0
        first[more] |= fragment & 1 != 0
        units = data[where + 1].astype(np.int64)
        size = np.where(kind == _FRAGMENT, 8, np.where(kind == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8))
        following[more] = data[where]
        header[more] += size
    unfinished = np.isin(following, _EXTENSIONS) & ~later
    cut = ((captured < header) & (packets.captured < total)) | (packets.captured < 40)
    bad = ~cut & ((total < header) | (unfinished & (captured == total)))
    cut |= unfinished & ~bad
    carried = Carried(
        packets.row,
        packets.at + header,
        total - header,
        captured - header,
        following,
        head["ttl"],
        head["source"],
        head["destination"],
        first,
    )
    return _sift(carried, skipped, bad, cut, later)


def _sift(
    carried: Carried,
    skipped: Counter[str],
    bad: npt.NDArray[np.bool_],
    cut: npt.NDArray[np.bool_],
    later: npt.NDArray[np.bool_],
) -> Carried:
    """Keep the good ones; the first reason that applies is counted: cut short, malformed, later fragment."""
    wrong = bad | cut | later
    if not wrong.any():
        return carried
    _count(skipped, CUT_SHORT, int(cut.sum()))
    _count(skipped, MALFORMED, int((bad & ~cut).sum()))
    _count(skipped, LATER_FRAGMENT, int((later & ~bad & ~cut).sum()))
    return carried.take(~wrong)


def _count(skipped: Counter[str], reason: str, number: int) -> None:
    if number:
        skipped[reason] += number
