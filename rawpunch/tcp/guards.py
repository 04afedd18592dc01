"""Guards: when a row of the handshake table fires. They only look.

Their names appear in the table, in its listing and in the diagram. SEG.*, SND.* and RCV.* are the variables of RFC 9293, section
3.3.1.
"""

from __future__ import annotations

from rawpunch.tcp.row import Turn
from rawpunch.wire import seq
from rawpunch.wire.endpoint import Flow

# --- guards on what a segment carries ---


def rst(turn: Turn) -> bool:
    """RST is set."""
    return turn.segment.rst


def syn(turn: Turn) -> bool:
    """SYN is set."""
    return turn.segment.syn


def ack(turn: Turn) -> bool:
    """ACK is set."""
    return turn.segment.has_ack


def no_ack(turn: Turn) -> bool:
    """ACK is not set."""
    return not turn.segment.has_ack


def fin(turn: Turn) -> bool:
    """FIN is set."""
    return turn.segment.fin


def more_than_syn(turn: Turn) -> bool:
    """There is text or a FIN behind the SYN."""
    return turn.segment.payload_length > 0 or turn.segment.fin


# --- guards on where it lies ---


def not_ours(turn: Turn) -> bool:
    """It is of another connection."""
    segment, block = turn.segment, turn.block
    return segment.destination != block.local or (block.remote is not None and segment.source != block.remote)


def outside_window(turn: Turn) -> bool:
    """No part of it lies in the receive window (RFC 9293, section 3.4, table 6)."""
    segment, block = turn.segment, turn.block
    return not seq.acceptable(segment.seq, segment.length, block.rcv_nxt, block.rcv_wnd)


def at_rcv_nxt(turn: Turn) -> bool:
    """SEG.SEQ = RCV.NXT."""
    return turn.segment.seq == turn.block.rcv_nxt


def at_irs(turn: Turn) -> bool:
    """SEG.SEQ = IRS: it is the peer's SYN again."""
    return turn.segment.seq == turn.block.irs


def ends_at_rcv_nxt(turn: Turn) -> bool:
    """All of it was received before, up to its last octet."""
    return turn.segment.end == turn.block.rcv_nxt


def text_in_order(turn: Turn) -> bool:
    """It has the octet at RCV.NXT."""
    segment = turn.segment
    return seq.in_window(turn.block.rcv_nxt, segment.seq, segment.payload_length)


def fin_in_order(turn: Turn) -> bool:
    """It has a FIN within the window, and nothing is missing before it."""
    block, segment = turn.block, turn.segment
    return (
        segment.fin
        and seq.in_window(block.rcv_nxt, segment.seq, segment.payload_length + 1)
        and seq.distance(block.rcv_nxt, segment.end) <= block.rcv_wnd
    )


def text_or_fin(turn: Turn) -> bool:
    """It has text or a FIN."""
    return turn.segment.payload_length > 0 or turn.segment.fin


# --- guards on what it acknowledges ---


def ack_of_nothing_sent(turn: Turn) -> bool:
    """SEG.ACK =< ISS or SEG.ACK > SND.NXT."""
    segment, block = turn.segment, turn.block
    return segment.has_ack and (seq.at_or_before(segment.ack, block.iss) or seq.before(block.snd_nxt, segment.ack))


def acks_iss(turn: Turn) -> bool:
    """SEG.ACK = ISS."""
    return turn.segment.has_ack and turn.segment.ack == turn.block.iss


def acks_syn(turn: Turn) -> bool:
    """SND.UNA < SEG.ACK =< SND.NXT."""
    segment, block = turn.segment, turn.block
    return segment.has_ack and seq.before(block.snd_una, segment.ack) and seq.at_or_before(segment.ack, block.snd_nxt)


def ack_ahead(turn: Turn) -> bool:
    """SEG.ACK > SND.NXT."""
    return seq.before(turn.block.snd_nxt, turn.segment.ack)


def ack_ancient(turn: Turn) -> bool:
    """SEG.ACK < SND.UNA - MAX.SND.WND (RFC 5961, section 5.2)."""
    block = turn.block
    return seq.before(turn.segment.ack, seq.add(block.snd_una, -block.max_snd_wnd))


def acks_fin(turn: Turn) -> bool:
    """Our FIN was sent, and it acknowledges that."""
    block = turn.block
    return block.fin_seq is not None and turn.segment.ack == seq.add(block.fin_seq, 1)


# --- guards on the connection ---


def from_listen(turn: Turn) -> bool:
    """The opening went through LISTEN."""
    return turn.block.from_listen


def remote_known(turn: Turn) -> bool:
    """The remote endpoint is specified."""
    return turn.block.remote is not None


# --- guards on time ---


def expired(turn: Turn) -> bool:
    """The state's time is over."""
    return turn.block.expire_at is not None and turn.now >= turn.block.expire_at


def patient(turn: Turn) -> bool:
    """The user's patience with the opening is not at its end."""
    return turn.block.opening_until is None or turn.now < turn.block.opening_until


def retransmission_due(turn: Turn) -> bool:
    """The retransmission timer has run out."""
    return turn.block.retransmit_at is not None and turn.now >= turn.block.retransmit_at


# --- guards on ICMP errors ---


def quotes_us(turn: Turn) -> bool:
    """It quotes a segment of this connection that is still under way: SND.UNA =< SEQ =< SND.NXT (RFC 5927, section 4.1)."""
    block, error = turn.block, turn.error
    if block.remote is None or error.quoted != Flow(block.local, block.remote):
        return False
    return seq.at_or_before(block.snd_una, error.quoted_seq) and seq.at_or_before(error.quoted_seq, block.snd_nxt)


def hard_error(turn: Turn) -> bool:
    """Protocol or port unreachable (RFC 1122, section 4.2.3.9); ICMPv6: prohibited or port unreachable (RFC 9293, 3.9.2.2).

    Type 3 code 4 is on RFC 1122's list of hard errors too, but path MTU discovery (RFC 1191) has made it an everyday message.
    """
    error = turn.error
    if error.quoted.source.is_ipv6:
        return error.type == 1 and error.code in {1, 4}
    return error.type == 3 and error.code in {2, 3}
