"""From what a part left (the ends' reports and one capture) to rows. Nothing is concluded here but what each packet plainly
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import Plan, assign, views
from rawpunch.lab.wiring import VANTAGES
from rawpunch.machine import Ending
from rawpunch.record.pattern import Told, tell
from rawpunch.record.rows import AttemptRow, MappingRow, SegmentRow, TransitionRow
from rawpunch.record.words import Outcome
from rawpunch.study.bench import Done, Recording, Side
from rawpunch.units import MS, US
from rawpunch.wire.notation import format_options
from rawpunch.wire.options import decode_options
from rawpunch.wire.segment import Flags

if TYPE_CHECKING:
    import pandas as pd

LAUNCH_TOLERANCE_NS: Final = 500 * US
"""A SYN that left later than this after its instant makes its attempt a disturbed one."""
TRANSIT_TOLERANCE_NS: Final = 2 * MS
"""So does a packet that the delay line held this much longer than declared."""

_HOSTS: Final = {"a": "hostA:eth0", "b": "hostB:eth0"}
_CORE: Final = ("core:a", "core:b")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one part."""

    attempts: list[AttemptRow]
    segments: list[SegmentRow]
    transitions: list[TransitionRow]
    mappings: list[MappingRow]

    def tables(self) -> dict[str, list[Any]]:
        """Table name -> rows."""
        return {
            "attempts": self.attempts,
            "segments": self.segments,
            "transitions": self.transitions,
            "mappings": self.mappings,
        }


def rows_of(recording: Recording, *, driver: str, capture_name: str, one_way_ns: tuple[int, int]) -> Rows:
    """All rows of a part.

    Args:
        recording: the attempts and their capture file.
        driver: who made them.
        capture_name: the capture's name in the run's folder.
        one_way_ns: declared delay from A to B and from B to A.

    Raises:
        Unreadable: the capture cannot be read.
    """
    plans = {done.planned.name: _plan(done) for done in recording.done}
    assigned = assign(read_capture(recording.capture), list(plans.values()), VANTAGES)
    frames = dict(list(assigned.packets.groupby("attempt", sort=False)))
    rows = Rows([], [], [], [])
    rows.mappings.extend(assigned.mappings)
    mapped = {(row.attempt, row.nat): row.external for row in assigned.mappings}
    for done in recording.done:
        name = done.planned.name
        rows.transitions.extend(_transitions(done))
        frame = frames.get(name)
        segments = list(_segments(frame, name, capture_name)) if frame is not None else []
        rows.segments.extend(segments)
        told = tell(views(assigned, plans[name], VANTAGES))
        nats = {side: mapped.get((name, f"nat{side.upper()}")) for side in "ab"}
        rows.attempts.append(_attempt(done, driver, capture_name, one_way_ns, segments, told, nats))
    return rows


def _plan(done: Done) -> Plan:
    a, b = done.a.order, done.b.order
    return Plan(done.planned.name, a.local, a.remote, b.local, b.remote)


def _transitions(done: Done) -> Iterator[TransitionRow]:
    for machine, side in (("hostA", done.a), ("hostB", done.b)):
        for change in side.transitions:
            yield TransitionRow(attempt=done.planned.name, machine=machine, **change)


def _segments(frame: pd.DataFrame, attempt: str, capture_name: str) -> Iterator[SegmentRow]:
    for row in frame.to_dict("records"):
        icmp = row["kind"].startswith("ICMP")
        yield SegmentRow(
            attempt=attempt,
            capture=capture_name,
            number=row["number"],
            vantage=row["interface"],
            time_ns=row["time_ns"],
            direction=row["direction"],
            source_address=row["source_address"],
            source_port=row["source_port"],
            destination_address=row["destination_address"],
            destination_port=row["destination_port"],
            kind=row["kind"],
            flags=None if icmp else int(row["flags"]),
            seq=int(row["seq"]),
            ack=None if icmp or not row["flags"] & Flags.ACK else int(row["ack"]),
            window=None if icmp else int(row["window"]),
            options=None if icmp else format_options(decode_options(row["options"] or b"")),
            payload_length=None if icmp else int(row["payload_length"]),
            ttl=int(row["ttl"]),
        )


def _attempt(
    done: Done,
    driver: str,
    capture_name: str,
    one_way_ns: tuple[int, int],
    segments: list[SegmentRow],
    told: Told,
    mapped: Mapping[str, str | None],
) -> AttemptRow:
    planned, ends = done.planned, {"a": done.a, "b": done.b}
    last_ns = max((end.at_ns for end in ends.values() if end.at_ns is not None), default=0)
    hosts = {side: [row for row in segments if row.vantage == vantage] for side, vantage in _HOSTS.items()}
    columns: dict[str, Any] = {}
    for side, end in ends.items():
        columns |= {f"{name}_{side}{unit}": value for (name, unit), value in _end(end, hosts[side], mapped[side]).items()}
    arrived = [row for rows in hosts.values() for row in rows if row.direction == "in" and row.time_ns <= last_ns]
    sent_a, sent_b = columns["sent_a_ns"], columns["sent_b_ns"]
    outcome, cause = _outcome(done)
    decided = f"{told.decided_at}#{told.decided_by.number}" if told.decided_by is not None else None
    return AttemptRow(
        attempt=planned.name,
        cell=planned.cell_name,
        repeat=planned.repeat,
        driver=driver,
        end_a=done.a.order.kind,
        end_b=done.b.order.kind,
        outcome=outcome,
        cause=cause,
        decided_by=decided,
        pattern=told.pattern,
        pattern_a=told.at_a,
        pattern_b=told.at_b,
        planned_offset_ns=planned.attempt.offset_ns,
        offset_ns=None if sent_a is None or sent_b is None else sent_b - sent_a,
        rst=sum(row.kind.startswith("RST") for row in arrived),
        icmp=sum(row.kind.startswith("ICMP") for row in arrived),
        segments=sum(map(len, hosts.values())),
        disturbed=_disturbed(ends, columns, segments, one_way_ns),
        capture=capture_name,
        **columns,
    )


def _end(end: Side, rows: list[SegmentRow], mapped: str | None) -> dict[tuple[str, str], Any]:
    """The columns of one end: (name before the side's letter, unit behind it) -> value."""
    order = end.order
    sent = [row for row in rows if row.direction == "out"]
    syns = [row for row in sent if row.kind == "SYN"]
    first = min((row.time_ns for row in syns), default=None)
    established = end.at_ns if end.ending == Ending.ESTABLISHED else None
    columns: dict[tuple[str, str], Any] = {
        ("outcome", ""): end.ending or None,
        ("local", ""): str(order.local),
        ("mapped", ""): mapped,
        ("remote", ""): str(order.remote),
        ("planned", "_ns"): order.at_ns,
        ("sent", "_ns"): first,
        ("established", "_ns"): established,
        ("connect", "_ns"): established - first if established is not None and first is not None else None,
        ("syn", ""): len(syns),
        ("syn_ack", ""): sum(row.kind == "SYN-ACK" for row in sent),
        ("syn_retransmissions", ""): len(syns) - len({row.seq for row in syns}),
        ("syn_ack_delay", "_ns"): _syn_ack_delay(rows),
    }
    if order.kind == "kernel" and end.evidence:
        evidence = end.evidence
        columns |= {("rtt", "_ns"): evidence["rtt_ns"]}
        columns |= {(name, ""): evidence[name] for name in ("segs_out", "segs_in", "dsack_dups")}
    return columns


def _syn_ack_delay(rows: list[SegmentRow]) -> int | None:
    """SYN in to the SYN-ACK that answers it, at one device."""
    came: int | None = None
    for row in rows:
        if row.kind == "SYN" and row.direction == "in" and came is None:
            came = row.time_ns
        elif row.kind == "SYN-ACK" and row.direction == "out" and came is not None:
            return row.time_ns - came
    return None


def _outcome(done: Done) -> tuple[Outcome, str | None]:
    """The attempt's outcome: that of the end that failed first."""
    ends = (done.a, done.b)
    unable = [end for end in ends if not end.ending]
    if unable:
        return Outcome.NOT_MEASURED, "; ".join(end.cause for end in unable if end.cause) or "an end never reported"
    failed = sorted((end for end in ends if end.ending != Ending.ESTABLISHED), key=lambda end: end.at_ns or 0)
    if not failed:
        return Outcome.ESTABLISHED, None
    if len(failed) < len(ends):
        return Outcome.HALF_OPEN, failed[0].cause or None
    return next(word for word in Outcome if word == failed[0].ending), failed[0].cause or None


def _disturbed(
    ends: Mapping[str, Side], columns: Mapping[str, Any], segments: list[SegmentRow], one_way_ns: tuple[int, int]
) -> bool:
    """Whether the machine stalled: a SYN left late, or the delay line was late with a packet."""
    for side, end in ends.items():
        sent = columns[f"sent_{side}_ns"]
        if sent is not None and abs(sent - end.order.at_ns) > LAUNCH_TOLERANCE_NS:
            return True
    seen: dict[tuple[object, ...], int] = {}
    for row in segments:
        if row.vantage not in _CORE:
            continue
        key = (row.kind, row.seq, row.ack, row.payload_length, row.options)
        if row.direction == "in":
            seen[key] = row.time_ns
        elif key in seen:
            declared = one_way_ns[row.vantage == "core:a"]
            if row.time_ns - seen.pop(key) > declared + TRANSIT_TOLERANCE_NS:
                return True
    return False
