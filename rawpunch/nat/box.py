"""The NAT as a machine: packets in at the port "inside" or "outside", translated packets out at the other.

It knows nothing of how packets reach it: the simulator hands it values, the lab's box hands it what came over two devices. It
decrements TTLs as a router does, translates ICMP errors about its sessions both ways, turns packets round (hairpinning), and
answers what it does not expect. All chance comes from the dice it is given. What it does not pass, it says why.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.machine import Arrived, Changed, Effect, Refused, Send, Stimulus, Woke
from rawpunch.nat.behavior import Behavior, Hairpinning, Invalid, Mapping, Refresh, UnsolicitedAnswer, WhenFull
from rawpunch.nat.behavior import SessionState as State
from rawpunch.nat.mappings import Binding, Bindings, Dice
from rawpunch.nat.reasons import Reason
from rawpunch.nat.sessions import FLAG_BITS, Course, Kind, Row, Session, Verdict, kind_of, rows_for
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Sack
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment
from rawpunch.wire.seq import MODULUS, add

INSIDE: Final = "inside"
OUTSIDE: Final = "outside"

_UNREACHABLE: Final = 3
_TIME_EXCEEDED: Final = 11
_SHIFT_LOW: Final = 1 << 20
"""A rewritten sequence number lies at least that far from the inside host's own, so that nobody takes one for the other."""


class NatBox:
    """One NAT.

    Args:
        behavior: what it does.
        external: its external addresses, as many as the behaviour says.
        dice: source of all chance: ports, blocks, shifts of sequence numbers.
        inside: its own address inside, the source of its ICMP errors towards inside.

    Raises:
        BadParameter: the number of addresses is another one.
    """

    def __init__(self, behavior: Behavior, external: Sequence[str], *, dice: Dice, inside: str = "") -> None:
        if len(external) != behavior.external_addresses:
            raise BadParameter(
                f"the NAT has {len(external)} external addresses and its behaviour {behavior.external_addresses}",
                todo="give as many addresses as external_addresses says",
            )
        self.behavior = behavior
        self.external = tuple(external)
        self.inside = inside or external[0]
        self.bindings = Bindings(behavior, self.external, dice)
        self._dice = dice
        self._rows = rows_for(behavior)
        self._both_refresh = behavior.refreshed_by is Refresh.BOTH
        self._lives_ns = {state: behavior.timers.of(state) for state in State}
        self._going_out: dict[tuple[Endpoint, Endpoint], Session] = {}
        """Inside endpoint, remote endpoint -> session, oldest first."""
        self._coming_in: dict[tuple[Endpoint, Endpoint], Session] = {}
        """Remote endpoint, external endpoint -> session."""
        self._held: dict[tuple[Endpoint, Endpoint], tuple[int, Segment]] = {}
        """External endpoint, remote endpoint -> when to answer the SYN that came, and the SYN."""
        self._timers: list[tuple[int, int, Session | tuple[Endpoint, Endpoint]]] = []
        self._count = 0

    # --- the contract ---

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`, in ns; None for never. It may be earlier than anything that is due."""
        return self._timers[0][0] if self._timers else None

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Take a packet, or look at what is due, at instant `now` (ns).

        Raises:
            BadParameter: the stimulus is for an endpoint, or the port is neither "inside" nor "outside".
        """
        if isinstance(stimulus, Arrived):
            packet, port = stimulus.packet, stimulus.port
            if port == INSIDE:
                return self._from_inside(packet, now) if isinstance(packet, Segment) else self._icmp_from_inside(packet, now)
            if port == OUTSIDE:
                return self._from_outside(packet, now) if isinstance(packet, Segment) else self._icmp_from_outside(packet, now)
            raise BadParameter(f"a NAT has no port {port!r}", todo=f"{INSIDE} or {OUTSIDE}")
        if isinstance(stimulus, Woke):
            return self._wake(now)
        raise BadParameter(f"a NAT takes no {type(stimulus).__name__}", why="that is for an endpoint")

    @property
    def reads_options(self) -> bool:
        """Whether it looks at TCP options, and changes them; to another NAT a segment may come without its own."""
        return self.behavior.rewrites_sequence

    @property
    def sessions(self) -> tuple[Session, ...]:
        """What it is following, oldest first."""
        return tuple(self._going_out.values())

    # --- segments ---

    def _from_inside(self, segment: Segment, now: int) -> list[Effect]:
        if segment.ttl <= 1:
            return self._expired(segment, INSIDE)
        effects: list[Effect] = []
        session = self._going_out.get((segment.source, segment.destination))
        if session is not None and session.expires_at <= now:
            self._end(session, "expired", "timer", effects)
            session = None
        if session is None:
            if segment.destination.address in self.external and self.behavior.hairpinning in _NOT_TURNED:
                return self._not_turned(segment)
            session = self._opened_inside(segment, now, effects)
        else:
            session = self._followed(session, segment, segment, session.course_inside, now, effects)
        if session is None:
            return effects
        out = self._translated_out(session, segment)
        if segment.destination.address in self.external:
            return effects + self._turned(out, segment, now)
        effects.append(Send(out, OUTSIDE))
        return effects

    def _from_outside(self, segment: Segment, now: int) -> list[Effect]:
        effects: list[Effect] = []
        session = self._coming_in.get((segment.source, segment.destination))
        if session is not None and session.expires_at <= now:
            self._end(session, "expired", "timer", effects)
            session = None
        if session is None:
            session = self._opened_outside(segment, now, effects)
        elif segment.ttl <= 1:
            return self._expired(segment, OUTSIDE)
        else:
            known = self._translated_in(session, segment) if session.shift else segment
            session = self._followed(session, segment, known, 1 - session.course_inside, now, effects)
        if session is None:
            return effects
        effects.append(Send(self._translated_in(session, segment), INSIDE))
        return effects

    def _followed(
        self, session: Session, segment: Segment, known: Segment, course: int, now: int, effects: list[Effect]
    ) -> Session | None:
        """Judge a segment of a session and take note of it.

        Args:
            session: the session.
            segment: the segment as it came.
            known: the segment with the inside host's own sequence numbers.
            course: which way it goes.
            now: when.
            effects: where to say what happened.

        Returns:
            The session that it goes on in, as a rule the same one; None when it does not pass.
        """
        row = self._row(session, known, course)
        if row.verdict is Verdict.ACCEPT or row.verdict is Verdict.IGNORE:
            session.note(known, course)
            if course == Course.REPLY:
                session.replied = True
            if row.to is not None and row.to is not session.state:
                self._enter(session, row.to, row.id, segment.kind, now, effects)
            elif row.verdict is Verdict.ACCEPT and (self._both_refresh or course == session.course_inside):
                session.expires_at = now + self._lives_ns[session.state]
            return session
        if row.verdict is Verdict.RESTART:
            return self._restart(session, segment, course, now, effects)
        if row.to is not None:
            self._enter(session, row.to, row.id, segment.kind, now, effects)
        reason = row.reason or Reason.INVALID
        if course == session.course_inside:
            return session if self._invalid_from_inside(segment, reason, effects, has_session=True) else None
        if row.reason is Reason.INVALID:  # it is for nobody inside, so the box takes it for its own
            effects += self._unsolicited(segment, reason, now)
        else:
            effects.append(Refused(segment, reason))
        return None

    def _row(self, session: Session, segment: Segment, course: int) -> Row:
        for row in self._rows[session.state][course][segment.flags._value_ & FLAG_BITS]:
            if row.guard is None or row.guard(session, segment, course):
                return row
        raise AssertionError("the table of sessions has a gap")  # pragma: no cover  test_sessions proves that it has none

    def _invalid_from_inside(self, segment: Segment, reason: Reason, effects: list[Effect], *, has_session: bool) -> bool:
        """Whether a segment from inside that makes no sense is translated all the same."""
        policy = self.behavior.invalid
        if policy is Invalid.TRANSLATE and has_session and reason is Reason.INVALID:
            return True
        effects.append(Refused(segment, reason))
        if policy is Invalid.LEAK and reason in {Reason.INVALID, Reason.NO_SESSION}:
            effects.append(Send(replace(segment, ttl=segment.ttl - 1), OUTSIDE))
        return False

    # --- sessions ---

    def _opened_inside(self, segment: Segment, now: int, effects: list[Effect]) -> Session | None:
        """A new session from inside, if this segment may begin one."""
        kind = kind_of(int(segment.flags))
        picked_up = kind is Kind.ACK and self.behavior.picks_up
        if kind is not Kind.SYN and not picked_up:
            self._invalid_from_inside(segment, Reason.NO_SESSION, effects, has_session=False)
            return None
        if not self._has_room(effects):
            effects.append(Refused(segment, Reason.TABLE_FULL))
            return None
        binding = self.bindings.to(segment.source, segment.destination)
        if binding is None:
            effects.append(Refused(segment, Reason.NO_PORT))
            return None
        rule, state = ("pick-up", State.ESTABLISHED) if picked_up else ("open-out", State.SYN_SENT)
        return self._begin(binding, segment, segment.destination, state, rule, now, effects, from_inside=True)

    def _opened_outside(self, segment: Segment, now: int, effects: list[Effect]) -> Session | None:
        """A new session from outside, if a mapping and its filter let this segment begin one."""
        if segment.destination.address not in self.external:
            effects.append(Refused(segment, Reason.NOT_OURS))
            return None
        bindings = self.bindings.at(segment.destination)
        if not bindings:
            effects += self._unsolicited(segment, Reason.NO_MAPPING, now)
            return None
        filtering, remote = self.behavior.filtering, segment.source
        binding = next((known for known in bindings if known.admits(filtering, remote)), None)
        if binding is None or (binding.internal, remote) in self._going_out:
            effects += self._unsolicited(segment, Reason.FILTERED, now)
            return None
        if kind_of(int(segment.flags)) is not Kind.SYN:
            effects += self._unsolicited(segment, Reason.INVALID, now)
            return None
        if segment.ttl <= 1:
            effects += self._expired(segment, OUTSIDE)
            return None
        binding.remotes[remote] = None  # now, so that making room cannot take the mapping away
        if not self._has_room(effects):
            del binding.remotes[remote]
            effects.append(Refused(segment, Reason.TABLE_FULL))
            return None
        return self._begin(binding, segment, remote, State.SYN_SENT, "open-in", now, effects, from_inside=False)

    def _begin(
        self,
        binding: Binding,
        segment: Segment,
        remote: Endpoint,
        state: State,
        rule: str,
        now: int,
        effects: list[Effect],
        *,
        from_inside: bool,
    ) -> Session:
        shift = self._dice.randrange(_SHIFT_LOW, MODULUS - _SHIFT_LOW) if self.behavior.rewrites_sequence else 0
        session = Session(binding, remote, from_inside=from_inside, shift=shift)
        binding.remotes[remote] = None
        self._going_out[binding.internal, remote] = session
        self._coming_in[remote, binding.external] = session
        session.note(segment, Course.ORIGINAL)
        self._enter(session, state, rule, segment.kind, now, effects)
        if self._held:
            self._held.pop((binding.external, remote), None)  # RFC 5382, REQ-4: drop it silently
        return session

    def _restart(self, session: Session, segment: Segment, course: int, now: int, effects: list[Effect]) -> Session | None:
        """The session is over and its endpoints begin another one: over the same mapping, unless each has its own."""
        binding = session.binding
        lasting = self.behavior.mapping is not Mapping.PER_CONNECTION
        self._end(session, "syn-anew", segment.kind, effects, keep=lasting)
        opened = self._opened_inside if course == session.course_inside else self._opened_outside
        begun = opened(segment, now, effects)
        self.bindings.sweep(binding)
        return begun

    def _enter(self, session: Session, state: State, rule: str, cause: str, now: int, effects: list[Effect]) -> None:
        if state is State.NONE:
            self._end(session, rule, cause, effects)
            return
        effects.append(Changed(session.state.value, state.value, rule, cause, session.flow))
        session.state = state
        session.simultaneous = session.simultaneous or state is State.SYN_SENT2
        session.expires_at = now + self._lives_ns[state]
        if not session.queued_at or session.expires_at < session.queued_at:
            self._queue(session.expires_at, session)
            session.queued_at = session.expires_at

    def _end(self, session: Session, rule: str, cause: str, effects: list[Effect], *, keep: bool = False) -> None:
        """End a session, and with its last one a mapping, unless that is to be kept."""
        effects.append(Changed(session.state.value, State.NONE.value, rule, cause, session.flow))
        binding, remote = session.binding, session.remote
        session.state = State.NONE
        if self._going_out.get((binding.internal, remote)) is session:
            del self._going_out[binding.internal, remote]
        if self._coming_in.get((remote, binding.external)) is session:
            del self._coming_in[remote, binding.external]
        binding.remotes.pop(remote, None)
        if not keep:
            self.bindings.sweep(binding)

    def _has_room(self, effects: list[Effect]) -> bool:
        behavior = self.behavior
        if len(self._going_out) < behavior.capacity:
            return True
        match behavior.when_full:
            case WhenFull.EVICT_OLDEST:
                victim = next(iter(self._going_out.values()))
            case WhenFull.EVICT_UNREPLIED:
                found = next((session for session in self._going_out.values() if session.state is not State.ESTABLISHED), None)
                if found is None:
                    return False
                victim = found
            case _:
                return False
        self._end(victim, "evicted", "table full", effects)
        return True

    # --- translation ---

    def _translated_out(self, session: Session, segment: Segment) -> Segment:
        return Segment(
            session.binding.external,
            segment.destination,
            segment.flags,
            add(segment.seq, session.shift) if session.shift else segment.seq,
            segment.ack,
            segment.window,
            segment.options,
            segment.payload,
            segment.payload_length,
            segment.ttl - 1,
        )

    def _translated_in(self, session: Session, segment: Segment) -> Segment:
        ack, options, shift = segment.ack, segment.options, session.shift
        if shift and segment.has_ack:
            ack = add(ack, -shift)
            options = tuple(
                Sack(tuple((add(left, -shift), add(right, -shift)) for left, right in option.blocks))
                if isinstance(option, Sack)
                else option
                for option in options
            )
        return Segment(
            segment.source,
            session.binding.internal,
            segment.flags,
            segment.seq,
            ack,
            segment.window,
            options,
            segment.payload,
            segment.payload_length,
            segment.ttl - 1,
        )

    # --- what is not expected ---

    def _unsolicited(self, segment: Segment, reason: Reason, now: int) -> list[Effect]:
        """Refuse a segment from outside, and answer it as the behaviour says."""
        effects: list[Effect] = [Refused(segment, reason)]
        behavior = self.behavior
        if segment.rst or behavior.unsolicited is UnsolicitedAnswer.DROP:
            return effects
        if behavior.unsolicited_hold_ns and kind_of(int(segment.flags)) is Kind.SYN:
            key = (segment.destination, segment.source)
            if key not in self._held:
                due = now + behavior.unsolicited_hold_ns
                self._held[key] = (due, segment)
                self._queue(due, key)
            return effects
        effects.append(self._answer(segment))
        return effects

    def _answer(self, segment: Segment) -> Send:
        if self.behavior.unsolicited is UnsolicitedAnswer.ICMP:
            source, told = segment.destination.address, segment.source.address
            code = self.behavior.unsolicited_icmp_code
            return Send(IcmpError(source, told, _UNREACHABLE, code, segment.flow, segment.seq), OUTSIDE)
        return Send(_reset(segment), OUTSIDE)

    def _expired(self, packet: Packet, port: str) -> list[Effect]:
        """The TTL ends here: tell the sender of a segment (RFC 792); no error answers an error (RFC 1122, 3.2.2)."""
        effects: list[Effect] = [Refused(packet, Reason.TTL_EXPIRED)]
        if isinstance(packet, Segment):
            own = self.inside if port == INSIDE else packet.destination.address
            told = packet.source.address
            effects.append(Send(IcmpError(own, told, _TIME_EXCEEDED, 0, packet.flow, packet.seq), port))
        return effects

    # --- hairpins ---

    def _not_turned(self, segment: Segment) -> list[Effect]:
        effects: list[Effect] = [Refused(segment, Reason.HAIRPIN)]
        if self.behavior.hairpinning is Hairpinning.REFUSED and not segment.rst:
            effects.append(Send(_reset(segment), INSIDE))
        return effects

    def _turned(self, out: Segment, segment: Segment, now: int) -> list[Effect]:
        """A translated packet that goes to an address of our own comes in again at once."""
        again = replace(out, ttl=out.ttl + 1)  # one router, one hop
        effects = self._from_outside(again, now)
        sent: list[Effect] = []
        for effect in effects:
            if not isinstance(effect, Send):
                sent.append(effect)
            elif effect.port == INSIDE:
                packet = effect.packet
                if self.behavior.hairpinning is Hairpinning.INTERNAL_SOURCE and isinstance(packet, Segment):
                    packet = replace(packet, source=segment.source)
                sent.append(Send(packet, INSIDE))
            else:  # an answer of ours to our own external endpoint belongs to whoever sent the packet
                sent += self._answered_inside(effect.packet, now)
        return sent

    def _answered_inside(self, answer: Packet, now: int) -> list[Effect]:
        if isinstance(answer, Segment):
            return self._from_outside(answer, now)
        return self._icmp_from_outside(answer, now)

    # --- ICMP errors ---

    def _icmp_from_outside(self, error: IcmpError, now: int) -> list[Effect]:
        """An error about a packet that we sent out: translate what it quotes (RFC 5382, REQ-9; RFC 5508, REQ-4)."""
        session = self._coming_in.get((error.quoted.destination, error.quoted.source))
        effects: list[Effect] = []
        if session is None or session.expires_at <= now:
            return [Refused(error, Reason.ICMP_STRANGE)]
        internal, shift = session.binding.internal, session.shift
        self._told_of_error(session, error, now, effects)
        if not self.behavior.icmp_translated:
            effects.append(Refused(error, Reason.ICMP_UNTRANSLATED))
        elif error.ttl <= 1:
            effects += self._expired(error, OUTSIDE)
        else:
            quoted = Flow(internal, session.remote)
            seq = add(error.quoted_seq, -shift)
            told = IcmpError(error.source, internal.address, error.type, error.code, quoted, seq, error.ttl - 1)
            effects.append(Send(told, INSIDE))
        return effects

    def _icmp_from_inside(self, error: IcmpError, now: int) -> list[Effect]:
        """An error about a packet that we let in: translate what it quotes, and hide who sends it."""
        session = self._going_out.get((error.quoted.destination, error.quoted.source))
        effects: list[Effect] = []
        if session is None or session.expires_at <= now:
            return [Refused(error, Reason.ICMP_STRANGE)]
        external = session.binding.external
        self._told_of_error(session, error, now, effects)
        if not self.behavior.icmp_translated:
            effects.append(Refused(error, Reason.ICMP_UNTRANSLATED))
        elif error.ttl <= 1:
            effects += self._expired(error, INSIDE)
        else:
            quoted = Flow(session.remote, external)
            told = session.remote.address
            translated = IcmpError(external.address, told, error.type, error.code, quoted, error.quoted_seq, error.ttl - 1)
            effects.append(Send(translated, OUTSIDE))
        return effects

    def _told_of_error(self, session: Session, error: IcmpError, now: int, effects: list[Effect]) -> None:
        if session.state in self.behavior.icmp_closes:
            self._enter(session, State.CLOSE if session.replied else State.NONE, "icmp", error.kind, now, effects)

    # --- time ---

    def _queue(self, at: int, what: Session | tuple[Endpoint, Endpoint]) -> None:
        self._count += 1
        heapq.heappush(self._timers, (at, self._count, what))

    def _wake(self, now: int) -> list[Effect]:
        effects: list[Effect] = []
        for what in self._due(now):
            if isinstance(what, Session):
                self._look_at(what, now, effects)
                continue
            due, syn = self._held.get(what, (None, None))
            if due is not None and syn is not None and due <= now:
                del self._held[what]
                effects.append(self._answer(syn))
        return effects

    def _look_at(self, session: Session, now: int, effects: list[Effect]) -> None:
        if session.state is State.NONE:
            return
        if session.expires_at <= now:
            self._end(session, "expired", "timer", effects)
        elif session.queued_at <= now:
            self._queue(session.expires_at, session)
            session.queued_at = session.expires_at

    def _due(self, now: int) -> Iterator[Session | tuple[Endpoint, Endpoint]]:
        while self._timers and self._timers[0][0] <= now:
            yield heapq.heappop(self._timers)[2]


_NOT_TURNED: Final = frozenset({Hairpinning.NONE, Hairpinning.REFUSED})


def _reset(segment: Segment) -> Segment:
    """The RST of a TCP that knows no such connection (RFC 9293, section 3.10.7.1)."""
    if segment.has_ack:
        return Segment(segment.destination, segment.source, Flags.RST, segment.ack, window=0)
    return Segment(segment.destination, segment.source, Flags.RST | Flags.ACK, 0, segment.end, window=0)
