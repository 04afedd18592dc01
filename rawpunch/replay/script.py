"""What is played: both sides of a flow, each as the packets that its own host sent and got, in order of time.

A capture shows a flow at one place. What a host did is certain only where the capture was taken at that host (its packets have
an initial TTL there, or the vantage point says so); elsewhere the times at the host are worked out from how long its answers
took: half of the shortest answer time is the way from the vantage point to the host and back again.

A packet that answered something waits for it in a replay. What it answered is known by two rules:

* at its own host: the packet that had arrived last before it, if anything had arrived since the host's packet before. Its time
  then counts from that arrival. SYNs without ACK answer nothing, but for the first one of a host that had got a SYN (a split
  handshake);
* elsewhere, and in scripts: the packet that completed what it acknowledges, if no packet before waits for that one. In captures
  a SYN that seems to have left at once after the other's came, by a host that never answers SYN-ACK, is taken for the answer of
  a split handshake, too; one that left later is taken for a SYN whose sender had got nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from rawpunch.errors import Malformed
from rawpunch.record.pattern import Told, View, tell
from rawpunch.units import MS
from rawpunch.wire import seq as sequence
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

SideName = Literal["a", "b"]

INITIAL_TTLS: Final = (64, 128, 255)
"""What stacks send with; a packet that has one of these has not passed a router yet."""
_SYNTHETIC: Final = 0
"""Packet number of an arrival that a one-sided capture does not show but that must have been."""
_TIMER_NS: Final = 10 * MS
"""A repeated segment that comes later than this after the last arrival was sent by a timer, not as an answer."""
_AT_ONCE_NS: Final = 2 * MS
"""Stacks that split the handshake answer at once; peers that dial on their own do so at any time."""
_ACK_AHEAD: Final = 1 << 24
"""How far beyond an acknowledgement data of the same connection may lie."""


@dataclass(frozen=True, slots=True)
class Line:
    """One packet at one host."""

    at_ns: int
    """When, from the script's start."""
    sent: bool
    """Whether the host sent it; otherwise it arrived there."""
    packet: Packet
    number: int
    """Number in the capture or line in the script; 0 for one that the capture does not show."""
    waits_for: int | None = None
    """For a sent one: place in the track of the arrival that has to come first."""
    replies: bool = False
    """Whether its time counts from that arrival; otherwise it leaves at its own time, if that arrival has come by then."""


@dataclass(frozen=True, slots=True)
class Track:
    """What one host did and saw."""

    side: SideName
    local: Endpoint
    """The host's endpoint, as it knew it."""
    remote: Endpoint
    """Its peer's endpoint, as the host knew it."""
    lines: tuple[Line, ...]
    certain: bool
    """Whether it was seen at the host; otherwise its arrivals are what the peer sent, and some may never have come."""

    @property
    def sent(self) -> tuple[Line, ...]:
        """What the host sent."""
        return tuple(line for line in self.lines if line.sent)

    @property
    def first_ns(self) -> int | None:
        """When the host sent for the first time; None for a silent one."""
        return next((line.at_ns for line in self.lines if line.sent), None)

    @property
    def starts(self) -> bool:
        """Whether the host began by itself, waiting for nothing."""
        return next((line.waits_for is None for line in self.lines if line.sent), False)

    @property
    def duration_ns(self) -> int:
        """From its first line to its last."""
        times = [line.at_ns for line in self.lines]
        return max(times) - min(times) if times else 0


@dataclass(frozen=True, slots=True)
class Script:
    """A flow to be played."""

    name: str
    a: Track
    b: Track
    views: tuple[View, ...]
    """What each vantage point saw; its pattern is told from these."""

    @property
    def told(self) -> Told:
        """Pattern and deciding packet."""
        return tell(self.views)

    @property
    def offset_ns(self) -> int | None:
        """First packet of B minus first packet of A; None where one of them only answers, or is silent."""
        a, b = self.a.first_ns, self.b.first_ns
        return b - a if a is not None and b is not None and self.a.starts and self.b.starts else None

    def track(self, side: SideName) -> Track:
        """One side."""
        return self.a if side == "a" else self.b


def script_of(name: str, views: Sequence[View]) -> Script:
    """The script of a flow seen at one or several vantage points whose clocks agree.

    Raises:
        Malformed: there is no SYN in it, so that nothing says where its sequence numbers begin.
    """
    views = [view for view in views if view.seen or view.at]
    packets = [seen.packet for view in views for seen in view.seen]
    if not any(isinstance(packet, Segment) and packet.syn and not packet.rst for packet in packets):
        raise Malformed(f"{name} has no SYN", why="the capture begins inside the connection", todo="choose another flow")
    zero_ns = min(view.seen[0].time_ns for view in views if view.seen)
    return Script(name, _track("a", views, zero_ns), _track("b", views, zero_ns), tuple(views))


def _track(side: SideName, views: Sequence[View], zero_ns: int) -> Track:
    """One side, from the vantage point that knows it best: its own host's, else the one from which its answers come soonest."""
    own = next((view for view in views if view.at == side), None)
    far = [(math.inf if away is None else away, view) for view in views for away in [_half_way_ns(view, side)]]
    view = own or min(far, key=lambda found: found[0])[1]
    local, remote = (view.a, view.b) if side == "a" else (view.b, view.a)
    away_ns = 0 if own else _half_way_ns(view, side) or 0
    lines = []
    for seen in view.seen:
        sent = _sender(view, seen.packet) == side
        if sent and isinstance(seen.packet, IcmpError):
            continue  # no TCP endpoint sends ICMP errors: a router or a NAT on its side did
        packet = seen.packet if own or not sent else _with_initial_ttl(seen.packet)
        lines.append(Line(seen.time_ns - zero_ns + (-away_ns if sent else away_ns), sent, packet, seen.number))
    lines = _with_what_must_have_been(lines, local, remote)
    if own:
        lines.sort(key=lambda line: line.at_ns)
        return Track(side, local, remote, tuple(_answers_at_host(lines)), certain=True)
    return Track(side, local, remote, tuple(answers_by_numbers(lines, replies=True)), certain=False)


def _sender(view: View, packet: Packet) -> SideName:
    """Whose packet it is: the segment's sender, or for an ICMP error the peer of whoever is told."""
    if isinstance(packet, IcmpError):
        return "b" if packet.quoted.source == view.a else "a"
    return "a" if packet.source == view.a else "b"


def _with_initial_ttl(packet: Packet) -> Packet:
    """The packet as it left its host, before routers counted its TTL down."""
    if not isinstance(packet, Segment):
        return packet
    return replace(packet, ttl=next((ttl for ttl in INITIAL_TTLS if ttl >= packet.ttl), packet.ttl))


def _half_way_ns(view: View, side: SideName) -> int | None:
    """Half of the shortest time in which a side answered, as the vantage point saw it; None if it answered nothing."""
    found = []
    heard = _Heard()
    last_ns: dict[tuple[int, int, int, int], int] = {}
    arrivals: list[Segment] = []
    for seen in view.seen:
        packet = seen.packet
        if not isinstance(packet, Segment):
            continue
        if _sender(view, packet) != side:
            heard.add(len(arrivals), packet)
            arrivals.append(packet)
            last_ns[_identity(packet)] = seen.time_ns
            continue
        answered = heard.newly_answered(packet)
        if answered is not None:
            # of a segment that was repeated, the last copy: the answer to an earlier one would have come by then
            found.append(seen.time_ns - last_ns[_identity(arrivals[answered])])
    return min(found) // 2 if found else None


def _with_what_must_have_been(lines: list[Line], local: Endpoint, remote: Endpoint) -> list[Line]:
    """Put in the SYN-ACK that a capture of one side alone does not show, where that side acknowledged it."""
    if any(not line.sent and isinstance(line.packet, Segment) for line in lines):
        return lines
    for place, line in enumerate(lines):
        packet = line.packet
        if line.sent and isinstance(packet, Segment) and packet.has_ack and not packet.rst:
            own = next((entry.packet for entry in lines if isinstance(entry.packet, Segment) and entry.packet.syn), packet)
            answer = Segment(
                remote,
                local,
                Flags.SYN | Flags.ACK,
                sequence.add(packet.ack, -1),
                own.end if isinstance(own, Segment) else 0,
            )
            return [*lines[:place], Line(line.at_ns, False, answer, _SYNTHETIC), *lines[place:]]
    return lines


def _answers_at_host(lines: Sequence[Line]) -> Iterator[Line]:
    """Lines seen at the host, with what each waits for."""
    arrived: int | None = None
    fresh = called = False
    heard_syn: int | None = None
    before: set[tuple[int, int, int, int]] = set()
    for place, line in enumerate(lines):
        packet = line.packet
        if not isinstance(packet, Segment):
            yield line
            continue
        if not line.sent:
            arrived, fresh = place, True
            if packet.syn and heard_syn is None:
                heard_syn = place
            yield line
            continue
        repeated, opening = _identity(packet) in before, packet.syn and not packet.has_ack
        before.add(_identity(packet))
        waits_for = arrived if fresh else None
        if opening:
            waits_for = heard_syn if not called else None
        elif repeated and waits_for is not None and line.at_ns - lines[waits_for].at_ns > _TIMER_NS:
            waits_for = None
        called |= opening
        fresh = False
        yield replace(line, waits_for=waits_for, replies=waits_for is not None)


def answers_by_numbers(lines: Sequence[Line], *, replies: bool) -> Iterator[Line]:
    """Lines in the order in which somebody saw or wrote them, with what each waits for, told by acknowledgement numbers.

    Args:
        lines: in that order.
        replies: whether times count from the arrival.
    """
    heard = _Heard(by_kind=replies)
    calls: list[int] = []
    answers = any(line.sent and line.packet.kind == "SYN-ACK" for line in lines)
    called = False
    for place, line in enumerate(lines):
        packet = line.packet
        if not isinstance(packet, Segment):
            yield line
            continue
        if not line.sent:
            heard.add(place, packet)
            if packet.syn and not packet.has_ack:
                calls.append(place)
            yield line
            continue
        if packet.syn and not packet.has_ack:
            split = replies and not (answers or called)
            cue = next((at for at in calls if split and line.at_ns - lines[at].at_ns <= _AT_ONCE_NS), None)
            called = True
        else:
            cue = heard.newly_answered(packet)
        yield replace(line, waits_for=cue, replies=replies and cue is not None)


class _Heard:
    """What has arrived, by the sequence number behind it, and which of it was answered.

    Args:
        by_kind: whether a SYN-ACK answers a SYN and an ACK a SYN-ACK, where both were heard, though they end alike.
    """

    def __init__(self, *, by_kind: bool = True) -> None:
        self._by_kind = by_kind
        self._by_end: dict[int, list[tuple[int, str]]] = {}
        self._used: set[int] = set()

    def add(self, place: int, arrival: Segment) -> None:
        """A segment has arrived."""
        if arrival.length and not arrival.rst:
            self._by_end.setdefault(arrival.end, []).append((place, arrival.kind))

    def newly_answered(self, segment: Segment) -> int | None:
        """The place of the arrival that completed what a segment acknowledges, if that was not answered before; else None."""
        if not segment.has_ack:
            return None
        alike = self._by_end.get(segment.ack) or self._beyond(segment.ack)
        if not alike:
            return None
        wanted = "SYN" if segment.syn else "SYN-ACK"
        place = next((place for place, kind in alike if self._by_kind and kind == wanted), alike[0][0])
        if place in self._used:
            return None
        self._used.add(place)
        return place

    def _beyond(self, ack: int) -> list[tuple[int, str]]:
        """The first arrivals that reach farther, where none ends just there."""
        ends = [(places[0], end) for end, places in self._by_end.items() if 0 < sequence.distance(ack, end) < _ACK_AHEAD]
        return self._by_end[min(ends)[1]] if ends else []


def _identity(segment: Segment) -> tuple[int, int, int, int]:
    """What a repeated segment repeats."""
    return int(segment.flags), segment.seq, segment.ack if segment.has_ack else 0, segment.payload_length
