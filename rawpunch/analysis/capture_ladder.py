"""The ladder of a flow from capture files, every vantage point a lane.

    from rawpunch.analysis.capture_ladder import ladder_of_flow
    found = rawpunch.classify(["hostA.pcap", "hostB.pcap"])
    print(ladder_of_flow(found, 0).text())

A capture does not say where on the path it was taken: that is told by when its packets were seen at which vantage point.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.ladder import Ladder, ladder, shortened, without_closing
from rawpunch.record.rows import SegmentRow

if TYPE_CHECKING:
    from rawpunch.capture.classify import Classified

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
    short = _short_names(frame["vantage"].unique().tolist())
    frame["vantage"] = frame["vantage"].map(short)
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    order = _order(records)
    if order[0] > order[-1]:  # who comes first in the alphabet stands on the left, whoever was first to send
        order.reverse()
        for record in records:
            record["from_a"] = not record["from_a"]
    decider, mark, number = (told["decided_by"] or "").rpartition("#")
    words = dict.fromkeys(word.replace("_", " ") for word in (told["pattern"], told["outcome"]) if word)
    drawing = ladder(
        list(_rows(records, order)),
        decided_by=f"{short[decider]}#{number}" if mark else None,
        order=order,
        title=", ".join(words).capitalize(),
        subtitle=f"{told['flow']} (flow {attempt + 1} of {len(found)})",
    )
    if told["established_ns"] is not None and not closing:
        drawing = without_closing(drawing, told["established_ns"])
    return shortened(drawing, most)


def _short_names(vantages: list[str]) -> dict[str, str]:
    """Names without what they all begin with, as far as that ends at a dash, a dot or the like: a lane has little room."""
    alike = len(set(vantages)) > 1
    letters = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*vantages, strict=False)) if alike else ()
    common = "".join(column[0] for column in letters)
    begin = max(common.rfind(mark) for mark in "-_./ ") + 1
    return {vantage: vantage[begin:] or vantage for vantage in vantages}


def _order(records: list[dict[Hashable, Any]]) -> list[str]:
    """The vantage points from A to B: the later they see A's packets and the earlier B's, the nearer to B they are."""
    first: dict[tuple[Any, ...], dict[str, int]] = {}
    hosts: dict[str, int] = {}
    for record in records:
        vantage = record["vantage"]
        first.setdefault(tuple(record[name] for name in _IDENTITY), {}).setdefault(vantage, record["time_ns"])
        hosts[vantage] = hosts.get(vantage, 0) or _HOSTS[record["at"]]
    delays: dict[str, list[float]] = {vantage: [] for vantage in hosts}
    for (from_a, *_), seen in first.items():
        for vantage, time_ns in seen.items():
            for other_ns in seen.values():
                delays[vantage].append(time_ns - other_ns if from_a else other_ns - time_ns)
    return sorted(hosts, key=lambda vantage: (hosts[vantage], mean(delays[vantage])))


def _rows(records: list[dict[Hashable, Any]], order: list[str]) -> Iterator[SegmentRow]:
    """The packets as rows. Every device is taken to look towards B, but the last one, which looks back."""
    for record in records:
        right = record["vantage"] == order[-1] and (len(order) > 1 or record["at"] == "b")
        icmp = record["kind"].startswith("ICMP")
        yield SegmentRow(
            attempt="flow",
            number=record["number"],
            vantage=record["vantage"],
            time_ns=record["time_ns"],
            direction="in" if record["from_a"] == right else "out",
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
