"""Walking a capture file: pcap and pcapng, plain or packed with gzip or zstd.

pcap (draft-ietf-opsawg-pcap) in micro- and nanoseconds, both byte orders, also Kuznetzov's variant with longer record headers.
The file is read in pieces of some megabytes, so its size does not matter. A damaged file gives what lies before the damage; the
damage is counted in `Walk.findings.skipped`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.chain import Framing, chain
from rawpunch.capture.pcapng_blocks import SECTION, PcapNg
from rawpunch.capture.records import BROKEN, CUT, Bytes, Described, Findings, Ints, Records, gather
from rawpunch.capture.source import Source, open_capture
from rawpunch.errors import Unreadable

MAX_RECORD: Final = 262_144
"""Captured octets of a packet, at most (libpcap's MAXIMUM_SNAPLEN); a longer one is damage."""

_SECOND: Final = 1_000_000_000
_FILE_HEADER: Final = 24
_MAGIC: Final = {  # as a little-endian number -> (byte order, fraction in ns, record header octets)
    0xA1B2C3D4: ("<", 1000, 16),
    0xD4C3B2A1: (">", 1000, 16),
    0xA1B23C4D: ("<", 1, 16),
    0x4D3CB2A1: (">", 1, 16),
    0xA1B2CD34: ("<", 1000, 24),
    0x34CDB2A1: (">", 1000, 24),
}
_LIKELY_LENGTH: Final = 65_536
_LIKELY_SECONDS: Final = 1 << 24
"""Records that lie near each other in a file do not lie half a year apart."""


@dataclass(slots=True)
class Walk:
    """One walk through a file; iterate over `pieces()`, then look at the findings."""

    path: Path
    findings: Findings = field(default_factory=Findings)

    def pieces(self) -> Iterator[Records]:
        """The file's packets, piece by piece.

        Raises:
            Unreadable: the file cannot be opened or is no capture at all.
        """
        with open_capture(self.path, self.findings) as source:
            there = source.fill(4)
            magic = int.from_bytes(bytes(source.data[:4]), "little")
            if magic in _MAGIC and there >= _FILE_HEADER:
                yield from _pcap(source, self.findings, *_MAGIC[magic])
            elif magic == SECTION:
                yield from PcapNg(source, self.findings).pieces()
            else:
                nothing = "it is packed, and the packed data are damaged" if self.findings.skipped else "it is empty"
                raise Unreadable(
                    f"{self.path} is not a capture file",
                    why="it begins with neither a pcap nor a pcapng header" if source.length else nothing,
                    todo="give a pcap or pcapng file, plain, .gz or .zst",
                )


def _pcap(source: Source, findings: Findings, order: str, fraction_ns: int, head: int) -> Iterator[Records]:
    (link,) = struct.unpack_from(f"{order}I", source.data.data, 20)
    findings.interfaces.append(Described("", link & 0xFFFF))
    source.used = _FILE_HEADER
    header = np.dtype([(name, f"{order}u4") for name in ("second", "fraction", "captured", "original")])
    broken = False
    while not broken and source.fill(head):
        starts, source.used, broken = chain(source.data, 0, source.length, _framing(source.data, order, head))
        findings.done_bytes += source.used
        if len(starts):
            heads = gather(source.data, starts, header)
            captured = heads["captured"].astype(np.int64)
            yield Records(
                source.data,
                findings.numbered(len(starts)),
                starts + head,
                captured,
                np.maximum(heads["original"].astype(np.int64), captured),
                heads["second"].astype(np.int64) * _SECOND + heads["fraction"].astype(np.int64) * fraction_ns,
                np.zeros(len(starts), np.int32),
                np.zeros(len(starts), np.int8),
            )
    if broken:
        findings.skipped[BROKEN] += 1
    elif source.length > source.used:
        findings.skipped[CUT] += 1


def _framing(data: Bytes, order: str, head: int) -> Framing:
    """How pcap records follow each other in a piece whose first record begins it."""
    about = int.from_bytes(bytes(data[:4]), "little" if order == "<" else "big")
    word = f"{order}u4"

    def plausible(data: Bytes, places: Ints) -> npt.NDArray[np.bool_]:
        good = _near(gather(data, places, word), about)
        likely = places[good]
        captured, original = gather(data, likely + 8, word), gather(data, likely + 12, word)
        fits = (captured <= original) & (original <= _LIKELY_LENGTH)
        following = np.minimum(likely + head + np.where(fits, captured, 0).astype(np.int64), len(data) - 4)
        good[good] = fits & _near(gather(data, following, word), about)
        return good

    return Framing(order, 8, head, head, head + MAX_RECORD, 1, plausible)


def _near(seconds: npt.NDArray[np.uint32], about: int) -> npt.NDArray[np.bool_]:
    return np.abs(seconds.astype(np.int64) - about) < _LIKELY_SECONDS
