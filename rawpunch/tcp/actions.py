"""Actions: what a row of the handshake table does. They change the control block and collect effects, each one thing.

Their names appear in the table and in its listing. SEG.*, SND.* and RCV.* are the variables of RFC 9293, section 3.3.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter
from rawpunch.machine import Concluded, Delivered
from rawpunch.tcp import segments
from rawpunch.tcp.row import Action, Turn
from rawpunch.tcp.state import Block, Schedule
from rawpunch.units import MS
from rawpunch.wire import seq
from rawpunch.wire.segment import Flags

_HASTE_NS: Final = 8 * MS

# --- actions that send ---


def send_syn(turn: Turn) -> None:
    """Send <SEQ=ISS><CTL=SYN>."""
    turn.send(segments.syn(turn.block, turn.now))


def send_syn_ack(turn: Turn) -> None:
    """Send <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>."""
    turn.send(segments.syn_ack(turn.block, turn.now))


def send_ack(turn: Turn) -> None:
    """Send <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>."""
    turn.send(segments.ack(turn.block, turn.now))


def send_ack_with_dsack(turn: Turn) -> None:
    """Send that ACK with a DSACK block for the peer's SYN, which came twice."""
    block = turn.block
    turn.send(segments.ack(block, turn.now, dsack=(turn.segment.seq, block.rcv_nxt)))


def challenge(turn: Turn) -> None:
    """Send an ACK that says where we are, seldom enough that two confused ends cannot keep each other busy."""
    block = turn.block
    if turn.segment.payload_length == 0:
        if block.challenged_at is not None and turn.now - block.challenged_at < block.habits.challenge_gap_ns:
            return
        block.challenged_at = turn.now
    turn.send(segments.ack(block, turn.now))


def send_fin(turn: Turn) -> None:
    """Send <SEQ=SND.NXT><ACK=RCV.NXT><CTL=FIN,ACK>."""
    block = turn.block
    block.fin_seq = block.snd_nxt
    turn.send(segments.fin(block, turn.now, block.snd_nxt))
    block.snd_nxt = seq.add(block.snd_nxt, 1)


def send_rst(turn: Turn) -> None:
    """Abort: send <SEQ=SND.NXT><CTL=RST>."""
    turn.send(segments.abort(turn.block, turn.now))


def answer_rst(turn: Turn) -> None:
    """Answer the segment with the RST that its sender will accept."""
    turn.send(segments.reset_for(turn.segment))


def retransmit(turn: Turn) -> None:
    """Send what is unacknowledged again, and wait for the next time that the schedule says."""
    block = turn.block
    for segment in segments.unacknowledged(block, turn.now):
        turn.send(segment)
    block.resent += 1
    _await_answer(block, turn.now)


# --- actions on the opening ---


def begin(turn: Turn) -> None:
    """Make a fresh control block of the old one: only the endpoints, the ISS and the habits stay."""
    block = turn.block
    block.from_listen = False
    block.snd_una = block.snd_nxt = block.iss
    block.snd_wnd = block.max_snd_wnd = block.snd_wl1 = block.snd_wl2 = 0
    block.irs = block.fin_seq = block.negotiated = block.challenged_at = None
    block.rcv_nxt = block.ts_recent = 0
    block.rcv_wnd = block.habits.window
    disarm(turn)
    block.opening_until = None if block.give_up_ns is None else turn.now + block.give_up_ns
    block.expire_at = block.opening_until


def take_syn(turn: Turn) -> None:
    """Take the peer's SYN: IRS, RCV.NXT, the peer's window, and what both offer.

    Text or a FIN behind a SYN without ACK is neither queued nor acknowledged, so the peer sends it again. RFC 9293, section
    3.10.7.3, would queue it; Linux does not either (tcp_rcv_synsent_state_process, without Fast Open).
    """
    block, segment = turn.block, turn.segment
    block.remote = segment.source
    block.irs = segment.seq
    block.rcv_nxt = seq.add(segment.seq, 1)
    block.negotiated = agreed = segments.agree(block.offer, segment)
    block.snd_wnd = block.max_snd_wnd = segment.window  # never scaled in a SYN: RFC 7323, section 2.2
    block.snd_wl1, block.snd_wl2 = segment.seq, segment.ack
    unit = 1 << (agreed.receive_shift or 0)
    block.rcv_wnd = -(-block.habits.window // unit) * unit  # the window field can only tell multiples of the unit
    stamps = segment.timestamps
    if agreed.timestamps and stamps is not None:
        block.ts_recent = stamps.value


def enter_from_listen(turn: Turn) -> None:
    """Remember that this opening came from LISTEN."""
    turn.block.from_listen = True


def count_syn(turn: Turn) -> None:
    """Count our SYN into SND.NXT."""
    turn.block.snd_nxt = seq.add(turn.block.iss, 1)


def back_to_listen(turn: Turn) -> None:
    """Forget the peer, and keep listening.

    The ISS stays the same, as a machine draws none; RFC 9293, section 3.4.1, would draw another.
    """
    block, until = turn.block, turn.block.opening_until
    if block.any_remote:
        block.remote = None
    begin(turn)
    block.opening_until = block.expire_at = until


def establish(turn: Turn) -> None:
    """The opening is done: no timer runs, and the user is told."""
    disarm(turn)
    turn.endings.append(Concluded(Ending.ESTABLISHED))


def rest_of_segment(turn: Turn) -> None:
    """Go on with what lies behind the SYN."""
    segment = turn.segment
    turn.segment = replace(segment, seq=seq.add(segment.seq, 1), flags=segment.flags & ~Flags.SYN)


# --- actions on the connection ---


def take_ack(turn: Turn) -> None:
    """Take SEG.ACK, the window update (RFC 9293, section 3.10.7.4) and the timestamp (RFC 7323, section 4.3)."""
    block, segment = turn.block, turn.segment
    if seq.before(block.snd_una, segment.ack):
        block.snd_una = segment.ack
    if seq.before(block.snd_wl1, segment.seq) or (block.snd_wl1 == segment.seq and seq.at_or_before(block.snd_wl2, segment.ack)):
        shift = block.negotiated.send_shift if block.negotiated is not None and not turn.opening else None
        block.snd_wnd = segment.window << (shift or 0)
        block.max_snd_wnd = max(block.max_snd_wnd, block.snd_wnd)
        block.snd_wl1, block.snd_wl2 = segment.seq, segment.ack
    stamps = segment.timestamps
    if stamps is not None and seq.at_or_before(segment.seq, block.rcv_nxt) and seq.at_or_before(block.ts_recent, stamps.value):
        block.ts_recent = stamps.value


def deliver(turn: Turn) -> None:
    """Hand the text from RCV.NXT on to the user, as far as the window reaches."""
    block, segment = turn.block, turn.segment
    known = seq.distance(segment.seq, block.rcv_nxt)
    count = min(segment.payload_length - known, block.rcv_wnd)
    if count <= 0:
        return
    block.rcv_nxt = seq.add(block.rcv_nxt, count)
    payload = segment.payload[known : known + count]
    if payload:
        turn.effects.append(Delivered(payload))


def take_fin(turn: Turn) -> None:
    """Count the peer's FIN into RCV.NXT."""
    turn.block.rcv_nxt = seq.add(turn.block.rcv_nxt, 1)


def time_wait(turn: Turn) -> None:
    """Start the 2 MSL timer, and stop the others."""
    disarm(turn)
    turn.block.expire_at = turn.now + turn.block.habits.time_wait_ns


# --- actions on timers ---


def await_answer_to_syn(turn: Turn) -> None:
    """Start the SYN's schedule. A SYN-ACK that takes its place after a crossing goes on with it: one timer (RFC 6298, 5.1)."""
    _start(turn, turn.block.habits.syn)


def await_answer_to_syn_ack(turn: Turn) -> None:
    """Start the schedule of a SYN-ACK sent from LISTEN."""
    _start(turn, turn.block.habits.syn_ack)


def await_answer_to_fin(turn: Turn) -> None:
    """Start the FIN's schedule; the user's patience with the opening no longer counts."""
    turn.block.opening_until = None
    _start(turn, turn.block.habits.fin)


def hasten_retransmission(turn: Turn) -> None:
    """Send the SYN again soon, unless it was sent again before."""
    block = turn.block
    if block.resent == 0 and block.retransmit_at is not None:
        block.retransmit_at = min(block.retransmit_at, turn.now + _HASTE_NS)


def disarm(turn: Turn) -> None:
    """Stop all timers."""
    block = turn.block
    block.schedule = block.retransmit_at = block.expire_at = None
    block.resent = 0


def _start(turn: Turn, schedule: Schedule) -> None:
    block = turn.block
    block.schedule, block.resent = schedule, 0
    block.expire_at = turn.now + schedule.give_up_ns
    if block.opening_until is not None:
        block.expire_at = min(block.expire_at, block.opening_until)
    _await_answer(block, turn.now)


def _await_answer(block: Block, now: int) -> None:
    gap_ns = None if block.schedule is None else block.schedule.gap_ns(block.resent)
    block.retransmit_at = None if gap_ns is None else now + gap_ns


# --- actions that end ---


def _end(turn: Turn, ending: Ending) -> None:
    disarm(turn)
    turn.endings.append(Concluded(ending))


def end_refused(turn: Turn) -> None:
    """Tell the user: connection refused."""
    _end(turn, Ending.REFUSED)


def end_reset(turn: Turn) -> None:
    """Tell the user: connection reset."""
    _end(turn, Ending.RESET)


def end_unreachable(turn: Turn) -> None:
    """Tell the user that an ICMP error ended it."""
    _end(turn, Ending.UNREACHABLE)


def end_timed_out(turn: Turn) -> None:
    """Tell the user: connection aborted due to user timeout."""
    _end(turn, Ending.TIMED_OUT)


def end_closed(turn: Turn) -> None:
    """Tell the user that it is closed."""
    _end(turn, Ending.CLOSED)


def refuse_unspecified(turn: Turn) -> None:
    """Raise: remote socket unspecified."""
    raise BadParameter(f"{turn.block.local}: OPEN without a remote endpoint", todo="give the handshake its remote endpoint")


def refuse_existing(turn: Turn) -> None:
    """Raise: connection already exists."""
    raise BadParameter(f"{turn.block.local}: the connection already exists ({turn.block.state})", todo="ABORT it first")


SENDS: dict[Action, str] = {
    send_syn: "SYN",
    send_syn_ack: "SYN-ACK",
    send_ack: "ACK",
    send_ack_with_dsack: "ACK with DSACK",
    challenge: "ACK",
    send_fin: "FIN-ACK",
    send_rst: "RST",
    answer_rst: "RST",
}
"""What an action puts on the wire, for the diagram."""
