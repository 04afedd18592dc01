"""What a NAT does, axis by axis. Ground truth for the lab, the simulator, the probe and the oracle.

The axes are those of RFC 4787 (REQ-n of UDP, taken over for TCP by RFC 5382, section 3) and RFC 5382 (REQ-n of TCP), and what
measurements of real boxes added to them. A behaviour says nothing of how it is made: by nft rules, by the machine in `box`, by
somebody else's program.

`Behavior()` is Linux masquerade as measured; `personas` has the named ones with the source of every field.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.units import SECOND

LOWEST_PORT: Final = 1024
HIGHEST_PORT: Final = 65_535
ADMIN_PROHIBITED: Final = 13
PORT_UNREACHABLE: Final = 3


class Mapping(enum.StrEnum):
    """When two connections of one inside endpoint share an external endpoint (RFC 4787, section 4.1; RFC 5382, REQ-1)."""

    ENDPOINT_INDEPENDENT = "endpoint_independent"
    """Always, whomever they go to."""
    ADDRESS_DEPENDENT = "address_dependent"
    """When they go to the same remote address."""
    ADDRESS_AND_PORT_DEPENDENT = "address_and_port_dependent"
    """When they go to the same remote endpoint: one after the other."""
    PER_CONNECTION = "per_connection"
    """Never: even the same pair of endpoints gets a new one when it connects again."""


class Filtering(enum.StrEnum):
    """Who may open a connection to a mapping from outside (RFC 4787, section 5; RFC 5382, REQ-3)."""

    ENDPOINT_INDEPENDENT = "endpoint_independent"
    """Anybody."""
    ADDRESS_DEPENDENT = "address_dependent"
    """Addresses that the inside endpoint has sent to."""
    ADDRESS_AND_PORT_DEPENDENT = "address_and_port_dependent"
    """Endpoints that the inside endpoint has sent to."""


class Allocation(enum.StrEnum):
    """Which external port a new mapping gets (RFC 4787, section 4.2)."""

    PRESERVING = "preserving"
    """The inside port, if it is free."""
    SEQUENTIAL = "sequential"
    """The last one plus the stride."""
    RANDOM = "random"
    """Any of 1024 .. 65535."""
    BANDED = "banded"
    """Any of a narrower band."""
    BLOCK = "block"
    """One of an aligned block of ports that belongs to the inside host (RFC 7422)."""


class Pick(enum.StrEnum):
    """How one port is picked out of several."""

    RANDOM = "random"
    SEQUENTIAL = "sequential"
    NONE = "none"
    """Not at all: the connection is refused."""


class Pooling(enum.StrEnum):
    """Which of several external addresses a mapping gets (RFC 4787, section 4.1, REQ-2)."""

    PAIRED = "paired"
    """The same for all mappings of an inside host."""
    ARBITRARY = "arbitrary"
    """Any."""


class Hairpinning(enum.StrEnum):
    """What becomes of a packet from inside to an external endpoint of the NAT itself (RFC 4787, section 6; RFC 5382, REQ-8)."""

    NONE = "none"
    """It is dropped."""
    REFUSED = "refused"
    """The box's own TCP answers it, by RST."""
    EXTERNAL_SOURCE = "external_source"
    """It is delivered, with the sender's external endpoint as its source, as REQ-8 wants."""
    INTERNAL_SOURCE = "internal_source"
    """It is delivered with the sender's inside endpoint as its source."""


class UnsolicitedAnswer(enum.StrEnum):
    """What a NAT does with a SYN that no mapping expects (RFC 5382, REQ-4)."""

    DROP = "drop"
    """It says nothing."""
    RST = "rst"
    """It answers with a RST."""
    ICMP = "icmp"
    """It answers with an ICMP error: destination unreachable."""
    STACK = "stack"
    """It has no rule for it: the box's own TCP answers."""


class SessionState(enum.StrEnum):
    """Where a connection stands, as a NAT sees it pass by; names and meaning are those of Linux conntrack."""

    NONE = "NONE"
    """There is none yet, or no more."""
    SYN_SENT = "SYN_SENT"
    """One side sent a SYN."""
    SYN_SENT2 = "SYN_SENT2"
    """Both did: the SYNs crossed."""
    SYN_RECV = "SYN_RECV"
    """A SYN-ACK passed."""
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT = "FIN_WAIT"
    """One side sent a FIN."""
    CLOSE_WAIT = "CLOSE_WAIT"
    """It was acknowledged."""
    LAST_ACK = "LAST_ACK"
    """Both sides sent one."""
    TIME_WAIT = "TIME_WAIT"
    """Both were acknowledged."""
    CLOSE = "CLOSE"
    """A RST passed."""
    POISONED = "POISONED"
    """A crossing SYN came, and nothing may come in any more."""


CLOSABLE: Final = (
    SessionState.SYN_SENT,
    SessionState.SYN_SENT2,
    SessionState.SYN_RECV,
    SessionState.ESTABLISHED,
    SessionState.FIN_WAIT,
    SessionState.CLOSE_WAIT,
    SessionState.LAST_ACK,
    SessionState.TIME_WAIT,
)
"""States in which a RST or an ICMP error may end a session."""


class NumberCheck(enum.StrEnum):
    """Whether RSTs and SYN-ACKs must carry numbers that fit the connection."""

    NONE = "none"
    """They need not."""
    WINDOW = "window"
    """They must: a RST in SYN_SENT must acknowledge the SYN, later ones must lie in the window (conntrack's tcp_in_window)."""


class CrossingSyn(enum.StrEnum):
    """What becomes of a SYN from the very endpoint that a SYN went out to (RFC 5382, REQ-2)."""

    PASSES = "passes"
    BLOCKED = "blocked"
    """It is dropped, and that is all: a SYN-ACK may still come in."""
    POISONS = "poisons"
    """It is dropped, and from then on everything that comes in for this session."""


class SynAckOut(enum.StrEnum):
    """When an inside host that sent a SYN may send a SYN-ACK (STUNT's test SYN-ACK-out; RFC 5382, REQ-2)."""

    AFTER_SYN = "after_syn"
    """When a SYN came in before."""
    ALWAYS = "always"
    NEVER = "never"


class Invalid(enum.StrEnum):
    """What becomes of a segment from inside that makes no sense in its session's state, or has none."""

    DROP = "drop"
    TRANSLATE = "translate"
    """It is translated and sent if it has a session, else dropped."""
    LEAK = "leak"
    """It is sent as it is, with its private source address."""


class Refresh(enum.StrEnum):
    """Which packets keep a session alive (RFC 4787, REQ-6)."""

    OUTBOUND = "outbound"
    BOTH = "both"


class WhenFull(enum.StrEnum):
    """What happens when the session table is full."""

    REFUSE = "refuse"
    """The new connection is refused."""
    EVICT_OLDEST = "evict_oldest"
    """The oldest session goes."""
    EVICT_UNREPLIED = "evict_unreplied"
    """The oldest session that is not established goes; without one, the new connection is refused."""


def _refuse(what: str, why: str, todo: str = "") -> None:
    raise BadParameter(what, why=why, todo=todo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """How external ports are given out (RFC 4787, section 4.2; RFC 5382, REQ-7)."""

    allocation: Allocation = Allocation.PRESERVING
    low: int = LOWEST_PORT
    """Lowest port that is given out (a preserved one may lie below)."""
    high: int = HIGHEST_PORT
    """Highest port that is given out."""
    fallback: Pick = Pick.RANDOM
    """How a preserving NAT picks a port when the inside one is taken."""
    start: int | None = None
    """First port of a sequential NAT; None for the lowest."""
    stride: int = 1
    """Step of a sequential NAT, from one new mapping to the next."""
    block_size: int = 0
    """Ports in each inside host's block; blocks begin at multiples of it. 0 without blocks."""
    block_pick: Pick = Pick.RANDOM
    """How a port is picked within a block."""
    keeps_parity: bool = False
    """Whether even inside ports get even external ones, and odd ones odd (RFC 4787, REQ-4)."""
    overloading: bool = False
    """Whether different inside hosts may have one external port at once, towards different remotes (RFC 5382, REQ-7: no)."""

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high <= HIGHEST_PORT:
            _refuse(f"ports {self.low}..{self.high} are no range", f"a port is in 1..{HIGHEST_PORT}")
        whole = (self.low, self.high) == (LOWEST_PORT, HIGHEST_PORT)
        kind = self.allocation
        if kind is Allocation.BANDED and whole:
            _refuse("a banded NAT needs a band", "its ports are the whole range", "set ports.low and ports.high, or say random")
        if kind is Allocation.RANDOM and not whole:
            _refuse("a random NAT has no band", f"its ports are {self.low}..{self.high}", "say banded")
        if kind is not Allocation.SEQUENTIAL and (self.start is not None or self.stride != 1):
            _refuse(f"a {kind} NAT has no start and no stride", "only sequential allocation steps", "say sequential")
        if self.start is not None and not self.low <= self.start <= self.high:
            _refuse(f"the start {self.start} is not in {self.low}..{self.high}", "it is the first port given out")
        if self.stride == 0 or abs(self.stride) > self.high - self.low:
            _refuse(f"a stride of {self.stride} leads nowhere", f"the range {self.low}..{self.high} is stepped through")
        if (kind is Allocation.BLOCK) != (self.block_size > 0):
            _refuse(f"a {kind} NAT with blocks of {self.block_size} ports", "blocks and their size go together")
        if self.block_size and not self.first_block <= self.high - self.block_size + 1:
            _refuse(f"no aligned block of {self.block_size} fits", f"ports are {self.low}..{self.high}")
        if self.block_pick is Pick.NONE:
            _refuse("ports.block_pick cannot be none", "a block's ports are given out", "say random or sequential")

    @property
    def first_block(self) -> int:
        """First port of the first aligned block."""
        return -(-self.low // self.block_size) * self.block_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """How long a session lives in each state without a packet that refreshes it (RFC 5382, REQ-5)."""

    syn_sent_ns: int = 120 * SECOND
    """In SYN_SENT (from its first SYN) and SYN_SENT2."""
    syn_recv_ns: int = 60 * SECOND
    established_ns: int = 432_000 * SECOND
    fin_wait_ns: int = 120 * SECOND
    close_wait_ns: int = 60 * SECOND
    last_ack_ns: int = 30 * SECOND
    time_wait_ns: int = 120 * SECOND
    close_ns: int = 10 * SECOND

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                _refuse(f"timers.{name} of {getattr(self, name)} is no time", "a session lives for more than 0 ns")

    def of(self, state: SessionState) -> int:
        """The time of a state, in ns."""
        match state:
            case SessionState.SYN_SENT2 | SessionState.POISONED:
                return self.syn_sent_ns
            case SessionState.NONE:
                return 0
        return int(getattr(self, f"{state.value.lower()}_ns"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """All that decides what a NAT does with a packet. Without arguments: Linux masquerade that drops what it does not expect."""

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = field(default_factory=lambda: Ports(overloading=True))
    external_addresses: int = 1
    """How many external addresses there are."""
    pooling: Pooling = Pooling.PAIRED
    hairpinning: Hairpinning = Hairpinning.REFUSED
    timers: Timers = field(default_factory=Timers)
    refreshed_by: Refresh = Refresh.BOTH
    unsolicited: UnsolicitedAnswer = UnsolicitedAnswer.DROP
    unsolicited_hold_ns: int = 0
    """How long a SYN waits for its answer; an outbound SYN in that time silences it (RFC 5382, REQ-4: at least 6 s)."""
    unsolicited_icmp_code: int = ADMIN_PROHIBITED
    """Code of the ICMP error (type 3): 13 prohibited, 3 port unreachable (RFC 5382, REQ-4)."""
    crossing_syn: CrossingSyn = CrossingSyn.PASSES
    syn_ack_out: SynAckOut = SynAckOut.AFTER_SYN
    invalid: Invalid = Invalid.DROP
    picks_up: bool = True
    """Whether an ACK from inside without a session makes one (conntrack's tcp_loose)."""
    number_check: NumberCheck = NumberCheck.WINDOW
    rst_closes: tuple[SessionState, ...] = CLOSABLE
    """States in which a RST, from either side, ends the session; in the others it passes and the session stays."""
    icmp_closes: tuple[SessionState, ...] = ()
    """States in which an ICMP error ends the session (RFC 5382, REQ-10: none)."""
    icmp_translated: bool = True
    """Whether ICMP errors are passed on, translated (RFC 5382, REQ-9)."""
    rewrites_sequence: bool = False
    """Whether the sequence numbers of inside hosts are shifted by a random amount per session."""
    capacity: int = 262_144
    """Sessions that the table holds."""
    when_full: WhenFull = WhenFull.EVICT_UNREPLIED

    def __post_init__(self) -> None:
        for name in ("rst_closes", "icmp_closes"):
            states = getattr(self, name)
            strange = [state.value for state in states if state not in CLOSABLE]
            if strange:
                _refuse(f"{name} has {', '.join(strange)}", "nothing can be closed in it", f"use {', '.join(CLOSABLE)}")
            object.__setattr__(self, name, tuple(state for state in CLOSABLE if state in states))
        if self.ports.overloading and self.filtering is Filtering.ENDPOINT_INDEPENDENT:
            _refuse(
                "a NAT that lets everybody in cannot overload its ports",
                "a SYN to a port that two hosts have would belong to neither",
                "say ports.overloading = false, or filter by address",
            )
        if self.external_addresses < 1 or self.capacity < 1:
            _refuse("a NAT needs an external address and room for a session", f"{self.external_addresses}, {self.capacity}")
        if self.pooling is Pooling.ARBITRARY and self.external_addresses == 1:
            _refuse("arbitrary pooling of one address", "there is nothing to choose", "set external_addresses above 1")
        self._check_answer()

    def _check_answer(self) -> None:
        answer, hold_ns = self.unsolicited, self.unsolicited_hold_ns
        if hold_ns < 0:
            _refuse(f"unsolicited_hold_ns of {hold_ns}", "a SYN cannot be answered before it came")
        if hold_ns and answer not in {UnsolicitedAnswer.RST, UnsolicitedAnswer.ICMP}:
            _refuse(
                f"a NAT that answers {answer} holds no SYN",
                "silence needs no delay, and a box's own TCP answers at once",
                "say unsolicited = rst or icmp, or leave unsolicited_hold_ns at 0",
            )
        if not 0 <= self.unsolicited_icmp_code <= 15 or self.unsolicited_icmp_code == 4:
            _refuse(f"ICMP code {self.unsolicited_icmp_code} does not refuse", "it is 0..15 and not 4, fragmentation needed")
        if self.unsolicited_icmp_code != ADMIN_PROHIBITED and answer is not UnsolicitedAnswer.ICMP:
            _refuse(f"unsolicited_icmp_code without ICMP (the answer is {answer})", "it would never be sent")

    @property
    def port_is_kept(self) -> bool:
        """Whether an inside port is seen outside as itself, as long as nobody else has it."""
        return self.ports.allocation is Allocation.PRESERVING
