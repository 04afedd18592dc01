"""What happened in each handshake of a capture, or of several captures of the same traffic.

    found = classify(["natA.pcapng", "hostB.pcap"])
    found.flows                # a DataFrame, one row per attempt
    found.packets_of(0)        # the packets of one attempt
    found.views_of(0)          # the same as `record.pattern.tell` takes them

Packets are read, sorted into attempts, merged over vantage points, told and counted as arrays.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rawpunch.capture.attempts import Sorted, sort_packets
from rawpunch.capture.columns import iter_captures
from rawpunch.capture.counting import Counts, count_all
from rawpunch.capture.groups import NONE
from rawpunch.capture.merging import Views, merge
from rawpunch.capture.packets import ICMP, Packets, read_packets
from rawpunch.capture.readings import PATTERNS, read
from rawpunch.capture.records import File, Ints, Progress
from rawpunch.capture.telling import OUTCOMES, Tellings, tell_all
from rawpunch.capture.viewing import AT, views_of
from rawpunch.errors import UnknownName
from rawpunch.record.pattern import View
from rawpunch.record.words import Outcome

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Classified:
    """The attempts in some captures, in order of their first packets."""

    packets: Packets
    ordered: Sorted
    views: Views
    told: Tellings
    counts: Counts

    def __len__(self) -> int:
        return self.views.attempts

    @property
    def files(self) -> tuple[File, ...]:
        """The files, and what was skipped in each."""
        return self.packets.files

    @property
    def segments(self) -> int:
        """TCP segments in all files; one that several vantage points saw is there several times."""
        return int((self.packets.flags != ICMP).sum())

    def by_pattern(self) -> dict[str, int]:
        """Pattern -> attempts, for the patterns that occur."""
        counted = np.bincount(self.told.pattern, minlength=len(PATTERNS)).tolist()
        return {str(pattern): count for pattern, count in zip(PATTERNS, counted, strict=True) if count}

    def rows(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """The attempts as plain values.

        Keys: flow (from the first to send a SYN, as its nearest view has it), pattern, outcome (None where the capture does not
        show it), syn, syn_ack, rst, syn_retransmissions, icmp_errors, segments, first_ns, established_ns (when the later end
        completed, or None), decided_by (vantage point # packet number, where that packet was first seen, or None).
        """
        stop = len(self) if stop is None else min(stop, len(self))
        which = np.arange(start, max(stop, start))
        told, counts = self.told, self.counts
        columns: dict[str, list[Any]] = {
            "flow": self._flows(which),
            "pattern": [str(PATTERNS[code]) for code in told.pattern[which].tolist()],
            "outcome": [None if (word := OUTCOMES[code]) is None else str(word) for code in told.outcome[which].tolist()],
        }
        for name in Counts.__slots__:
            columns[name] = getattr(counts, name)[which].tolist()
        columns["first_ns"] = self._first_ns()[which].tolist()
        columns["established_ns"] = self._established_ns(which)
        columns["decided_by"] = self._deciders(which)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @property
    def flows(self) -> pd.DataFrame:
        """The same as a DataFrame; row N is flow N + 1 of the command line."""
        import pandas as pd  # noqa: PLC0415 - takes longer to import than a small capture to classify

        frame = pd.DataFrame(self.rows(), columns=[*COLUMNS])
        words = dict.fromkeys(("pattern", "outcome"), "category")
        return frame.astype({**words, "established_ns": "Int64"})

    def _flows(self, which: Ints) -> list[str]:
        """``A:p > B:q`` in the words of A's own view, or of the first that saw the attempt."""
        views, ordered = self.views, self.ordered
        start = ordered.attempts.start
        chosen = np.full(len(self), -1)
        order = np.lexsort((ordered.time_ns[start], views.near != 0, views.attempt))[::-1]
        chosen[views.attempt[order]] = order
        view = chosen[which]
        low, high = ordered.low[start[view]], ordered.high[start[view]]
        low_is_a = views.low_is_a[view]
        ends = np.concatenate([np.where(low_is_a, low, high), np.where(low_is_a, high, low)])
        texts = self.packets.endpoints(ends)
        return [f"{a} > {b}" for a, b in zip(texts[: len(which)], texts[len(which) :], strict=True)]

    def _first_ns(self) -> Ints:
        first = np.full(len(self), NONE)
        np.minimum.at(first, self.views.attempt, self.ordered.time_ns[self.ordered.attempts.start])
        return first

    def _established_ns(self, which: Ints) -> list[int | None]:
        good = (self.told.outcome[which] == OUTCOMES.index(Outcome.ESTABLISHED)).tolist()
        return [time_ns if done else None for time_ns, done in zip(self.told.decided_ns[which].tolist(), good, strict=True)]

    def _deciders(self, which: Ints) -> list[str | None]:
        decider = self.told.decider[which]
        there = decider != NONE
        place = self.ordered.place[decider[there]]
        names = [vantage.name for vantage in self.packets.vantages]
        found: list[str | None] = [None] * len(which)
        seen = zip(self.packets.vantage[place].tolist(), self.packets.number[place].tolist(), strict=True)
        for attempt, (vantage, number) in zip(np.flatnonzero(there).tolist(), seen, strict=True):
            found[attempt] = f"{names[vantage]}#{number}"
        return found

    # --- one attempt ---

    def packets_of(self, attempt: int) -> pd.DataFrame:
        """The packets of one attempt in order of time, as `read_capture` has them, with columns for where they were seen.

        Columns besides: ``vantage``, ``view`` (each 4-tuple that a vantage point saw is a view), ``from_a`` (whether end A sent
        it, or B was told of it), ``at`` ("a" or "b" at that end's own host, else "").

        Raises:
            UnknownName: there is no attempt of that number.
        """
        import pandas as pd  # noqa: PLC0415 - as above

        self._check(attempt)
        views, ordered, packets = self.views, self.ordered, self.packets
        parts = []
        for view in np.flatnonzero(views.attempt == attempt).tolist():
            places = np.arange(ordered.attempts.start[view], ordered.attempts.end[view])
            vantage = packets.vantages[views.vantage[view]]
            numbers = packets.number[ordered.place[places]].astype(np.int64)
            from_a = (ordered.from_low[places] == views.low_is_a[view]) | (ordered.low[places] == ordered.high[places])
            marks = pd.DataFrame({"number": numbers, "from_a": from_a})
            frame = _rows(packets.files[vantage.file].path, vantage.interface, numbers).merge(marks, on="number")
            parts.append(frame.assign(vantage=vantage.name, view=view, at=AT[views.near[view]]))
        whole = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
        return whole.sort_values(["time_ns", "number"], kind="stable", ignore_index=True)

    def views_of(self, attempt: int) -> list[View]:
        """What each vantage point saw of one attempt, as `record.pattern.tell` takes it (without options and windows).

        Raises:
            UnknownName: there is no attempt of that number.
        """
        self._check(attempt)
        return views_of(self.packets, self.ordered, self.views, attempt)

    def _check(self, attempt: int) -> None:
        if not 0 <= attempt < len(self):
            raise UnknownName(
                f"there is no flow {attempt + 1}", why=f"there are {len(self)}", todo="rawpunch classify FILE lists them"
            )


def _rows(path: Path, interface: str, numbers: Ints) -> pd.DataFrame:
    """Those packets of a file, by number; it is read anew, so that its size does not matter."""
    import pandas as pd  # noqa: PLC0415 - as above

    wanted = [part[(part["interface"] == interface) & part["number"].isin(numbers)] for part in iter_captures(path)]
    return pd.concat(wanted, ignore_index=True) if len(wanted) > 1 else wanted[0]


COLUMNS: Final = ("flow", "pattern", "outcome", *Counts.__slots__, "first_ns", "established_ns", "decided_by")
"""What `Classified.rows` and `Classified.flows` have."""


def classify(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, progress: Progress | None = None) -> Classified:
    """Classify every handshake in one or several capture files.

    Args:
        paths: a file, or several of the same traffic, whose clocks agree.
        progress: called with the number of the files' octets read since the last call.

    Raises:
        Unreadable: a file cannot be opened or is no capture; a damaged one gives what lies before the damage.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    packets = read_packets(files, progress=progress)
    ordered = sort_packets(packets)
    views = merge(packets, ordered)
    readings = read(packets, ordered, views)
    told = tell_all(packets, ordered, views, readings)
    return Classified(packets, ordered, views, told, count_all(packets, ordered, views))
