"""Where one attempt ends and the next begins among the packets of one 4-tuple at one vantage point.

Retransmitted SYNs belong to the attempt they repeat. What begins an attempt is a SYN with a new initial sequence number (ISN):

* from an end that had another ISN, once the attempt has ended: it failed (RST, ICMP error), it succeeded (both ends acknowledged
  something) or was closed (FIN), or nothing was heard of it for a second, after which only a new try draws a new ISN;
* from the other end, once the attempt has ended and began a while ago. A little earlier it is the late half of the same attempt:
  two peers that punch dial the same 4-tuple from both sides, and a NAT may have refused the first before the second began;
* from an end of which only later segments were seen so far, when these belong to a connection before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rawpunch.record.pattern import Seen, Side
from rawpunch.units import SECOND
from rawpunch.wire import seq as sequence
from rawpunch.wire.segment import Flags, IcmpError

LULL_NS: Final = SECOND
"""An end that draws a new ISN after so long without a packet has given up and begun anew, though nothing shows the giving up."""
QUIET_NS: Final = 60 * SECOND
"""After so long without a packet any new ISN begins a new attempt. (The SYNs of one try come up to 64 s apart, with one ISN.)"""
TOGETHER_NS: Final = 5 * SECOND
"""So long after the attempt's first packet may the other end begin its part of it though the first end has failed."""
REACH: Final = 1 << 30
"""How far from its ISN a connection's sequence numbers may lie."""

_SYN, _ACK, _END = int(Flags.SYN), int(Flags.ACK), int(Flags.RST | Flags.FIN)


class Splitter:
    """Takes the packets of a 4-tuple in order of time and says which of them begin an attempt."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._clear(0)

    def _clear(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._isns: tuple[set[int], set[int]] = (set(), set())
        self._called = [False, False]
        self._failed = False
        self._first_seq: list[int | None] = [None, None]
        self._first_ack: list[int | None] = [None, None]

    def feed(self, side: Side, flags: int | None, seq: int, ack: int, time_ns: int) -> bool:
        """Take the next packet.

        Args:
            side: who sent it, in whatever numbering; for an ICMP error anything.
            flags: control bits; None for an ICMP error.
            seq: sequence number.
            ack: acknowledgement number.
            time_ns: when it was seen.

        Returns:
            Whether it begins an attempt; the first packet always does.
        """
        syn = flags is not None and flags & _SYN != 0 and not flags & Flags.RST
        calls = syn and not (flags or 0) & _ACK
        anew = self._last_ns is None or (calls and self._anew(side, seq, time_ns, self._last_ns))
        if anew:
            self._clear(time_ns)
        self._last_ns = time_ns
        if flags is None or (flags & _END and not syn):
            self._failed = True
        if syn:
            self._isns[side].add(seq)
            self._called[side] |= calls
        elif flags is not None and not flags & Flags.RST and self._first_seq[side] is None:
            self._first_seq[side] = seq
        if flags is not None and flags & _ACK and not flags & Flags.RST and self._first_ack[side] is None:
            self._first_ack[side] = ack
        return anew

    def _anew(self, side: Side, seq: int, time_ns: int, last_ns: int) -> bool:
        if seq in self._isns[side]:
            return False
        quiet_ns = time_ns - last_ns
        if self._isns[side]:
            return self._failed or None not in self._first_ack or quiet_ns > LULL_NS
        if quiet_ns > QUIET_NS:
            return True
        if self._called[1 - side]:
            return self._failed and time_ns - self._start_ns > TOGETHER_NS
        return self._failed or not self._fits(side, seq)

    def _fits(self, side: Side, seq: int) -> bool:
        """Whether what was seen before a SYN may belong to its connection (packets out of order)."""
        spoken, acked = self._first_seq[side], self._first_ack[1 - side]
        return (spoken is None or 0 <= sequence.distance(seq, spoken) < REACH) and (
            acked is None or 0 < sequence.distance(seq, acked) < REACH
        )


def split(packets: Sequence[tuple[Side, Seen]]) -> list[list[tuple[Side, Seen]]]:
    """The attempts among the packets of a 4-tuple.

    Args:
        packets: with their senders, in order of time.
    """
    splitter = Splitter()
    attempts: list[list[tuple[Side, Seen]]] = []
    for side, seen in packets:
        packet = seen.packet
        if isinstance(packet, IcmpError):
            anew = splitter.feed(side, None, packet.quoted_seq, 0, seen.time_ns)
        else:
            anew = splitter.feed(side, int(packet.flags), packet.seq, packet.ack, seen.time_ns)
        if anew:
            attempts.append([])
        attempts[-1].append((side, seen))
    return attempts
