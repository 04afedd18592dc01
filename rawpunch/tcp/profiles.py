"""Profiles: how real stacks differ from RFC 9293. Each difference is a row put over the table, with its evidence, or a number.

    rfc9293             the table as it is
    linux               Linux 6.12 and later
    linux-before-6.12   Linux up to 6.11; its SYN schedule is that of kernels up to 6.4

Function names in the evidence are those of net/ipv4 in the Linux source. Where it says *measured*,
`tests/tcp/kernel_probe.py` puts the same segments to a kernel and to this profile, and compares what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from rawpunch.errors import UnknownName
from rawpunch.tcp import actions as do
from rawpunch.tcp import guards as when
from rawpunch.tcp.row import Guard, On, Row, Turn
from rawpunch.tcp.state import Habits, Offer, Schedule, State
from rawpunch.tcp.table import OPENING, SYNCHRONIZED, TABLE
from rawpunch.units import MS, SECOND
from rawpunch.wire import seq


@dataclass(frozen=True, slots=True)
class Override:
    """One difference from the table of RFC 9293."""

    at: str
    """Id of the table's row that it concerns."""
    row: Row
    evidence: str
    """How it is known."""
    replaces: bool = True
    """Whether the row takes that row's place, or stands in front of it."""


@dataclass(frozen=True)
class Profile:
    """A stack: its name, its numbers, and its differences from the table."""

    name: str
    habits: Habits
    overrides: tuple[Override, ...] = ()

    @cached_property
    def table(self) -> tuple[Row, ...]:
        """The whole table of this stack.

        Raises:
            UnknownName: an override names a row that does not exist.
        """
        rows = list(TABLE)
        for override in self.overrides:
            at = next((index for index, row in enumerate(rows) if row.id == override.at), None)
            if at is None:
                raise UnknownName(f"profile {self.name} overrides {override.at!r}, and there is no such row")
            rows[at : at + override.replaces] = [override.row]
        return tuple(rows)

    @cached_property
    def lookup(self) -> Mapping[tuple[State, On], tuple[Row, ...]]:
        """The rows by state and stimulus, in order."""
        return {
            (state, on): tuple(row for row in self.table if state in row.states and row.on is on) for state in State for on in On
        }


def _linux_fatal(turn: Turn) -> bool:
    """An ICMP error with an errno: destination unreachable (but not fragmentation needed), TTL exceeded, parameter problem."""
    error = turn.error
    if error.quoted.source.is_ipv6:
        return error.type in {1, 3, 4}
    return (
        error.type == 12 or (error.type == 11 and error.code == 0) or (error.type == 3 and error.code <= 15 and error.code != 4)
    )


def _linux_outside(turn: Turn) -> bool:
    """It ends before RCV.NXT or begins behind the window: unlike RFC 9293, a segment that ends at RCV.NXT is let through."""
    segment, block = turn.segment, turn.block
    return seq.before(segment.end, block.rcv_nxt) or seq.distance(block.rcv_nxt, segment.seq) > block.rcv_wnd


def _bare(turn: Turn) -> bool:
    """It has none of ACK, RST and SYN."""
    segment = turn.segment
    return not (segment.has_ack or segment.rst or segment.syn)


def _linux_ack_ancient(turn: Turn) -> bool:
    """SEG.ACK < SND.UNA - min(MAX.SND.WND, octets acknowledged so far)."""
    block = turn.block
    reach = min(block.max_snd_wnd, seq.distance(block.iss, block.snd_una))
    return seq.before(turn.segment.ack, seq.add(block.snd_una, -reach))


def _guarded(at: str, row: str, guard: Guard, evidence: str) -> Override:
    """The row `at` with another guard in the place of its first."""
    old = next(other for other in TABLE if other.id == at)
    return Override(at, replace(old, id=row, guards=(guard, *old.guards[1:])), evidence)


def _doubling(first_ns: int, count: int) -> Schedule:
    at_ns = tuple(first_ns * (2**number - 1) for number in range(1, count + 2))
    return Schedule(at_ns[:-1], at_ns[-1])


_COMMIT: Final = "Linux commit 23e89e8ee7be (6.12): tcp_validate_incoming passes a crossing SYN-ACK of exactly one octet"
_STRICT: Final = "tcp_validate_incoming: a SYN in a synchronized state or SYN_RECV gets a challenge ACK"

_ICMP = Override(
    "icmp-hard",
    Row(
        "linux-icmp-opening",
        OPENING,
        On.ICMP,
        (when.quotes_us, _linux_fatal),
        (do.end_unreachable,),
        State.CLOSED,
        "tcp_v4_err, tcp_v6_err: tcp_done_with_error in SYN_SENT and SYN_RECV",
    ),
    "tcp_v4_err: while connecting every error with an errno ends the socket, port and protocol unreachable and time exceeded "
    "included; afterwards it is a soft error (sk_err_soft). Measured for ICMP, read for ICMPv6",
)
_AGAIN_LISTEN = Override(
    "received-syn-again",
    Row(
        "linux-received-syn-again-from-listen",
        (State.SYN_RECEIVED,),
        On.SEGMENT,
        (when.syn, when.no_ack, when.at_irs, when.from_listen),
        (do.send_syn_ack,),
        None,
        "tcp_check_req: a pure retransmitted SYN is answered by the SYN-ACK again",
    ),
    "tcp_check_req, for request sockets (those that came from LISTEN)",
    replaces=False,
)
_AGAIN = Override(
    "received-syn-again",
    Row(
        "linux-received-syn-again",
        (State.SYN_RECEIVED,),
        On.SEGMENT,
        (when.syn, when.no_ack, when.at_irs),
        (do.challenge,),
        None,
        "RFC 5961, 4.2",
    ),
    f"{_STRICT}; the SYN-ACK is repeated by its timer only",
)
_MORE = Override(
    "received-crossing-syn-ack-and-more",
    Row(
        "linux-received-crossing-syn-ack-and-more",
        (State.SYN_RECEIVED,),
        On.SEGMENT,
        (when.syn, when.at_irs, when.acks_syn, when.more_than_syn),
        (do.challenge,),
        None,
        "RFC 5961, 4.2",
    ),
    f"{_STRICT}; the exception for crossing SYN-ACKs wants SEG.SEQ + 1 = SEG.END",
)
_CROSSING = Override(
    "received-crossing-syn-ack",
    Row(
        "linux-received-crossing-syn-ack",
        (State.SYN_RECEIVED,),
        On.SEGMENT,
        (when.syn, when.at_irs, when.acks_syn),
        (do.take_ack, do.send_ack_with_dsack, do.establish),
        State.ESTABLISHED,
        "RFC 9293, 3.5, figure 7; RFC 2883",
    ),
    f"{_COMMIT}; tcp_data_queue then takes the SYN for a retransmission and reports it by DSACK. Measured on 6.18: SYN x 2, "
    "SYN-ACK x 2, ACK with a DSACK block x 2, and dsack_dups = 1 in TCP_INFO at both ends",
)
_NO_CROSSING = Override(
    "received-crossing-syn-ack",
    Row(
        "linux-old-received-crossing-syn-ack",
        (State.SYN_RECEIVED,),
        On.SEGMENT,
        (when.syn, when.at_irs, when.acks_syn),
        (do.challenge,),
        None,
        "RFC 5961, 4.2",
    ),
    "before commit 23e89e8ee7be the crossing SYN-ACK is dropped with a challenge ACK, and the peer's challenge ACK completes "
    "the opening",
)
_LISTEN_FIN = Override(
    "listen-syn",
    Row(
        "linux-listen-syn-fin",
        (State.LISTEN,),
        On.SEGMENT,
        (when.syn, when.fin),
        (),
        None,
        "tcp_rcv_state_process: a SYN with FIN is discarded in LISTEN",
    ),
    "tcp_rcv_state_process, case TCP_LISTEN",
    replaces=False,
)
_SEQUENCE: Final = "tcp_sequence: dropped is what ends before rcv_wup or begins after the window. Measured"
_SEQUENCES = (
    _guarded("received-rst-outside", "linux-received-rst-outside", _linux_outside, _SEQUENCE),
    _guarded("received-outside", "linux-received-outside", _linux_outside, _SEQUENCE),
    _guarded("rst-outside", "linux-rst-outside", _linux_outside, _SEQUENCE),
    _guarded("outside", "linux-outside", _linux_outside, _SEQUENCE),
)
_BARE = Override(
    "linux-received-rst-outside",
    Row(
        "linux-bare",
        (State.SYN_RECEIVED, *SYNCHRONIZED),
        On.SEGMENT,
        (_bare,),
        (),
        None,
        "RFC 9293, 3.10.7.4, fifth, before the first",
    ),
    "tcp_rcv_state_process drops segments without ACK, RST and SYN before it looks at their numbers. Measured",
    replaces=False,
)
_ANCIENT = _guarded(
    "ack-ancient",
    "linux-ack-ancient",
    _linux_ack_ancient,
    "tcp_ack (since 6.7): an ACK of octets that were never sent is challenged, however large the window. Measured",
)
_TEXT_WITH_SYN_ACK = Override(
    "sent-syn-ack-and-more",
    Row(
        "linux-sent-syn-ack-and-more",
        (State.SYN_SENT,),
        On.SEGMENT,
        (when.syn, when.ack, when.more_than_syn),
        (do.take_syn, do.take_ack, do.send_ack, do.establish),
        State.ESTABLISHED,
        "RFC 9293, 3.10.7.3, fourth, without its text",
    ),
    "tcp_rcv_synsent_state_process: without Fast Open the text behind a SYN-ACK is not taken, and comes again. Measured",
)
_HASTE = Override(
    "sent-bad-ack",
    Row(
        "linux-sent-bad-ack",
        (State.SYN_SENT,),
        On.SEGMENT,
        (when.ack_of_nothing_sent,),
        (do.answer_rst, do.hasten_retransmission),
        None,
        "RFC 9293, 3.10.7.3, first",
    ),
    "tcp_rcv_synsent_state_process: the RST may have cleared the peer's old connection, so the SYN is sent again after "
    "TCP_TIMEOUT_MIN (two jiffies, 8 ms at 250 Hz), unless it was retransmitted before (Linux 5.7)",
)
_HASTE_AT_RST = Override(
    "sent-bad-ack-rst",
    Row(
        "linux-sent-bad-ack-rst",
        (State.SYN_SENT,),
        On.SEGMENT,
        (when.ack_of_nothing_sent, when.rst),
        (do.hasten_retransmission,),
        None,
        "RFC 9293, 3.10.7.3, first",
    ),
    "tcp_rcv_synsent_state_process: the timer is shortened before anybody asks whether it was a RST. Measured in the lab",
)
_ACK_OF_ISS = Override(
    "received-ack",
    Row(
        "linux-received-ack-of-iss",
        (State.SYN_RECEIVED,),
        On.SEGMENT,
        (when.acks_iss,),
        (do.take_ack, do.establish),
        State.ESTABLISHED,
        "RFC 9293, 3.10.7.4, fifth, where it ought to be answered by RST",
        go_on=True,
    ),
    "tcp_rcv_state_process: tcp_ack gives 1 for a duplicate ACK, so SEG.ACK = ISS completes the opening, though it acknowledges "
    "nothing. No stack sends it. Measured",
    replaces=False,
)
_PATIENT_LISTENER = Override(
    "timed-out",
    Row(
        "linux-request-timed-out",
        (State.SYN_RECEIVED,),
        On.TIMER,
        (when.expired, when.from_listen, when.patient),
        (do.back_to_listen,),
        State.LISTEN,
        "reqsk_timer_handler: the request goes, the listener stays",
    ),
    "reqsk_timer_handler in inet_connection_sock.c",
    replaces=False,
)

_LINUX_ALWAYS: Final = (
    _LISTEN_FIN,
    _TEXT_WITH_SYN_ACK,
    _HASTE,
    _HASTE_AT_RST,
    _ACK_OF_ISS,
    *_SEQUENCES,
    _BARE,
    _AGAIN_LISTEN,
    _AGAIN,
    _MORE,
    _ICMP,
    _PATIENT_LISTENER,
)
_SECONDS_LINEAR: Final = (1, 2, 3, 4, 5, 7, 11, 19, 35, 67)

RFC9293: Final = Profile(
    "rfc9293",
    Habits(
        offer=Offer(),
        window=65_535,
        syn=_doubling(SECOND, 7),  # RFC 6298, 2.1 (1 s), 5.5 (double); RFC 9293, 3.8.3: at least 3 minutes for a SYN (MUST-23)
        syn_ack=_doubling(SECOND, 7),
        fin=_doubling(SECOND, 7),
        time_wait_ns=240 * SECOND,  # 2 MSL, with the MSL of 2 minutes of RFC 9293, 3.4.2
        challenge_gap_ns=500 * MS,
    ),
)
"""The table as it is. The numbers that the RFC leaves open are Linux's."""

LINUX: Final = Profile(
    "linux",
    Habits(
        offer=Offer(),
        window=64_240,
        # tcp_syn_linear_timeouts 4, tcp_syn_retries 6 (ip-sysctl: the last one after 67 s, end after 131 s); measured to 7 s
        syn=Schedule(tuple(second * SECOND for second in _SECONDS_LINEAR), 131 * SECOND),
        syn_ack=_doubling(SECOND, 5),  # tcp_synack_retries 5
        fin=_doubling(SECOND, 8),  # tcp_orphan_retries 0 means 8; the kernel begins at the measured RTO, which is not known here
        time_wait_ns=60 * SECOND,  # TCP_TIMEWAIT_LEN
        challenge_gap_ns=500 * MS,  # tcp_invalid_ratelimit
    ),
    (*_LINUX_ALWAYS, _CROSSING, _ANCIENT),
)
"""Linux 6.12 and later."""

LINUX_BEFORE_6_12: Final = Profile(
    "linux-before-6.12",
    replace(LINUX.habits, syn=_doubling(SECOND, 6)),  # tcp_syn_retries 6; kernels 6.5 to 6.11 have the linear schedule already
    (*_LINUX_ALWAYS, _NO_CROSSING),
)
"""Linux up to 6.11."""

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (RFC9293, LINUX, LINUX_BEFORE_6_12)}
"""Name -> profile."""


def profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UnknownName: there is none.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise UnknownName(f"there is no TCP profile {name!r}", todo=f"one of {', '.join(PROFILES)}") from None
