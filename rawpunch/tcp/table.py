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

from typing import Final

from rawpunch.tcp import actions as do
from rawpunch.tcp import guards as when
from rawpunch.tcp.row import On, Row
from rawpunch.tcp.state import State

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
    Row("not-ours", ALL, _SEGMENT, (when.not_ours,), (), None, "RFC 9293, 3.3.1: a connection is named by its pair of sockets"),
)

CLOSED_SEGMENTS: Final = (
    Row("closed-rst", (CLOSED,), _SEGMENT, (when.rst,), (), None, "RFC 9293, 3.10.7.1"),
    Row("closed-any", (CLOSED,), _SEGMENT, (), (do.answer_rst,), None, "RFC 9293, 3.10.7.1"),
)

LISTEN_SEGMENTS: Final = (
    Row("listen-rst", (LISTEN,), _SEGMENT, (when.rst,), (), None, "RFC 9293, 3.10.7.2, first"),
    Row("listen-ack", (LISTEN,), _SEGMENT, (when.ack,), (do.answer_rst,), None, "RFC 9293, 3.10.7.2, second"),
    Row(
        "listen-syn",
        (LISTEN,),
        _SEGMENT,
        (when.syn,),
        (do.take_syn, do.enter_from_listen, do.count_syn, do.send_syn_ack, do.await_answer_to_syn_ack),
        SYN_RECEIVED,
        "RFC 9293, 3.10.7.2, third",
    ),
    Row("listen-other", (LISTEN,), _SEGMENT, (), (), None, "RFC 9293, 3.10.7.2, fourth"),
)

SYN_SENT_SEGMENTS: Final = (
    Row("sent-bad-ack-rst", (SYN_SENT,), _SEGMENT, (when.ack_of_nothing_sent, when.rst), (), None, "RFC 9293, 3.10.7.3, first"),
    Row("sent-bad-ack", (SYN_SENT,), _SEGMENT, (when.ack_of_nothing_sent,), (do.answer_rst,), None, "RFC 9293, 3.10.7.3, first"),
    Row("sent-refused", (SYN_SENT,), _SEGMENT, (when.rst, when.ack), (do.end_refused,), CLOSED, "RFC 9293, 3.10.7.3, second"),
    Row("sent-rst-without-ack", (SYN_SENT,), _SEGMENT, (when.rst,), (), None, "RFC 9293, 3.10.7.3, second; RFC 5961, 3.2"),
    Row(
        "sent-syn-ack-and-more",
        (SYN_SENT,),
        _SEGMENT,
        (when.syn, when.ack, when.more_than_syn),
        (do.take_syn, do.take_ack, do.establish, do.rest_of_segment),
        ESTABLISHED,
        "RFC 9293, 3.10.7.3, fourth: the text behind it is acknowledged where it is processed",
        go_on=True,
    ),
    Row(
        "sent-syn-ack",
        (SYN_SENT,),
        _SEGMENT,
        (when.syn, when.ack),
        (do.take_syn, do.take_ack, do.send_ack, do.establish),
        ESTABLISHED,
        "RFC 9293, 3.10.7.3, fourth",
    ),
    Row(
        "sent-syn",
        (SYN_SENT,),
        _SEGMENT,
        (when.syn,),
        (do.take_syn, do.send_syn_ack),
        SYN_RECEIVED,
        "RFC 9293, 3.10.7.3, fourth; 3.5, figure 7",
    ),
    Row("sent-other", (SYN_SENT,), _SEGMENT, (), (), None, "RFC 9293, 3.10.7.3, fifth"),
)

SYN_RECEIVED_SEGMENTS: Final = (
    Row(
        "received-rst-outside", (SYN_RECEIVED,), _SEGMENT, (when.outside_window, when.rst), (), None, "RFC 9293, 3.10.7.4, first"
    ),
    Row(
        "received-rst-from-listen",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.rst, when.at_rcv_nxt, when.from_listen),
        (do.back_to_listen,),
        LISTEN,
        "RFC 9293, 3.10.7.4, second",
    ),
    Row(
        "received-rst",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.rst, when.at_rcv_nxt),
        (do.end_reset,),
        CLOSED,
        "RFC 9293, 3.10.7.4, second; called a reset, not a refusal, since the peer had sent a SYN",
    ),
    Row(
        "received-rst-inside",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.rst,),
        (do.challenge,),
        None,
        "RFC 5961, 3.2; RFC 9293, 3.10.7.4, second",
    ),
    Row(
        "received-crossing-syn-ack-and-more",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.syn, when.at_irs, when.acks_syn, when.more_than_syn),
        (do.take_ack, do.establish, do.rest_of_segment),
        ESTABLISHED,
        "RFC 9293, 3.5, figure 7",
        go_on=True,
    ),
    Row(
        "received-crossing-syn-ack",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.syn, when.at_irs, when.acks_syn),
        (do.take_ack, do.send_ack, do.establish),
        ESTABLISHED,
        "RFC 9293, 3.5, figure 7, and the ACK of 3.10.7.4, first",
    ),
    Row(
        "received-syn-again",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.syn, when.no_ack, when.at_irs),
        (do.send_syn_ack,),
        None,
        "RFC 9293, 3.8.1: it was not answered in time. The ACK of 3.10.7.4, first, would be thrown away in SYN-SENT",
    ),
    Row(
        "received-outside", (SYN_RECEIVED,), _SEGMENT, (when.outside_window,), (do.challenge,), None, "RFC 9293, 3.10.7.4, first"
    ),
    Row(
        "received-syn-from-listen",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.syn, when.from_listen),
        (do.back_to_listen,),
        LISTEN,
        "RFC 9293, 3.10.7.4, fourth",
    ),
    Row(
        "received-syn", (SYN_RECEIVED,), _SEGMENT, (when.syn,), (do.challenge,), None, "RFC 5961, 4.2; RFC 9293, 3.10.7.4, fourth"
    ),
    Row("received-no-ack", (SYN_RECEIVED,), _SEGMENT, (when.no_ack,), (), None, "RFC 9293, 3.10.7.4, fifth"),
    Row(
        "received-ack",
        (SYN_RECEIVED,),
        _SEGMENT,
        (when.acks_syn,),
        (do.take_ack, do.establish),
        ESTABLISHED,
        "RFC 9293, 3.10.7.4, fifth",
        go_on=True,
    ),
    Row("received-bad-ack", (SYN_RECEIVED,), _SEGMENT, (), (do.answer_rst,), None, "RFC 9293, 3.10.7.4, fifth"),
)

SYNCHRONIZED_SEGMENTS: Final = (
    Row("rst-outside", SYNCHRONIZED, _SEGMENT, (when.outside_window, when.rst), (), None, "RFC 9293, 3.10.7.4, first"),
    Row(
        "fin-again",
        (TIME_WAIT,),
        _SEGMENT,
        (when.fin, when.ends_at_rcv_nxt),
        (do.send_ack, do.time_wait),
        None,
        "RFC 9293, 3.10.7.4, eighth: restart the 2 MSL timer",
    ),
    Row("outside", SYNCHRONIZED, _SEGMENT, (when.outside_window,), (do.challenge,), None, "RFC 9293, 3.10.7.4, first"),
    Row(
        "rst-at-the-end",
        (CLOSING, LAST_ACK, TIME_WAIT),
        _SEGMENT,
        (when.rst, when.at_rcv_nxt),
        (do.end_closed,),
        CLOSED,
        "RFC 9293, 3.10.7.4, second",
    ),
    Row("rst", SYNCHRONIZED, _SEGMENT, (when.rst, when.at_rcv_nxt), (do.end_reset,), CLOSED, "RFC 9293, 3.10.7.4, second"),
    Row("rst-inside", SYNCHRONIZED, _SEGMENT, (when.rst,), (do.challenge,), None, "RFC 5961, 3.2; RFC 9293, 3.10.7.4, second"),
    Row("syn", SYNCHRONIZED, _SEGMENT, (when.syn,), (do.challenge,), None, "RFC 5961, 4.2; RFC 9293, 3.10.7.4, fourth"),
    Row("no-ack", SYNCHRONIZED, _SEGMENT, (when.no_ack,), (), None, "RFC 9293, 3.10.7.4, fifth"),
    Row("ack-ahead", SYNCHRONIZED, _SEGMENT, (when.ack_ahead,), (do.challenge,), None, "RFC 9293, 3.10.7.4, fifth"),
    Row(
        "ack-ancient",
        SYNCHRONIZED,
        _SEGMENT,
        (when.ack_ancient,),
        (do.challenge,),
        None,
        "RFC 5961, 5.2; RFC 9293, 3.10.7.4, fifth",
    ),
    Row(
        "fin-acked",
        (FIN_WAIT_1,),
        _SEGMENT,
        (when.acks_fin,),
        (do.take_ack, do.disarm),
        FIN_WAIT_2,
        "RFC 9293, 3.10.7.4, fifth",
        go_on=True,
    ),
    Row(
        "closing-acked",
        (CLOSING,),
        _SEGMENT,
        (when.acks_fin,),
        (do.take_ack, do.time_wait),
        TIME_WAIT,
        "RFC 9293, 3.10.7.4, fifth",
    ),
    Row(
        "last-ack-acked",
        (LAST_ACK,),
        _SEGMENT,
        (when.acks_fin,),
        (do.take_ack, do.end_closed),
        CLOSED,
        "RFC 9293, 3.10.7.4, fifth",
    ),
    Row(
        "fin-established",
        (ESTABLISHED,),
        _SEGMENT,
        (when.fin_in_order,),
        (do.take_ack, do.deliver, do.take_fin, do.send_ack),
        CLOSE_WAIT,
        "RFC 9293, 3.10.7.4, seventh and eighth",
    ),
    Row(
        "fin-fin-wait-1",
        (FIN_WAIT_1,),
        _SEGMENT,
        (when.fin_in_order,),
        (do.take_ack, do.deliver, do.take_fin, do.send_ack),
        CLOSING,
        "RFC 9293, 3.10.7.4, seventh and eighth",
    ),
    Row(
        "fin-fin-wait-2",
        (FIN_WAIT_2,),
        _SEGMENT,
        (when.fin_in_order,),
        (do.take_ack, do.deliver, do.take_fin, do.send_ack, do.time_wait),
        TIME_WAIT,
        "RFC 9293, 3.10.7.4, seventh and eighth",
    ),
    Row(
        "text",
        RECEIVING,
        _SEGMENT,
        (when.text_in_order,),
        (do.take_ack, do.deliver, do.send_ack),
        None,
        "RFC 9293, 3.10.7.4, seventh",
    ),
    Row(
        "gap",
        RECEIVING,
        _SEGMENT,
        (when.text_or_fin,),
        (do.take_ack, do.send_ack),
        None,
        "RFC 5681, 4.2: a segment out of order is acknowledged at once; it is not kept (RFC 9293, 3.10.7.4: MAY)",
    ),
    Row("ack", SYNCHRONIZED, _SEGMENT, (), (do.take_ack,), None, "RFC 9293, 3.10.7.4, fifth"),
)

ICMP_ERRORS: Final = (
    Row("icmp-idle", (CLOSED, LISTEN), On.ICMP, (), (), None, "RFC 9293, 3.9.2.2: no segment of ours is under way"),
    Row(
        "icmp-hard",
        (*OPENING, *SYNCHRONIZED),
        On.ICMP,
        (when.quotes_us, when.hard_error),
        (do.end_unreachable,),
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
        (when.remote_known,),
        (do.begin, do.count_syn, do.send_syn, do.await_answer_to_syn),
        SYN_SENT,
        "RFC 9293, 3.10.1",
    ),
    Row("open-unspecified", (CLOSED, LISTEN), On.OPEN, (), (do.refuse_unspecified,), None, "RFC 9293, 3.10.1"),
    Row("open-existing", (*OPENING, *SYNCHRONIZED), On.OPEN, (), (do.refuse_existing,), None, "RFC 9293, 3.10.1"),
    Row("listen", (CLOSED,), On.LISTEN, (), (do.begin,), LISTEN, "RFC 9293, 3.10.1"),
    Row("listen-existing", (LISTEN, *OPENING, *SYNCHRONIZED), On.LISTEN, (), (do.refuse_existing,), None, "RFC 9293, 3.10.1"),
    Row("close-opening", (LISTEN, SYN_SENT), On.CLOSE, (), (do.end_closed,), CLOSED, "RFC 9293, 3.10.4"),
    Row(
        "close", (SYN_RECEIVED, ESTABLISHED), On.CLOSE, (), (do.send_fin, do.await_answer_to_fin), FIN_WAIT_1, "RFC 9293, 3.10.4"
    ),
    Row("close-too", (CLOSE_WAIT,), On.CLOSE, (), (do.send_fin, do.await_answer_to_fin), LAST_ACK, "RFC 9293, 3.10.4"),
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
        (do.end_closed,),
        CLOSED,
        "RFC 9293, 3.10.5",
    ),
    Row(
        "abort",
        (SYN_RECEIVED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT),
        On.ABORT,
        (),
        (do.send_rst, do.end_closed),
        CLOSED,
        "RFC 9293, 3.10.5",
    ),
)

TIMERS: Final = (
    Row("time-wait-over", (TIME_WAIT,), On.TIMER, (when.expired,), (do.end_closed,), CLOSED, "RFC 9293, 3.10.8"),
    Row(
        "timed-out",
        (LISTEN, *OPENING, *FIN_UNACKED),
        On.TIMER,
        (when.expired,),
        (do.end_timed_out,),
        CLOSED,
        "RFC 9293, 3.10.8; 3.8.3 (R2, MUST-23)",
    ),
    Row(
        "retransmit",
        (*OPENING, *FIN_UNACKED),
        On.TIMER,
        (when.retransmission_due,),
        (do.retransmit,),
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
