"""Sorting packets into flows and these into attempts, all at once: the bulk form of `rawpunch.record.attempts.split`.

A flow is a 4-tuple at a vantage point. Most flows are one attempt, and of the others most repeat one simple story, so that a few
rounds over arrays split them; what is too odd for that goes through the `Splitter` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.groups import NONE, Groups, Mask, codes_of, stable_order
from rawpunch.capture.packets import ICMP, Packets
from rawpunch.capture.records import Ints
from rawpunch.record.attempts import LULL_NS, QUIET_NS, TOGETHER_NS, Splitter
from rawpunch.wire.segment import Flags

SYN, ACK, RST, FIN = (np.int16(bit) for bit in (Flags.SYN, Flags.ACK, Flags.RST, Flags.FIN))

_ROUNDS: Final = 8
"""A 4-tuple that is used more often goes through the `Splitter`."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Packets in order of vantage point and 4-tuple, time and number; arrays of equal length."""

    place: Ints
    """Where each is in the `Packets`."""
    time_ns: Ints
    low: Ints
    """The smaller endpoint of its 4-tuple."""
    high: Ints
    from_low: Mask
    """Whether the smaller endpoint sent it."""
    flags: npt.NDArray[np.int16]
    seq: npt.NDArray[np.uint32]
    ack: npt.NDArray[np.uint32]
    attempts: Groups
    """The attempts of each flow, as its vantage point alone shows them."""


def sort_packets(packets: Packets) -> Sorted:
    """Put the packets of each attempt at each vantage point together."""
    low = np.minimum(packets.source, packets.destination)
    high = np.maximum(packets.source, packets.destination)
    codes = codes_of(low, high, packets.vantage)
    order = stable_order(codes)
    sorted_codes, time_ns = codes[order], packets.time_ns[order]
    if ((np.diff(time_ns) < 0) & (np.diff(sorted_codes) == 0)).any():
        order = np.lexsort((packets.number, packets.time_ns, codes))
        sorted_codes, time_ns = codes[order], packets.time_ns[order]
    flows = Groups.beginning(np.diff(sorted_codes, prepend=-1) != 0)
    low, high = low[order], high[order]
    from_low = packets.source[order] == low
    flags, seq, ack = packets.flags[order], packets.seq[order], packets.ack[order]
    begins = _beginnings(flows, from_low, flags, seq, ack, time_ns)
    return Sorted(order, time_ns, low, high, from_low, flags, seq, ack, Groups.beginning(begins))


def is_syn(flags: npt.NDArray[np.int16]) -> Mask:
    """SYNs and SYN-ACKs."""
    mask: Mask = flags & (SYN | RST) == SYN
    return mask


def _beginnings(
    flows: Groups,
    from_low: Mask,
    flags: npt.NDArray[np.int16],
    seq: npt.NDArray[np.uint32],
    ack: npt.NDArray[np.uint32],
    time_ns: Ints,
) -> Mask:
    """Which packets begin an attempt."""
    begins = np.zeros(len(flags), np.bool_)
    begins[flows.start] = True
    syn = np.flatnonzero(is_syn(flags))
    failed = (flags & np.int16(ICMP) != 0) | ((flags & (RST | FIN) != 0) & ~is_syn(flags))
    acks = flags & (ACK | RST) == ACK
    events = _Events(
        syn,
        flows.of[syn],
        from_low[syn].astype(np.int8),
        flags[syn] & ACK == 0,
        seq[syn],
        time_ns[syn],
        time_ns[syn] - time_ns[np.maximum(syn - 1, 0)],
        _before(failed),
        (_before(acks & from_low), _before(acks & ~from_low)),
    )
    for flow in _in_rounds(flows, events, time_ns, begins):
        splitter = Splitter()
        for at in range(flows.start[flow], flows.end[flow]):
            told = None if flags[at] & ICMP else int(flags[at])
            begins[at] = splitter.feed(0 if from_low[at] else 1, told, int(seq[at]), int(ack[at]), int(time_ns[at]))
    return begins


@dataclass(frozen=True, slots=True)
class _Events:
    """All SYNs and SYN-ACKs, in arrays of equal length."""

    at: Ints
    flow: npt.NDArray[np.int32]
    side: npt.NDArray[np.int8]
    calls: Mask
    """Whether it is a SYN without ACK."""
    seq: npt.NDArray[np.uint32]
    time_ns: Ints
    since_ns: Ints
    """Time since the packet before it."""
    failed: Ints
    """Packet -> how many packets before it ended an attempt by RST, FIN or ICMP error."""
    acks: tuple[Ints, Ints]
    """Packet -> how many packets before it carried an acknowledgement, by their senders."""

    def take(self, which: Mask) -> _Events:
        """Some of them."""
        columns: dict[str, Any] = {name: getattr(self, name)[which] for name in self.__slots__[:7]}
        return _Events(**columns, failed=self.failed, acks=self.acks)

    def ended(self, begin: Ints) -> tuple[Mask, Mask]:
        """Whether the attempt that began there had failed before each event, and whether it had succeeded."""
        failed = self.failed[self.at] > self.failed[begin]
        low, high = (acks[self.at] > acks[begin] for acks in self.acks)
        return failed, low & high


def _before(which: Mask) -> Ints:
    """Packet -> how many of those lie before it."""
    return np.concatenate([[0], np.cumsum(which)])


def _in_rounds(flows: Groups, events: _Events, time_ns: Ints, begins: Mask) -> Ints:
    """Mark the beginnings in `begins`, one of each flow a round; the flows that are too odd are given back."""
    odd: list[Ints] = []
    start = flows.start.copy()
    events = events.take(_several(events, start))
    for _ in range(_ROUNDS):
        if not len(events.at):
            break
        split, strange = _next(events, start, time_ns)
        odd.append(np.flatnonzero(strange))
        on = np.flatnonzero((split != NONE) & ~strange)
        begins[split[on]] = True
        start[on] = split[on]
        goes_on = np.zeros(len(start), np.bool_)
        goes_on[on] = True
        events = events.take(goes_on[events.flow] & (events.at >= start[events.flow]))
    odd.append(np.unique(events.flow).astype(np.int64))
    return np.concatenate(odd)


def _several(events: _Events, start: Ints) -> Mask:
    """The events of flows that have a SYN besides the one that begins them and its repetitions."""
    first = np.full(len(start), -1)
    first[events.flow[::-1]] = np.arange(len(events.at) - 1, -1, -1)
    of = first[events.flow]
    same = (events.seq == events.seq[of]) & (events.side == events.side[of])
    other = np.zeros(len(start), np.bool_)
    other[events.flow[events.calls & ~(same & (events.at[of] == start[events.flow]))]] = True
    return other[events.flow]


def _next(events: _Events, start: Ints, time_ns: Ints) -> tuple[Ints, Mask]:
    """For each flow: the first packet behind `start` that begins an attempt (NONE), and whether only the `Splitter` can tell."""
    flows = len(start)
    begin = start[events.flow]
    first = _first_of_side(events, flows, np.ones(len(events.at), np.bool_))
    called = _first_of_side(events, flows, events.calls)
    mine = first[events.side, events.flow]
    is_first = events.at == mine
    isn = np.zeros((2, flows), np.uint32)
    isn[events.side[is_first], events.flow[is_first]] = events.seq[is_first]
    differs = ~is_first & (events.seq != isn[events.side, events.flow])
    failed, succeeded = events.ended(begin)

    anew = differs & events.calls & (failed | succeeded | (events.since_ns > LULL_NS))
    peer_called = called[1 - events.side, events.flow] < events.at
    late = failed & (events.time_ns - time_ns[begin] > TOGETHER_NS)
    begins_part = is_first & events.calls & (events.at > begin)
    anew |= begins_part & ((events.since_ns > QUIET_NS) | (peer_called & late))
    unclear = begins_part & ~peer_called & ~anew  # its flow began with something else than a SYN
    unclear |= differs & ~anew  # from here on an end has several initial sequence numbers

    split = _first_per_flow(events, flows, anew)
    doubt = _first_per_flow(events, flows, unclear)
    later_call = np.full(flows, -1)
    later_call[events.flow[events.calls]] = events.at[events.calls]
    return split, (doubt < split) & (later_call >= doubt)


def _first_of_side(events: _Events, flows: int, which: Mask) -> Ints:
    """(side, flow) -> the first of those events, or NONE."""
    found = np.full((2, flows), NONE)
    backwards = np.flatnonzero(which)[::-1]
    found[events.side[backwards], events.flow[backwards]] = events.at[backwards]
    return found


def _first_per_flow(events: _Events, flows: int, which: Mask) -> Ints:
    found: npt.NDArray[Any] = np.full(flows, NONE)
    backwards = np.flatnonzero(which)[::-1]
    found[events.flow[backwards]] = events.at[backwards]
    return found
