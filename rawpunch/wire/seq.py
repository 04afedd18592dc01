"""Sequence number arithmetic modulo 2**32 (RFC 9293, section 3.4)."""

from __future__ import annotations

from typing import Final

MODULUS: Final = 1 << 32
_HALF: Final = 1 << 31


def add(seq: int, count: int) -> int:
    """The sequence number `count` octets after `seq` (`count` may be negative)."""
    return (seq + count) % MODULUS


def distance(start: int, end: int) -> int:
    """How far `end` lies ahead of `start`, in -2**31 .. 2**31 - 1; negative when it lies behind."""
    return (end - start + _HALF) % MODULUS - _HALF


def before(left: int, right: int) -> bool:
    """Whether `left` < `right`."""
    return distance(left, right) > 0


def at_or_before(left: int, right: int) -> bool:
    """Whether `left` =< `right`."""
    return distance(left, right) >= 0


def in_window(seq: int, start: int, size: int) -> bool:
    """Whether `seq` lies in the `size` numbers that begin at `start`."""
    return (seq - start) % MODULUS < size


def acceptable(seq: int, length: int, rcv_nxt: int, rcv_wnd: int) -> bool:
    """The acceptability test of RFC 9293, section 3.4, table 6: does a segment fall into the receive window at all?

    Args:
        seq: SEG.SEQ.
        length: SEG.LEN, counting SYN and FIN.
        rcv_nxt: RCV.NXT.
        rcv_wnd: RCV.WND in octets.
    """
    if rcv_wnd == 0:
        return length == 0 and seq == rcv_nxt
    if length == 0:
        return in_window(seq, rcv_nxt, rcv_wnd)
    return in_window(seq, rcv_nxt, rcv_wnd) or in_window(add(seq, length - 1), rcv_nxt, rcv_wnd)
