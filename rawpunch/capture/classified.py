"""Classified captures: attempts as arrays, as a DataFrame, their packets and what each vantage point saw of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.attempts import Sorted, sort_packets
from rawpunch.capture.columns import iter_captures
from rawpunch.capture.counting import Counts, count_all
from rawpunch.capture.groups import NONE
from rawpunch.capture.merging import Views, merge
from rawpunch.capture.packets import ICMP, Packets, Vantage
from rawpunch.capture.readings import PATTERNS, read
from rawpunch.capture.records import File, Ints
from rawpunch.capture.telling import OUTCOMES, Tellings, tell_all
from rawpunch.capture.viewing import AT, views_of
from rawpunch.errors import UnknownName
from rawpunch.record.pattern import View
from rawpunch.record.words import Outcome
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class Attempts:
    """What is told of attempts, in arrays with one element each."""

    a: Ints
    """The first to send a SYN, as the nearest view has it; endpoints are numbers, see `Packets`."""
    b: Ints
    pattern: npt.NDArray[np.int8]
    outcome: npt.NDArray[np.int8]
    counts: Counts
    first_ns: Ints
    established_ns: Ints
    """NONE where it was not."""
    vantage: npt.NDArray[np.int32]
    """Of the deciding packet; -1 where there is none."""
    number: npt.NDArray[np.uint32]
    """Of the deciding packet."""

    def take(self, which: Ints | slice) -> Attempts:
        """Some of them."""
        counts = Counts(*(getattr(self.counts, name)[which] for name in Counts.__slots__))
        others = {name: getattr(self, name)[which] for name in self.__slots__ if name != "counts"}
        return Attempts(counts=counts, **others)


class Classified(ABC):
    """The attempts in some captures, in order of their first packets."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def files(self) -> tuple[File, ...]:
        """The files, and what was skipped in each."""

    @property
    @abstractmethod
    def vantages(self) -> tuple[Vantage, ...]:
        """Where packets were seen."""

    @property
    @abstractmethod
    def segments(self) -> int:
        """TCP segments in all files; one that several vantage points saw is there several times."""

    @abstractmethod
    def attempts(self) -> Attempts:
        """What is told of all of them."""

    @abstractmethod
    def endpoints(self, numbers: Ints) -> list[Endpoint]:
        """The endpoints of these numbers."""

    @abstractmethod
    def packets_of(self, attempt: int) -> pd.DataFrame:
        """The packets of one attempt in order of time, as `read_capture` has them, with columns for where they were seen.

        Columns besides: ``vantage``, ``view`` (each 4-tuple that a vantage point saw is a view), ``from_a`` (whether end A sent
        it, or B was told of it), ``at`` ("a" or "b" at that end's own host, else "").

        Raises:
            UnknownName: there is no attempt of that number.
        """

    @abstractmethod
    def views_of(self, attempt: int) -> list[View]:
        """What each vantage point saw of one attempt, as `record.pattern.tell` takes it (without options and windows).

        Raises:
            UnknownName: there is no attempt of that number.
        """

    def skipped(self) -> dict[str, int]:
        """Reason -> how many packets were skipped, over all files."""
        total: dict[str, int] = {}
        for file in self.files:
            for reason, count in file.skipped.items():
                total[reason] = total.get(reason, 0) + count
        return total

    def by_pattern(self) -> dict[str, int]:
        """Pattern -> attempts, for the patterns that occur."""
        counted = np.bincount(self.attempts().pattern, minlength=len(PATTERNS)).tolist()
        return {str(pattern): count for pattern, count in zip(PATTERNS, counted, strict=True) if count}

    def rows(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """The attempts as plain values.

        Keys: flow (from the first to send a SYN, as its nearest view has it), pattern, outcome (None where the capture does not
        show it), syn, syn_ack, rst, syn_retransmissions, icmp_errors, segments, first_ns, established_ns (when the later end
        completed, or None), decided_by (vantage point # packet number, where that packet was first seen, or None).
        """
        told = self.attempts().take(slice(start, len(self) if stop is None else stop))
        ends = self.endpoints(np.concatenate([told.a, told.b]))
        names = [vantage.name for vantage in self.vantages]
        columns: dict[str, list[Any]] = {
            "flow": [f"{a} > {b}" for a, b in zip(ends[: len(told.a)], ends[len(told.a) :], strict=True)],
            "pattern": [str(PATTERNS[code]) for code in told.pattern.tolist()],
            "outcome": [None if (word := OUTCOMES[code]) is None else str(word) for code in told.outcome.tolist()],
            **{name: getattr(told.counts, name).tolist() for name in Counts.__slots__},
            "first_ns": told.first_ns.tolist(),
            "established_ns": [None if time_ns == NONE else time_ns for time_ns in told.established_ns.tolist()],
            "decided_by": [
                None if vantage < 0 else f"{names[vantage]}#{number}"
                for vantage, number in zip(told.vantage.tolist(), told.number.tolist(), strict=True)
            ],
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @property
    def flows(self) -> pd.DataFrame:
        """The same as a DataFrame; row N is flow N + 1 of the command line."""
        import pandas as pd  # noqa: PLC0415 - takes longer to import than a small capture to classify

        frame = pd.DataFrame(self.rows(), columns=[*COLUMNS])
        words = dict.fromkeys(("pattern", "outcome"), "category")
        return frame.astype({**words, "established_ns": "Int64"})

    def check(self, attempt: int) -> None:
        """Whether there is an attempt of that number.

        Raises:
            UnknownName: there is none.
        """
        if not 0 <= attempt < len(self):
            raise UnknownName(
                f"there is no flow {attempt + 1}", why=f"there are {len(self)}", todo="rawpunch classify FILE lists them"
            )


@dataclass(frozen=True, slots=True)
class Whole(Classified):
    """All packets in memory."""

    packets: Packets
    ordered: Sorted
    views: Views
    told: Tellings
    counts: Counts
    _attempts: list[Attempts] = field(default_factory=list, repr=False)
    """Made when they are first asked for."""

    def __len__(self) -> int:
        return self.views.attempts

    @property
    def files(self) -> tuple[File, ...]:
        """The files, and what was skipped in each."""
        return self.packets.files

    @property
    def vantages(self) -> tuple[Vantage, ...]:
        """Where packets were seen."""
        return self.packets.vantages

    @property
    def segments(self) -> int:
        """TCP segments in all files; one that several vantage points saw is there several times."""
        return int((self.packets.flags != ICMP).sum())

    def endpoints(self, numbers: Ints) -> list[Endpoint]:
        """The endpoints of these numbers."""
        return self.packets.endpoints(numbers)

    def by_pattern(self) -> dict[str, int]:
        """Pattern -> attempts, for the patterns that occur."""
        counted = np.bincount(self.told.pattern, minlength=len(PATTERNS)).tolist()
        return {str(pattern): count for pattern, count in zip(PATTERNS, counted, strict=True) if count}

    def attempts(self) -> Attempts:
        """What is told of all of them."""
        if not self._attempts:
            self._attempts.append(self._told())
        return self._attempts[0]

    def _told(self) -> Attempts:
        told, ordered = self.told, self.ordered
        first = np.full(len(self), NONE)
        np.minimum.at(first, self.views.attempt, ordered.time_ns[ordered.attempts.start])
        good = told.outcome == OUTCOMES.index(Outcome.ESTABLISHED)
        there = told.decider != NONE
        place = ordered.place[told.decider[there]]
        vantage, number = np.full(len(self), -1, np.int32), np.zeros(len(self), np.uint32)
        vantage[there], number[there] = self.packets.vantage[place], self.packets.number[place]
        a, b = self._ends()
        established_ns = np.where(good, told.decided_ns, NONE)
        return Attempts(a, b, told.pattern, told.outcome, self.counts, first, established_ns, vantage, number)

    def _ends(self) -> tuple[Ints, Ints]:
        """A and B in the words of A's own view, or of the first that saw the attempt."""
        views, ordered = self.views, self.ordered
        start = ordered.attempts.start
        view = np.full(len(self), -1)
        order = np.lexsort((ordered.time_ns[start], views.near != 0, views.attempt))[::-1]
        view[views.attempt[order]] = order
        low, high = ordered.low[start[view]], ordered.high[start[view]]
        return np.where(views.low_is_a[view], low, high), np.where(views.low_is_a[view], high, low)

    # --- one attempt ---

    def packets_of(self, attempt: int) -> pd.DataFrame:
        """The packets of one attempt; see `Classified.packets_of`.

        Raises:
            UnknownName: there is no attempt of that number.
        """
        import pandas as pd  # noqa: PLC0415 - as above

        self.check(attempt)
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
        """What each vantage point saw of one attempt; see `Classified.views_of`.

        Raises:
            UnknownName: there is no attempt of that number.
        """
        self.check(attempt)
        return views_of(self.packets, self.ordered, self.views, attempt)


def _rows(path: Path, interface: str, numbers: Ints) -> pd.DataFrame:
    """Those packets of a file, by number; it is read anew, so that its size does not matter."""
    import pandas as pd  # noqa: PLC0415 - as above

    wanted = [part[(part["interface"] == interface) & part["number"].isin(numbers)] for part in iter_captures(path)]
    return pd.concat(wanted, ignore_index=True) if len(wanted) > 1 else wanted[0]


COLUMNS: Final = ("flow", "pattern", "outcome", *Counts.__slots__, "first_ns", "established_ns", "decided_by")
"""What `Classified.rows` and `Classified.flows` have."""


def whole(packets: Packets) -> Whole:
    """Classify packets in memory."""
    ordered = sort_packets(packets)
    views = merge(packets, ordered)
    readings = read(packets, ordered, views)
    told = tell_all(packets, ordered, views, readings)
    return Whole(packets, ordered, views, told, count_all(packets, ordered, views))
