"""What a TCP endpoint remembers: its state, its transmission control block, what it offers and what both ends agreed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.wire.endpoint import Endpoint

DEFAULT_MSS_IPV4: Final = 536
"""What a peer that sends no MSS option can take (RFC 9293, section 3.7.1, MUST-15)."""
DEFAULT_MSS_IPV6: Final = 1220
MAX_SHIFT: Final = 14
"""The largest window shift (RFC 7323, section 2.3)."""


class State(enum.StrEnum):
    """The states of RFC 9293, section 3.3.2."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"


@dataclass(frozen=True, slots=True)
class Offer:
    """The options that an endpoint puts into its SYN."""

    mss: int = 1460
    """Largest segment that we take, in octets."""
    window_scale: int | None = 7
    """The shift of our window field; None for no window scaling."""
    sack: bool = True
    """Whether SACK is permitted."""
    timestamps: bool = True
    """Whether timestamps are offered."""

    def __post_init__(self) -> None:
        if not 0 < self.mss <= 0xFFFF:
            raise BadParameter(f"an MSS of {self.mss} does not fit its option")
        if self.window_scale is not None and not 0 <= self.window_scale <= MAX_SHIFT:
            raise BadParameter(f"a window shift of {self.window_scale} is not in 0..{MAX_SHIFT}")


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both SYNs together agreed. With the sequence numbers it is all that a kernel socket in repair mode has to be told."""

    mss: int
    """The largest segment that the peer takes, in octets: its MSS option, or the default without one."""
    send_shift: int | None
    """How far the peer's window fields are shifted; None where window scaling is off."""
    receive_shift: int | None
    """How far our own window fields are shifted; None where window scaling is off."""
    sack: bool
    """Whether SACK is permitted."""
    timestamps: bool
    """Whether segments carry timestamps."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a segment that is not acknowledged is sent again, and when its sender stops waiting."""

    at_ns: tuple[int, ...]
    """Instants of the retransmissions, after the first transmission."""
    give_up_ns: int
    """Instant of the end, after the first transmission."""

    def gap_ns(self, resent: int) -> int | None:
        """The time from transmission number `resent` (0 is the first) to the next; None after the last."""
        if resent >= len(self.at_ns):
            return None
        return self.at_ns[resent] - (self.at_ns[resent - 1] if resent else 0)


@dataclass(frozen=True, slots=True)
class Habits:
    """The numbers of a stack."""

    offer: Offer
    """What its SYN offers unless it is told otherwise."""
    window: int
    """Receive window in octets; what a SYN shows is this or 65,535."""
    syn: Schedule
    """For a SYN, and for the SYN-ACK that takes its place after a crossing."""
    syn_ack: Schedule
    """For the SYN-ACK that answers a SYN in LISTEN."""
    fin: Schedule
    """For a FIN."""
    time_wait_ns: int
    """How long TIME-WAIT lasts."""
    challenge_gap_ns: int
    """Least time between two ACKs that answer segments without payload that make no sense (RFC 5961, section 10)."""


@dataclass(slots=True)
class Block:
    """The transmission control block (RFC 9293, section 3.3.1). Only the table's actions change it."""

    local: Endpoint
    remote: Endpoint | None
    iss: int
    """Initial send sequence number; given, never drawn here."""
    offer: Offer
    habits: Habits
    give_up_ns: int | None
    """Longest time from OPEN to ESTABLISHED that the user allows; None for the schedule's own end."""
    any_remote: bool
    """Whether the remote endpoint was left open, so that a return to LISTEN forgets it."""

    state: State = State.CLOSED
    from_listen: bool = False
    """Whether the opening went through LISTEN: RFC 9293, section 3.10.7.4, treats a RST and a SYN in SYN-RECEIVED by it."""
    snd_una: int = 0
    snd_nxt: int = 0
    snd_wnd: int = 0
    """The peer's window in octets, unscaled."""
    max_snd_wnd: int = 0
    snd_wl1: int = 0
    snd_wl2: int = 0
    irs: int | None = None
    """Initial receive sequence number; None before the peer's SYN."""
    rcv_nxt: int = 0
    rcv_wnd: int = 0
    fin_seq: int | None = None
    """Sequence number of our FIN; None before it is sent."""
    negotiated: Negotiated | None = None
    ts_recent: int = 0
    """TS.Recent of RFC 7323: the timestamp to echo."""

    schedule: Schedule | None = None
    """The schedule of what is unacknowledged; None when nothing is."""
    resent: int = 0
    """How often that was retransmitted."""
    retransmit_at: int | None = None
    """Instant of the next retransmission."""
    expire_at: int | None = None
    """Instant at which the present state ends by itself."""
    opening_until: int | None = None
    """Instant at which the user's patience with the opening ends."""
    challenged_at: int | None = None
    """Instant of the last rate-limited ACK."""

    @property
    def deadline(self) -> int | None:
        """The earlier of the two timers."""
        if self.retransmit_at is None or self.expire_at is None:
            return self.expire_at if self.retransmit_at is None else self.retransmit_at
        return min(self.retransmit_at, self.expire_at)
