"""The packets of one or several captures as plain numbers in common arrays, and where they were seen.

An endpoint is its address's key (see `Addresses`) and its port in one number, the same in all files. A row of an ICMP error has
the endpoints of the flow that it speaks of, turned round as an answer: from the peer to who is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.addresses import Addresses
from rawpunch.capture.decode import Decoded, Decoder
from rawpunch.capture.records import File, Ints, Progress
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags

ICMP: Final = 1 << 9
"""The bit in `flags` that says: no segment but an ICMP error. All TCP bits are 0 then."""

_COLUMNS: Final = ("number", "time_ns", "source_address", "flags")
"""What decoding is asked for; the other numbers come without asking, options do not."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Vantage:
    """Where packets were seen: an interface of a file."""

    name: str
    file: int
    interface: str


@dataclass(frozen=True, slots=True)
class Packets:
    """Arrays of equal length, file after file, each in its file's order."""

    files: tuple[File, ...]
    vantages: tuple[Vantage, ...]
    addresses: Addresses
    vantage: npt.NDArray[np.int32]
    """Index into `vantages`."""
    number: npt.NDArray[np.uint32]
    time_ns: Ints
    source: Ints
    destination: Ints
    flags: npt.NDArray[np.int16]
    """The nine control bits, or `ICMP`."""
    seq: npt.NDArray[np.uint32]
    ack: npt.NDArray[np.uint32]
    """0 without the ACK bit; type * 256 + code of an ICMP error."""
    payload_length: npt.NDArray[np.int32]
    ttl: npt.NDArray[np.uint8]
    direction: npt.NDArray[np.int8]
    """-1 unknown, 0 in, 1 out."""

    def __len__(self) -> int:
        return len(self.number)

    def endpoints(self, numbers: Ints) -> list[Endpoint]:
        """The endpoints of these numbers; equal numbers give one and the same value."""
        different, back = np.unique(numbers, return_inverse=True)
        texts = self.addresses.texts(different >> 16)
        found = [Endpoint(text, port) for text, port in zip(texts, (different & 0xFFFF).tolist(), strict=True)]
        return [found[index] for index in back.reshape(-1).tolist()]


class PacketReader:
    """Reads all TCP segments, and ICMP errors about them, of some files.

    Args:
        paths: capture files.
        progress: called with the number of the files' octets read since the last call.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], *, progress: Progress | None = None) -> None:
        self.paths = paths
        self.addresses = Addresses()
        self._progress = progress
        self._files: list[File] = []
        self._places: list[tuple[int, str]] = []

    def pieces(self) -> Iterator[dict[str, Array]]:
        """The columns of `Packets` for some megabytes of a file after the other.

        Raises:
            Unreadable: a file cannot be opened or is no capture; a damaged one gives what lies before the damage.
        """
        for index, path in enumerate(self.paths):
            decoder = Decoder(path, _COLUMNS, self.addresses)
            codes = np.zeros(0, np.int32)
            rows = taken = 0
            for piece in decoder.pieces():
                names = decoder.words["interface"]
                fresh = [(index, name) for name in names[len(codes) :]]
                codes = np.append(codes, np.arange(len(self._places), len(self._places) + len(fresh), dtype=np.int32))
                self._places += fresh
                yield _numbers(piece, codes)
                rows += len(piece.filled["number"])
                if self._progress:
                    self._progress(decoder.findings.read_bytes - taken)
                    taken = decoder.findings.read_bytes
            self._files.append(File.of(path, decoder.findings, rows))

    def packets(self, parts: dict[str, list[Array]]) -> Packets:
        """Pieces of columns in one, when all have been read; the lists are emptied."""
        vantages = tuple(_vantages(self._files, self._places))
        joined = {name: _joined(parts[name], dtype) for name, dtype in ARRAYS.items()}
        return Packets(tuple(self._files), vantages, self.addresses, **joined)


def read_packets(paths: Sequence[str | os.PathLike[str]], *, progress: Progress | None = None) -> Packets:
    """All TCP segments, and ICMP errors about them, of these files.

    Args:
        paths: capture files.
        progress: called with the number of the files' octets read since the last call.

    Raises:
        Unreadable: a file cannot be opened or is no capture; a damaged one gives what lies before the damage.
    """
    reader = PacketReader(paths, progress=progress)
    parts: dict[str, list[Array]] = {name: [] for name in ARRAYS}
    for piece in reader.pieces():
        for name, column in piece.items():
            parts[name].append(column)
    return reader.packets(parts)


ARRAYS: Final[dict[str, Any]] = {
    "vantage": np.int32,
    "number": np.uint32,
    "time_ns": np.int64,
    "source": np.int64,
    "destination": np.int64,
    "flags": np.int16,
    "seq": np.uint32,
    "ack": np.uint32,
    "payload_length": np.int32,
    "ttl": np.uint8,
    "direction": np.int8,
}
"""Column of `Packets` -> its type."""


def _joined(pieces: list[Array], dtype: Any) -> Array:
    """All pieces in one array; the pieces are let go, so that no more than one column is there twice."""
    joined = np.concatenate(pieces) if pieces else np.zeros(0, dtype)
    pieces.clear()
    return joined


def _numbers(piece: Decoded, codes: npt.NDArray[np.int32]) -> dict[str, Array]:
    filled = piece.filled
    flags, ack, peer = filled["flags"], filled["ack"], filled["source_address"]
    segment = piece.nulls["icmp_type"]
    if segment is not None and not segment.all():
        flags = np.where(segment, flags, np.int16(ICMP))
        ack = np.where(segment, ack, filled["icmp_type"].astype(np.int64) << 8 | filled["icmp_code"])
        peer = np.where(segment, peer, filled["quoted_address"])
    silent = flags & np.int16(Flags.ACK | ICMP) == 0
    return {
        "vantage": codes[filled["interface"]],
        "number": filled["number"].astype(np.uint32),
        "time_ns": filled["time_ns"],
        "source": peer << 16 | filled["source_port"],
        "destination": filled["destination_address"] << 16 | filled["destination_port"],
        "flags": flags,
        "seq": filled["seq"].astype(np.uint32),
        "ack": np.where(silent, np.int64(0), ack).astype(np.uint32),
        "payload_length": filled["payload_length"],
        "ttl": filled["ttl"].astype(np.uint8),
        "direction": filled["direction"],
    }


def _vantages(files: Sequence[File], places: Iterable[tuple[int, str]]) -> list[Vantage]:
    """Names: the interface's own where a file has several, the file's where it has one, both where that is not enough."""
    found = list(places)
    interfaces = [name for _, name in found]
    stems = [file.path.name.split(".")[0] for file in files]
    paths = [str(file.path) for file in files]
    vantages = []
    for index, interface in found:
        file = stems[index] if stems.count(stems[index]) == 1 else paths[index]
        alone = sum(other == index for other, _ in found) == 1
        named = ":" in interface or not (alone or interface.startswith("interface "))
        if named and interfaces.count(interface) == 1:
            name = interface
        elif alone:
            name = file
        else:
            name = f"{file}/{interface}"
        vantages.append(Vantage(name, index, interface))
    return vantages
