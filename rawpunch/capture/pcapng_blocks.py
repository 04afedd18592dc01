"""Walking a pcapng file (draft-ietf-opsawg-pcapng): several sections, interfaces and byte orders in one file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.chain import Framing, chain
from rawpunch.capture.records import (
    BROKEN,
    CUT,
    LYING,
    MAX_INTERFACES,
    NO_INTERFACE,
    Bytes,
    Described,
    Findings,
    Ints,
    Records,
    gather,
)
from rawpunch.capture.source import Source

SECTION: Final = 0x0A0D0D0A
MAX_BLOCK: Final = 16 << 20
"""Octets of a block, at most (Wireshark's limit)."""

_INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET = 1, 2, 3, 6
_LEAST: Final = {_INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE: 16}
"""Block type -> octets of such a block, at least; 12 for others."""
_HEAD: Final = ("kind", "length", "first", "high", "low", "captured", "original")
"""What an enhanced packet block begins with."""
_ORDER_MAGIC: Final = 0x1A2B3C4D
_SECTION_LEAST: Final = 28
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14
_EPB_FLAGS: Final = 2
_MAX_OPTIONS: Final = 32
_LIKELY_LENGTH: Final = 65_536
_SECOND: Final = 1_000_000_000


Heads = npt.NDArray[Any]
"""The fields of `_HEAD` of each block."""


class PcapNg:
    """The walk through one file."""

    def __init__(self, source: Source, findings: Findings) -> None:
        self.source = source
        self.findings = findings
        self.order = "<"
        self.first_interface = 0
        """Index in `findings.interfaces` of the section's interface 0."""

    def pieces(self) -> Iterator[Records]:
        """The packets of each section, as far as it lies in the window."""
        source = self.source
        broken = False
        more = source.length
        while more and not broken:
            stuck = False
            while not (broken or stuck):
                begin = source.used
                if source.length - begin >= 12 and self._word(begin) == SECTION:
                    broken = not self._section(begin)
                if not broken:
                    starts, head, source.used, broken = self._blocks()
                    if len(starts):
                        yield from self._packets(starts, head)
                stuck = source.used == begin
            self.findings.done_bytes += source.used
            more = 0 if broken else source.fill(12)
        if broken:
            self.findings.skipped[BROKEN] += 1
        elif source.length > source.used:
            self.findings.skipped[CUT] += 1

    def _word(self, at: int) -> int:
        (word,) = struct.unpack_from(f"{self.order}I", self.source.data.data, at)
        return int(word)

    def _section(self, at: int) -> bool:
        """Take in a section header, if it is all there; False if it is damaged."""
        octets = bytes(self.source.data[at + 8 : at + 12])
        order = {_ORDER_MAGIC.to_bytes(4, "little"): "<", _ORDER_MAGIC.to_bytes(4, "big"): ">"}.get(octets)
        if order is None:
            return False
        self.order = order
        length = self._word(at + 4)
        if length < _SECTION_LEAST or length > MAX_BLOCK or length % 4:
            return False
        if at + length <= self.source.length:
            self.first_interface = len(self.findings.interfaces)
            self.source.used = at + length
        return True

    def _blocks(self) -> tuple[Ints, Heads, int, bool]:
        """Where the section's further blocks in the window begin, what they begin with, where they end, and if that is damage."""
        data, order = self.source.data, self.order
        word = f"{order}u4"

        def plausible(data: Bytes, places: Ints) -> npt.NDArray[np.bool_]:
            good: npt.NDArray[np.bool_] = gather(data, places, word) == _PACKET
            likely = places[good]
            length = gather(data, likely + 4, word).astype(np.int64)
            fits = (length >= 32) & (length <= _LIKELY_LENGTH) & (length % 4 == 0)
            closing = np.minimum(likely + np.where(fits, length, 4) - 4, len(data) - 4)
            good[good] = fits & (gather(data, closing, word) == length)
            return good

        framing = Framing(order, 4, 0, 12, MAX_BLOCK, 4, plausible, SECTION)
        starts, end, broken = chain(data, self.source.used, self.source.length, framing)
        head = gather(data, starts, np.dtype([(name, word) for name in _HEAD]))
        if len(starts):
            length, kinds = head["length"].astype(np.int64), head["kind"]
            least = np.where(kinds == _PACKET, 32, 12)
            if (least == 12).any():
                for kind, octets in _LEAST.items():
                    least[kinds == kind] = octets
            wrong = (length % 4 != 0) | (length < least) | (gather(data, starts + length - 4, word) != length)
            if wrong.any():
                first = int(wrong.argmax())
                return starts[:first], head[:first], int(starts[first]), True
        return starts, head, end, broken

    def _packets(self, starts: Ints, head: Heads) -> Iterator[Records]:
        """Take in the interfaces among these blocks, and give the packets."""
        data, order = self.source.data, self.order
        kinds = head["kind"]
        for at in starts[kinds == _INTERFACE].tolist():
            if len(self.findings.interfaces) < MAX_INTERFACES:
                body = bytes(data[at + 8 : at + self._word(at + 4) - 4])
                self.findings.interfaces.append(_described(body, order))
        packets = (kinds == _PACKET) | (kinds == _SIMPLE) | (kinds == _OLD_PACKET)
        if not packets.all():
            starts, head = starts[packets], head[packets]
        if not len(starts):
            return
        number = self.findings.numbered(len(starts))
        parts = _Parts(data, order, starts, head, self.findings.interfaces[self.first_interface :])
        described = np.array(parts.interface < len(parts.described))
        keep = described & ~parts.lying
        for reason, count in ((LYING, parts.lying.sum()), (NO_INTERFACE, (~described & ~parts.lying).sum())):
            if count:
                self.findings.skipped[reason] += int(count)
        which = slice(None) if keep.all() else keep
        yield Records(
            data,
            number[which],
            parts.at[which],
            parts.captured[which],
            np.maximum(parts.original, parts.captured)[which],
            parts.time_ns()[which],
            (parts.interface + self.first_interface).astype(np.int32)[which],
            parts.direction[which],
        )


class _Parts:
    """The fields of packet blocks of one section, as arrays of equal length."""

    def __init__(self, data: Bytes, order: str, starts: Ints, head: Heads, described: list[Described]) -> None:
        kinds = head["kind"]
        length = head["length"].astype(np.int64)
        self.described = described
        self.at = starts + 28
        self.interface = head["first"].astype(np.int64)
        self.ticks = (head["high"].astype(np.uint64) << np.uint64(32)) | head["low"]
        self.captured = head["captured"].astype(np.int64)
        self.original = head["original"].astype(np.int64)
        self.timed = np.ones(len(starts), np.bool_)
        """Whether the block has a time stamp at all."""
        room = length - 32
        if (kinds != _PACKET).any():
            old, simple = kinds == _OLD_PACKET, kinds == _SIMPLE
            self.interface[old] = gather(data, starts[old] + 8, f"{order}u2")
            self.timed = ~simple
            self.at[simple] = starts[simple] + 12
            room[simple] = length[simple] - 16
            self.original[simple] = self.interface[simple]
            snaplen = described[0].snaplen if described and described[0].snaplen else MAX_BLOCK
            self.captured[simple] = np.minimum(self.original[simple], np.minimum(room[simple], snaplen))
            self.interface[simple] = 0
            self.ticks[simple] = 0
        self.lying = self.captured > room
        self.captured = np.minimum(self.captured, room)
        options = self.at + self.captured + (-self.captured % 4)
        self.direction = _directions(data, order, options, np.where(self.timed, starts + length - 4, options))

    def time_ns(self) -> Ints:
        """Nanoseconds since the epoch, each by its interface's resolution; 0 for a simple packet block, which has none."""
        forms = {(each.resolution, each.offset_s) for each in self.described}
        if len(forms) == 1:
            time_ns = _nanoseconds(self.ticks, *forms.pop())
        else:
            time_ns = np.zeros(len(self.ticks), np.int64)
            for index in np.unique(self.interface).tolist():
                if index < len(self.described):
                    these = self.interface == index
                    time_ns[these] = _nanoseconds(
                        self.ticks[these], self.described[index].resolution, self.described[index].offset_s
                    )
        if not self.timed.all():
            time_ns[~self.timed] = 0
        return time_ns


def _described(body: bytes, order: str) -> Described:
    """The interface in the body of its description block; broken options are as if absent."""
    link, _, snaplen = struct.unpack_from(f"{order}HHI", body)
    name, resolution, offset_s = "", 6, 0
    at = 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(f"{order}HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0 or len(value) < length:
            break
        if code == _IF_NAME:
            name = value.rstrip(b"\0").decode(errors="replace")
        elif code == _IF_TSRESOL and length == 1:
            resolution = value[0]
        elif code == _IF_TSOFFSET and length == 8:
            (offset_s,) = struct.unpack(f"{order}q", value)
        at += 4 + length + -length % 4
    return Described(name, link, snaplen, resolution, offset_s)


def _nanoseconds(ticks: npt.NDArray[np.uint64], resolution: int, offset_s: int) -> Ints:
    """Nanoseconds since the epoch; what does not fit into 64 bits wraps, as no true time stamp does."""
    power = resolution & 0x7F
    if resolution & 0x80:
        kept = min(power, 32)
        whole = ticks >> np.uint64(power) if power < 64 else np.zeros_like(ticks)
        fraction = ticks >> np.uint64(power - kept) if power - kept < 64 else np.zeros_like(ticks)
        fraction &= np.uint64((1 << kept) - 1)
        ns = whole * np.uint64(_SECOND) + ((fraction * np.uint64(_SECOND)) >> np.uint64(kept))
    elif power <= 9:
        ns = ticks * np.uint64(10 ** (9 - power))
    else:
        ns = ticks // np.uint64(10 ** min(power - 9, 19))
    offset = np.array((offset_s * _SECOND) % (1 << 64), np.uint64)
    return (ns + offset).view(np.int64)


def _directions(data: Bytes, order: str, options: Ints, end: Ints) -> npt.NDArray[np.int8]:
    """The direction in each block's epb_flags option (its lowest two bits), looking at its options one after another."""
    direction = np.zeros(len(options), np.int8)
    there = np.flatnonzero(options + 8 <= end)
    at, row, end = options[there], there, end[there]
    for _ in range(_MAX_OPTIONS):
        if not len(at):
            break
        head = gather(data, at, np.dtype([("code", f"{order}u2"), ("length", f"{order}u2"), ("value", f"{order}u4")]))
        found = head["code"] == _EPB_FLAGS
        direction[row[found]] = (head["value"][found] & 3) % 3
        length = head["length"].astype(np.int64)
        after = at + 4 + length + -length % 4
        on = np.flatnonzero(~found & (head["code"] != 0) & (after + 8 <= end))
        at, row, end = after[on], row[on], end[on]
    return direction
