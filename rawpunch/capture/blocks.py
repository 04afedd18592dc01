"""Walking a capture file: where each packet's bytes are, when and on which interface it was seen.

pcap (draft-ietf-opsawg-pcap: micro- and nanoseconds, both byte orders, Kuznetzov's variant with longer record headers) and pcapng
(draft-ietf-opsawg-pcapng: several sections, interfaces and byte orders in one file), plain or packed with gzip or zstd. The file
is read in pieces of some megabytes, so its size does not matter. Finding a record's end is the only step that goes packet by
packet; all else is done on whole arrays.

A damaged file gives what lies before the damage; the damage is counted in `Walk.skipped`.
"""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rawpunch.errors import Unreadable

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

PIECE_BYTES: Final = 8 << 20
"""How much of a file is worked on at a time."""
_UNPACK_BYTES: Final = 4096
"""How much is unpacked in one call: so much can be lost where packed data are damaged."""
PAD: Final = 128
"""Octets behind a piece that may be looked at though they mean nothing."""
MAX_RECORD: Final = 262_144
"""Captured octets of a packet, at most (libpcap's MAXIMUM_SNAPLEN); a longer one is damage."""
MAX_BLOCK: Final = 16 << 20
"""Octets of a pcapng block, at most (Wireshark's limit)."""

CUT: Final = "file ends inside a record"
BROKEN: Final = "file damaged from here on"
NO_INTERFACE: Final = "packet of an interface that is not described"
LYING: Final = "packet longer than its block"
UNREADABLE: Final = "file could not be read on from here"

_SECOND: Final = 1_000_000_000
_PCAP_MAGIC: Final = {  # as a little-endian number -> (byte order, fraction in ns, record header octets)
    0xA1B2C3D4: ("<", 1000, 16),
    0xD4C3B2A1: (">", 1000, 16),
    0xA1B23C4D: ("<", 1, 16),
    0x4D3CB2A1: (">", 1, 16),
    0xA1B2CD34: ("<", 1000, 24),
    0x34CDB2A1: (">", 1000, 24),
}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_PACKETS: Final = {_PACKET: 28, _SIMPLE: 12, _OLD_PACKET: 28}
"""Block type of packets -> where in the block the packet's octets begin."""
_MAX_OPTIONS: Final = 32
_ORDER_MAGIC: Final = 0x1A2B3C4D
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14
_OPTION_EPB_FLAGS: Final = 2

UNKNOWN, INBOUND, OUTBOUND = 0, 1, 2
"""Direction codes."""


@dataclass(frozen=True, slots=True)
class Described:
    """An interface as the file describes it."""

    name: str
    link_type: int
    snaplen: int = 0
    resolution: int = 6
    """if_tsresol: a negative power of ten, or, with the highest bit, of two."""
    offset_s: int = 0
    """if_tsoffset: seconds to add."""


@dataclass(frozen=True, slots=True)
class Records:
    """The packets of one piece of a file, as arrays of equal length n."""

    data: Bytes
    """The piece and PAD octets more; valid until the next piece is asked for."""
    number: Ints
    """Packet number in the file, from 1."""
    at: Ints
    """Where the packet's first octet lies in `data`."""
    captured: Ints
    """Octets in the file."""
    original: Ints
    """Octets on the wire."""
    time_ns: Ints
    interface: npt.NDArray[np.int32]
    """Index into `Walk.interfaces`."""
    direction: npt.NDArray[np.int8]
    """UNKNOWN, INBOUND or OUTBOUND."""


@dataclass(slots=True)
class Walk:
    """One walk through a file; iterate over `pieces()`, then look at the rest.

    Raises:
        Unreadable: at `pieces()`: the file cannot be opened or is no capture at all.
    """

    path: Path
    interfaces: list[Described] = field(default_factory=list)
    """All interfaces met so far, over all sections."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason -> how often."""
    noted: Counter[str] = field(default_factory=Counter)
    """What is odd about packets that were taken -> how often."""
    packets: int = 0
    """Packets met so far."""
    done_bytes: int = 0
    """Octets walked so far (after unpacking)."""

    def pieces(self) -> Iterator[Records]:
        """The file's packets, piece by piece."""
        with _open(self.path) as stream:
            source = _Source(stream, self)
            start = source.fill(24)
            magic = int.from_bytes(bytes(source.data[:4]), "little") if start >= 4 else 0
            if magic in _PCAP_MAGIC and start >= 24:
                yield from self._pcap(source, *_PCAP_MAGIC[magic])
            elif magic == _SECTION:
                yield from _PcapNg(self, source).pieces()
            else:
                damaged = "it is packed, and the packed data are damaged" if self.skipped else "it is empty"
                raise Unreadable(
                    f"{self.path} is not a capture file",
                    why="it begins with neither a pcap nor a pcapng header" if start else damaged,
                    todo="give a pcap or pcapng file, plain, .gz or .zst",
                )

    def _pcap(self, source: _Source, order: str, fraction_ns: int, head: int) -> Iterator[Records]:
        (link,) = struct.unpack_from(f"{order}I", source.data.data, 20)
        self.interfaces.append(Described("", link & 0xFFFF))
        source.used = 24
        header = np.dtype([("s", f"{order}u4"), ("f", f"{order}u4"), ("captured", f"{order}u4"), ("original", f"{order}u4")])
        while source.fill(head):
            starts, broken = _walk_pcap(source.data, source.length, order, head)
            if starts:
                at = np.array(starts, np.int64)
                heads = gather(source.data, at, header)
                count = len(at)
                number = np.arange(self.packets + 1, self.packets + count + 1)
                self.packets += count
                time_ns = heads["s"].astype(np.int64) * _SECOND + heads["f"].astype(np.int64) * fraction_ns
                captured = heads["captured"].astype(np.int64)
                source.used = int(at[-1] + head + captured[-1])
                self.done_bytes += source.used
                yield Records(
                    source.data,
                    number,
                    at + head,
                    captured,
                    np.maximum(heads["original"].astype(np.int64), captured),
                    time_ns,
                    np.zeros(count, np.int32),
                    np.zeros(count, np.int8),
                )
            if broken:
                self.skipped[BROKEN] += 1
                return
        if source.length:
            self.skipped[CUT] += 1


def gather(data: Bytes, at: Ints, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The values of a type that lie at these octets (whatever their alignment).

    Structured types are fetched as plain octets, which numpy copies in one go.
    """
    wanted = np.dtype(dtype)
    plain = np.dtype(f"V{wanted.itemsize}") if wanted.names else wanted
    overlapping = np.ndarray((len(data) - plain.itemsize + 1,), plain, data, strides=(1,))
    return overlapping[at].view(wanted)


class _Source:
    """A stream behind a window that slides forward; `used` octets of it are dropped at the next fill."""

    def __init__(self, stream: Any, walk: Walk) -> None:
        self.stream = stream
        self.walk = walk
        self.data: Bytes = np.zeros(PIECE_BYTES + PAD, np.uint8)
        self.length = 0
        self.used = 0
        self.ended = False

    def fill(self, least: int) -> int:
        """Drop what is used, read on; the octets there, or 0 when there is nothing new or less than `least`."""
        rest = self.length - self.used
        progress = self.used
        if rest:
            self.data[:rest] = self.data[self.used : self.length].copy()
        self.length, self.used = rest, 0
        if rest + PAD >= len(self.data) and not progress:
            grown = np.zeros(2 * len(self.data), np.uint8)
            grown[:rest] = self.data[:rest]
            self.data = grown
        room = len(self.data) - PAD
        most = room if isinstance(self.stream, io.RawIOBase) else _UNPACK_BYTES
        while self.length < room and not self.ended:
            got = self._read(self.data.data[self.length : min(room, self.length + most)])
            self.ended = got == 0
            self.length += got
            progress += got
        self.data[self.length : self.length + PAD] = 0
        return self.length if progress and self.length >= least else 0

    def _read(self, into: memoryview) -> int:
        try:
            return int(self.stream.readinto(into) or 0)
        except (OSError, EOFError):
            self.walk.skipped[UNREADABLE] += 1
            return 0


def _open(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        codec = "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic == b"\x28\xb5\x2f\xfd" else ""
        if codec:
            return pa.CompressedInputStream(pa.OSFile(os.fspath(path)), codec)
        return path.open("rb", buffering=0)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read", why=str(error.strerror or error)) from error


def _walk_pcap(data: Bytes, end: int, order: str, head: int) -> tuple[list[int], bool]:
    """Where the whole records of a piece begin, and whether a length in it cannot be true."""
    length_at = struct.Struct(f"{order}I").unpack_from
    view = data.data
    starts: list[int] = []
    found = starts.append
    at = 0
    while at + head <= end:
        (length,) = length_at(view, at + 8)
        if length > MAX_RECORD:
            return starts, True
        after = at + head + length
        if after > end:
            break
        found(at)
        at = after
    return starts, False


class _PcapNg:
    """The walk through a pcapng file: sections, interfaces, packets."""

    def __init__(self, walk: Walk, source: _Source) -> None:
        self.walk = walk
        self.source = source
        self.order = "<"
        self.words: memoryview[int] = memoryview(b"")
        """The piece as 32-bit numbers of the section's byte order."""
        self.first_interface = 0
        """Index in `walk.interfaces` of the section's interface 0."""

    def pieces(self) -> Iterator[Records]:
        """Walk block by block; packets of one kind that follow each other are taken together."""
        source = self.source
        more = source.length
        while more:
            self._set_order(self.order)
            broken = False
            while not broken and source.used + 12 <= source.length:
                kind = self.words[source.used >> 2]
                before = source.used
                if kind in _PACKETS:
                    starts, broken = self._run(kind)
                    if len(starts):
                        yield from self._records(kind, starts)
                else:
                    broken = self._other(kind)
                if source.used == before:
                    break
            self.walk.done_bytes += source.used
            if broken:
                self.walk.skipped[BROKEN] += 1
                return
            more = source.fill(12)
        if source.length:
            self.walk.skipped[CUT] += 1

    def _set_order(self, order: str) -> None:
        self.order = order
        whole = self.source.data[: len(self.source.data) & ~3]
        words = whole.view(f"{order}u4").astype(np.uint32, copy=False)
        self.words = memoryview(words.data).cast("B").cast("I")

    def _run(self, kind: int) -> tuple[Ints, bool]:
        """Where the packet blocks of this kind begin that follow each other, and whether damage ended them."""
        words, least = self.words, _PACKETS[kind] + 4
        limit = self.source.length >> 2
        starts: list[int] = []
        found = starts.append
        at = self.source.used >> 2
        broken = False
        while at + 3 <= limit and words[at] == kind:
            length = words[at + 1]
            if length < least or length > MAX_BLOCK:
                broken = True
                break
            after = at + (length >> 2)
            if after > limit:
                break
            found(at)
            at = after
        where = np.array(starts, np.int64)
        if len(where):
            every = np.frombuffer(self.words, np.uint32)
            length_of = every[where + 1]
            wrong = np.flatnonzero((length_of & 3 != 0) | (every[where + (length_of >> 2) - 1] != length_of))
            if len(wrong):
                at, where, broken = int(where[wrong[0]]), where[: wrong[0]], True
        self.source.used = at * 4
        return where * 4, broken

    def _other(self, kind: int) -> bool:
        """Take in one block that holds no packet, if it is all there; whether it is damaged."""
        at = self.source.used
        if kind == _SECTION:
            for order in "<>":
                if struct.unpack_from(f"{order}I", self.source.data.data, at + 8)[0] == _ORDER_MAGIC:
                    self._set_order(order)
                    break
            else:
                return True
        length = self.words[(at >> 2) + 1]
        if length < 12 or length % 4 or length > MAX_BLOCK:
            return True
        if at + length > self.source.length:
            return False
        body = bytes(self.source.data[at + 8 : at + length - 4])
        if kind == _SECTION:
            self.first_interface = len(self.walk.interfaces)
        elif kind == _INTERFACE:
            if len(body) < 8:
                return True
            self.walk.interfaces.append(_described(body, self.order))
        self.source.used = at + length
        return False

    def _records(self, kind: int, block: Ints) -> Iterator[Records]:
        order, data = self.order, self.source.data
        head = gather(data, block, np.dtype([(name, f"{order}u4") for name in ("kind", "length", "a", "b", "c", "d", "e")]))
        length = head["length"].astype(np.int64)
        at = block + _PACKETS[kind]
        room = length - _PACKETS[kind] - 4
        ticks = (head["b"].astype(np.uint64) << np.uint64(32)) | head["c"]
        captured, original = head["d"].astype(np.int64), head["e"].astype(np.int64)
        interface = head["a"].astype(np.int64)
        direction = np.zeros(len(block), np.int8)
        if kind == _SIMPLE:
            original = head["a"].astype(np.int64)
            interface = np.zeros(len(block), np.int64)
            captured = np.minimum(original, room)
            ticks = np.zeros(len(block), np.uint64)
        elif kind == _OLD_PACKET:
            interface = gather(data, block + 8, f"{order}u2").astype(np.int64)
        number: Ints = np.arange(self.walk.packets + 1, self.walk.packets + len(block) + 1)
        self.walk.packets += len(block)
        described = self.walk.interfaces[self.first_interface :]
        lying = captured > room
        captured = np.minimum(captured, room)
        if kind != _SIMPLE:
            direction = _directions(data, order, at + captured + (-captured % 4), block + length - 4)
        elif described and described[0].snaplen:
            captured = np.minimum(captured, described[0].snaplen)
        keep = ~lying & (interface < len(described))
        if lying.any():
            self.walk.skipped[LYING] += int(lying.sum())
        if not keep.all():
            self.walk.skipped[NO_INTERFACE] += int((~lying & ~keep).sum())
            number, at, captured, original, interface = (column[keep] for column in (number, at, captured, original, interface))
            ticks, direction = ticks[keep], direction[keep]
        time_ns = np.zeros(len(at), np.int64)
        for index in np.unique(interface).tolist() if len(described) > 1 else [0]:
            these = interface == index if len(described) > 1 else slice(None)
            if described and kind != _SIMPLE:
                time_ns[these] = _nanoseconds(ticks[these], described[index])
        yield Records(
            data,
            number,
            at,
            captured,
            np.maximum(original, captured),
            time_ns,
            (interface + self.first_interface).astype(np.int32),
            direction,
        )


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


def _nanoseconds(ticks: npt.NDArray[np.uint64], interface: Described) -> Ints:
    """Nanoseconds since the epoch; what does not fit into 64 bits wraps, as no true time stamp does."""
    power = interface.resolution & 0x7F
    if interface.resolution & 0x80:
        kept = min(power, 32)
        whole = ticks >> np.uint64(power) if power < 64 else np.zeros_like(ticks)
        fraction = (ticks >> np.uint64(power - kept) if power - kept < 64 else np.zeros_like(ticks)) & np.uint64((1 << kept) - 1)
        ns = whole * np.uint64(_SECOND) + ((fraction * np.uint64(_SECOND)) >> np.uint64(kept))
    elif power <= 9:
        ns = ticks * np.uint64(10 ** (9 - power))
    else:
        ns = ticks // np.uint64(10 ** min(power - 9, 19))
    offset = np.array((interface.offset_s * _SECOND) % (1 << 64), np.uint64)
    return (ns + offset).view(np.int64)


def _directions(data: Bytes, order: str, options: Ints, end: Ints) -> npt.NDArray[np.int8]:
    """The direction in each block's epb_flags option (the lowest two bits), looking at its options one after another."""
    direction = np.zeros(len(options), np.int8)
    at, row = options, np.arange(len(options))
    for _ in range(_MAX_OPTIONS):
        there = np.flatnonzero(at + 8 <= end)
        if not len(there):
            break
        at, row, end = at[there], row[there], end[there]
        head = gather(data, at, np.dtype([("code", f"{order}u2"), ("length", f"{order}u2"), ("value", f"{order}u4")]))
        found = head["code"] == _OPTION_EPB_FLAGS
        direction[row[found]] = (head["value"][found] & 3) % 3
        length = head["length"].astype(np.int64)
        at = np.where(found | (head["code"] == 0), end, at + 4 + length + -length % 4)
    return direction
