"""The flows of capture files, numbered, each as what every vantage point saw of it.

A flow is one attempt of one pair: a 4-tuple that is used again, with a SYN of a new initial sequence number, is another flow.
What several vantage points (interfaces of one file, or several files) saw of the same attempt is put together, though NATs
between them change addresses: by the initial sequence numbers, or where only one side was seen at each, by the ports.

End A is the host at hand in the first vantage point that saw the flow (hostA's, in captures of the lab), or who sent first there.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from rawpunch.capture.blocks import Walk
from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import seen_of
from rawpunch.capture.headers import Framed, strip_link
from rawpunch.capture.records import Ints, Records
from rawpunch.errors import Malformed, UnknownName
from rawpunch.record.attempts import Splitter
from rawpunch.record.pattern import Seen, View
from rawpunch.replay.script import INITIAL_TTLS, Script, script_of
from rawpunch.units import SECOND
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment

if TYPE_CHECKING:
    import pandas as pd

_TOGETHER_NS: Final = 10 * SECOND
"""Farther apart than this, sightings with the same ports are of different attempts."""
_HOSTS: Final[dict[str, Literal["a", "b"]]] = {"hostA": "a", "hostB": "b"}
"""Nodes whose vantage points are the ends' own, in captures of the lab."""


@dataclass(slots=True)
class _Sighting:
    """What one vantage point saw of one attempt."""

    vantage: str
    path: Path
    rows: list[int]
    """In the file's frame, in order of time."""
    first_ns: int
    last_ns: int
    ends: tuple[int, int]
    """Endpoints as numbers: who sent the first SYN (the first packet, without one), and its peer."""
    isns: dict[int, list[int]] = field(default_factory=dict)
    """Endpoint -> initial sequence numbers of its SYNs and SYN-ACKs."""

    def add(self, row: int, time_ns: int) -> None:
        """A packet more."""
        self.rows.append(row)
        self.last_ns = time_ns

    def called(self, end: int, peer: int, isn: int, *, bare: bool) -> None:
        """A SYN or SYN-ACK came from an end."""
        if bare and not self.isns:
            self.ends = (end, peer)
        self.isns.setdefault(end, []).append(isn)

    def end_like(self, other: _Sighting, end: int) -> int:
        """Which of its endpoints is that end of another vantage point's sighting of the same attempt."""
        peer = next((known for known in other.ends if known != end), end)
        mine = [set(self.isns.get(known, ())) for known in self.ends]
        theirs, peers = set(other.isns.get(end, ())), set(other.isns.get(peer, ()))
        straight = bool(mine[0] & theirs) + bool(mine[1] & peers)
        turned = bool(mine[1] & theirs) + bool(mine[0] & peers)
        if straight == turned:  # no SYN was seen at both
            straight, turned = int(self.ends[0] & 0xFFFF == end & 0xFFFF), int(self.ends[1] & 0xFFFF == end & 0xFFFF)
        return self.ends[turned > straight]

    def contradicts(self, other: _Sighting) -> bool:
        """Whether one port sent SYNs in both, none of them the same."""
        for end, isns in self.isns.items():
            for their_end, their_isns in other.isns.items():
                if end & 0xFFFF == their_end & 0xFFFF and not set(isns) & set(their_isns):
                    return True
        return False


@dataclass(frozen=True, slots=True)
class FlowFound:
    """One flow of the files."""

    number: int
    """From 1, in order of time."""
    views: tuple[View, ...]

    def __str__(self) -> str:
        view = next((view for view in self.views if view.at == "a"), self.views[0])
        return f"{view.a} > {view.b}"

    @property
    def has_syn(self) -> bool:
        """Whether it says where its sequence numbers begin."""
        return any(isinstance(seen.packet, Segment) and seen.packet.syn for view in self.views for seen in view.seen)


class Captures:
    """One or several capture files of the same happening, their clocks agreeing.

    Raises:
        Unreadable: one cannot be read or is no capture.
        Malformed: there is no TCP in them.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.paths = [Path(path) for path in paths]
        self._frames = {path: read_capture(path) for path in self.paths}
        self.skipped: dict[str, int] = {}
        for frame in self._frames.values():
            for reason, count in frame.attrs["skipped"].items():
                self.skipped[reason] = self.skipped.get(reason, 0) + count
        sightings = [
            sighting for path, frame in self._frames.items() for sighting in _sightings(frame, path, len(self.paths) > 1)
        ]
        if not sightings:
            raise Malformed(f"there is no TCP in {' or '.join(map(str, self.paths))}", why=_reasons(self.skipped))
        self._flows = sorted(_together(sightings), key=lambda seen: min(sighting.first_ns for sighting in seen))

    def __len__(self) -> int:
        return len(self._flows)

    def flow(self, number: int) -> FlowFound:
        """A flow by its number, from 1.

        Raises:
            UnknownName: there is no such flow.
        """
        if not 1 <= number <= len(self._flows):
            raise UnknownName(
                f"there is no flow {number}", why=f"the capture has {len(self._flows)}", todo="--flow 1, for example"
            )
        return FlowFound(number, self._views(self._flows[number - 1]))

    def script(self, number: int) -> Script:
        """The script of a flow, with the payload bytes that were captured.

        Raises:
            UnknownName: there is no such flow.
            Malformed: it has no SYN.
        """
        found = self.flow(number)
        where = {sighting.vantage: sighting.path for sighting in self._flows[number - 1]}
        views = []
        for view in found.views:
            wanted = {seen.number for seen in view.seen if isinstance(seen.packet, Segment) and seen.packet.payload_length}
            whole = dict(_segments(where[view.vantage], wanted)) if wanted else {}
            seen = tuple(Seen(seen.time_ns, seen.number, whole.get(seen.number, seen.packet)) for seen in view.seen)
            views.append(View(view.vantage, view.a, view.b, view.at, seen))
        return script_of(f"flow {number} ({found})", views)

    def _views(self, sightings: Sequence[_Sighting]) -> tuple[View, ...]:
        reference = min(sightings, key=lambda sighting: (_lab_host(sighting.vantage) != "a", self.paths.index(sighting.path)))
        a_is = reference.ends[0]
        if _lab_host(reference.vantage) == "a":
            a_is = self._local(reference) or a_is
        views = []
        for sighting in sightings:
            end_a = sighting.end_like(reference, a_is)
            end_b = next((end for end in sighting.ends if end != end_a), end_a)
            a, b = (_endpoint(end, self._frames[sighting.path]) for end in (end_a, end_b))
            seen = seen_of(self._frames[sighting.path].iloc[sighting.rows])
            views.append(View(sighting.vantage, a, b, _lab_host(sighting.vantage) or _at(seen, a, b), seen))
        return tuple(_one_view_each(views))

    def _local(self, sighting: _Sighting) -> int | None:
        """The endpoint that is the vantage point's own, as its directions tell."""
        frame = self._frames[sighting.path].iloc[sighting.rows]
        out = frame[(frame["direction"] == "out") & frame["icmp_type"].isna()]
        return int(_numbered(out, "source")[0]) if len(out) else None


def _sightings(frame: pd.DataFrame, path: Path, several: bool) -> Iterator[_Sighting]:
    """The attempts of each 4-tuple at each vantage point of a file."""
    source, destination = _numbered(frame, "source").tolist(), _numbered(frame, "destination").tolist()
    vantage = frame["interface"].cat.codes.tolist()
    names = [str(name) for name in frame["interface"].cat.categories]
    flags = frame["flags"].fillna(0).astype("int64").tolist()
    ack = frame["ack"].fillna(0).astype("int64").tolist()
    seq, time_ns, icmp = frame["seq"].tolist(), frame["time_ns"].tolist(), frame["icmp_type"].notna().tolist()
    pairs: dict[tuple[int, int, int], tuple[Splitter, list[_Sighting]]] = {}
    about: dict[tuple[int, int, int], tuple[Splitter, list[_Sighting]]] = {}  # who is told by an ICMP error, port of its peer
    for row in np.argsort(frame["time_ns"].to_numpy(), kind="stable").tolist():
        one, other, where = source[row], destination[row], vantage[row]
        if icmp[row]:
            splitter, attempts = about.get((where, other, one & 0xFFFF), (None, []))
            if splitter is not None:
                splitter.feed(0, None, seq[row], 0, time_ns[row])
                attempts[-1].add(row, time_ns[row])
            continue
        low, high = min(one, other), max(one, other)
        found = pairs.get((where, low, high))
        if found is None:
            found = pairs[where, low, high] = Splitter(), []
            about[where, low, high & 0xFFFF] = about[where, high, low & 0xFFFF] = found
        splitter, attempts = found
        if splitter.feed(0 if one == low else 1, flags[row], seq[row], ack[row], time_ns[row]):
            name = f"{path.name} {names[where]}" if several else names[where]
            attempts.append(_Sighting(name, path, [], time_ns[row], time_ns[row], (one, other)))
        attempts[-1].add(row, time_ns[row])
        if flags[row] & Flags.SYN and not flags[row] & Flags.RST:
            attempts[-1].called(one, other, seq[row], bare=not flags[row] & Flags.ACK)
    for _, attempts in pairs.values():
        yield from attempts


def _together(sightings: Sequence[_Sighting]) -> list[list[_Sighting]]:
    """Sightings of the same attempt, each of another vantage point."""
    groups: list[list[_Sighting]] = []
    by_mark: dict[tuple[str, object], list[list[_Sighting]]] = defaultdict(list)
    for sighting in sorted(sightings, key=lambda sighting: sighting.first_ns):
        marks: list[tuple[str, object]] = [("isn", isn) for isns in sighting.isns.values() for isn in dict.fromkeys(isns)]
        marks.append(("ports", frozenset(end & 0xFFFF for end in sighting.ends)))
        group = next(
            (
                group
                for mark in marks
                for group in reversed(by_mark[mark])
                if sighting.first_ns - group[-1].last_ns < _TOGETHER_NS
                and all(sighting.vantage != other.vantage for other in group)
                and not (mark[0] == "ports" and any(other.contradicts(sighting) for other in group))
            ),
            None,
        )
        if group is None:
            group = []
            groups.append(group)
        group.append(sighting)
        for mark in marks:
            if not any(known is group for known in by_mark[mark]):
                by_mark[mark].append(group)
    return groups


def _numbered(frame: pd.DataFrame, end: str) -> npt.NDArray[np.int64]:
    """Endpoints as numbers: the code of the address, and the port."""
    codes = frame[f"{end}_address"].cat.codes.to_numpy(np.int64)
    numbers: npt.NDArray[np.int64] = codes << 16 | frame[f"{end}_port"].to_numpy(np.int64)
    return numbers


def _endpoint(number: int, frame: pd.DataFrame) -> Endpoint:
    return Endpoint(str(frame["source_address"].cat.categories[number >> 16]), number & 0xFFFF)


def _lab_host(vantage: str) -> Literal["a", "b", ""]:
    return _HOSTS.get(vantage.rpartition(" ")[2].partition(":")[0], "")


def _at(seen: Sequence[Seen], a: Endpoint, b: Endpoint) -> Literal["a", "b", ""]:
    """Whose host it was: that of the end whose packets have not passed a router yet, if there is just one."""
    fresh = [
        all(packet.ttl in INITIAL_TTLS for packet in packets) and bool(packets)
        for end in (a, b)
        for packets in [[s.packet for s in seen if isinstance(s.packet, Segment) and s.packet.source == end]]
    ]
    return "a" if fresh == [True, False] else "b" if fresh == [False, True] else ""


def _one_view_each(views: Sequence[View]) -> Iterator[View]:
    """At most one vantage point is A's own host, and one B's: by its name, else where the host's packets were seen first."""
    own = {}
    for side in ("a", "b"):
        claims = [view for view in views if view.at == side]
        own[side] = min(claims, key=lambda view: (not _lab_host(view.vantage), view.seen[0].time_ns), default=None)
    for view in views:
        yield view if not view.at or view is own[view.at] else replace(view, at="")


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


def _reasons(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in skipped.items())
