"""Captures with more packets than memory should hold, classified part by part.

What is told of the attempts is kept, some 100 octets each; the packets of one are read from their files when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.addresses import Addresses
from rawpunch.capture.classified import Attempts, Classified, Whole, whole
from rawpunch.capture.counting import Counts
from rawpunch.capture.packets import PacketReader, Packets, Vantage
from rawpunch.capture.records import File, Ints
from rawpunch.capture.spill import Array, Spill
from rawpunch.record.pattern import View
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import pandas as pd

_PART_OCTETS: Final = 24 << 20
"""Of the capture files, for each part."""
_MOST_PARTS: Final = 256
"""Files may be open 1,024 at a time, usually."""


@dataclass(slots=True)
class Parted(Classified):
    """The attempts in large captures."""

    _spill: Spill
    _none: Packets
    """No packets, but what is known of the files."""
    _told: Attempts
    _part: npt.NDArray[np.int16]
    """Attempt -> the part that has its packets."""
    _place: npt.NDArray[np.int32]
    """Attempt -> which one it is there."""
    _last: list[tuple[int, Whole]] = field(default_factory=list, repr=False)
    """The part that was asked for last."""

    @classmethod
    def of(cls, reader: PacketReader, held: dict[str, list[Array]], pieces: Iterable[dict[str, Array]]) -> Parted:
        """Classify what was read and what follows.

        Args:
            reader: of the files.
            held: what it has read so far, as columns in pieces; they are let go.
            pieces: what it will read.

        Raises:
            Unreadable: a file cannot be opened or is no capture.
            MachineCannot: there is no room for temporary files.
        """
        octets = sum(Path(path).stat().st_size for path in reader.paths)
        spill = Spill(min(max(octets // _PART_OCTETS, 8), _MOST_PARTS))
        for at in range(len(held["number"])):
            spill.add({name: column[at] for name, column in held.items()})
        for columns in held.values():
            columns.clear()
        for piece in pieces:
            spill.add(piece)
        none = reader.packets({name: [] for name in held})
        spill.finish(several=len(none.vantages) > 1)
        told, part = [], []
        for number in range(len(spill)):
            told.append(_small(_classified(none, spill, number).attempts()))
            part.append(np.full(len(told[-1].a), number, np.int16))
        place = [np.arange(len(one.a), dtype=np.int32) for one in told]
        order = np.argsort(np.concatenate([one.first_ns for one in told]), kind="stable")
        return cls(spill, none, _joined(told, order), np.concatenate(part)[order], np.concatenate(place)[order])

    def __len__(self) -> int:
        return len(self._part)

    @property
    def files(self) -> tuple[File, ...]:
        """The files, and what was skipped in each."""
        return self._none.files

    @property
    def vantages(self) -> tuple[Vantage, ...]:
        """Where packets were seen."""
        return self._none.vantages

    @property
    def addresses(self) -> Addresses:
        """The addresses in all files."""
        return self._none.addresses

    @property
    def segments(self) -> int:
        """TCP segments in all files; one that several vantage points saw is there several times."""
        return self._spill.segments

    def endpoints(self, numbers: Ints) -> list[Endpoint]:
        """The endpoints of these numbers."""
        return self._none.endpoints(numbers)

    def attempts(self) -> Attempts:
        """What is told of all of them."""
        return self._told

    def packets_of(self, attempt: int) -> pd.DataFrame:
        """The packets of one attempt; see `Classified.packets_of`.

        Raises:
            UnknownName: there is no attempt of that number.
        """
        part, place = self._find(attempt)
        return part.packets_of(place)

    def views_of(self, attempt: int) -> list[View]:
        """What each vantage point saw of one attempt; see `Classified.views_of`.

        Raises:
            UnknownName: there is no attempt of that number.
        """
        part, place = self._find(attempt)
        return part.views_of(place)

    def _find(self, attempt: int) -> tuple[Whole, int]:
        self.check(attempt)
        number = int(self._part[attempt])
        if not self._last or self._last[0][0] != number:
            self._last[:] = [(number, _classified(self._none, self._spill, number))]
        return self._last[0][1], int(self._place[attempt])


def _classified(none: Packets, spill: Spill, part: int) -> Whole:
    columns: dict[str, Any] = {name: column[0] for name, column in spill.part(part).items()}
    if part == len(spill) - 1:  # it was gathered from all others: back into the files' order, as ties go by it
        file = np.array([vantage.file for vantage in none.vantages])[columns["vantage"]]
        order = np.lexsort((columns["number"], file))
        columns = {name: column[order] for name, column in columns.items()}
    return whole(Packets(none.files, none.vantages, none.addresses, **columns))


def _small(told: Attempts) -> Attempts:
    """The same in less memory: counts of 32 bits, and nothing that other arrays hold."""
    counts = Counts(*(getattr(told.counts, name).astype(np.int32) for name in Counts.__slots__))
    others = {name: getattr(told, name) for name in Attempts.__slots__ if name != "counts"}
    return Attempts(counts=counts, **others)


def _joined(parts: list[Attempts], order: Ints) -> Attempts:
    """All in one, in this order; the parts are emptied, so that no more than one column is there twice."""

    def column(holders: Sequence[Any], name: str) -> Array:
        joined = np.concatenate([getattr(holder, name) for holder in holders])
        for holder in holders:
            object.__setattr__(holder, name, np.zeros(0, joined.dtype))
        return joined[order]

    counts = [part.counts for part in parts]
    others = {name: column(parts, name) for name in Attempts.__slots__ if name != "counts"}
    return Attempts(counts=Counts(*(column(counts, name) for name in Counts.__slots__)), **others)
