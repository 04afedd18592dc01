"""Which packets of a capture belong to which attempt, and what each vantage point saw of it.

Inside a NAT an attempt is known by the endpoints its end used. Outside it is known by what the NAT made of them: a packet at the
NAT's inner device and the same packet (destination, sequence numbers, flags, length) at its outer device a moment later show the
mapping. Where no mapping was seen, the endpoints that the peers aimed at stand for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from rawpunch.errors import BadParameter, Malformed
from rawpunch.record.pattern import Seen, View
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Option, decode_options
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

if TYPE_CHECKING:
    import pandas as pd

Zone = Literal["inside_a", "outside", "inside_b"]

_HOP_EARLY_NS: Final = MS
_HOP_LATE_NS: Final = SECOND
"""A packet leaves a NAT at most that long before (time stamps of two devices) or after it came in."""
_NOBODY: Final = -1
_SEEN_COLUMNS: Final = (
    "time_ns",
    "number",
    "source_address",
    "source_port",
    "destination_address",
    "destination_port",
    "flags",
    "seq",
    "ack",
    "window",
    "options",
    "payload_length",
    "ttl",
    "icmp_type",
    "icmp_code",
    "quoted_address",
)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The endpoints of one attempt. Ports that are used again by a later attempt need `not_before_ns`."""

    attempt: str
    local_a: Endpoint
    """A's own endpoint, inside."""
    remote_a: Endpoint
    """Where A sends to."""
    local_b: Endpoint
    remote_b: Endpoint
    not_before_ns: int | None = None
    not_after_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """A capture whose packets know their attempt."""

    packets: pd.DataFrame
    """The capture's packets with a column `attempt` (null: none)."""
    mappings: pd.DataFrame
    """NAT mappings that packets showed, as `MappingRow` has them: attempt, nat, internal, external, remote, time_ns."""
    external: Mapping[str, tuple[Endpoint | None, Endpoint | None]]
    """Attempt -> the endpoints of A and B outside, as far as they were seen."""
    rows: Mapping[str, Ints]
    """Attempt -> its rows in `packets`, in time order."""
    _cells: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def cells(self, name: str) -> list[Any]:
        """A column of `packets` as Python values (None for null), made once."""
        found = self._cells.get(name)
        if found is None:
            found = self._cells[name] = _python_values(self.packets[name])
        return found


def assign(frame: pd.DataFrame, plans: Sequence[Plan], zones: Mapping[str, Zone]) -> Assigned:
    """Put each packet to its attempt.

    Args:
        frame: packets as `read_capture` gives them; `interface` names the vantage point.
        plans: the attempts.
        zones: vantage point -> where it lies; packets of other vantage points belong to no attempt.

    Raises:
        BadParameter: two plans have the same name.
    """
    import pandas as pd  # noqa: PLC0415 - takes longer to import than a small capture to assign

    if len({plan.attempt for plan in plans}) < len(plans):
        raise BadParameter("two attempts have the same name")
    packets = _Packets(frame, zones)
    owner = np.full(len(frame), _NOBODY, np.int64)
    inside: dict[tuple[Zone, int, int], list[int]] = {}
    for index, plan in enumerate(plans):
        pair_a = _pair(packets.id_of(plan.local_a), packets.id_of(plan.remote_a))
        pair_b = _pair(packets.id_of(plan.local_b), packets.id_of(plan.remote_b))
        inside.setdefault(("inside_a", *pair_a), []).append(index)
        inside.setdefault(("inside_b", *pair_b), []).append(index)
    _own(packets, owner, inside, plans)
    shown = list(_mappings(packets, owner, plans))
    external: dict[str, list[Endpoint | None]] = {plan.attempt: [None, None] for plan in plans}
    outside: dict[tuple[Zone, int, int], list[int]] = {}
    for mapping in shown:
        plan = plans[mapping.plan]
        ends = external[plan.attempt]
        if ends[mapping.end] is None or ends[mapping.end] == mapping.internal:
            ends[mapping.end] = mapping.external
        pair = _pair(packets.id_of(mapping.external), packets.id_of(mapping.remote))
        _append(outside.setdefault(("outside", *pair), []), mapping.plan)
    for index, plan in enumerate(plans):
        pair = _pair(packets.id_of(plan.remote_a), packets.id_of(plan.remote_b))
        _append(outside.setdefault(("outside", *pair), []), index)
    _own(packets, owner, outside, plans)
    rows = _rows_by_owner(owner, packets.time_ns, plans)
    attempts = pd.Categorical.from_codes(owner, categories=pd.Index([plan.attempt for plan in plans], dtype="str"))
    return Assigned(
        frame.assign(attempt=attempts),
        pd.DataFrame(
            [
                (plans[m.plan].attempt, m.nat, str(m.internal), str(m.external), str(m.remote), m.time_ns)
                for m in shown
                if m.external != m.internal
            ],
            columns=["attempt", "nat", "internal", "external", "remote", "time_ns"],
        ),
        {attempt: (ends[0], ends[1]) for attempt, ends in external.items()},
        rows,
    )


def views(assigned: Assigned, plan: Plan, zones: Mapping[str, Zone], *, at_a: str = "", at_b: str = "") -> list[View]:
    """What each vantage point saw of an attempt, in the order of `zones`.

    Args:
        assigned: the capture.
        plan: the attempt.
        zones: vantage point -> where it lies.
        at_a: vantage point at A's own host; by default the one in A's zone whose name begins with ``hostA:``.
        at_b: the same for B.
    """
    rows = assigned.rows.get(plan.attempt)
    by_vantage: dict[str, list[int]] = {vantage: [] for vantage in zones}
    if rows is not None:
        names = assigned.cells("interface")
        for row in rows.tolist():
            by_vantage[names[row]].append(row)
    out_a, out_b = assigned.external.get(plan.attempt, (None, None))
    ends: dict[Zone, tuple[Endpoint, Endpoint]] = {
        "inside_a": (plan.local_a, plan.remote_a),
        "outside": (out_a or plan.remote_b, out_b or plan.remote_a),
        "inside_b": (plan.remote_b, plan.local_b),
    }
    found = []
    for vantage, zone in zones.items():
        a, b = ends[zone]
        host_a = vantage == at_a if at_a else zone == "inside_a" and vantage.startswith("hostA:")
        host_b = vantage == at_b if at_b else zone == "inside_b" and vantage.startswith("hostB:")
        seen = tuple(_seen(assigned, row) for row in by_vantage[vantage])
        found.append(View(vantage, a, b, "a" if host_a else "b" if host_b else "", seen))
    return found


def seen_of(frame: pd.DataFrame) -> tuple[Seen, ...]:
    """The packets of a frame as `tell` takes them, in the frame's order."""
    whole = Assigned(frame, frame, {}, {})
    return tuple(_seen(whole, row) for row in range(len(frame)))


def endpoints_of(frame: pd.DataFrame) -> tuple[Endpoint, Endpoint]:
    """Who speaks to whom in a frame of one flow: the sender and the receiver of its first SYN, or else of its first packet.

    Raises:
        Malformed: the frame is empty.
    """
    if frame.empty:
        raise Malformed("there is no TCP segment in the capture")
    syns = frame["kind"] == "SYN"
    first = frame[syns].iloc[0] if syns.any() else frame.iloc[0]
    return (
        _endpoint(first["source_address"], int(first["source_port"])),
        _endpoint(first["destination_address"], int(first["destination_port"])),
    )


@lru_cache(maxsize=65_536)
def _endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(address, port)


@lru_cache(maxsize=4096)
def _options(data: bytes) -> tuple[Option, ...]:
    try:
        return decode_options(data)
    except Malformed:
        return ()


def _python_values(column: pd.Series[Any]) -> list[Any]:
    values = column.tolist()
    if not column.hasnans:
        return values
    return [None if null else value for value, null in zip(values, column.isna().tolist(), strict=True)]


def _seen(assigned: Assigned, row: int) -> Seen:
    (time_ns, number, source_address, source_port, destination_address, destination_port, flags, *rest) = (
        assigned.cells(name)[row] for name in _SEEN_COLUMNS
    )
    seq, ack, window, options, payload_length, ttl, icmp_type, icmp_code, quoted_address = rest
    source, destination = _endpoint(source_address, source_port), _endpoint(destination_address, destination_port)
    packet: Packet
    if icmp_type is not None:
        told = Flow(destination, _endpoint(quoted_address, source_port))
        packet = IcmpError(source_address, destination_address, icmp_type, icmp_code, told, seq, ttl)
    else:
        packet = Segment(
            source,
            destination,
            Flags(flags),
            seq,
            ack or 0,
            window,
            _options(options),
            payload_length=payload_length,
            ttl=ttl,
        )
    return Seen(time_ns, number, packet)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One mapping that packets showed; `external` equals `internal` where there was no translation."""

    plan: int
    end: int
    nat: str
    internal: Endpoint
    external: Endpoint
    remote: Endpoint
    time_ns: int


class _Packets:
    """The columns needed here, as plain numbers; an endpoint is its address's code and its port in one number."""

    def __init__(self, frame: pd.DataFrame, zones: Mapping[str, Zone]) -> None:
        self.codes: dict[str, int] = {}
        self.texts: list[str] = []
        self.source = self._endpoints(frame, "source")
        self.destination = self._endpoints(frame, "destination")
        self.time_ns: Ints = frame["time_ns"].to_numpy(np.int64)
        names, interface = _categorical(frame["interface"])
        self.vantages = names
        self.vantage = interface
        of_zone = np.array([{"inside_a": 0, "outside": 1, "inside_b": 2}.get(zones.get(name, ""), -1) for name in names] + [-1])
        self.zone = of_zone[interface]
        self.is_icmp = frame["icmp_type"].notna().to_numpy(np.bool_)
        self.frame = frame
        self.zones = zones

    def _endpoints(self, frame: pd.DataFrame, end: str) -> Ints:
        texts, codes = _categorical(frame[f"{end}_address"])
        for text in texts:
            if text not in self.codes:
                self.codes[text] = len(self.texts)
                self.texts.append(text)
        known = np.array([self.codes[text] for text in texts] + [0], np.int64)
        numbers: Ints = known[codes] << 16 | frame[f"{end}_port"].to_numpy(np.int64)
        return numbers

    def id_of(self, endpoint: Endpoint) -> int:
        """The number of an endpoint; one of its own for an address that is in no packet."""
        code = self.codes.setdefault(endpoint.address, len(self.texts))
        if code == len(self.texts):
            self.texts.append(endpoint.address)
        return code << 16 | endpoint.port

    def endpoint(self, number: int) -> Endpoint:
        """The endpoint of a number."""
        return _endpoint(self.texts[number >> 16], number & 0xFFFF)


def _categorical(column: pd.Series[Any]) -> tuple[list[str], Ints]:
    """The words of a column and the code of each cell (-1 for null)."""
    cells = column.astype("category").cat
    return [str(word) for word in cells.categories], np.asarray(cells.codes, np.int64)


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one <= other else (other, one)


def _append(candidates: list[int], index: int) -> None:
    if index not in candidates:
        candidates.append(index)


_ZONES: Final[tuple[Zone, Zone, Zone]] = ("inside_a", "outside", "inside_b")


def _own(packets: _Packets, owner: Ints, flows: Mapping[tuple[Zone, int, int], list[int]], plans: Sequence[Plan]) -> None:
    """Give the packets of known flows that nobody owns yet to their attempts."""
    wanted = {key[0] for key in flows}
    free = (owner == _NOBODY) & np.isin(packets.zone, [_ZONES.index(zone) for zone in wanted])
    segments = np.flatnonzero(free & ~packets.is_icmp)
    low = np.minimum(packets.source, packets.destination)[segments]
    high = np.maximum(packets.source, packets.destination)[segments]
    zone = packets.zone[segments]
    order = np.lexsort((high, low, zone))
    segments, low, high, zone = segments[order], low[order], high[order], zone[order]
    edges = np.flatnonzero(np.diff(low, prepend=-1) | np.diff(high, prepend=-1) | np.diff(zone, prepend=-1))
    for start, end in pairwise([*edges.tolist(), len(segments)]):
        candidates = flows.get((_ZONES[int(zone[start])], int(low[start]), int(high[start])))
        if candidates:
            rows = segments[start:end]
            owner[rows] = _by_time(candidates, packets.time_ns[rows], plans)
    errors = np.flatnonzero(free & packets.is_icmp)
    if len(errors):
        told: dict[tuple[Zone, int, int], list[int]] = {}  # zone, who is told, port of the peer
        for (where, one, other), candidates in flows.items():
            for about, peer in ((one, other), (other, one)):
                for index in candidates:
                    _append(told.setdefault((where, about, peer & 0xFFFF), []), index)
        for row in errors.tolist():
            key = (_ZONES[int(packets.zone[row])], int(packets.destination[row]), int(packets.source[row]) & 0xFFFF)
            candidates = told.get(key)
            if candidates:
                owner[row] = _by_time(candidates, packets.time_ns[row : row + 1], plans)[0]


def _by_time(candidates: Sequence[int], time_ns: Ints, plans: Sequence[Plan]) -> Ints:
    """The last attempt that had begun and is not over, for each instant."""
    chosen = np.full(len(time_ns), _NOBODY, np.int64)
    if len(candidates) == 1 and plans[candidates[0]].not_before_ns is None and plans[candidates[0]].not_after_ns is None:
        chosen[:] = candidates[0]
        return chosen
    for index in sorted(candidates, key=lambda index: plans[index].not_before_ns or 0):
        plan = plans[index]
        there = np.ones(len(time_ns), np.bool_)
        if plan.not_before_ns is not None:
            there &= time_ns >= plan.not_before_ns
        if plan.not_after_ns is not None:
            there &= time_ns <= plan.not_after_ns
        chosen[there] = index
    return chosen


def _mappings(packets: _Packets, owner: Ints, plans: Sequence[Plan]) -> Iterator[_Shown]:
    """What each NAT made of the endpoints of each attempt, told by packets that went out through it."""
    inner: dict[str, tuple[str, int]] = {}
    outer: dict[str, list[str]] = {}
    for vantage, zone in packets.zones.items():
        nat, _, _ = vantage.partition(":")
        if zone == "outside":
            outer.setdefault(nat, []).append(vantage)
        else:
            inner[nat] = (vantage, 0 if zone == "inside_a" else 1)
    for nat, (vantage, end) in inner.items():
        if nat in outer and vantage in packets.vantages:
            yield from _mappings_of(packets, owner, plans, nat, vantage, outer[nat], end)


def _mappings_of(
    packets: _Packets, owner: Ints, plans: Sequence[Plan], nat: str, inner: str, outer: Sequence[str], end: int
) -> Iterator[_Shown]:
    locals_ = np.array([packets.id_of(plan.local_b if end else plan.local_a) for plan in plans], np.int64)
    coming = np.flatnonzero((packets.vantage == packets.vantages.index(inner)) & (owner != _NOBODY) & ~packets.is_icmp)
    coming = coming[packets.source[coming] == locals_[owner[coming]]]
    devices = [packets.vantages.index(name) for name in outer if name in packets.vantages]
    going = np.flatnonzero(np.isin(packets.vantage, devices) & ~packets.is_icmp)
    identity = np.column_stack(
        [
            packets.destination,
            packets.frame["seq"].to_numpy(np.int64),
            packets.frame["ack"].to_numpy(np.int64, na_value=-1),
            packets.frame["flags"].to_numpy(np.int64, na_value=-1),
            packets.frame["payload_length"].to_numpy(np.int64, na_value=-1),
        ]
    )
    went: dict[tuple[int, ...], list[int]] = {}
    for row, key in zip(going.tolist(), map(tuple, identity[going].tolist()), strict=True):
        went.setdefault(key, []).append(row)
    known: set[tuple[int, int]] = set()
    for row, key in zip(coming.tolist(), map(tuple, identity[coming].tolist()), strict=True):
        for out in went.get(key, ()):
            delay = int(packets.time_ns[out] - packets.time_ns[row])
            pair = (int(owner[row]), int(packets.source[out]))
            if pair not in known and -_HOP_EARLY_NS <= delay <= _HOP_LATE_NS:
                known.add(pair)
                internal, remote = packets.endpoint(int(packets.source[row])), packets.endpoint(int(packets.destination[row]))
                yield _Shown(pair[0], end, nat, internal, packets.endpoint(pair[1]), remote, int(packets.time_ns[out]))


def _rows_by_owner(owner: Ints, time_ns: Ints, plans: Sequence[Plan]) -> dict[str, Ints]:
    order = np.lexsort((time_ns, owner))
    sorted_owner = owner[order]
    starts = np.searchsorted(sorted_owner, np.arange(len(plans)))
    ends = np.searchsorted(sorted_owner, np.arange(len(plans)), side="right")
    return {plan.attempt: order[start:end] for plan, start, end in zip(plans, starts, ends, strict=True)}
