r"""The handshake as a table: state x stimulus x guards -> actions, next state, citation.

**Simultaneous open.** Two ends send a SYN to each other before either has seen the other's. Neither is client or server, and no
end can know that it happens to both: each sees a SYN where it expected a SYN-ACK, and that is all the difference there is
(RFC 9293, section 3.5, figure 7):

    SYN-SENT      SEQ=100 SYN            --.   .--            SEQ=300 SYN  SYN-SENT
                                            \ /
                                             X
                                            / \
    SYN-RECEIVED  SEQ=100 ACK=301 SYN-ACK <-.   .-> SEQ=300 ACK=101 SYN-ACK  SYN-RECEIVED
                                            \ /
                                             X
                                            / \
    ESTABLISHED                           <-   ->                          ESTABLISHED

Four segments instead of three, one connection instead of two, because a connection is named by its pair of endpoints alone.
Three things in this table make it work:

1. A SYN without ACK in SYN-SENT leads to SYN-RECEIVED, and is answered by a SYN-ACK with *the same* ISS that our SYN carried. It
   is our SYN once more, now with an ACK on it. (A bare ACK would be right by its numbers, but a peer still in SYN-SENT must throw
   it away, and NATs on the way take it for a stray.)
2. The peer's SYN-ACK then repeats a sequence number that we have counted already. By the acceptability test it lies outside the
   window, and the letter of section 3.10.7.4 drops it with an ACK; by figure 7 it completes the opening, since it acknowledges
   our SYN. Here it does both: row `received-crossing-syn-ack` takes its ACK and answers with an ACK. That ACK is not idle: to a
   peer that goes by the letter it is the only thing that completes the opening at its end.
3. Where only one of the two SYNs arrives (a NAT dropped the other), the same rows give a *half* simultaneous open: the end whose
   SYN was lost sees a SYN in SYN-SENT and answers SYN-ACK, the other end sees that SYN-ACK in SYN-SENT and runs an ordinary
   handshake.

So there are no roles in here, and one kind of endpoint. What RFC 9293 distinguishes is only whether SYN-RECEIVED was entered from
LISTEN.

**Reading a row.** In each state, for each stimulus, the first row whose guards all hold fires: its actions are run in order, then
the state changes. The order within a state is that of section 3.10.7: sequence number, RST, SYN, ACK, text, FIN. Where the RFC
says "and continue processing", the row is marked `go_on`: the same stimulus is looked up again in the new state. Every (state,
stimulus) ends in a row without guards, so there is always one that fires. A profile (see `profiles`) replaces rows or puts others
in front, with its evidence.

**What is not in here.** No data of our own is sent, no round trip is measured, nothing is reassembled (text out of order is
answered by a duplicate ACK and sent again by the peer), and PAWS does not drop old segments: connections here live for seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from rawpunch.tcp import rules as r
from rawpunch.tcp.rules import Action, Guard
from rawpunch.tcp.state import State


class On(enum.StrEnum):
    """Kinds of stimuli: the user's calls, a segment's or ICMP error's arrival, a timer."""

    OPEN = "OPEN"
    LISTEN = "LISTEN"
    CLOSE = "CLOSE"
    ABORT = "ABORT"
    SEGMENT = "SEGMENT"
    ICMP = "ICMP"
    TIMER = "TIMER"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    id: str
    """Its name, unique in a table; the transitions of a dataset quote it."""
    states: tuple[State, ...]
    on: On
    guards: tuple[Guard, ...]
    """All must hold."""
    actions: tuple[Action, ...]
    """Run in this order."""
    to: State | None
    """Next state; None to stay."""
    source: str
    """The citation: document and section."""
    go_on: bool = False
    """Whether the same stimulus is then looked up again in the next state ("continue processing")."""


CLOSED, LISTEN = State.CLOSED, State.LISTEN
SYN_SENT, SYN_RECEIVED, ESTABLISHED = State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED
FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT = State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSE_WAIT
CLOSING, LAST_ACK, TIME_WAIT = State.CLOSING, State.LAST_ACK, State.TIME_WAIT

ALL: Final = tuple(State)
OPENING: Final = (SYN_SENT, SYN_RECEIVED)
RECEIVING: Final = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2)
"""States in which the peer may still send text."""
SYNCHRONIZED: Final = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
FIN_UNACKED: Final = (FIN_WAIT_1, CLOSING, LAST_ACK)

_SEGMENT = On.SEGMENT

OWN_SEGMENTS: Final = (
    Row("not-ours", ALL, _SEGMENT, (r.not_ours,), (), None, "RFC 9293, 3.3.1: a connection is named by its pair of sockets"),
)

CLOSED_SEGMENTS: Final = (
    Row("closed-rst", (CLOSED,), _SEGMENT, (r.rst,), (), None, "RFC 9293, 3.10.7.1"),
    Row("closed-any", (CLOSED,), _SEGMENT, (), (r.answer_rst,), None, "RFC 9293, 3.10.7.1"),
)

LISTEN_SEGMENTS: Final = (
    Row("listen-rst", (LISTEN,), _SEGMENT, (r.rst,), (), None, "RFC 9293, 3.10.7.2, first"),
    Row("listen-ack", (LISTEN,), _SEGMENT, (r.ack,), (r.answer_rst,), None, "RFC 9293, 3.10.7.2, second"),
    Row(
        "listen-syn",
        (LISTEN,),
        _SEGMENT,
        (r.syn,),
        (r.take_syn, r.enter_from_listen, r.count_syn, r.send_syn_ack, r.await_answer_to_syn_ack),
        SYN_RECEIVED,
        "RFC 9293, 3.10.7.2, third",
    ),
    Row("listen-other", (LISTEN,), _SEGMENT, (), (), None, "RFC 9293, 3.10.7.2, fourth"),
)

SYN_SENT_SEGMENTS: Final = (
    Row("sent-bad-ack-rst", (SYN_SENT,), _SEGMENT, (r.ack_of_nothing_sent, r.rst), (), None, "RFC 9293, 3.10.7.3, first"),
    Row("sent-bad-ack", (SYN_SENT,), _SEGMENT, (r.ack_of_nothing_sent,), (r.answer_rst,), None, "RFC 9293, 3.10.7.3, first"),
    Row("sent-refused", (SYN_SENT,), _SEGMENT, (r.rst, r.ack), (r.end_refused,), CLOSED, "RFC 9293, 3.10.7.3, second"),
    Row("sent-rst-without-ack", (SYN_SENT,), _SEGMENT, (r.rst,), (), None, "RFC 9293, 3.10.7.3, second; RFC 5961, 3.2"),
    Row(
        "sent-syn-ack-and-more",
        (SYN_SENT,),
        _SEGMENT,
        (r.syn, r.ack, r.more_than_syn),
        (r.take_syn, r.take_ack, r.establish, r.rest_of_segment),
        ESTABLISHED,
        "RFC 9293, 3.10.7.3, fourth: the text behind it is acknowledged where it is processed",
        go_on=True,
    ),
    Row(
        "sent-syn-ack",
        (SYN_SENT,),
        _SEGMENT,
        (r.syn, r.ack),
        (r.take_syn, r.take_ack, r.send_ack, r.establish),
        ESTABLISHED,
        "RFC 9293, 3.10.7.3, fourth",
    ),
    Row(
        "sent-syn",
        (SYN_SENT,),
        _SEGMENT,
        (r.syn,),
        (r.take_syn, r.send_syn_ack),
        SYN_RECEIVED,
        "RFC 9293, 3.10.7.3, fourth; 3.5, figure 7",
    ),
    Row("sent-other", (SYN_SENT,), _SEGMENT, (), (), None, "RFC 9293, 3.10.7.3, fifth"),
)

SYN_RECEIVED_SEGMENTS: Final = (
    Row("received-rst-outside", (SYN_RECEIVED,), _SEGMENT, (r.outside_window, r.rst), (), None, "RFC 9293, 3.10.7.4, first"),
    Row(
        "received-rst-from-listen",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.rst, r.at_rcv_nxt, r.from_listen),
        (r.back_to_listen,),
        LISTEN,
        "RFC 9293, 3.10.7.4, second",
    ),
    Row(
        "received-rst",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.rst, r.at_rcv_nxt),
        (r.end_reset,),
        CLOSED,
        "RFC 9293, 3.10.7.4, second; called a reset, not a refusal, since the peer had sent a SYN",
    ),
    Row(
        "received-rst-inside",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.rst,),
        (r.challenge,),
        None,
        "RFC 5961, 3.2; RFC 9293, 3.10.7.4, second",
    ),
    Row(
        "received-crossing-syn-ack-and-more",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.syn, r.at_irs, r.acks_syn, r.more_than_syn),
        (r.take_ack, r.establish, r.rest_of_segment),
        ESTABLISHED,
        "RFC 9293, 3.5, figure 7",
        go_on=True,
    ),
    Row(
        "received-crossing-syn-ack",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.syn, r.at_irs, r.acks_syn),
        (r.take_ack, r.send_ack, r.establish),
        ESTABLISHED,
        "RFC 9293, 3.5, figure 7, and the ACK of 3.10.7.4, first",
    ),
    Row(
        "received-syn-again",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.syn, r.no_ack, r.at_irs),
        (r.send_syn_ack,),
        None,
        "RFC 9293, 3.8.1: it was not answered in time. The ACK of 3.10.7.4, first, would be thrown away in SYN-SENT",
    ),
    Row("received-outside", (SYN_RECEIVED,), _SEGMENT, (r.outside_window,), (r.challenge,), None, "RFC 9293, 3.10.7.4, first"),
    Row(
        "received-syn-from-listen",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.syn, r.from_listen),
        (r.back_to_listen,),
        LISTEN,
        "RFC 9293, 3.10.7.4, fourth",
    ),
    Row("received-syn", (SYN_RECEIVED,), _SEGMENT, (r.syn,), (r.challenge,), None, "RFC 5961, 4.2; RFC 9293, 3.10.7.4, fourth"),
    Row("received-no-ack", (SYN_RECEIVED,), _SEGMENT, (r.no_ack,), (), None, "RFC 9293, 3.10.7.4, fifth"),
    Row(
        "received-ack",
        (SYN_RECEIVED,),
        _SEGMENT,
        (r.acks_syn,),
        (r.take_ack, r.establish),
        ESTABLISHED,
        "RFC 9293, 3.10.7.4, fifth",
        go_on=True,
    ),
    Row("received-bad-ack", (SYN_RECEIVED,), _SEGMENT, (), (r.answer_rst,), None, "RFC 9293, 3.10.7.4, fifth"),
)

SYNCHRONIZED_SEGMENTS: Final = (
    Row("rst-outside", SYNCHRONIZED, _SEGMENT, (r.outside_window, r.rst), (), None, "RFC 9293, 3.10.7.4, first"),
    Row(
        "fin-again",
        (TIME_WAIT,),
        _SEGMENT,
        (r.fin, r.ends_at_rcv_nxt),
        (r.send_ack, r.time_wait),
        None,
        "RFC 9293, 3.10.7.4, eighth: restart the 2 MSL timer",
    ),
    Row("outside", SYNCHRONIZED, _SEGMENT, (r.outside_window,), (r.challenge,), None, "RFC 9293, 3.10.7.4, first"),
    Row(
        "rst-at-the-end",
        (CLOSING, LAST_ACK, TIME_WAIT),
        _SEGMENT,
        (r.rst, r.at_rcv_nxt),
        (r.end_closed,),
        CLOSED,
        "RFC 9293, 3.10.7.4, second",
    ),
    Row("rst", SYNCHRONIZED, _SEGMENT, (r.rst, r.at_rcv_nxt), (r.end_reset,), CLOSED, "RFC 9293, 3.10.7.4, second"),
    Row("rst-inside", SYNCHRONIZED, _SEGMENT, (r.rst,), (r.challenge,), None, "RFC 5961, 3.2; RFC 9293, 3.10.7.4, second"),
    Row("syn", SYNCHRONIZED, _SEGMENT, (r.syn,), (r.challenge,), None, "RFC 5961, 4.2; RFC 9293, 3.10.7.4, fourth"),
    Row("no-ack", SYNCHRONIZED, _SEGMENT, (r.no_ack,), (), None, "RFC 9293, 3.10.7.4, fifth"),
    Row("ack-ahead", SYNCHRONIZED, _SEGMENT, (r.ack_ahead,), (r.challenge,), None, "RFC 9293, 3.10.7.4, fifth"),
    Row(
        "ack-ancient", SYNCHRONIZED, _SEGMENT, (r.ack_ancient,), (r.challenge,), None, "RFC 5961, 5.2; RFC 9293, 3.10.7.4, fifth"
    ),
    Row(
        "fin-acked",
        (FIN_WAIT_1,),
        _SEGMENT,
        (r.acks_fin,),
        (r.take_ack, r.disarm),
        FIN_WAIT_2,
        "RFC 9293, 3.10.7.4, fifth",
        go_on=True,
    ),
    Row("closing-acked", (CLOSING,), _SEGMENT, (r.acks_fin,), (r.take_ack, r.time_wait), TIME_WAIT, "RFC 9293, 3.10.7.4, fifth"),
    Row("last-ack-acked", (LAST_ACK,), _SEGMENT, (r.acks_fin,), (r.take_ack, r.end_closed), CLOSED, "RFC 9293, 3.10.7.4, fifth"),
    Row(
        "fin-established",
        (ESTABLISHED,),
        _SEGMENT,
        (r.fin_in_order,),
        (r.take_ack, r.deliver, r.take_fin, r.send_ack),
        CLOSE_WAIT,
        "RFC 9293, 3.10.7.4, seventh and eighth",
    ),
    Row(
        "fin-fin-wait-1",
        (FIN_WAIT_1,),
        _SEGMENT,
        (r.fin_in_order,),
        (r.take_ack, r.deliver, r.take_fin, r.send_ack),
        CLOSING,
        "RFC 9293, 3.10.7.4, seventh and eighth",
    ),
    Row(
        "fin-fin-wait-2",
        (FIN_WAIT_2,),
        _SEGMENT,
        (r.fin_in_order,),
        (r.take_ack, r.deliver, r.take_fin, r.send_ack, r.time_wait),
        TIME_WAIT,
        "RFC 9293, 3.10.7.4, seventh and eighth",
    ),
    Row(
        "text",
        RECEIVING,
        _SEGMENT,
        (r.text_in_order,),
        (r.take_ack, r.deliver, r.send_ack),
        None,
        "RFC 9293, 3.10.7.4, seventh",
    ),
    Row(
        "gap",
        RECEIVING,
        _SEGMENT,
        (r.text_or_fin,),
        (r.take_ack, r.send_ack),
        None,
        "RFC 5681, 4.2: a segment out of order is acknowledged at once; it is not kept (RFC 9293, 3.10.7.4: MAY)",
    ),
    Row("ack", SYNCHRONIZED, _SEGMENT, (), (r.take_ack,), None, "RFC 9293, 3.10.7.4, fifth"),
)

ICMP_ERRORS: Final = (
    Row("icmp-idle", (CLOSED, LISTEN), On.ICMP, (), (), None, "RFC 9293, 3.9.2.2: no segment of ours is under way"),
    Row(
        "icmp-hard",
        (*OPENING, *SYNCHRONIZED),
        On.ICMP,
        (r.quotes_us, r.hard_error),
        (r.end_unreachable,),
        CLOSED,
        "RFC 1122, 4.2.3.9",
    ),
    Row(
        "icmp-soft",
        (*OPENING, *SYNCHRONIZED),
        On.ICMP,
        (),
        (),
        None,
        "RFC 9293, 3.9.2.2 (MUST-56: soft errors do not abort); RFC 5927, 4.1 (others' are ignored)",
    ),
)

CALLS: Final = (
    Row(
        "open",
        (CLOSED, LISTEN),
        On.OPEN,
        (r.remote_known,),
        (r.begin, r.count_syn, r.send_syn, r.await_answer_to_syn),
        SYN_SENT,
        "RFC 9293, 3.10.1",
    ),
    Row("open-unspecified", (CLOSED, LISTEN), On.OPEN, (), (r.refuse_unspecified,), None, "RFC 9293, 3.10.1"),
    Row("open-existing", (*OPENING, *SYNCHRONIZED), On.OPEN, (), (r.refuse_existing,), None, "RFC 9293, 3.10.1"),
    Row("listen", (CLOSED,), On.LISTEN, (), (r.begin,), LISTEN, "RFC 9293, 3.10.1"),
    Row("listen-existing", (LISTEN, *OPENING, *SYNCHRONIZED), On.LISTEN, (), (r.refuse_existing,), None, "RFC 9293, 3.10.1"),
    Row("close-opening", (LISTEN, SYN_SENT), On.CLOSE, (), (r.end_closed,), CLOSED, "RFC 9293, 3.10.4"),
    Row("close", (SYN_RECEIVED, ESTABLISHED), On.CLOSE, (), (r.send_fin, r.await_answer_to_fin), FIN_WAIT_1, "RFC 9293, 3.10.4"),
    Row("close-too", (CLOSE_WAIT,), On.CLOSE, (), (r.send_fin, r.await_answer_to_fin), LAST_ACK, "RFC 9293, 3.10.4"),
    Row(
        "close-closed",
        (CLOSED, FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT),
        On.CLOSE,
        (),
        (),
        None,
        "RFC 9293, 3.10.4; the error is left out, so that a driver may always close",
    ),
    Row(
        "abort-closed",
        (CLOSED,),
        On.ABORT,
        (),
        (),
        None,
        "RFC 9293, 3.10.5; the error is left out, so that a driver may always abort",
    ),
    Row(
        "abort-silently",
        (LISTEN, SYN_SENT, CLOSING, LAST_ACK, TIME_WAIT),
        On.ABORT,
        (),
        (r.end_closed,),
        CLOSED,
        "RFC 9293, 3.10.5",
    ),
    Row(
        "abort",
        (SYN_RECEIVED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT),
        On.ABORT,
        (),
        (r.send_rst, r.end_closed),
        CLOSED,
        "RFC 9293, 3.10.5",
    ),
)

TIMERS: Final = (
    Row("time-wait-over", (TIME_WAIT,), On.TIMER, (r.expired,), (r.end_closed,), CLOSED, "RFC 9293, 3.10.8"),
    Row(
        "timed-out",
        (LISTEN, *OPENING, *FIN_UNACKED),
        On.TIMER,
        (r.expired,),
        (r.end_timed_out,),
        CLOSED,
        "RFC 9293, 3.10.8; 3.8.3 (R2, MUST-23)",
    ),
    Row(
        "retransmit",
        (*OPENING, *FIN_UNACKED),
        On.TIMER,
        (r.retransmission_due,),
        (r.retransmit,),
        None,
        "RFC 9293, 3.10.8; RFC 6298, 5.4 to 5.6",
    ),
    Row("too-early", ALL, On.TIMER, (), (), None, "the timer has not run out"),
)

TABLE: Final[tuple[Row, ...]] = (
    *OWN_SEGMENTS,
    *CLOSED_SEGMENTS,
    *LISTEN_SEGMENTS,
    *SYN_SENT_SEGMENTS,
    *SYN_RECEIVED_SEGMENTS,
    *SYNCHRONIZED_SEGMENTS,
    *ICMP_ERRORS,
    *CALLS,
    *TIMERS,
)
"""The table of RFC 9293."""
