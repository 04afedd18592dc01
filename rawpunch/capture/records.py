"""What walking a capture file gives: where each packet's octets lie, when and on which interface it was seen."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Progress = Callable[[int], None]

CUT: Final = "file ends inside a record"
BROKEN: Final = "file damaged from here on"
NO_INTERFACE: Final = "packet of an interface that is not described"
LYING: Final = "packet longer than its block"
UNREADABLE: Final = "file could not be read on from here"

UNKNOWN, INBOUND, OUTBOUND = 0, 1, 2
"""Direction codes."""
MAX_INTERFACES: Final = 16_384
"""A file that describes more is damaged, or made to exhaust memory."""


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
    """The piece and some octets more; valid until the next piece is asked for."""
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
    """Index into `Findings.interfaces`."""
    direction: npt.NDArray[np.int8]
    """UNKNOWN, INBOUND or OUTBOUND."""


@dataclass(slots=True)
class Findings:
    """What a walk found so far, besides packets."""

    interfaces: list[Described] = field(default_factory=list)
    """All interfaces met, over all sections."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason -> how often."""
    noted: Counter[str] = field(default_factory=Counter)
    """What is odd about packets that were taken -> how often."""
    packets: int = 0
    """Packets met."""
    done_bytes: int = 0
    """Octets walked (after unpacking)."""
    read_bytes: int = 0
    """Octets of the file that were read (before unpacking)."""

    def numbered(self, count: int) -> Ints:
        """The numbers of the next packets."""
        numbers: Ints = np.arange(self.packets + 1, self.packets + count + 1)
        self.packets += count
        return numbers


@dataclass(frozen=True, slots=True)
class File:
    """A capture file that was read."""

    path: Path
    packets: int
    """Packets of all kinds."""
    rows: int
    """TCP segments, and ICMP errors about them."""
    skipped: dict[str, int]
    noted: dict[str, int]

    @classmethod
    def of(cls, path: str | os.PathLike[str], findings: Findings, rows: int) -> File:
        """A file with what its walk found."""
        return cls(Path(path), findings.packets, rows, dict(findings.skipped), dict(findings.noted))


def gather(data: Bytes, at: Ints, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The values of a type that lie at these octets (whatever their alignment).

    Structured types are fetched as plain octets, which numpy copies in one go.
    """
    wanted = np.dtype(dtype)
    plain = np.dtype(f"V{wanted.itemsize}") if wanted.names else wanted
    overlapping = np.ndarray((len(data) - plain.itemsize + 1,), plain, data, strides=(1,))
    return overlapping[at].view(wanted)
