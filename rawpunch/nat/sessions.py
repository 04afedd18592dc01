r"""TCP connections as a NAT sees them pass by: a table, like that of the handshake.

A NAT follows both ends without being either. *Original* is the direction of the packet that began the session, *reply* the other
one, wherever inside is. A simultaneous open looks like this to it, here at the NAT of the end on the left:

    inside          NAT                                   outside
    |--SYN--------->|--SYN--------------------------------> |   NONE -> SYN_SENT          open-out
    |<--------------|<-------------------------------SYN----|   SYN_SENT -> SYN_SENT2     crossing
    |--SYN-ACK----->|--SYN-ACK----------------------------> |   SYN_SENT2 -> SYN_RECV     syn-ack-out
    |<--------------|<---------------------------SYN-ACK----|   SYN_RECV                  syn-ack-again
    |--ACK--------->|--ACK--------------------------------> |   SYN_RECV -> ESTABLISHED   ack

Without the row `crossing` the peer's SYN is lost. Without `syn-ack-out` the host behind this NAT can only be answered, and never
answer. Both are things that NATs differ in.

**Reading a row.** In each state, for each direction and kind of segment, the first row fires whose condition holds (a condition
looks at the behaviour, so it is decided once) and whose guard holds (a guard looks at the session and the segment). Its verdict
says what becomes of the packet; `to` is the next state. Every combination ends in a row that fires.

States, rows and verdicts are those of `tcp_conntracks` in Linux's nf_conntrack_proto_tcp.c (6.x), written out. Rows with a
condition are where other NATs differ. What of conntrack is left out: the window check of segments that are neither RST nor
SYN-ACK; the shorter timers for unacknowledged data; and that a SYN after a RST of the other side is let through before it is
believed: here it always begins a new session.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rawpunch.nat.behavior import Behavior, CrossingSyn, NumberCheck, SynAckOut
from rawpunch.nat.behavior import SessionState as State
from rawpunch.nat.mappings import Binding
from rawpunch.nat.reasons import Reason
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Segment
from rawpunch.wire.seq import MODULUS, at_or_before, before

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
FLAG_BITS: Final = _FIN | _SYN | _RST | _ACK
"""The control bits that a session looks at."""
_ACK_REACH: Final = 66_000
"""How far behind an acknowledgement may lie (MAXACKWINCONST)."""


class Kind(enum.Enum):
    """What a segment is to a session."""

    SYN = "SYN"
    SYN_ACK = "SYN-ACK"
    FIN = "FIN"
    ACK = "ACK"
    RST = "RST"
    OTHER = "none"


class Course(enum.IntEnum):
    """Which way a packet goes."""

    ORIGINAL = 0
    REPLY = 1


class Verdict(enum.Enum):
    """What becomes of a packet."""

    ACCEPT = "accept"
    """It passes, and keeps the session alive."""
    IGNORE = "ignore"
    """It passes, and the session is none the younger for it."""
    REFUSE = "refuse"
    RESTART = "restart"
    """The session is over, and this packet begins another one."""


class Session:
    """One connection through a NAT."""

    __slots__ = (
        "binding",
        "course_inside",
        "end",
        "expires_at",
        "high_ack",
        "queued_at",
        "remote",
        "replied",
        "shift",
        "simultaneous",
        "state",
        "window",
    )

    def __init__(self, binding: Binding, remote: Endpoint, *, from_inside: bool, shift: int) -> None:
        self.binding = binding
        self.remote = remote
        self.course_inside = Course.ORIGINAL if from_inside else Course.REPLY
        """The course of packets from inside."""
        self.shift = shift
        """What is added to the inside host's sequence numbers."""
        self.state = State.NONE
        self.expires_at = 0
        self.queued_at = 0
        """The instant for which its timer is set; never after `expires_at`."""
        self.replied = False
        """Whether a packet has passed in the reply direction."""
        self.simultaneous = False
        self.end: list[int | None] = [None, None]
        """By course: the sequence number after the last octet sent, None before the first."""
        self.high_ack: list[int | None] = [None, None]
        """By course: the highest acknowledgement sent."""
        self.window = [0, 0]
        """By course: the largest window shown, unscaled."""

    @property
    def internal(self) -> Endpoint:
        """The inside endpoint."""
        return self.binding.internal

    @property
    def external(self) -> Endpoint:
        """What it looks like outside."""
        return self.binding.external

    @property
    def flow(self) -> Flow:
        """The connection as the inside sees it, from inside to outside."""
        return Flow(self.binding.internal, self.remote)

    def note(self, segment: Segment, course: int) -> None:
        """Take a passing segment's numbers."""
        flags = int(segment.flags)
        end = (segment.seq + segment.payload_length + (flags >> 1 & 1) + (flags & 1)) % MODULUS
        known = self.end[course]
        if known is None or flags & _SYN or before(known, end):
            self.end[course] = end
        if flags & _ACK:
            high = self.high_ack[course]
            if high is None or before(high, segment.ack):
                self.high_ack[course] = segment.ack
        self.window[course] = max(self.window[course], segment.window)


Guard = Callable[[Session, Segment, int], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    id: str
    """Its name; transitions quote it."""
    states: tuple[State, ...]
    courses: tuple[Course, ...]
    kind: Kind
    verdict: Verdict
    to: State | None = None
    """Next state; None to stay."""
    reason: Reason | None = None
    """Why a packet is refused."""
    condition: Callable[[Behavior], bool] | None = None
    """Which NATs have the row; None for all."""
    guard: Guard | None = None
    """When it fires; None for always."""


# --- guards ---


def _acks_too_much(session: Session, segment: Segment, course: int) -> bool:
    """It acknowledges what was never sent."""
    end = session.end[1 - course]
    return end is not None and before(end, segment.ack)


def _ahead_of_its_syn(session: Session, segment: Segment, course: int) -> bool:
    """Its sequence number lies ahead of the SYN's that its sender sent before; one behind passes.

    So half of all listeners get no SYN-ACK out after a SYN that was sent by hand to open their NAT (STUNT #2).
    Measured on Linux 6.18: 50 of 50 attempts went by this rule.
    """
    end = session.end[course]
    return end is not None and before(end, (segment.seq + 1) % MODULUS)


def _rst_unfit(session: Session, segment: Segment, course: int) -> bool:
    """A RST whose numbers the other end would not believe, as conntrack judges them."""
    sent, heard = session.end[course], session.end[1 - course]
    if segment.has_ack and segment.ack != 0 and heard is not None:
        reach = max(session.window[course], _ACK_REACH)
        if before(heard, segment.ack) or not before((heard - reach - 1) % MODULUS, segment.ack):
            return True
    if sent is None:
        return False  # it answers a SYN, and its sender has said nothing else
    acked = session.high_ack[1 - course]
    if acked is not None and before(segment.seq, acked) and not (segment.seq == 0 and session.state is not State.ESTABLISHED):
        return True
    room = session.window[1 - course]
    lowest = (sent - room - 1) % MODULUS
    return not before(lowest, segment.seq) or not at_or_before(segment.seq, (sent + room) % MODULUS)


def _unreplied(session: Session, _segment: Segment, _course: int) -> bool:
    return not session.replied


def _simultaneous(session: Session, _segment: Segment, _course: int) -> bool:
    return session.simultaneous


def _from_inside(session: Session, _segment: Segment, course: int) -> bool:
    return course == session.course_inside


def _checks(behavior: Behavior) -> bool:
    return behavior.number_check is NumberCheck.WINDOW


# --- the table ---

_BOTH: Final = (Course.ORIGINAL, Course.REPLY)
_ORIGINAL: Final = (Course.ORIGINAL,)
_REPLY: Final = (Course.REPLY,)
_EVERY: Final = tuple(state for state in State if state is not State.NONE)
_CLOSING: Final = (State.FIN_WAIT, State.CLOSE_WAIT, State.LAST_ACK)
_LATE: Final = (State.SYN_RECV, State.ESTABLISHED, *_CLOSING)
_OVER: Final = (State.TIME_WAIT, State.CLOSE)
_OPENING: Final = (State.SYN_SENT, State.SYN_SENT2)

_POISONED: Final = tuple(
    row
    for kind in Kind
    for row in (
        Row("poisoned-in", (State.POISONED,), _REPLY, kind, Verdict.REFUSE, reason=Reason.POISONED),
        Row("poisoned-out", (State.POISONED,), _ORIGINAL, kind, Verdict.IGNORE),
    )
)

_SYN_ROWS: Final = (
    Row("syn-again", (State.SYN_SENT,), _ORIGINAL, Kind.SYN, Verdict.IGNORE, guard=_unreplied),
    Row("syn-again-crossed", _OPENING, _ORIGINAL, Kind.SYN, Verdict.ACCEPT),
    Row("syn-late", _LATE, _ORIGINAL, Kind.SYN, Verdict.IGNORE),
    Row("syn-anew", _OVER, _ORIGINAL, Kind.SYN, Verdict.RESTART),
    Row(
        "crossing-blocked",
        (State.SYN_SENT,),
        _REPLY,
        Kind.SYN,
        Verdict.REFUSE,
        reason=Reason.CROSSING_SYN,
        condition=lambda behavior: behavior.crossing_syn is CrossingSyn.BLOCKED,
    ),
    Row(
        "crossing-poisons",
        (State.SYN_SENT,),
        _REPLY,
        Kind.SYN,
        Verdict.REFUSE,
        State.POISONED,
        Reason.CROSSING_SYN,
        condition=lambda behavior: behavior.crossing_syn is CrossingSyn.POISONS,
    ),
    Row("crossing", (State.SYN_SENT,), _REPLY, Kind.SYN, Verdict.ACCEPT, State.SYN_SENT2),
    Row("crossing-again", (State.SYN_SENT2,), _REPLY, Kind.SYN, Verdict.ACCEPT),
    Row("syn-from-server", (*_LATE, *_OVER), _REPLY, Kind.SYN, Verdict.REFUSE, reason=Reason.INVALID),
)

_SYN_ACK_ROWS: Final = (
    Row(
        "syn-ack-out-never",
        (State.SYN_SENT, State.SYN_SENT2, State.SYN_RECV),
        _ORIGINAL,
        Kind.SYN_ACK,
        Verdict.REFUSE,
        reason=Reason.SYN_ACK_OUT,
        condition=lambda behavior: behavior.syn_ack_out is SynAckOut.NEVER,
        guard=_from_inside,
    ),
    Row(
        "syn-ack-out-early",
        (State.SYN_SENT,),
        _ORIGINAL,
        Kind.SYN_ACK,
        Verdict.IGNORE,
        condition=lambda behavior: behavior.syn_ack_out is SynAckOut.ALWAYS,
        guard=_from_inside,
    ),
    Row("syn-ack-out-unasked", (State.SYN_SENT,), _ORIGINAL, Kind.SYN_ACK, Verdict.REFUSE, reason=Reason.SYN_ACK_OUT),
    Row(
        "syn-ack-out-renumbered",
        (State.SYN_SENT2,),
        _ORIGINAL,
        Kind.SYN_ACK,
        Verdict.REFUSE,
        reason=Reason.BAD_NUMBERS,
        condition=_checks,
        guard=_ahead_of_its_syn,
    ),
    Row("syn-ack-out", (State.SYN_SENT2,), _ORIGINAL, Kind.SYN_ACK, Verdict.ACCEPT, State.SYN_RECV),
    Row("syn-ack-out-again", (State.SYN_RECV,), _ORIGINAL, Kind.SYN_ACK, Verdict.ACCEPT),
    Row("syn-ack-invalid", _EVERY, _ORIGINAL, Kind.SYN_ACK, Verdict.REFUSE, reason=Reason.INVALID),
    Row(
        "syn-ack-unfit",
        _OPENING,
        _REPLY,
        Kind.SYN_ACK,
        Verdict.REFUSE,
        reason=Reason.BAD_NUMBERS,
        condition=_checks,
        guard=_acks_too_much,
    ),
    Row("syn-ack", _OPENING, _REPLY, Kind.SYN_ACK, Verdict.ACCEPT, State.SYN_RECV),
    Row("syn-ack-again", _EVERY, _REPLY, Kind.SYN_ACK, Verdict.IGNORE),
)

_FIN_ROWS: Final = (
    Row("fin-early", _OPENING, _BOTH, Kind.FIN, Verdict.REFUSE, reason=Reason.INVALID),
    Row("fin", (State.SYN_RECV, State.ESTABLISHED), _BOTH, Kind.FIN, Verdict.ACCEPT, State.FIN_WAIT),
    Row("fin-too", _CLOSING, _BOTH, Kind.FIN, Verdict.ACCEPT, State.LAST_ACK),
    Row("fin-again", _OVER, _BOTH, Kind.FIN, Verdict.ACCEPT),
)

_ACK_ROWS: Final = (
    Row("ack-bare", _OPENING, _ORIGINAL, Kind.ACK, Verdict.REFUSE, reason=Reason.INVALID),
    Row("ack-half-open", _OPENING, _REPLY, Kind.ACK, Verdict.IGNORE),
    Row("ack", (State.SYN_RECV,), _ORIGINAL, Kind.ACK, Verdict.ACCEPT, State.ESTABLISHED),
    Row("ack-crossed", (State.SYN_RECV,), _REPLY, Kind.ACK, Verdict.ACCEPT, State.ESTABLISHED, guard=_simultaneous),
    Row("ack-to-late-syn", (State.SYN_RECV,), _REPLY, Kind.ACK, Verdict.ACCEPT),
    Row("traffic", (State.ESTABLISHED,), _BOTH, Kind.ACK, Verdict.ACCEPT),
    Row("fin-acked", (State.FIN_WAIT, State.CLOSE_WAIT), _BOTH, Kind.ACK, Verdict.ACCEPT, State.CLOSE_WAIT),
    Row("last-ack", (State.LAST_ACK,), _BOTH, Kind.ACK, Verdict.ACCEPT, State.TIME_WAIT),
    Row("after-all", _OVER, _BOTH, Kind.ACK, Verdict.ACCEPT),
)


def _rst_rows() -> tuple[Row, ...]:
    unfit = Row(
        "rst-unfit",
        (*_OPENING, State.SYN_RECV, State.ESTABLISHED),
        _BOTH,
        Kind.RST,
        Verdict.REFUSE,
        reason=Reason.BAD_NUMBERS,
        condition=_checks,
        guard=_rst_unfit,
    )
    rows = [unfit]
    for state in _EVERY:

        def closes(behavior: Behavior, state: State = state) -> bool:
            return state in behavior.rst_closes

        rows.append(
            Row("rst-unreplied", (state,), _BOTH, Kind.RST, Verdict.ACCEPT, State.NONE, condition=closes, guard=_unreplied)
        )
        rows.append(Row("rst", (state,), _BOTH, Kind.RST, Verdict.ACCEPT, State.CLOSE, condition=closes))
    rows.append(Row("rst-survived", _EVERY, _BOTH, Kind.RST, Verdict.IGNORE))
    return tuple(rows)


TABLE: Final[tuple[Row, ...]] = (
    *_POISONED,
    *_SYN_ROWS,
    *_SYN_ACK_ROWS,
    *_FIN_ROWS,
    *_ACK_ROWS,
    *_rst_rows(),
    Row("no-kind", _EVERY, _BOTH, Kind.OTHER, Verdict.REFUSE, reason=Reason.INVALID),
)
"""All rows, in the order in which they are tried."""

Lookup = dict[State, tuple[tuple[tuple[Row, ...], ...], tuple[tuple[Row, ...], ...]]]


def kind_of(flags: int) -> Kind:
    """What a segment with these control bits is: RST wins over SYN, SYN over FIN, FIN over ACK (get_conntrack_index)."""
    if flags & _RST:
        return Kind.RST
    if flags & _SYN:
        return Kind.SYN_ACK if flags & _ACK else Kind.SYN
    if flags & _FIN:
        return Kind.FIN
    return Kind.ACK if flags & _ACK else Kind.OTHER


@lru_cache(maxsize=256)
def rows_for(behavior: Behavior) -> Lookup:
    """The rows of one NAT by state, course and control bits (`FLAG_BITS`), conditions decided."""
    mine = [row for row in TABLE if row.condition is None or row.condition(behavior)]

    def rows(state: State, course: Course, flags: int) -> tuple[Row, ...]:
        kind = kind_of(flags)
        fitting = [row for row in mine if row.kind is kind and state in row.states and course in row.courses]
        last = next((place for place, row in enumerate(fitting) if row.guard is None), len(fitting))
        return tuple(fitting[: last + 1])

    flags = range(FLAG_BITS + 1)
    return {
        state: (
            tuple(rows(state, Course.ORIGINAL, bits) for bits in flags),
            tuple(rows(state, Course.REPLY, bits) for bits in flags),
        )
        for state in _EVERY
    }
