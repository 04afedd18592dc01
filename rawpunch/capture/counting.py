"""How many SYNs, SYN-ACKs, RSTs, ICMP errors and segments each attempt had.

A packet that several vantage points saw counts once: among the views of an attempt, packets of the same sender, control bits,
sequence numbers and length are the same ones on their way, and the view that saw most of them saw how often they were sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rawpunch.capture.attempts import ACK, RST, Sorted, is_syn
from rawpunch.capture.groups import Mask, codes_of
from rawpunch.capture.merging import Views
from rawpunch.capture.packets import ICMP, Packets
from rawpunch.capture.records import Ints


@dataclass(frozen=True, slots=True)
class Counts:
    """Arrays with one element per attempt."""

    syn: Ints
    """SYNs without ACK, of both ends."""
    syn_ack: Ints
    rst: Ints
    """RSTs, also those that came after the handshake."""
    syn_retransmissions: Ints
    """SYNs that repeat the sequence number of an earlier one of the same end."""
    icmp_errors: Ints
    segments: Ints


def count_all(packets: Packets, ordered: Sorted, views: Views) -> Counts:
    """Count all attempts."""
    groups = ordered.attempts
    attempt = views.attempt[groups.of]
    weight = _weights(packets, ordered, views, attempt)
    flags = ordered.flags
    icmp = flags & np.int16(ICMP) != 0
    syn = is_syn(flags)
    calls = syn & (flags & ACK == 0)

    def total(which: Mask) -> Ints:
        if weight is None:
            return np.bincount(attempt[which], minlength=views.attempts)
        return np.bincount(attempt[which], weight[which], views.attempts).astype(np.int64)

    calling = np.flatnonzero(calls)
    sender = ordered.from_low[calling] == views.low_is_a[groups.of[calling]]
    codes = codes_of(attempt[calling], sender, ordered.seq[calling])
    _, first = np.unique(codes, return_index=True)
    tries = np.bincount(attempt[calling[first]], minlength=views.attempts)
    called = total(calls)
    return Counts(called, total(syn & ~calls), total(flags & RST != 0), called - tries, total(icmp), total(~icmp))


def _weights(packets: Packets, ordered: Sorted, views: Views, attempt: Ints) -> npt.NDArray[np.int8] | None:
    """1 for each packet that counts, 0 for those that another view shows; None if all count."""
    crowd = np.bincount(views.attempt) if len(views.attempt) else views.attempt
    if not len(crowd) or crowd.max() == 1:
        return None
    weight = np.ones(len(attempt), np.int8)
    places = np.flatnonzero(crowd[attempt] > 1)
    view = ordered.attempts.of[places]
    sender = ordered.from_low[places] == views.low_is_a[view]
    length = packets.payload_length[ordered.place[places]]
    same = codes_of(
        codes_of(attempt[places], sender, ordered.flags[places]),
        codes_of(ordered.seq[places], ordered.ack[places], length),
    )
    order = np.lexsort((view, same))
    same, view = same[order], view[order]
    begins = np.flatnonzero((np.diff(same, prepend=-1) != 0) | (np.diff(view, prepend=-1) != 0))
    size = np.diff(np.append(begins, len(order)))
    best = np.zeros(int(same.max()) + 1, np.int64)
    np.maximum.at(best, same[begins], size)
    winner = np.full(len(best), -1)
    good = np.flatnonzero(size == best[same[begins]])[::-1]
    winner[same[begins[good]]] = view[begins[good]]
    weight[places[order]] = view == winner[same]
    return weight
