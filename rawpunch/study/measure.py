"""From what a part left, the ends' reports and one capture, to rows.

Nothing is concluded here but what each packet plainly says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import Plan, assign, views
from rawpunch.ending import Ending
from rawpunch.live.end import Scheduler
from rawpunch.record.pattern import Seen, View, count, tell
from rawpunch.record.rows import AttemptRow, MappingRow, SegmentRow, TransitionRow
from rawpunch.record.words import EndKind, Outcome
from rawpunch.scene import SIDES, VANTAGES, Scene
from rawpunch.study.bench import Done, Recording, Side
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.notation import format_options
from rawpunch.wire.options import decode_options
from rawpunch.wire.segment import Flags, Segment

if TYPE_CHECKING:
    import pandas as pd

TRANSIT_TOLERANCE_NS: Final = 2 * MS
"""A packet that the delay line held this much longer than declared makes its attempt a disturbed one, too."""

_ESTABLISHED: Final = 1
"""TCP_ESTABLISHED of the kernel's tcp_states.h."""


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
        one_way_ns: declared delay from NAT to NAT, A to B and B to A, for attempts that do not know their scene.

    Raises:
        Unreadable: the capture cannot be read.
    """
    plans = {done.planned.name: _plan(done) for done in recording.done}
    assigned = assign(read_capture(recording.capture), list(plans.values()), VANTAGES)
    frames = dict(list(assigned.packets.groupby("attempt", sort=False, observed=True)))
    rows = Rows([], [], [], [])
    rows.mappings.extend(
        MappingRow(**{str(name): value for name, value in mapping.items()}) for mapping in assigned.mappings.to_dict("records")
    )
    for done in recording.done:
        name = done.planned.name
        rows.mappings.extend(_asked(done))
        rows.transitions.extend(_transitions(done))
        frame = frames.get(name)
        segments = list(_segments(frame, name, capture_name)) if frame is not None else []
        rows.segments.extend(segments)
        seen = views(assigned, plans[name], VANTAGES)
        declared = _delays(done.planned.scene, one_way_ns)
        rows.attempts.append(_attempt(done, driver, capture_name, declared, segments, seen, assigned.external[name]))
    return rows


def _plan(done: Done) -> Plan:
    a, b = done.a.order, done.b.order
    return Plan(
        attempt=done.planned.name,
        local_a=a.local,
        remote_a=a.remote,
        local_b=b.local,
        remote_b=b.remote,
        not_before_ns=done.began_ns,
        not_after_ns=done.over_ns,
    )


def _asked(done: Done) -> Iterator[MappingRow]:
    """What observers were shown before; a mapping towards an observer."""
    for asked in done.asked:
        local = asked.question.local
        if asked.seen != local:
            yield MappingRow(
                attempt=done.planned.name,
                nat=f"nat{asked.question.side.upper()}",
                internal=str(local),
                external=str(asked.seen),
                remote=str(asked.remote),
                time_ns=asked.at_ns,
            )


def _transitions(done: Done) -> Iterator[TransitionRow]:
    machines = {"hostA": done.a.transitions, **done.nats, "hostB": done.b.transitions}
    for machine, changes in machines.items():
        for change in changes:
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
    declared: Mapping[tuple[str, str], int],
    segments: list[SegmentRow],
    seen: list[View],
    external: tuple[Endpoint | None, Endpoint | None],
) -> AttemptRow:
    planned, told = done.planned, tell(seen)
    hosts = {view.at: view for view in seen if view.at}
    columns: dict[str, Any] = {}
    for side, end, mapped in zip(SIDES, (done.a, done.b), external, strict=True):
        columns |= {f"{name}_{side}{unit}": value for (name, unit), value in _end(end, hosts[side], mapped).items()}
    counts = [count(view) for view in hosts.values()]
    sent_a, sent_b = columns["sent_a_ns"], columns["sent_b_ns"]
    outcome, cause = _outcome(done)
    return AttemptRow(
        attempt=planned.name,
        cell=planned.cell_name,
        repeat=planned.repeat,
        driver=driver,
        end_a=done.a.order.kind,
        end_b=done.b.order.kind,
        outcome=outcome,
        cause=cause,
        decided_by=f"{told.decided_at}#{told.decided_by.number}" if told.decided_by is not None else None,
        pattern=told.pattern,
        pattern_a=told.at_a,
        pattern_b=told.at_b,
        planned_offset_ns=planned.attempt.offset_ns,
        offset_ns=None if sent_a is None or sent_b is None else sent_b - sent_a,
        rst=sum(counted.rst for counted in counts),
        icmp=sum(counted.icmp for counted in counts),
        segments=sum(counted.segments for counted in counts),
        disturbed=_launched_late(done, columns)
        or _held_late(segments, declared, done.planned.attempt.tolerance_ns)
        or _asked_late(done),
        capture=capture_name,
        **columns,
    )


def _end(end: Side, view: View, mapped: Endpoint | None) -> dict[tuple[str, str], Any]:
    """The columns of one end: (name before the side's letter, unit behind it) -> value."""
    order, counted = end.order, count(view)
    local = view.a if view.at == "a" else view.b
    first = next((seen.time_ns for seen in view.seen if seen.packet.kind == "SYN" and _source(seen) == local), None)
    established = end.at_ns if end.ending == Ending.ESTABLISHED else None
    columns: dict[tuple[str, str], Any] = {
        ("outcome", ""): end.ending or None,
        ("local", ""): str(order.local),
        ("mapped", ""): str(mapped) if mapped else None,
        ("remote", ""): str(order.remote),
        ("planned", "_ns"): order.at_ns,
        ("sent", "_ns"): first,
        ("established", "_ns"): established,
        ("connect", "_ns"): established - first if established is not None and first is not None else None,
        ("syn", ""): counted.syn,
        ("syn_ack", ""): counted.syn_ack,
        ("syn_retransmissions", ""): counted.syn_retransmissions,
        ("syn_ack_delay", "_ns"): counted.syn_ack_delay_ns,
        ("sockets", ""): end.sockets,
    }
    if end.evidence:
        columns[("rtt", "_ns")] = end.evidence["rtt_ns"]
        columns |= {(name, ""): end.evidence[name] for name in ("segs_out", "segs_in", "dsack_dups")}
    return columns


def _source(seen: Seen) -> Endpoint | None:
    return seen.packet.source if isinstance(seen.packet, Segment) else None


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


def _launched_late(done: Done, columns: Mapping[str, Any]) -> bool:
    """Whether a SYN left so late, or so early, that another cell than the planned one happened.

    Where the scheduler is not the careful one, its lateness is what is measured; a prober waits for the other's SYN, whenever
    that comes.
    """
    if EndKind.PROBER in (done.a.order.kind, done.b.order.kind):
        return False
    tolerance_ns = done.planned.attempt.tolerance_ns
    for side, end in zip(SIDES, (done.a, done.b), strict=True):
        sent = columns[f"sent_{side}_ns"]
        if sent is not None and end.order.scheduler == Scheduler.SPIN and abs(sent - end.order.at_ns) > tolerance_ns:
            return True
    return False


def _asked_late(done: Done) -> bool:
    """Whether a kernel socket was asked for its evidence only after the other end's close had reached it.

    A replay closes when its script does, and a branch may have a FIN in it, which is no disturbance.
    """
    if {EndKind.REPLAY, EndKind.PROBER} & {done.a.order.kind, done.b.order.kind}:
        return False
    return any(
        end.ending == Ending.ESTABLISHED and end.evidence.get("state", _ESTABLISHED) != _ESTABLISHED for end in (done.a, done.b)
    )


def _delays(scene: Scene | None, one_way_ns: tuple[int, int]) -> dict[tuple[str, str], int]:
    """Where a delay line takes packets in and where it lets them go -> how long it holds them, in ns, as declared."""
    there_ns, back_ns = one_way_ns if scene is None else scene.nat_to_nat_ns
    declared = {("core:a", "core:b"): there_ns, ("core:b", "core:a"): back_ns}
    for side in SIDES:
        if scene is not None and not scene.inside(side).is_plain:
            host, nat, path = f"host{side.upper()}:eth0", f"nat{side.upper()}:in", scene.inside(side)
            declared |= {(host, nat): path.up_ns, (nat, host): path.down_ns}
    return declared


def _held_late(segments: list[SegmentRow], declared: Mapping[tuple[str, str], int], tolerance_ns: int) -> bool:
    """Whether a delay line held a packet of the attempt longer than declared."""
    other = dict(declared.keys())
    entered: dict[tuple[object, ...], int] = {}
    for row in segments:
        if row.vantage not in other:
            continue
        packet = (row.kind, row.seq, row.ack, row.payload_length, row.options)
        # a line begins where packets come into the core, and where they leave a host or a NAT's inside
        if (row.direction == "in") == row.vantage.startswith("core:"):
            entered[(row.vantage, *packet)] = row.time_ns
            continue
        began_ns = entered.pop((other[row.vantage], *packet), None)
        way = (other[row.vantage], row.vantage)
        if began_ns is not None and row.time_ns - began_ns > declared[way] + max(TRANSIT_TOLERANCE_NS, tolerance_ns):
            return True
    return False
