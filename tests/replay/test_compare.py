"""The comparison: what is the same whatever was drawn, what is not, and which difference came first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from rawpunch.cli.output import _plain
from rawpunch.record.pattern import Seen, View
from rawpunch.record.words import Outcome, Pattern
from rawpunch.replay.compare import Comparison, Fate, compare
from rawpunch.replay.script import Script, script_of
from rawpunch.units import MS
from rawpunch.wire import seq as sequence
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Mss, Sack, Timestamps
from rawpunch.wire.segment import Flags, IcmpError, Segment
from tests.replay.stage import A, B, opened

ORIGINAL = opened(offset_ns=7 * MS)


def renumbered(view: View, add_a: int, add_b: int, later_ns: int = 0) -> View:
    """The same story with other initial sequence numbers and at another time of the day."""
    seen = []
    for entry in view.seen:
        packet = entry.packet
        assert isinstance(packet, Segment)
        mine, theirs = (add_a, add_b) if packet.source == A else (add_b, add_a)
        options = tuple(
            Sack(tuple((sequence.add(x, theirs), sequence.add(y, theirs)) for x, y in option.blocks))
            if isinstance(option, Sack)
            else option
            for option in packet.options
        )
        moved = replace(
            packet,
            seq=sequence.add(packet.seq, mine),
            ack=sequence.add(packet.ack, theirs) if packet.has_ack else 0,
            options=options,
        )
        seen.append(replace(entry, time_ns=entry.time_ns + later_ns, packet=moved))
    return replace(view, seen=tuple(seen))


def replayed(change: Callable[[list[Seen]], list[Seen]], host: int = 0) -> Comparison:
    """The original beside itself with one host's view changed."""
    views = [renumbered(view, 12_345, 4_000_000_000, 5 * MS) for view in ORIGINAL]
    views[host] = replace(views[host], seen=tuple(change(list(views[host].seen))))
    return compare(script(), script_of("replay", views))


def script() -> Script:
    """The original."""
    return script_of("original", ORIGINAL)


def edited(place: int, **fields: object) -> Callable[[list[Seen]], list[Seen]]:
    """A change of one packet's fields."""

    def change(seen: list[Seen]) -> list[Seen]:
        packet = seen[place].packet
        assert isinstance(packet, Segment)
        seen[place] = replace(seen[place], packet=replace(packet, **fields))  # type: ignore[arg-type]
        return seen

    return change


def test_other_numbers_are_no_difference() -> None:
    """Other ISNs, another hour: all as captured, no error in time."""
    found = replayed(lambda seen: seen)
    assert found.totals == {"as captured": 12, "differently": 0, "missing": 0, "extra": 0}
    assert found.first_difference is None
    assert found.same_outcome
    assert set(found.errors_ns) == {0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edited(0, window=1), "A sent SYN (packet 1): differently; window: 64240 -> 1"),
        (edited(0, options=(Mss(536),)), "-> mss 536"),
        (edited(2, flags=Flags.SYN | Flags.ACK | Flags.ECE), "flags: SYN|ACK -> SYN|ACK|ECE"),
        (edited(2, ack=99), "A sent SYN-ACK (packet 3): differently; ack: 1 -> "),
        (edited(4, options=(Timestamps(5, 0),)), "ts without echo"),
        (lambda seen: seen[:4], "A sent ACK (packet 5): missing"),
        (lambda seen: [*seen, Seen(seen[-1].time_ns + 1, 9, Segment(B, A, Flags.RST, 5))], "A got RST: extra"),
    ],
)
def test_each_difference_has_its_word(change: Callable[[list[Seen]], list[Seen]], says: str) -> None:
    """What was sent differently, not at all, or besides is named with the field."""
    first = replayed(change).first_difference
    assert first is not None
    assert says in str(first)


def test_the_first_difference_is_the_earliest() -> None:
    """Two differences: the one that came first is named."""

    def change(seen: list[Seen]) -> list[Seen]:
        return edited(0, window=1)(edited(4, window=2)(seen))

    first = replayed(change).first_difference
    assert first is not None
    assert first.number == 1
    assert first.fate is Fate.DIFFERENTLY


def test_a_late_packet_is_late_by_so_much() -> None:
    """A SYN-ACK that left 300 us late is late, and the ACK after it that kept its own distance is not."""

    def change(seen: list[Seen]) -> list[Seen]:
        seen[2] = replace(seen[2], time_ns=seen[2].time_ns + 300_000)
        return seen

    rows = [row for row in replayed(change).rows if row.side == "a" and row.sent]
    assert [row.error_ns for row in rows] == [None, 300_000, 0]
    assert all(row.fate is Fate.AS_CAPTURED for row in rows)


def test_the_offset_has_an_error_too() -> None:
    """B started 2 ms later than it should have: its first packet says so."""
    views = [ORIGINAL[0], ORIGINAL[1]]
    seen = ORIGINAL[1].seen
    views[1] = replace(ORIGINAL[1], seen=(replace(seen[0], time_ns=seen[0].time_ns + 2 * MS), *seen[1:]))
    found = compare(script(), script_of("replay", views))
    assert next(row.error_ns for row in found.rows if row.side == "b" and row.sent) == 2 * MS


def test_icmp_errors_are_packets_too() -> None:
    """An ICMP error that was not in the capture is extra, and the outcome is another."""

    def change(seen: list[Seen]) -> list[Seen]:
        first = seen[0].packet
        assert isinstance(first, Segment)
        error = IcmpError("203.0.113.1", A.address, 3, 13, Flow(A, B), first.seq)
        return [seen[0], Seen(seen[0].time_ns + MS, 2, error)]

    views = [renumbered(view, 1, 2) for view in ORIGINAL]
    views[0] = replace(views[0], seen=tuple(change(list(views[0].seen))))
    views[1] = replace(views[1], seen=views[1].seen[:1])
    found = compare(script(), script_of("replay", views))
    assert found.totals["extra"] == 1
    assert found.replayed.pattern is Pattern.ICMP_ENDED
    assert not found.same_outcome
    document = found.to_document()
    assert document["replayed"] == {"pattern": Pattern.ICMP_ENDED, "outcome": Outcome.UNREACHABLE}


def test_only_played_sides_have_times() -> None:
    """Against a kernel on side B, B's packets are compared and B's times are its own business."""
    found = compare(script(), script_of("replay", ORIGINAL), sides="a")
    assert {row.side for row in found.rows if row.error_ns is not None} == {"a"}


def test_a_pattern_is_told_from_where_the_capture_was_taken() -> None:
    """A capture at A's host alone calls a half-simultaneous open `split`, and so its replay, seen from there."""
    half = opened(offset_ns=60 * MS, losses=frozenset({(0, 0)}))
    alone = script_of("alone", [replace(half[0], at="")])
    both = script_of("replay", half)
    assert both.told.pattern is Pattern.HALF_SIMULTANEOUS
    assert compare(script_of("both", half), both).replayed.pattern is Pattern.HALF_SIMULTANEOUS
    seen_there = replace(half[0], at="", vantage="core")
    assert compare(alone, script_of("replay", [seen_there])).same_outcome


def test_a_port_change_is_no_difference() -> None:
    """Addresses and ports are those of the replay: what a NAT made of them is no difference."""
    here, there = Endpoint("192.0.2.9", 1), Endpoint("192.0.2.8", 2)
    swap = {A: here, B: there}
    views = [
        View(
            view.vantage,
            here,
            there,
            view.at,
            tuple(
                replace(
                    seen, packet=replace(seen.packet, source=swap[seen.packet.source], destination=swap[seen.packet.destination])
                )
                for seen in view.seen
                if isinstance(seen.packet, Segment)
            ),
        )
        for view in ORIGINAL
    ]
    assert compare(script(), script_of("replay", views)).first_difference is None


def test_a_comparison_is_a_document() -> None:
    """All of it can be written as JSON."""
    document = json.loads(json.dumps(_plain(replayed(edited(0, window=1)).to_document())))
    assert document["first_difference"].startswith("A sent SYN")
    assert document["totals"]["differently"] == 1
    assert len(document["packets"]) == 12
