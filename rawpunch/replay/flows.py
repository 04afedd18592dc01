"""The scripts in capture files, by the numbers that `rawpunch classify` gives their flows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from rawpunch.capture.blocks import Walk
from rawpunch.capture.classify import classify
from rawpunch.capture.flows import seen_of
from rawpunch.capture.headers import Framed, strip_link
from rawpunch.capture.records import Ints, Records
from rawpunch.errors import Malformed
from rawpunch.record.pattern import Seen, View
from rawpunch.replay.script import Script, script_of
from rawpunch.wire.codec import decode
from rawpunch.wire.segment import Segment


class Captures:
    """One or several capture files of the same traffic, whose clocks agree.

    Raises:
        Unreadable: one cannot be read or is no capture; a damaged one gives what lies before the damage.
        Malformed: there is no TCP in them.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.classified = classify(paths)
        if not len(self.classified):
            skipped = ", ".join(f"{reason}: {count}" for reason, count in self.skipped.items())
            raise Malformed(f"there is no TCP in {' or '.join(map(str, paths))}", why=skipped, todo="rawpunch decode FILE --head")

    def __len__(self) -> int:
        return len(self.classified)

    @property
    def skipped(self) -> dict[str, int]:
        """Why packets could not be read -> how many."""
        return self.classified.skipped()

    def script(self, number: int) -> Script:
        """The script of a flow, with the payload bytes that were captured.

        Args:
            number: from 1, in order of first packets.

        Raises:
            UnknownName: there is no such flow.
            Malformed: it has no SYN.
        """
        views = self._views(number - 1)
        reference = next((view for view in views if view.at == "a"), views[0])
        return script_of(f"flow {number} ({reference.a} > {reference.b})", views)

    def _views(self, attempt: int) -> list[View]:
        """What each vantage point saw, packets whole."""
        frame = self.classified.packets_of(attempt)
        paths = {vantage.name: self.classified.files[vantage.file].path for vantage in self.classified.vantages}
        known = self.classified.views_of(attempt)
        views = []
        for view, (_, rows) in zip(known, frame.groupby("view"), strict=True):
            seen = seen_of(rows)
            wanted = {entry.number for entry in seen if isinstance(entry.packet, Segment) and entry.packet.payload_length}
            whole = dict(_segments(paths[view.vantage], wanted)) if wanted else {}
            entries = (Seen(entry.time_ns, entry.number, whole.get(entry.number, entry.packet)) for entry in seen)
            views.append(View(view.vantage, view.a, view.b, view.at, tuple(entries)))
        return sorted(views, key=lambda view: view.seen[0].time_ns)


def _segments(path: Path, wanted: set[int]) -> Iterator[tuple[int, Segment]]:
    """The segments of these packet numbers, with the payload bytes that are in the file."""
    walk = Walk(path)
    for records in walk.pieces():
        rows = np.flatnonzero(np.isin(records.number, list(wanted)))
        for row in rows.tolist():
            link = walk.findings.interfaces[int(records.interface[row])].link_type
            frames = Framed(*(column[row : row + 1] for column in (records.number, *_extent(records))))
            for packets in strip_link(link, records.data, frames, Counter()):
                if len(packets.at):
                    at, captured = int(packets.at.item()), int(packets.captured.item())
                    with suppress(Malformed):  # extension headers: its bytes stay unknown
                        packet = decode(records.data[at : at + captured].tobytes())
                        if isinstance(packet, Segment):
                            yield int(records.number[row]), packet


def _extent(records: Records) -> tuple[Ints, Ints, Ints]:
    return records.at, records.original, records.captured
