"""The player: one side of a script as a machine, against whatever the other side really sends.

It sends its lines in the script's order. A line that answered something waits for that to arrive, or for something that says at
least as much; the others keep their distance from the line before. Times are those of the script divided by the speed. A line
whose cue does not come in time is not sent, nor what follows it: the player gives up, and says what it waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter
from rawpunch.machine import Abort, Arrived, Concluded, Effect, Open, Send, Stimulus
from rawpunch.record.outcome import outcome_of
from rawpunch.record.pattern import Seen, View, tell
from rawpunch.record.words import Outcome
from rawpunch.replay.numbers import Numbers
from rawpunch.replay.script import Line, Track
from rawpunch.units import SECOND
from rawpunch.wire import seq as sequence
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Packet, Segment

PATIENCE_NS: Final = 1 * SECOND
"""How much later than in the capture something may arrive before the player gives it up."""
_DECIDED: Final = (Outcome.ESTABLISHED, Outcome.REFUSED, Outcome.RESET, Outcome.UNREACHABLE)


class Player:
    """One side of a script.

    Args:
        track: what to play.
        local: its endpoint in the replay.
        remote: where it sends to, until a packet of the peer comes from somewhere else (a NAT may have moved it).
        iss: its first initial sequence number; the captured one by default.
        ts_shift: what is added to its TSvals.
        speed: how many times faster than the script, above 0.
        patience_ns: how much later than in the script a packet may arrive.

    Raises:
        BadParameter: the speed is not positive, or the patience is negative.
    """

    def __init__(
        self,
        track: Track,
        *,
        local: Endpoint,
        remote: Endpoint,
        iss: int | None = None,
        ts_shift: int = 0,
        speed: float = 1.0,
        patience_ns: int = PATIENCE_NS,
    ) -> None:
        if not 0 < speed < float("inf") or patience_ns < 0:
            raise BadParameter(f"a speed of {speed} or a patience of {patience_ns} ns makes no sense", todo="speed above 0")
        own, peer = _isns(track.lines, sent=True), _isns(track.lines, sent=False)
        shift = (iss - own[0]) % sequence.MODULUS if iss is not None and own else 0
        self.track = track
        self.local = local
        self.remote = remote
        self._numbers = Numbers(own, peer, own_shift=shift, ts_shift=ts_shift)
        self._speed = speed
        self._patience_ns = patience_ns
        self._to_send = [place for place, line in enumerate(track.lines) if line.sent]
        self._next = 0
        self._arrived_ns: dict[int, int] = {}
        """Place of an arrival in the track -> when it came."""
        self._pending = [place for place, line in enumerate(track.lines) if not line.sent]
        """Places of those that have not come yet."""
        self._heard: set[tuple[str, int, int, int]] = set()
        self._start_ns: int | None = None
        self._planned_ns: int | None = None
        """When the line before was to leave."""
        self._settled_remote = False
        self._deadline: int | None = None
        self._concluded = False
        self.seen: list[Line] = []
        """All that was sent and received, in order; times are the driver's."""
        self.waiting_for = ""
        """What had not come when it gave up; empty otherwise."""

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`, in ns; None when it is through, or not opened yet."""
        return self._deadline

    @property
    def expected_ns(self) -> int | None:
        """When the arrival is expected that the next line waits for, in ns; None if none is waited for, or nothing was opened."""
        if self._start_ns is None or self._concluded or self._next == len(self._to_send):
            return None
        cue = self.track.lines[self._to_send[self._next]].waits_for
        return None if cue is None or cue in self._arrived_ns else self._expected_ns(self.track.lines[cue])

    def step(self, stimulus: Stimulus, *, now: int) -> Sequence[Effect]:
        """Take one stimulus at instant `now` (ns). OPEN starts the script, ABORT stops it; other user calls do nothing."""
        if isinstance(stimulus, Abort):
            self._concluded, self._deadline = True, None
        if isinstance(stimulus, Open) and self._start_ns is None:
            self._start_ns = now
        elif isinstance(stimulus, Arrived):
            self._receive(stimulus.packet, now)
        if self._start_ns is None:
            return []
        effects: list[Effect] = []
        while not self._concluded and (effect := self._play(now)) is not None:
            effects.append(effect)
        return effects

    def view(self) -> View:
        """What it sent and received, as a vantage point at its own host."""
        a, b = (self.local, self.remote) if self.track.side == "a" else (self.remote, self.local)
        seen = tuple(Seen(line.at_ns, line.number, line.packet) for line in self.seen)
        return View(f"player {self.track.side}", a, b, self.track.side, seen)

    def upcoming(self) -> Segment | None:
        """The segment that is sent next, so that its bytes can be made before its instant; None if it waits for an arrival."""
        if self._concluded or self._next == len(self._to_send):
            return None
        line = self.track.lines[self._to_send[self._next]]
        if (line.waits_for is not None and line.waits_for not in self._arrived_ns) or not isinstance(line.packet, Segment):
            return None
        return self._numbers.to_wire(line.packet, self.local, self.remote)

    def decided_ns(self) -> int | None:
        """When the packet was here that decided the opening; None without one."""
        decided_by = tell([self.view()]).decided_by
        return decided_by.time_ns if decided_by is not None else None

    def ending(self) -> Ending:
        """How the opening ended, by what it sent and received."""
        outcome = outcome_of(tell([self.view()]))
        return Ending(outcome.value) if outcome in _DECIDED else Ending.TIMED_OUT

    # --- what arrives ---

    def _receive(self, packet: Packet, now: int) -> None:
        if isinstance(packet, IcmpError):
            if packet.quoted.source != self.local:
                return
            self._note(packet, now, sent=False)
            self._mark_first(lambda known: isinstance(known, IcmpError) and known.kind == packet.kind, now)
            return
        if packet.destination != self.local or (packet.source != self.remote and self._settled_remote):
            return
        self.remote, self._settled_remote = packet.source, True
        self._note(packet, now, sent=False)
        self._numbers.learn(packet)
        captured = self._numbers.to_capture(packet)
        key = _key(captured)
        exact = self._mark_first(lambda known: isinstance(known, Segment) and _key(known) == key, now)
        if exact is not None or key not in self._heard:
            self._mark_what_it_says(captured, packet, exact, now)
        self._heard.add(key)

    def _mark_what_it_says(self, captured: Segment, arrived: Segment, exact: int | None, now: int) -> None:
        """What an arrival tells has come too: up to the one that it is, or, if it is none of them, as far as it goes."""
        if exact is not None:
            self._learn_echo(exact, arrived)
        for place in list(self._pending):
            expected = self.track.lines[place].packet
            if exact is not None and place > exact:
                break
            if not isinstance(expected, Segment):
                continue
            if _says_as_much(captured, expected):
                self._mark(place, now)
                self._learn_echo(place, arrived)
            elif exact is None:
                break

    def _learn_echo(self, place: int, arrived: Segment) -> None:
        expected = self.track.lines[place].packet
        if isinstance(expected, Segment):
            self._numbers.learn_echo(expected, arrived)

    def _mark_first(self, fits: Callable[[Packet], bool], now: int) -> int | None:
        """The first arrival of the script that fits and has not come yet has come now."""
        place = next((place for place in self._pending if fits(self.track.lines[place].packet)), None)
        if place is not None:
            self._mark(place, now)
        return place

    def _mark(self, place: int, now: int) -> None:
        self._arrived_ns[place] = now
        self._pending.remove(place)

    # --- what is sent ---

    def _play(self, now: int) -> Effect | None:
        """The next thing to do now; None when there is nothing before the deadline."""
        if self._next == len(self._to_send):
            return self._finish(now)
        place = self._to_send[self._next]
        line = self.track.lines[place]
        if line.waits_for is not None and line.waits_for not in self._arrived_ns:
            self._deadline = self._expected_ns(self.track.lines[line.waits_for]) + self._patience_ns
            return self._conclude(line.waits_for) if now >= self._deadline else None
        planned = self._plan(line)
        if planned > now:
            self._deadline = planned
            return None
        self._planned_ns = planned
        self._next += 1
        captured = line.packet
        if not isinstance(captured, Segment):
            raise BadParameter("a TCP endpoint sends segments only")
        packet = self._numbers.to_wire(captured, self.local, self.remote)
        self._note(packet, now, sent=True)
        return Send(packet)

    def _plan(self, line: Line) -> int:
        """When a line is to leave whose cue has come."""
        own_ns = self._expected_ns(line)
        if line.waits_for is None:
            return own_ns
        arrived_ns = self._arrived_ns[line.waits_for]
        if not line.replies:
            return max(own_ns, arrived_ns)
        pause_ns = max(line.at_ns - self.track.lines[line.waits_for].at_ns, 0)
        return max(arrived_ns + round(pause_ns / self._speed), self._planned_ns or 0)

    def _expected_ns(self, line: Line) -> int:
        """When the script has a line, counted from the line sent last (from the start, if there is none)."""
        if self._start_ns is None:
            raise BadParameter("the player was not opened yet")
        if self._next:
            anchor_ns, base_ns = self.track.lines[self._to_send[self._next - 1]].at_ns, self._planned_ns or self._start_ns
        else:
            first = self.track.first_ns if self.track.starts else min((line.at_ns for line in self.track.lines), default=0)
            anchor_ns, base_ns = first or 0, self._start_ns
        return base_ns + round((line.at_ns - anchor_ns) / self._speed)

    def _finish(self, now: int) -> Effect | None:
        """All was sent: wait for what is still to arrive, but not for ever."""
        if not self._pending:
            return self._conclude(None)
        last = max(self._pending, key=lambda place: self.track.lines[place].at_ns)
        self._deadline = self._expected_ns(self.track.lines[last]) + self._patience_ns
        return self._conclude(self._pending[0] if self.track.certain else None) if now >= self._deadline else None

    def _conclude(self, missing: int | None) -> Concluded:
        if missing is not None:
            line = self.track.lines[missing]
            self.waiting_for = f"{line.packet.kind} ({line.number})" if line.number else line.packet.kind
        self._concluded = True
        self._deadline = None
        return Concluded(self.ending())

    def _note(self, packet: Packet, now: int, *, sent: bool) -> None:
        self.seen.append(Line(now, sent, packet, len(self.seen) + 1))


def _isns(lines: Sequence[Line], *, sent: bool) -> list[int]:
    """Initial sequence numbers in the order of their SYNs; without a SYN, none."""
    return [
        line.packet.seq
        for line in lines
        if line.sent == sent and isinstance(line.packet, Segment) and line.packet.syn and not line.packet.rst
    ]


def _key(segment: Segment) -> tuple[str, int, int, int]:
    """By which an arrival is known again."""
    return segment.kind, segment.seq, segment.ack if segment.has_ack else -1, segment.payload_length


def _says_as_much(arrived: Segment, expected: Segment) -> bool:
    """Whether an arrival tells its receiver at least what an expected one would have: no less data, no less acknowledged."""
    if arrived.rst or expected.rst:
        return arrived.rst and expected.rst
    if expected.has_ack and not (arrived.has_ack and sequence.at_or_before(expected.ack, arrived.ack)):
        return False
    return not expected.length or sequence.at_or_before(expected.end, arrived.end)
