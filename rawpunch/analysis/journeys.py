"""From sightings to journeys: the same packet recognised at every vantage point that it passed.

A NAT rewrites addresses and ports, so a packet is known by what NATs leave alone: its control bits, sequence and acknowledgement
numbers and payload length, and the way it travels. A retransmission has the same ones; it is told from the original by order in
time: no vantage point sees one packet twice, and of several that could have come here the one fits best whose way took as long as
the others' did.

Vantage points are ordered as lanes from left (host A) to right (host B). The way a packet travels is told at each of them from
the direction in which it passed the device, and from the side to which that device looks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

from rawpunch.errors import BadParameter
from rawpunch.record.rows import SegmentRow
from rawpunch.units import MS
from rawpunch.wire.segment import Flags

RIGHT: Final = 1
LEFT: Final = -1
_RANKS: Final = (
    (re.compile(r"host.*a|a|left|client"), 0),
    (re.compile(r"nat.*a|na"), 1),
    (re.compile(r"nat.*b|nb"), 3),
    (re.compile(r"host.*b|b|right|server"), 4),
)
_MIDDLE: Final = 2
_DEVICES: Final = {"in": LEFT, "inside": LEFT, "lan": LEFT, "a": LEFT, "out": RIGHT, "outside": RIGHT, "wan": RIGHT, "b": RIGHT}
"""To which side a device of that name looks, on A's half and in the middle; on B's half to the other."""
_STAMP_JITTER_NS: Final = MS // 20
"""Time stamps of neighbouring devices may be this much out of order: they are taken by different queues."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One vantage point, drawn as one vertical line."""

    vantage: str
    group: str
    """Its host: what stands before the colon."""
    device: str
    looks: int
    """RIGHT or LEFT: to which side its cable leads; 0 when unknown."""
    seen: bool = True
    """Whether anybody recorded there; a far side that is only inferred was not."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One packet at one vantage point."""

    lane: int
    time_ns: int
    number: int
    """Packet number in the capture."""
    direction: str


@dataclass(frozen=True, slots=True)
class Journey:
    """One packet's way through the lanes."""

    kind: str
    seq: int | None
    ack: int | None
    payload_length: int
    sightings: tuple[Sighting, ...]
    """In the order in which it passed them."""
    way: int
    """RIGHT, LEFT, or 0 when one vantage point alone saw it and does not tell."""
    arrived: bool
    """Whether the host that it went to saw it; one that vanished did not arrive."""
    born_inside: bool
    """Whether something between the hosts sent it."""
    repeats: bool
    """Whether it is a retransmission: an equal packet left earlier."""
    decides: bool
    """Whether it decided the attempt."""

    @property
    def start_ns(self) -> int:
        """When it was first seen."""
        return self.sightings[0].time_ns

    @property
    def end_ns(self) -> int:
        """When it was last seen."""
        return self.sightings[-1].time_ns

    def crosses(self, other: Journey) -> bool:
        """Whether each of the two left before the other arrived, on opposite ways that meet."""
        if self.way * other.way != LEFT:
            return False
        right, left = (self, other) if self.way == RIGHT else (other, self)
        meet = right.sightings[0].lane < left.sightings[0].lane and right.sightings[-1].lane > left.sightings[-1].lane
        return meet and self.start_ns < other.end_ns and other.start_ns < self.end_ns


@dataclass(slots=True)
class _Open:
    """A journey while its sightings are gathered."""

    row: SegmentRow
    way: int
    sightings: list[Sighting] = field(default_factory=list)
    rows: list[SegmentRow] = field(default_factory=list)

    def lanes(self) -> set[int]:
        return {sighting.lane for sighting in self.sightings}

    def add(self, row: SegmentRow, lane: int) -> None:
        self.sightings.append(Sighting(lane, row.time_ns, row.number, row.direction))
        self.rows.append(row)


_Key = tuple[Any, ...]


def _key(row: SegmentRow) -> _Key:
    """What no NAT changes."""
    if row.flags is None:
        return (row.kind, row.seq)
    return (row.flags, row.seq, row.ack, row.payload_length)


def split_vantage(vantage: str) -> tuple[str, str]:
    """Host and device of a vantage point."""
    group, _, device = vantage.partition(":")
    return group, device


def order_lanes(rows: Sequence[SegmentRow], order: Sequence[str] | None = None, silent: Iterable[str] = ()) -> tuple[Lane, ...]:
    """The lanes from left to right.

    Args:
        rows: all packets.
        order: vantage points, or hosts, from left to right; told from their names when not given (host A, NAT A, others, NAT B,
            host B; others in the order in which packets reach them). Vantage points that it does not name are left out.
        silent: vantage points that recorded too, though they may have seen nothing.

    Raises:
        BadParameter: a name of `order` is no vantage point.
    """
    vantages = list(dict.fromkeys((*(row.vantage for row in rows), *silent)))
    ranks = _given_ranks(vantages, order) if order is not None else _told_ranks(rows, vantages)
    looks = _looks(rows, ranks)
    chosen = sorted(ranks, key=lambda vantage: (ranks[vantage], looks[vantage], vantages.index(vantage)))
    return tuple(Lane(vantage, *split_vantage(vantage), looks[vantage]) for vantage in chosen)


def _given_ranks(vantages: Sequence[str], order: Sequence[str]) -> dict[str, float]:
    ranks: dict[str, float] = {}
    for rank, name in enumerate(order):
        found = [vantage for vantage in vantages if name in (vantage, split_vantage(vantage)[0])]
        if not found:
            raise BadParameter(f"no packet was seen at {name!r}", why=f"there are {', '.join(vantages) or 'no packets at all'}")
        ranks |= {vantage: float(rank) for vantage in found}
    return ranks


def _told_ranks(rows: Sequence[SegmentRow], vantages: Sequence[str]) -> dict[str, float]:
    """Ranks by name; hosts with other names are put between by when packets of the leftmost reach them."""
    ranks: dict[str, float] = {}
    for vantage in vantages:
        name = split_vantage(vantage)[0].lower()
        ranks[vantage] = next((rank for pattern, rank in _RANKS if pattern.fullmatch(name)), _MIDDLE)
    unnamed = [vantage for vantage in vantages if ranks[vantage] == _MIDDLE]
    if len({split_vantage(vantage)[0] for vantage in unnamed}) > 1:
        origin = min(rows, key=lambda row: (ranks[row.vantage] != 0, row.time_ns)).vantage
        sent = {_key(row): row.time_ns for row in rows if row.vantage == origin and row.direction == "out"}
        delays: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            if row.vantage in unnamed and _key(row) in sent:
                delays[split_vantage(row.vantage)[0]].append(row.time_ns - sent[_key(row)])
        hosts = sorted(
            dict.fromkeys(split_vantage(vantage)[0] for vantage in unnamed),
            key=lambda host: median(delays[host]) if delays[host] else float("inf"),
        )
        for vantage in unnamed:
            ranks[vantage] = _MIDDLE + hosts.index(split_vantage(vantage)[0]) / len(hosts)
    return ranks


def _looks(rows: Sequence[SegmentRow], ranks: Mapping[str, float]) -> dict[str, int]:
    """To which side each vantage point looks.

    Told by a vote of the packets that were first seen clearly to one side of it, each vantage point having seen them once; where
    there are none, by the device's name; where that says nothing, by a vote of all packets. A lone device of a host at the edge
    looks inwards.
    """
    families: dict[_Key, list[SegmentRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.time_ns):
        if row.vantage in ranks:
            families[_key(row)].append(row)
    plain = [family for family in families.values() if len({row.vantage for row in family}) == len(family)]
    sure, any_vote = _votes(plain, ranks), _votes(families.values(), ranks)
    edges = {min(ranks.values(), default=0.0): RIGHT, max(ranks.values(), default=0.0): LEFT}
    looks: dict[str, int] = {}
    for vantage, rank in ranks.items():
        device = _DEVICES.get(split_vantage(vantage)[1], 0) * (1 if rank < _MIDDLE + 1 else -1)
        alone = sum(other == rank for other in ranks.values()) == 1
        inward = edges.get(rank, 0) if len(edges) > 1 else 0
        told = (sure[vantage], device, any_vote[vantage], inward)
        looks[vantage] = inward if alone and inward else next((vote for vote in told if vote), 0)
    return looks


def _votes(families: Iterable[Sequence[SegmentRow]], ranks: Mapping[str, float]) -> dict[str, int]:
    """For each vantage point RIGHT, LEFT or 0: what the packets say that came to it from one side."""
    votes: dict[str, int] = dict.fromkeys(ranks, 0)
    for family in families:
        origin = ranks[family[0].vantage]
        for row in family:
            side = origin - ranks[row.vantage]
            if side:
                votes[row.vantage] += LEFT if (side < 0) == (row.direction == "in") else RIGHT
    return {vantage: (vote > 0) - (vote < 0) for vantage, vote in votes.items()}


def find_journeys(
    rows: Iterable[SegmentRow], lanes: Sequence[Lane], decided_by: tuple[str, int] | None = None
) -> tuple[Journey, ...]:
    """All journeys, in the order in which they began.

    Args:
        rows: packets; those at vantage points that are no lane are left out.
        lanes: from left to right.
        decided_by: vantage point and packet number of the packet that decided the attempt.
    """
    number = {lane.vantage: index for index, lane in enumerate(lanes)}
    seen = sorted(
        (row for row in rows if row.vantage in number), key=lambda row: (row.time_ns, row.direction == "in", number[row.vantage])
    )
    families: dict[_Key, list[SegmentRow]] = defaultdict(list)
    for row in seen:
        families[(*_key(row), _way(row, lanes[number[row.vantage]]))].append(row)
    families = _join_unknown_ways(families)
    transits = _transits(families.values(), number)
    gathered: list[_Open] = []
    for key, family in families.items():
        gathered += _gather(family, key[-1], number, transits)
    gathered.sort(key=lambda journey: journey.sightings[0].time_ns)
    return _told(gathered, lanes, decided_by)


def _way(row: SegmentRow, lane: Lane) -> int:
    """Which way a packet travels that passes a device which looks to one side."""
    return lane.looks if row.direction == "out" else -lane.looks


def _join_unknown_ways(families: Mapping[_Key, list[SegmentRow]]) -> dict[_Key, list[SegmentRow]]:
    """Give sightings at devices that do not tell the way to the one family with the same key, where there is just one."""
    joined = {key: list(family) for key, family in families.items()}
    for key in families:
        known = [other for way in (LEFT, RIGHT) if (other := (*key[:-1], way)) in families]
        if key[-1] == 0 and len(known) == 1:
            joined[known[0]] = sorted((*joined[known[0]], *joined.pop(key)), key=lambda row: row.time_ns)
    return joined


def _transits(families: Iterable[list[SegmentRow]], number: Mapping[str, int]) -> dict[tuple[int, int], float]:
    """Usual time from lane to lane in ns, from packets that were seen at most once at each."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for family in families:
        places = [number[row.vantage] for row in family]
        if len(set(places)) == len(places):
            for index, row in enumerate(family):
                for later in family[index + 1 :]:
                    found[number[row.vantage], number[later.vantage]].append(later.time_ns - row.time_ns)
    return {pair: median(times) for pair, times in found.items()}


def _gather(
    family: Sequence[SegmentRow], way: int, number: Mapping[str, int], transits: Mapping[tuple[int, int], float]
) -> list[_Open]:
    """Split equal packets into journeys."""
    journeys: list[_Open] = []
    for row in family:
        lane = number[row.vantage]
        best: _Open | None = None
        least = float("inf")
        for journey in journeys:
            last = journey.sightings[-1]
            waited = row.time_ns - last.time_ns
            onward = way == 0 or (lane - last.lane) * way > 0 or waited <= _STAMP_JITTER_NS
            if lane not in journey.lanes() and onward:
                surprise = abs(waited - transits.get((last.lane, lane), 0))
                if surprise <= least:
                    best, least = journey, surprise
        if best is None:
            best = _Open(row, way)
            journeys.append(best)
        best.add(row, lane)
    return journeys


def _told(gathered: Sequence[_Open], lanes: Sequence[Lane], decided_by: tuple[str, int] | None) -> tuple[Journey, ...]:
    earlier: dict[_Key, set[str]] = defaultdict(set)
    journeys = []
    for journey in gathered:
        sightings = tuple(_in_order(journey))
        first, last = sightings[0], sightings[-1]
        key = (*_key(journey.row), journey.way)
        origin = lanes[first.lane].group
        journeys.append(
            Journey(
                kind=journey.row.kind,
                seq=journey.row.seq,
                ack=journey.row.ack,
                payload_length=journey.row.payload_length or 0,
                sightings=sightings,
                way=journey.way,
                arrived=_at_end(last, lanes, journey.way),
                born_inside=not _at_end(first, lanes, -journey.way),
                repeats=_fills_sequence_space(journey.row) and origin in earlier[key],
                decides=any((row.vantage, row.number) == decided_by for row in journey.rows),
            )
        )
        earlier[key].add(origin)
    return tuple(journeys)


def _fills_sequence_space(row: SegmentRow) -> bool:
    """Whether a second one like it is a retransmission: a bare ACK or a RST may be sent twice for other reasons."""
    return bool(row.payload_length) or bool((row.flags or 0) & (Flags.SYN | Flags.FIN))


def _in_order(journey: _Open) -> list[Sighting]:
    """Sightings as passed: by lane on a known way (neighbours' time stamps may be a little out of order), else by time."""
    if journey.way:
        return sorted(journey.sightings, key=lambda sighting: sighting.lane * journey.way)
    return sorted(journey.sightings, key=lambda sighting: sighting.time_ns)


def _at_end(sighting: Sighting, lanes: Sequence[Lane], way: int) -> bool:
    if way == 0:
        return True
    return lanes[sighting.lane].group == lanes[-1 if way == RIGHT else 0].group


def one_sided_journeys(rows: Iterable[SegmentRow], decided_by: tuple[str, int] | None = None) -> tuple[Journey, ...]:
    """Journeys of a record from one vantage point, lane 0; a lane 1 stands for the other side, of whose time nothing is known."""
    journeys = []
    sent: set[_Key] = set()
    for row in sorted(rows, key=lambda row: (row.time_ns, row.number)):
        here = Sighting(0, row.time_ns, row.number, row.direction)
        there = replace(here, lane=1)
        way = RIGHT if row.direction == "out" else LEFT
        key = (*_key(row), way)
        journeys.append(
            Journey(
                kind=row.kind,
                seq=row.seq,
                ack=row.ack,
                payload_length=row.payload_length or 0,
                sightings=(here, there) if way == RIGHT else (there, here),
                way=way,
                arrived=True,
                born_inside=False,
                repeats=_fills_sequence_space(row) and key in sent,
                decides=(row.vantage, row.number) == decided_by,
            )
        )
        sent.add(key)
    return tuple(journeys)
