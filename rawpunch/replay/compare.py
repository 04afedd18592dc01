"""What became of a script: packet by packet, and the pattern and outcome of both.

Packets are compared in numbers that do not depend on what was drawn: sequence numbers count from the SYN that they belong to,
timestamps are compared by whether they are there and echo something, SACK blocks like sequence numbers, TTLs not at all (the
paths differ). What a host sent and what arrived there are put side by side in order of time, each by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Final

from rawpunch.record.outcome import outcome_of
from rawpunch.record.pattern import Told, View, tell
from rawpunch.replay.script import Script, SideName, Track
from rawpunch.wire import seq as sequence
from rawpunch.wire.notation import format_options
from rawpunch.wire.options import Option, Sack, Timestamps
from rawpunch.wire.segment import IcmpError, Segment

_REACH: Final = 1 << 30


class Fate(enum.StrEnum):
    """What became of one packet of a script."""

    AS_CAPTURED = "as captured"
    DIFFERENTLY = "differently"
    MISSING = "missing"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Row:
    """One packet of the script, of the replay, or of both."""

    side: SideName
    sent: bool
    """Whether this side's host sent it; otherwise it arrived there."""
    kind: str
    fate: Fate
    fields: tuple[str, ...]
    """What differs: ``window: 64240 -> 65535``."""
    number: int | None
    """Packet number (line) in the script; None for an extra one."""
    replayed_number: int | None
    """Packet number in the replay; None for a missing one."""
    at_ns: int
    """When, from the first packet of all: in the replay, or, if it is missing there, in the script by the replay's speed."""
    error_ns: int | None
    """For a sent one: how much later than in the script it left, counted from what it answered or from the packet before."""

    def to_document(self) -> dict[str, Any]:
        """As a JSON-able document."""
        return asdict(self)

    def __str__(self) -> str:
        verb = "sent" if self.sent else "got"
        where = f" (packet {self.number})" if self.number else ""
        return f"{self.side.upper()} {verb} {self.kind}{where}: {'; '.join((self.fate.value, *self.fields))}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A script beside its replay."""

    rows: tuple[Row, ...]
    """By side and time."""
    captured: Told
    replayed: Told

    @property
    def first_difference(self) -> Row | None:
        """The first packet that was not as captured."""
        return min((row for row in self.rows if row.fate != Fate.AS_CAPTURED), key=lambda row: row.at_ns, default=None)

    @property
    def same_outcome(self) -> bool:
        """Whether pattern and outcome are those of the script."""
        return self.captured.pattern == self.replayed.pattern and outcome_of(self.captured) == outcome_of(self.replayed)

    @property
    def totals(self) -> dict[str, int]:
        """How many packets had which fate."""
        return {fate.value: sum(row.fate == fate for row in self.rows) for fate in Fate}

    @property
    def errors_ns(self) -> list[int]:
        """Timing errors of all packets sent in both."""
        return [row.error_ns for row in self.rows if row.error_ns is not None]

    def to_document(self) -> dict[str, Any]:
        """As a JSON-able document."""
        first = self.first_difference
        return {
            "captured": {"pattern": self.captured.pattern, "outcome": outcome_of(self.captured)},
            "replayed": {"pattern": self.replayed.pattern, "outcome": outcome_of(self.replayed)},
            "totals": self.totals,
            "first_difference": str(first) if first else None,
            "packets": [row.to_document() for row in self.rows],
        }


def compare(script: Script, replay: Script, *, speed: float = 1.0, offset_ns: int | None = None, sides: str = "ab") -> Comparison:
    """Put a script and its replay side by side.

    Args:
        script: what was to be played.
        replay: what was seen of it at the hosts.
        speed: how many times faster it was played.
        offset_ns: the start of B after A that the replay was to have; None for the script's own by the speed.
        sides: the sides that were played; of the others, too, packets are compared, but not times.
    """
    rows: list[Row] = []
    zeros = _zero(script), _zero(replay)
    for side in (script.a, script.b):
        moved_ns = 0 if offset_ns is None or side.side == "a" else offset_ns - round((script.offset_ns or 0) / speed)
        found = _rows(side, replay.track(side.side), speed, side.side in sides, zeros, moved_ns)
        rows += sorted(found, key=lambda row: (row.at_ns, row.sent))
    started = (replay.a.first_ns, replay.b.first_ns)
    if script.offset_ns is not None and started[0] is not None and started[1] is not None and sides == "ab":
        wanted = round(script.offset_ns / speed) if offset_ns is None else offset_ns
        rows = _with_offset_error(rows, started[1] - started[0] - wanted)
    return Comparison(tuple(rows), script.told, tell(_same_vantages(script.views, replay.views)))


def _same_vantages(wanted: Sequence[View], there: Sequence[View]) -> list[View]:
    """The replay's views from where the script was seen: what a pattern is called depends on that."""
    by_name = {view.vantage: view for view in there}
    if all(view.vantage in by_name and by_name[view.vantage].at == view.at for view in wanted):
        return [by_name[view.vantage] for view in wanted]
    ends = {view.at for view in wanted if view.at}
    return [view for view in there if view.at in ends] if ends else [view for view in there if view.at] or list(there)


def _with_offset_error(rows: list[Row], error_ns: int) -> list[Row]:
    """B's first packet has an error too, that of the offset."""
    for place, row in enumerate(rows):
        if row.side == "b" and row.sent and row.replayed_number is not None and row.number is not None:
            rows[place] = replace(row, error_ns=error_ns)
            break
    return rows


def _zero(script: Script) -> int:
    """The time of its first packet."""
    return min((line.at_ns for track in (script.a, script.b) for line in track.lines), default=0)


def _rows(script: Track, replay: Track, speed: float, played: bool, zeros: tuple[int, int], moved_ns: int) -> Iterator[Row]:
    before, after = _Relative(script), _Relative(replay)
    pairs: dict[int, int] = {}
    fates: list[tuple[int | None, int | None]] = []
    for sent in (True, False):
        mine = [place for place, line in enumerate(script.lines) if line.sent == sent and line.number]
        theirs = [place for place, line in enumerate(replay.lines) if line.sent == sent]
        for one, other in _aligned([before.key(place) for place in mine], [after.key(place) for place in theirs]):
            pair = (None if one is None else mine[one], None if other is None else theirs[other])
            if pair[1] is None and not sent and not script.certain:
                continue  # that it arrived was a guess
            fates.append(pair)
            if pair[0] is not None and pair[1] is not None:
                pairs[pair[0]] = pair[1]
    for one, other in fates:
        line = script.lines[one] if one is not None else replay.lines[other or 0]
        fields = before.differences(one, after, other) if one is not None and other is not None else ()
        fate = Fate.EXTRA if one is None else Fate.MISSING if other is None else Fate.DIFFERENTLY if fields else Fate.AS_CAPTURED
        missed_ns = round((line.at_ns - zeros[0]) / speed) + moved_ns
        at_ns = missed_ns if other is None else replay.lines[other].at_ns - zeros[1]
        error_ns = _error_ns(script, replay, one, pairs, speed) if one is not None and played else None
        number = script.lines[one].number if one is not None else None
        replayed = replay.lines[other].number if other is not None else None
        yield Row(script.side, line.sent, line.packet.kind, fate, fields, number, replayed, at_ns, error_ns)


def _error_ns(script: Track, replay: Track, place: int, pairs: dict[int, int], speed: float) -> int | None:
    """How late a line left; None for an arrival, for the first line, and where its anchor or itself is missing."""
    line = script.lines[place]
    if not line.sent or place not in pairs:
        return None

    def later_than(anchor: int) -> int:
        return replay.lines[pairs[anchor]].at_ns + round(max(line.at_ns - script.lines[anchor].at_ns, 0) / speed)

    before = next((at for at in range(place - 1, -1, -1) if script.lines[at].sent and at in pairs), None)
    cue = line.waits_for
    if (cue is None and before is None) or (cue is not None and cue not in pairs):
        return None
    instants = []
    if cue is not None:
        instants.append(later_than(cue) if line.replies else replay.lines[pairs[cue]].at_ns)
    if before is not None:  # a host keeps its own order, however early an answer's cue was
        instants.append(replay.lines[pairs[before]].at_ns if line.replies else later_than(before))
    return replay.lines[pairs[place]].at_ns - max(instants)


def _aligned(mine: Sequence[object], theirs: Sequence[object]) -> Iterator[tuple[int | None, int | None]]:
    """Pairs of places that belong together; None on one side for what only the other has."""
    matcher = SequenceMatcher(None, mine, theirs, autojunk=False)
    for _, one, one_end, other, other_end in matcher.get_opcodes():
        left = list(range(one, one_end))
        right = list(range(other, other_end))
        if [mine[place] for place in left] == [theirs[place] for place in right]:
            yield from zip(left, right, strict=True)
            continue
        for place in left:
            kind = mine[place][0]  # type: ignore[index]
            twin = next((there for there in right if theirs[there][0] == kind), None)  # type: ignore[index]
            yield place, twin
            if twin is not None:
                right.remove(twin)
        yield from ((None, there) for there in right)


class _Relative:
    """A track's packets in numbers that count from its SYNs."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self._starts: dict[bool, list[int]] = {True: [], False: []}
        for line in track.lines:
            packet = line.packet
            if isinstance(packet, Segment) and packet.syn and not packet.rst and packet.seq not in self._starts[line.sent]:
                self._starts[line.sent].append(packet.seq)

    def key(self, place: int) -> tuple[object, ...]:
        """By which a packet is found again."""
        line = self.track.lines[place]
        packet = line.packet
        if isinstance(packet, IcmpError):
            return packet.kind, self._number(packet.quoted_seq, own=True)
        ack = self._number(packet.ack, own=not line.sent) if packet.has_ack else None
        rootless = packet.rst and packet.seq == 0
        return packet.kind, None if rootless else self._number(packet.seq, own=line.sent), ack, packet.payload_length

    def differences(self, place: int, other: _Relative, there: int) -> tuple[str, ...]:
        """What differs between one packet here and one there."""
        mine, theirs = self._fields(place), other._fields(there)
        return tuple(f"{name}: {mine[name]} -> {theirs[name]}" for name in mine if mine[name] != theirs.get(name))

    def _fields(self, place: int) -> dict[str, str]:
        line = self.track.lines[place]
        packet = line.packet
        key = self.key(place)
        if isinstance(packet, IcmpError):
            return {"kind": packet.kind, "quoted": str(key[1])}
        options = ",".join(self._option(option, own=line.sent) for option in packet.options)
        flags = "|".join(str(flag.name) for flag in packet.flags)
        return {
            "flags": flags,
            "seq": str(key[1]),
            "ack": str(key[2]),
            "window": str(packet.window),
            "length": str(packet.payload_length),
            "options": options or "none",
        }

    def _option(self, option: Option, *, own: bool) -> str:
        match option:
            case Timestamps(_, echo):
                return f"ts with{'' if echo else 'out'} echo"
            case Sack(blocks):
                edges = (f"{self._number(left, own=not own)}:{self._number(right, own=not own)}" for left, right in blocks)
                return f"sack {' '.join(edges)}"
        return format_options((option,))

    def _number(self, number: int, *, own: bool) -> str:
        """A sequence number as a distance from the SYN that it lies behind; `+` for each SYN that came before that one."""
        near = [(abs(sequence.distance(start, number)), at) for at, start in enumerate(self._starts[own])]
        if not near or min(near)[0] >= _REACH:
            return "?"
        count, at = min(near)
        return f"{'+' * at}{count if sequence.distance(self._starts[own][at], number) >= 0 else -count}"
