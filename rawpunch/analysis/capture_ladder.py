"""The ladder of a flow from capture files, every vantage point a lane.

    from rawpunch.analysis.capture_ladder import ladder_of_flow
    found = rawpunch.classify(["hostA.pcap", "hostB.pcap"])
    print(ladder_of_flow(found, 0).text())

Where the names of vantage points do not tell their place on the path (``hostA:eth0``, ``natA:in``), the times of packets do.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.ladder import Ladder, ladder, shortened, without_closing
from rawpunch.record.rows import SegmentRow

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.capture.classified import Classified

MOST: Final = 40
"""Packets that are drawn where none were asked for by number: an open and its first data."""

_IDENTITY: Final = ("from_a", "kind", "seq", "ack", "payload_length")
"""What no NAT changes."""
_HOSTS: Final = {"a": -1, "b": 1, "": 0}


def ladder_of_flow(found: Classified, attempt: int, *, most: int = MOST, closing: bool = False) -> Ladder:
    """The ladder of one attempt, with its pattern and outcome, the deciding packet marked.

    Args:
        found: classified captures.
        attempt: which attempt, from 0.
        most: draw so many packets at most, the first ones.
        closing: whether to draw how an established connection was closed, too.

    Raises:
        UnknownName: there is no attempt of that number.
    """
    frame = found.packets_of(attempt)
    (told,) = found.rows(attempt, attempt + 1)
    words = dict.fromkeys(word.replace("_", " ") for word in (told["pattern"], told["outcome"]) if word)
    vantages = [vantage.name for vantage in found.vantages]
    decider, mark, number = (told["decided_by"] or "").rpartition("#")
    order, silent = None, vantages
    if not (frame["direction"].notna().all() and all(":" in vantage for vantage in vantages)):
        short = _short_names(vantages)
        frame["vantage"] = frame["vantage"].map(short)
        decider, silent = short.get(decider, ""), []
        order = _lay_out(frame)
    drawing = ladder(
        list(_rows(frame)),
        decided_by=f"{decider}#{number}" if mark else None,
        order=order,
        silent=silent,
        title=", ".join(words).capitalize(),
        subtitle=f"{told['flow']} (flow {attempt + 1} of {len(found)})",
    )
    if told["established_ns"] is not None and not closing:
        drawing = without_closing(drawing, told["established_ns"])
    return shortened(drawing, most)


def _lay_out(frame: pd.DataFrame) -> list[str]:
    """The vantage points from left to right, where neither names nor directions tell; directions are written into the frame.

    Every device is taken to look to the right, but the last one, which looks back.
    """
    order = _order(frame)
    to_right = frame["from_a"]
    if order[0] > order[-1]:  # who comes first in the alphabet stands on the left, whoever was first to send
        order.reverse()
        to_right = ~to_right
    looks_left = (frame["vantage"] == order[-1]) & ((len(order) > 1) | (frame["at"] == "b"))
    frame["direction"] = (to_right == looks_left).map({True: "in", False: "out"})
    return order


def _short_names(vantages: list[str]) -> dict[str, str]:
    """Names without what they all begin with, as far as that ends at a dash, a dot or the like: a lane has little room."""
    alike = len(set(vantages)) > 1
    letters = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*vantages, strict=False)) if alike else ()
    common = "".join(column[0] for column in letters)
    begin = max(common.rfind(mark) for mark in "-_./ ") + 1
    return {vantage: vantage[begin:] or vantage for vantage in vantages}


def _order(frame: pd.DataFrame) -> list[str]:
    """The vantage points from A to B: those behind others, on the way of A's packets, see these later and B's earlier."""
    first: dict[tuple[Any, ...], dict[str, int]] = {}
    hosts: dict[str, int] = {}
    for record in _records(frame):
        vantage = record["vantage"]
        first.setdefault(tuple(record[name] for name in _IDENTITY), {}).setdefault(vantage, record["time_ns"])
        hosts[vantage] = hosts.get(vantage, 0) or _HOSTS[record["at"]]
    late_ns: dict[tuple[str, str], int] = dict.fromkeys(itertools.permutations(hosts, 2), 0)
    for (from_a, *_), seen in first.items():
        for one, other in itertools.permutations(seen, 2):
            late_ns[one, other] += (seen[one] - seen[other]) * (1 if from_a else -1)
    behind = {pair for pair, late in late_ns.items() if late > 0}
    for middle, one, other in itertools.permutations(hosts, 3):  # Warshall's closure: the middle is the outermost loop
        if (one, middle) in behind and (middle, other) in behind:
            behind.add((one, other))
    return sorted(hosts, key=lambda vantage: (hosts[vantage], sum((vantage, other) in behind for other in hosts)))


def _records(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _rows(frame: pd.DataFrame) -> Iterator[SegmentRow]:
    for record in _records(frame):
        icmp = record["kind"].startswith("ICMP")
        yield SegmentRow(
            attempt="flow",
            number=record["number"],
            vantage=record["vantage"],
            time_ns=record["time_ns"],
            direction=record["direction"],
            source_address=record["source_address"],
            source_port=record["source_port"],
            destination_address=record["destination_address"],
            destination_port=record["destination_port"],
            kind=record["kind"],
            flags=None if icmp else int(record["flags"]),
            seq=int(record["seq"]),
            ack=record["ack"],
            window=None if icmp else int(record["window"]),
            payload_length=None if icmp else int(record["payload_length"]),
            ttl=int(record["ttl"]),
        )
