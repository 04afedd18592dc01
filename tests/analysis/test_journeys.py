"""A packet is one journey, whatever NATs rewrite; a retransmission is another; what vanishes and what is born inside shows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawpunch.analysis.journeys import LEFT, RIGHT, find_journeys, one_sided_journeys, order_lanes
from rawpunch.errors import BadParameter
from rawpunch.units import US
from tests.analysis.made_world import ACK, FIN_ACK, RST, SYN, VANTAGES, World, crossing, late, repeated


def test_lanes_stand_from_a_to_b() -> None:
    """By their names, whatever order packets came in; each knows to which side it looks."""
    rows = crossing(3).rows()
    random.Random(1).shuffle(rows)
    lanes = order_lanes(rows)
    assert tuple(lane.vantage for lane in lanes) == VANTAGES
    assert [lane.looks for lane in lanes] == [RIGHT, LEFT, RIGHT, LEFT, RIGHT, LEFT, RIGHT, LEFT]
    assert lanes[1].group == "natA"
    assert lanes[1].device == "in"


def test_lanes_may_be_given() -> None:
    """By host or vantage point; those not named are left out; a name without packets is refused."""
    rows = crossing().rows()
    lanes = order_lanes(rows, ["hostB", "core:b", "hostA"])
    assert [lane.vantage for lane in lanes] == ["hostB:eth0", "core:b", "hostA:eth0"]
    with pytest.raises(BadParameter, match="elsewhere"):
        order_lanes(rows, ["hostA", "elsewhere"])


def test_short_names_are_known() -> None:
    """A, NA, NB, B: one device each, without a colon."""
    short = {"hostA:eth0": "A", "natA:out": "NA", "natB:out": "NB", "hostB:eth0": "B"}
    rows = [replace(row, vantage=short[row.vantage]) for row in crossing().rows(list(short))]
    lanes = order_lanes(rows[::-1])
    assert [lane.vantage for lane in lanes] == ["A", "NA", "NB", "B"]
    assert len(find_journeys(rows, lanes)) == 6


def test_hosts_between_are_ordered_by_when_packets_reach_them() -> None:
    """Routers with any names stand in the order in which A's packets pass them."""
    names = {"natA:in": "zebra:0", "natA:out": "zebra:1", "core:a": "middle:0", "core:b": "middle:1", "natB:out": "ant:0"}
    rows = [replace(row, vantage=names.get(row.vantage, row.vantage)) for row in crossing(10).rows() if row.vantage != "natB:in"]
    groups = list(dict.fromkeys(lane.group for lane in order_lanes(rows)))
    assert groups == ["hostA", "zebra", "middle", "ant", "hostB"]


def test_a_crossing_is_six_journeys() -> None:
    """Each packet passed all eight lanes once, and the SYNs crossed."""
    rows = crossing(5).rows()
    journeys = find_journeys(rows, order_lanes(rows))
    assert [journey.kind for journey in journeys] == ["SYN", "SYN", "SYN-ACK", "SYN-ACK", "ACK", "ACK"]
    for journey in journeys:
        lanes = [sighting.lane for sighting in journey.sightings]
        assert lanes == (list(range(8)) if journey.way == RIGHT else list(range(7, -1, -1)))
        assert journey.arrived
        assert not journey.born_inside
        assert not journey.repeats
    assert journeys[0].crosses(journeys[1])
    assert not journeys[0].crosses(journeys[2])


def test_what_vanishes_and_what_a_nat_sends() -> None:
    """A SYN that natB refused ends there; the RST begins there, and is not the SYN's own host's."""
    rows = late().rows()
    syn, rst, other_syn, other_rst = find_journeys(rows, order_lanes(rows))
    assert (syn.kind, syn.arrived, syn.sightings[-1].lane) == ("SYN", False, 5)
    assert (rst.kind, rst.born_inside, rst.sightings[0].lane, rst.arrived) == ("RST-ACK", True, 5, True)
    assert (other_syn.sightings[-1].lane, other_rst.sightings[0].lane) == (2, 2)
    assert not syn.crosses(other_syn)


def test_the_deciding_packet_is_marked() -> None:
    """By vantage point and packet number, at whichever lane it was seen."""
    rows = late().rows()
    rst = next(row for row in rows if row.kind == "RST-ACK" and row.vantage == "natA:out")
    decides = [journey.decides for journey in find_journeys(rows, order_lanes(rows), (rst.vantage, rst.number))]
    assert decides == [False, True, False, False]


def test_a_retransmission_is_a_packet_of_its_own() -> None:
    """The lost SYN ends at natB; the next one goes on to B, though both are equal."""
    rows = repeated().rows()
    first, second, *_ = find_journeys(rows, order_lanes(rows))
    assert (len(first.sightings), first.arrived, first.repeats) == (6, False, False)
    assert (len(second.sightings), second.arrived, second.repeats) == (8, True, True)


def test_equal_packets_under_way_together() -> None:
    """Two equal FINs within one delay keep to their own ways, for each takes as long as packets do."""
    world = crossing()
    world.send(True, 100, FIN_ACK, 1001, 9001)
    world.send(True, 108, FIN_ACK, 1001, 9001)
    rows = world.rows()
    fins = [journey for journey in find_journeys(rows, order_lanes(rows)) if journey.kind == "FIN-ACK"]
    assert [(journey.end_ns - journey.start_ns) // US for journey in fins] == [20_060, 20_060]
    assert [journey.repeats for journey in fins] == [False, True]


def test_equal_numbers_both_ways() -> None:
    """Two hosts with the same initial number, and RSTs of 0 from both NATs: the way tells them apart."""
    world = World()
    world.send(True, 0, SYN, 7)
    world.send(False, 0.001, SYN, 7)
    world.send(True, 50, RST, 0, begin=2)
    world.send(False, 50.003, RST, 0, begin=5)
    rows = world.rows()
    journeys = find_journeys(rows, order_lanes(rows))
    assert sorted((journey.kind, journey.way, len(journey.sightings)) for journey in journeys) == [
        ("RST", LEFT, 6),
        ("RST", RIGHT, 6),
        ("SYN", LEFT, 8),
        ("SYN", RIGHT, 8),
    ]


def test_a_bare_ack_twice_is_no_retransmission() -> None:
    """It fills no sequence space: it may be sent again for other reasons."""
    world = World()
    world.send(True, 0, ACK, 5, 6)
    world.send(True, 100, ACK, 5, 6)
    rows = world.rows()
    assert [journey.repeats for journey in find_journeys(rows, order_lanes(rows))] == [False, False]


def test_time_stamps_a_little_out_of_order() -> None:
    """Neighbouring devices' stamps may be swapped by some microseconds: it is one journey all the same, in the order of lanes."""
    rows = crossing(5).rows()
    swapped = [replace(row, time_ns=row.time_ns - 15 * US) if row.vantage in ("natA:in", "natB:in") else row for row in rows]
    journeys = find_journeys(swapped, order_lanes(swapped))
    assert len(journeys) == 6
    assert all([s.lane for s in journey.sightings] in (list(range(8)), list(range(7, -1, -1))) for journey in journeys)


def test_a_lane_may_miss_a_packet() -> None:
    """What the capture lost at one lane does not cut the journey."""
    rows = [row for row in crossing().rows() if not (row.vantage == "natB:out" and row.kind == "SYN")]
    journeys = find_journeys(rows, order_lanes(rows))
    assert [(journey.kind, len(journey.sightings), journey.arrived) for journey in journeys[:2]] == [("SYN", 7, True)] * 2


def test_icmp_errors_travel_too() -> None:
    """An ICMP error is known by its type and the number that it quotes; B's side is a lane though nothing came there."""
    world = World()
    at_nat = world.send(True, 0, SYN, 1000, end=5)
    world.send(False, at_nat, 0, 1000, begin=5, icmp="ICMP 3/13")
    rows = world.rows()
    lanes = order_lanes(rows, silent=VANTAGES)
    assert tuple(lane.vantage for lane in lanes) == VANTAGES
    assert [(j.kind, j.born_inside, j.arrived) for j in find_journeys(rows, lanes)] == [
        ("SYN", False, False),
        ("ICMP 3/13", True, True),
    ]


def test_a_record_from_one_side() -> None:
    """Every packet is a journey to or from the other side, at the time it was seen."""
    rows = repeated().rows(["hostA:eth0"])
    journeys = one_sided_journeys(rows, ("hostA:eth0", rows[1].number))
    assert [(journey.kind, journey.way, journey.repeats) for journey in journeys] == [
        ("SYN", RIGHT, False),
        ("SYN", RIGHT, True),
        ("SYN-ACK", LEFT, False),
        ("ACK", RIGHT, False),
    ]
    assert all(journey.start_ns == journey.end_ns for journey in journeys)
    assert [journey.decides for journey in journeys] == [False, True, False, False]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, list[tuple[int, int]]]:
    """Packets of distinct or equal numbers, each lost somewhere or nowhere; equal ones leave at least a delay apart."""
    world = World(5)
    sent: list[tuple[int, int]] = []
    for seq in (1000, 2000):
        world.send(True, 0, SYN, seq)
        world.send(False, 0.5, SYN, seq + 7000)
        sent += [(1, 8), (-1, 8)]
    for number in range(draw(st.integers(1, 8))):
        to_b = draw(st.booleans())
        lanes = draw(st.integers(1, 8))
        seq = draw(st.sampled_from([50, 51]))
        world.send(to_b, 20 + 7 * number, FIN_ACK, seq, 3, end=lanes - 1 if to_b else 8 - lanes)
        sent.append((1 if to_b else -1, lanes))
    return world, sent


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_every_packet_is_found_again(made: tuple[World, list[tuple[int, int]]]) -> None:
    """As many journeys as packets were sent, each on its way and as far as it came; every sighting belongs to exactly one."""
    world, sent = made
    rows = world.rows()
    journeys = find_journeys(rows, order_lanes(rows))
    assert sorted((journey.way, len(journey.sightings)) for journey in journeys) == sorted(sent)
    numbers = [sighting.number for journey in journeys for sighting in journey.sightings]
    assert sorted(numbers) == [row.number for row in rows]
