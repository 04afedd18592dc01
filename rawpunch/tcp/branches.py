"""The branches of an opening: what can be put to a stack in SYN-SENT and in SYN-RECEIVED, and what the table does with each.

A branch is written as the packets that are put to a stack that has just sent its SYN, one after the other:

    SYN 0; RST 9                   a SYN that crosses it, so that the stack is in SYN-RECEIVED; then a RST inside its window
    ACK 1 7                        an ACK of something that was never sent
    SYN-ACK 0 1 len 5              with five octets of text
    ICMP 3/1 0                     an error about the stack's segment with that sequence number
    SYN 0 after 9.5s               so long after the packet before it, instead of the usual 60 ms

The first number is the sequence number, counted from the prober's initial one (for ICMP from the stack's), the second, of
segments with an ACK, the acknowledgement number, counted from the stack's.

`Prober` is the machine that plays one. `walk` plays one against the table, so that what a stack ought to do is nowhere written
down a second time: it comes from the rows, each of which quotes its paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter, Malformed
from rawpunch.machine import Abort, Arrived, Concluded, Effect, Open, Send, Stimulus, Woke
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import Profile
from rawpunch.tcp.row import Row
from rawpunch.tcp.state import State
from rawpunch.units import MS, SECOND, parse_duration_ns
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.notation import parse_flags
from rawpunch.wire.options import Mss, Nop, Option, SackPermitted, WindowScale
from rawpunch.wire.relative import said
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment
from rawpunch.wire.seq import add

PAUSE_NS: Final = 5 * MS
"""From the stack's SYN to the first packet that is put to it."""
GAP_NS: Final = 60 * MS
"""From one packet to the next: longer than an ACK is delayed."""

_PUT: Final = re.compile(r"(?P<flags>[A-Z+-]+)(?: (?P<seq>-?\d+))?(?: (?P<ack>-?\d+))?(?: len (?P<length>\d+))?")
_ICMP: Final = re.compile(r"ICMP (?P<type>\d+)/(?P<code>\d+) (?P<seq>-?\d+)")
_OPTIONS: Final[tuple[Option, ...]] = (Mss(1460), Nop(), Nop(), SackPermitted(), Nop(), WindowScale(7))
_WINDOW: Final = 502
_BOUND: Final = 1 << 20
_LONGEST_NS: Final = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Put:
    """One packet, with numbers relative to the initial ones."""

    flags: Flags | None
    """None for an ICMP error."""
    seq: int = 0
    ack: int = 0
    length: int = 0
    """Octets of text."""
    icmp: tuple[int, int] = (0, 0)
    """Type and code."""
    after_ns: int = GAP_NS
    """How long after the packet before it; a first one that is not told comes `PAUSE_NS` after the stack's SYN."""

    @classmethod
    def parse(cls, text: str) -> Put:
        """The packet that a text means.

        Raises:
            Malformed: it does not follow the notation.
        """
        text, later, after = text.strip().partition(" after ")
        after_ns = _after_ns(after) if later else GAP_NS
        if found := _ICMP.fullmatch(text):
            return cls(None, int(found["seq"]), icmp=(int(found["type"]), int(found["code"])), after_ns=after_ns)
        found = _PUT.fullmatch(text)
        if found is None:
            raise Malformed(f"{text!r} is no packet of a branch", todo="write e.g. SYN 0; ACK 1 1")
        seq, ack, length = (int(found[name] or 0) for name in ("seq", "ack", "length"))
        if max(abs(seq), abs(ack), length) > _BOUND:
            raise Malformed(f"{text!r} has a number beyond {_BOUND}", why="no window of an opening reaches so far")
        return cls(parse_flags(found["flags"]), seq, ack, length, after_ns=after_ns)

    def packet(self, local: Endpoint, remote: Endpoint, iss: int, peer_iss: int) -> Packet:
        """The packet that it is for a connection."""
        if self.flags is None:
            kind, code = self.icmp
            return IcmpError(local.address, remote.address, kind, code, Flow(remote, local), add(peer_iss, self.seq))
        opening = self.flags & Flags.SYN
        return Segment(
            local,
            remote,
            self.flags,
            add(iss, self.seq),
            add(peer_iss, self.ack) if self.flags & Flags.ACK else 0,
            _WINDOW,
            _OPTIONS if opening else (),
            bytes(self.length),
        )


def _after_ns(text: str) -> int:
    try:
        after_ns = parse_duration_ns(text)
    except BadParameter as error:
        raise Malformed(f"{text!r} is no time to wait before a packet", todo="write e.g. SYN 0 after 9.5s") from error
    if not 0 < after_ns <= _LONGEST_NS:
        raise Malformed(f"a packet {text!r} after the one before it", why="it waits for more than nothing and at most an hour")
    return after_ns


def parse_branch(text: str) -> tuple[Put, ...]:
    """The packets of a branch, from their notation; an empty text puts nothing.

    Raises:
        Malformed: it does not follow the notation.
    """
    return tuple(Put.parse(part) for part in text.split(";") if part.strip())


class Prober:
    """Plays a branch to a stack, as a machine: it waits for the stack's SYN, puts its packets, and is through.

    It concludes with ESTABLISHED when everything was put and has had its time: an attempt's outcome is then what the stack makes
    of it.

    Args:
        local: its own endpoint.
        remote: the stack's.
        iss: its initial sequence number.
        puts: what it puts.
    """

    def __init__(self, local: Endpoint, remote: Endpoint, *, iss: int, puts: Sequence[Put]) -> None:
        self.local = local
        self.remote: Endpoint | None = remote
        self._peer = remote
        self._iss = iss
        self._puts = list(puts)
        self._peer_iss = 0
        self._deadline: int | None = None
        self._over = False

    @property
    def deadline(self) -> int | None:
        """When it puts the next packet, or is through; None before the stack's SYN."""
        return self._deadline

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Take one stimulus at instant `now` (ns)."""
        match stimulus:
            case Abort():
                self._over, self._deadline = True, None
            case Arrived(Segment() as segment) if self._deadline is None and not self._over:
                if segment.syn and not segment.has_ack and segment.source == self._peer:
                    self._peer_iss = segment.seq
                    first = self._puts[0].after_ns if self._puts else GAP_NS
                    self._deadline = now + (PAUSE_NS if first == GAP_NS else first)
            case Woke() if self._deadline is not None and now >= self._deadline:
                if not self._puts:
                    self._over, self._deadline = True, None
                    return [Concluded(Ending.ESTABLISHED)]
                put = self._puts.pop(0)
                self._deadline = now + (self._puts[0].after_ns if self._puts else GAP_NS)
                return [Send(put.packet(self.local, self._peer, self._iss, self._peer_iss))]
        return []


@dataclass(frozen=True, slots=True)
class Walked:
    """What a stack did in a branch."""

    said: str
    """What it sent, by `wire.relative`, its first SYN included."""
    ending: Ending
    """How its opening ended; TIMED_OUT if nothing had decided when it gave up."""
    state: State
    """Where it was when it was over."""
    rows: tuple[Row, ...]
    """The rows that the packets fired, in order: those of the last one are what the branch is about."""


_STACK, _PROBER = Endpoint("198.18.2.2", 4000), Endpoint("198.18.1.2", 4000)
_ISS, _PEER_ISS = 1_000_000_000, 3_000_000_000


def walk(puts: Sequence[Put], profile: Profile, *, one_way_ns: int, give_up_ns: int) -> Walked:
    """Play a branch against a profile of the table, in virtual time.

    Args:
        puts: the branch.
        profile: the stack.
        one_way_ns: how long a packet travels, each way.
        give_up_ns: how long after its SYN a stack that nothing has decided is looked at no longer.
    """
    stack = Handshake(_STACK, _PROBER, iss=_ISS, profile=profile)
    prober = Prober(_PROBER, _STACK, iss=_PEER_ISS, puts=puts)
    by_id = {row.id: row for row in profile.table}
    coming: list[tuple[int, bool, Packet]] = []  # each way takes as long, so they come in the order in which they left
    heard: list[tuple[bool, Segment]] = []
    rows: list[Row] = []
    ending: Ending | None = None
    through = False

    def step(at_stack: bool, stimulus: Stimulus, now: int) -> None:
        nonlocal ending, through
        machine = stack if at_stack else prober
        for effect in machine.step(stimulus, now=now):
            match effect:
                case Send(packet):
                    coming.append((now + one_way_ns, not at_stack, packet))
                    if at_stack and isinstance(packet, Segment):
                        heard.append((True, packet))
                case Concluded(how) if at_stack:
                    ending = ending or how
                case Concluded():
                    through = True
        if at_stack and isinstance(stimulus, Arrived):
            rows.extend(by_id[name] for name in stack.fired)

    step(True, Open(), 0)
    while not (through and ending is not None):
        timers = [(at, at_stack) for at_stack, at in ((True, stack.deadline), (False, prober.deadline)) if at is not None]
        now = min([*(at for at, *_ in coming[:1]), *(at for at, _ in timers)], default=give_up_ns)
        if now >= give_up_ns:
            break
        if coming and coming[0][0] == now:
            _, at_stack, packet = coming.pop(0)
            if at_stack and isinstance(packet, Segment):
                heard.append((False, packet))
            step(at_stack, Arrived(packet), now)
        else:
            step(min(timers)[1], Woke(), now)
    return Walked(said(heard), ending or Ending.TIMED_OUT, stack.state, tuple(rows))
