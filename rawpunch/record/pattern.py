"""The one function that tells a handshake's wire pattern, for live attempts, simulated ones and captures alike.

What one vantage point can show, and what not:

    three-way           split (four-way)        simultaneous            half-simultaneous
    A            B      A            B          A            B          A            B
    |--SYN------>|      |--SYN------>|          |--SYN--. .--SYN|       |--SYN--x    |
    |<---SYN-ACK-|      |<-------SYN-|          |        X      |       |<-------SYN-|
    |--ACK------>|      |--SYN-ACK-->|          |<------' '---->|       |--SYN-ACK-->|
                        |<-------ACK-|          |--SYN-ACK-. ...|       |<-------ACK-|

A split handshake and a half-simultaneous open are the same packets in the same order everywhere but at B: only B's own device
shows whether A's SYN got there before B sent its own. So a single vantage point calls both `split`, and with the views of both
ends the word is exact. Between the ends, four crossing packets are called `simultaneous`.

Three rules for all patterns:

* A retransmitted SYN changes nothing. What comes after both ends are complete changes nothing, except to be counted elsewhere.
* A RST ends an end only if that end would believe it (RFC 9293, section 3.10.7.3 and .4): in SYN-SENT its ack must acknowledge
  the SYN, and once the peer's SYN was seen its seq must lie in the window. If the handshake completes nevertheless, it completed.
* An end is complete when a segment that acknowledges its SYN arrives and the peer's SYN is known. The order of packets is not
  needed for that, so packets out of order in a file do no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rawpunch.record.words import Pattern
from rawpunch.wire import seq as sequence
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

_WINDOW: Final = 65_536
_ACK_AHEAD: Final = 1 << 30
"""How far beyond the SYN an acknowledgement may lie and still be one of this connection."""

Side = Literal[0, 1]
"""0 for end A, 1 for end B."""
_SIDES: Final[tuple[Side, Side]] = (0, 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet at a vantage point."""

    time_ns: int
    number: int
    """Packet number in its capture, from 1."""
    packet: Packet


@dataclass(frozen=True, slots=True)
class View:
    """What one vantage point saw of one attempt."""

    vantage: str
    a: Endpoint
    """End A as it looks there (NATs rewrite it)."""
    b: Endpoint
    """End B as it looks there."""
    at: Literal["a", "b", ""]
    """Whether this is A's or B's own host, or neither."""
    seen: tuple[Seen, ...]
    """In time order."""


@dataclass(frozen=True, slots=True)
class Told:
    """What happened on the wire, and which packet decided it."""

    pattern: Pattern
    at_a: Pattern | None
    """At end A's own host; None where nothing was seen there."""
    at_b: Pattern | None
    decided_by: Seen | None
    """The RST or ICMP error that ended it, or the packet that completed the later end, where it was first seen; else None."""
    decided_at: str
    """The vantage point where that was; empty if there is none."""
    decided_ns: int | None = None
    """When it took effect: when it was seen by the view that it decided, at the end concerned if that end was seen."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What one host's device saw of an attempt."""

    syn: int
    """SYNs without ACK that the host sent."""
    syn_ack: int
    """SYN-ACKs that it sent."""
    syn_retransmissions: int
    """SYNs that it sent again with the same initial sequence number."""
    rst: int
    """RSTs that arrived before the handshake was complete there."""
    icmp: int
    """ICMP errors that arrived."""
    segments: int
    """Segments in both directions."""
    syn_ack_delay_ns: int | None
    """From the peer's first SYN to the host's first SYN-ACK."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One view, read. Pairs are (about A, about B); an instant is a place in the view's packets."""

    view: View
    syn: tuple[int | None, int | None]
    """First SYN that this end sent, if it mattered to the handshake."""
    syn_ack: tuple[int | None, int | None]
    """First SYN-ACK that this end sent."""
    completed: tuple[int | None, int | None]
    """What completed this end."""
    ended: tuple[tuple[int, Pattern] | None, tuple[int, Pattern] | None]
    """What ended this end, and how."""
    strays: bool
    """Whether there were segments beyond SYNs, SYN-ACKs and RSTs."""

    @property
    def complete(self) -> bool:
        """Whether both ends completed, as far as this vantage point saw."""
        return None not in self.completed

    def crossed(self, own: Side) -> bool:
        """Whether this host sent a SYN, saw the peer's only afterwards and answered it with a SYN-ACK."""
        mine, theirs = self.syn[own], self.syn[1 - own]
        return mine is not None and theirs is not None and mine < theirs and self.syn_ack[own] is not None

    def answered_with_syn(self, own: Side) -> bool:
        """Whether this host saw the peer's SYN before it sent a SYN of its own."""
        mine, theirs = self.syn[own], self.syn[1 - own]
        return mine is not None and theirs is not None and theirs < mine

    @property
    def ending(self) -> tuple[int, Pattern] | None:
        """The first ending of either end."""
        return min((ending for ending in self.ended if ending), default=None)

    @property
    def pattern(self) -> Pattern:
        """The pattern, as this vantage point alone can tell it."""
        view = self.view
        if view.a == view.b:
            return Pattern.SELF_CONNECT
        if self.syn == (None, None):
            return Pattern.TRUNCATED
        if self.complete:
            if None in self.syn:
                return Pattern.THREE_WAY
            split = None in self.syn_ack or (view.at == "a" and self.answered_with_syn(0))
            split = split or (view.at == "b" and self.answered_with_syn(1))
            return Pattern.SPLIT if split else Pattern.SIMULTANEOUS
        if self.ending:
            return self.ending[1]
        return Pattern.TRUNCATED if self.strays or self.syn_ack != (None, None) else Pattern.UNANSWERED

    @property
    def decider(self) -> Seen | None:
        """The packet that ended it or completed its later end; for a self-connect, its SYN-ACK."""
        places = self.syn_ack if self.view.a == self.view.b else self.completed if self.complete else ()
        place = max((place for place in places if place is not None), default=None)
        if place is not None:
            return self.view.seen[place]
        return self.view.seen[self.ending[0]] if self.ending and self.syn != (None, None) else None


def tell(views: Sequence[View]) -> Told:
    """Tell the wire pattern of one attempt from what its vantage points saw.

    The ends' own views decide; the others help to find where the deciding packet came from. Without a view from an end, the one
    with the most packets is believed.

    Args:
        views: one per vantage point, at most one with `at` "a" and one with "b"; their clocks agree.
    """
    readings = [_read(view) for view in views if view.seen]
    at_a = next((reading for reading in readings if reading.view.at == "a"), None)
    at_b = next((reading for reading in readings if reading.view.at == "b"), None)
    if at_a and at_b:
        pattern, pattern_a, pattern_b, decider = _merge(at_a, at_b)
        return _told(views, pattern, pattern_a, pattern_b, decider)
    one = at_a or at_b or max(readings, key=lambda reading: len(reading.view.seen), default=None)
    if one is None:
        return Told(Pattern.TRUNCATED, None, None, None, "")
    decider = (one.view, one.decider) if one.decider else None
    return _told(views, one.pattern, at_a.pattern if at_a else None, at_b.pattern if at_b else None, decider)


def _merge(at_a: _Reading, at_b: _Reading) -> tuple[Pattern, Pattern, Pattern, tuple[View, Seen] | None]:
    """The pattern of the attempt and at each end, from the views of both ends, and the deciding packet."""
    alone_a, alone_b = at_a.pattern, at_b.pattern
    both = (at_a, at_b)
    if Pattern.SELF_CONNECT in (alone_a, alone_b):
        return Pattern.SELF_CONNECT, alone_a, alone_b, (at_a.view, at_a.decider) if at_a.decider else None
    if at_a.complete and at_b.complete:
        later = max(
            (
                (reading.view, reading.view.seen[place])
                for reading, place in zip(both, (at_a.completed[0], at_b.completed[1]), strict=True)
                if place is not None
            ),
            key=lambda found: found[1].time_ns,
        )
        if at_a.answered_with_syn(0) or at_b.answered_with_syn(1):
            return Pattern.SPLIT, Pattern.SPLIT, Pattern.SPLIT, later
        match at_a.crossed(0), at_b.crossed(1):
            case True, True:
                return Pattern.SIMULTANEOUS, Pattern.SIMULTANEOUS, Pattern.SIMULTANEOUS, later
            case True, False:
                return Pattern.HALF_SIMULTANEOUS, Pattern.HALF_SIMULTANEOUS, Pattern.THREE_WAY, later
            case False, True:
                return Pattern.HALF_SIMULTANEOUS, Pattern.THREE_WAY, Pattern.HALF_SIMULTANEOUS, later
        return Pattern.THREE_WAY, Pattern.THREE_WAY, Pattern.THREE_WAY, later
    endings = [(reading, reading.decider) for reading in both if not reading.complete and reading.decider]
    if endings:
        reading, decider = min(endings, key=lambda found: found[1].time_ns)
        return reading.pattern, alone_a, alone_b, (reading.view, decider)
    for reading in both:
        if reading.complete and reading.decider:
            return reading.pattern, alone_a, alone_b, (reading.view, reading.decider)
    pattern = Pattern.UNANSWERED if alone_a == alone_b == Pattern.UNANSWERED else Pattern.TRUNCATED
    return pattern, alone_a, alone_b, None


def _told(
    views: Sequence[View], pattern: Pattern, at_a: Pattern | None, at_b: Pattern | None, decider: tuple[View, Seen] | None
) -> Told:
    if decider is None:
        return Told(pattern, at_a, at_b, None, "")
    vantage, first = origin(views, *decider)
    return Told(pattern, at_a, at_b, first, vantage, decider[1].time_ns)


def origin(views: Sequence[View], view: View, seen: Seen) -> tuple[str, Seen]:
    """Where a packet was first seen: its vantage point, and the packet there.

    NATs rewrite addresses and ports, so a packet is known by its direction, flags, sequence numbers and length (ICMP: type,
    code, quoted sequence number). At each vantage point the last such packet before `seen` counts, so that a retransmission is
    not taken for the first transmission. Of several at one instant the first one in the capture counts.
    """
    wanted = _identity(view, seen.packet)
    best = (view.vantage, seen)
    for other in views:
        for candidate in reversed(other.seen):
            if candidate.time_ns <= seen.time_ns and _identity(other, candidate.packet) == wanted:
                if (candidate.time_ns, candidate.number) < (best[1].time_ns, best[1].number):
                    best = (other.vantage, candidate)
                break
    return best


def count(view: View) -> Counts:
    """Count what an end's own host sent and received; `view.at` says whose it is (A's, where it says neither)."""
    own: Side = 1 if view.at == "b" else 0
    reading = _read(view)
    done = reading.completed[own]
    syns: list[int] = []
    syn_ack = rst = icmp = segments = 0
    heard_ns: int | None = None
    delay_ns: int | None = None
    for place, (side, seen) in enumerate(_sides(view)):
        packet = seen.packet
        if isinstance(packet, IcmpError):
            icmp += side == 1 - own
            continue
        segments += side is not None
        if side == own and packet.syn:
            if packet.has_ack:
                syn_ack += 1
                if delay_ns is None and heard_ns is not None:
                    delay_ns = seen.time_ns - heard_ns
            else:
                syns.append(packet.seq)
        elif side == 1 - own:
            rst += packet.rst and (done is None or place < done)
            if heard_ns is None and packet.syn and not packet.has_ack:
                heard_ns = seen.time_ns
    return Counts(len(syns), syn_ack, len(syns) - len(set(syns)), rst, icmp, segments, delay_ns)


def _sides(view: View) -> Iterator[tuple[Side | None, Seen]]:
    """Each packet with the end whose packet it is: who sent the segment, or for an ICMP error the peer of who is told."""
    for seen in view.seen:
        yield _side(view, seen.packet), seen


def _side(view: View, packet: Packet) -> Side | None:
    """Known by one end: outside two NATs, what A aimed at need not be what B's NAT made of B."""
    if isinstance(packet, IcmpError):
        source, destination = packet.quoted.destination, packet.quoted.source
    else:
        source, destination = packet.source, packet.destination
    if source == view.a or destination == view.b:
        return 0
    return 1 if source == view.b or destination == view.a else None


def _identity(view: View, packet: Packet) -> tuple[object, ...]:
    """What NATs leave as it is."""
    if isinstance(packet, IcmpError):
        return packet.type, packet.code, packet.quoted_seq, _side(view, packet)
    return _side(view, packet), packet.flags, packet.seq, packet.ack, packet.payload_length


def _read(view: View) -> _Reading:
    packets = list(_sides(view))
    lengths: tuple[dict[int, int], dict[int, int]] = ({}, {})  # initial sequence number -> SEG.LEN of the SYN that has it
    syn: list[int | None] = [None, None]
    syn_ack: list[int | None] = [None, None]
    strays = False
    for place, (side, seen) in enumerate(packets):
        segment = seen.packet
        if side is None or isinstance(segment, IcmpError) or segment.rst:
            continue
        if not segment.syn:
            strays = True
            continue
        lengths[side][segment.seq] = max(segment.length, lengths[side].get(segment.seq, 0))
        first = syn_ack if segment.has_ack else syn
        if first[side] is None:
            first[side] = place
    completed = (_completes(packets, lengths, 0), _completes(packets, lengths, 1))
    timely = [_timely(syn[side], syn_ack[side], completed) for side in _SIDES]
    ended = (_ends(packets, lengths, 0), _ends(packets, lengths, 1))
    return _Reading(view, (timely[0][0], timely[1][0]), (timely[0][1], timely[1][1]), completed, ended, strays)


def _timely(syn: int | None, syn_ack: int | None, completed: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """An end's SYN and SYN-ACK, without the one that came too late to matter; if there is but one, it is the handshake's own."""
    if syn is None or syn_ack is None or completed[0] is None or completed[1] is None:
        return syn, syn_ack
    done = max(completed[0], completed[1])
    if syn > done >= syn_ack:
        return None, syn_ack
    return syn, None if syn_ack > done >= syn else syn_ack


def _completes(
    packets: Sequence[tuple[Side | None, Seen]], lengths: tuple[dict[int, int], dict[int, int]], end: Side
) -> int | None:
    """The first segment to this end that acknowledges its SYN, if the peer's SYN is known."""
    if not lengths[0] or not lengths[1]:
        return None
    for place, (side, seen) in enumerate(packets):
        segment = seen.packet
        if side != 1 - end or isinstance(segment, IcmpError) or segment.rst or not segment.has_ack:
            continue
        if any(0 < sequence.distance(isn, segment.ack) < _ACK_AHEAD for isn in lengths[end]):
            return place
    return None


def _ends(
    packets: Sequence[tuple[Side | None, Seen]], lengths: tuple[dict[int, int], dict[int, int]], end: Side
) -> tuple[int, Pattern] | None:
    """What ended this end before it was complete: a RST that it believes, else an ICMP error after which no SYN-ACK came."""
    heard: list[int] = []  # the peer's initial sequence numbers, as far as they were seen here by now
    called = answered = False
    icmp: int | None = None
    for place, (side, seen) in enumerate(packets):
        packet = seen.packet
        if isinstance(packet, IcmpError):
            if side == 1 - end and icmp is None and packet.quoted_seq in lengths[end]:
                icmp = place
            continue
        if side is None:
            continue
        if packet.syn and not packet.rst:
            if packet.has_ack:
                answered, icmp = True, None
            if side == end:
                called = True
            else:
                heard.append(packet.seq)
        elif side == 1 - end and packet.rst and (called or answered) and _believed(packet, heard, lengths[end]):
            return place, Pattern.RESET_MIDWAY if answered else Pattern.REFUSED
    return None if icmp is None else (icmp, Pattern.ICMP_ENDED)


def _believed(rst: Segment, heard: Sequence[int], own: dict[int, int]) -> bool:
    """Whether an end that sent SYNs `own` and saw the peer's SYNs `heard` takes this RST seriously."""
    if heard:
        return any(sequence.in_window(rst.seq, sequence.add(isn, 1), _WINDOW) for isn in heard)
    return bool(rst.flags & Flags.ACK) and any(0 < sequence.distance(isn, rst.ack) <= length for isn, length in own.items())
