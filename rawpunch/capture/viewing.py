"""The views of one attempt as `rawpunch.record.pattern.tell` takes them, made from the arrays."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from rawpunch.capture.attempts import Sorted
from rawpunch.capture.merging import Views
from rawpunch.capture.packets import ICMP, Packets
from rawpunch.record.pattern import Seen, View
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

AT: Final[tuple[Literal["a", "b", ""], ...]] = ("a", "b", "")
"""By the codes of `Views.near`."""


def views_of(
    packets: Packets, ordered: Sorted, views: Views, attempt: int, *, most: int | None = None, by_place: bool = False
) -> list[View]:
    """The views of an attempt. Its packets have what `tell` looks at: no options, windows or payloads.

    Args:
        packets: all packets.
        ordered: the same, sorted.
        views: all views.
        attempt: which attempt.
        most: at most so many packets of each view.
        by_place: number packets by their place in `ordered` instead of their number in the file.
    """
    found = []
    for view in np.flatnonzero(views.attempt == attempt).tolist():
        start, end = int(ordered.attempts.start[view]), int(ordered.attempts.end[view])
        ends = packets.endpoints(np.array([ordered.low[start], ordered.high[start]]))
        a, b = ends if views.low_is_a[view] else reversed(ends)
        seen = []
        for place in range(start, end if most is None else min(end, start + most)):
            at = int(ordered.place[place])
            source, destination = ends if ordered.from_low[place] else reversed(ends)
            number = place if by_place else int(packets.number[at])
            seen.append(Seen(int(ordered.time_ns[place]), number, _packet(packets, at, source, destination)))
        found.append(View(packets.vantages[views.vantage[view]].name, a, b, AT[views.near[view]], tuple(seen)))
    return found


def _packet(packets: Packets, at: int, source: Endpoint, destination: Endpoint) -> Packet:
    flags, seq, ack, ttl = int(packets.flags[at]), int(packets.seq[at]), int(packets.ack[at]), int(packets.ttl[at])
    if flags & ICMP:
        told = Flow(destination, source)
        return IcmpError(source.address, destination.address, ack >> 8, ack & 255, told, seq, ttl)
    length = int(packets.payload_length[at])
    return Segment(source, destination, Flags(flags), seq, ack, payload_length=length, ttl=ttl)
