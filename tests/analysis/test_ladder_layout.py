"""The layout keeps time to scale, breaks only what is empty, and never puts two packets on one spot."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.analysis.geometry import Box, meeting
from rawpunch.analysis.journeys import find_journeys, order_lanes
from rawpunch.analysis.ladder_layout import Measure, find_gaps, lay_out, scale_of, spread, wide_legs
from rawpunch.units import MS, SECOND
from tests.analysis.made_world import EPOCH, SYN, VANTAGES, World, crossing, repeated

MEASURE = Measure(transit=100, gap=40, apart=4, tallest=2000)


def test_time_is_to_scale() -> None:
    """A packet that takes 20 ms falls by the height of a transit, wherever it starts; nothing is cut."""
    rows = crossing(6).rows()
    journeys = find_journeys(rows, order_lanes(rows))
    layout = lay_out(journeys, EPOCH, MEASURE)
    assert layout.breaks == ()
    for path in layout.paths:
        assert path.points[-1][1] - path.points[0][1] == pytest.approx(100, abs=MEASURE.apart)
    first, second = layout.paths[:2]
    assert second.points[0][1] - first.points[0][1] == pytest.approx(30, abs=0.2)


def test_ticks_are_round_and_to_scale() -> None:
    """0, 5, 10 ... ms, at the heights of these instants, to the end of the drawing."""
    rows = crossing().rows()
    layout = lay_out(find_journeys(rows, order_lanes(rows)), EPOCH, MEASURE)
    assert [tick for _, tick in layout.ticks][:4] == [0, 10 * MS, 20 * MS, 30 * MS]
    steps = {round(after - before, 3) for (before, _), (after, _) in pairwise(layout.ticks)}
    assert len(steps) == 1
    assert layout.ticks[-1][0] <= layout.height


def test_a_long_wait_becomes_a_break() -> None:
    """A second before the retransmission takes the break's height, and ticks go on behind it with the true time."""
    rows = repeated().rows()
    journeys = find_journeys(rows, order_lanes(rows))
    (gap,) = find_gaps(journeys)
    assert gap.end_ns - gap.start_ns == pytest.approx(0.974 * SECOND, rel=0.01)
    layout = lay_out(journeys, EPOCH, MEASURE)
    (cut,) = layout.breaks
    assert cut.bottom - cut.top == pytest.approx(MEASURE.gap)
    assert 1000 * MS in [tick for _, tick in layout.ticks]
    assert not [tick for height, tick in layout.ticks if cut.top < height < cut.bottom]


def test_a_wait_of_the_usual_size_is_not_cut() -> None:
    """An offset of twice the delay is what an experiment is about: it stays to scale."""
    world = World()
    world.send(True, 0, SYN, 1, end=5)
    world.send(False, 40, SYN, 2)
    rows = world.rows()
    assert find_gaps(find_journeys(rows, order_lanes(rows))) == ()


def test_a_long_story_gets_a_smaller_scale() -> None:
    """The drawing never grows beyond what the renderer can bear."""
    world = World()
    for number in range(200):
        world.send(True, 19 * number, SYN, number)
    rows = world.rows()
    layout = lay_out(find_journeys(rows, order_lanes(rows)), EPOCH, MEASURE)
    assert layout.height <= MEASURE.tallest + 1


def test_nothing_to_draw() -> None:
    """No journeys, no height."""
    layout = lay_out((), EPOCH, MEASURE)
    assert (layout.paths, layout.ticks, layout.height) == ((), (), 0.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000), st.integers(1, 8)), min_size=1, max_size=12))
def test_order_and_distance_hold_for_any_story(sent: list[tuple[bool, int, int]]) -> None:
    """The scale never runs backwards, a line never rises, and two packets at one lane are apart."""
    world = World(5)
    for seq, (to_b, at_ms, lanes) in enumerate(sent):
        world.send(to_b, at_ms, SYN, seq, end=lanes - 1 if to_b else 8 - lanes)
    rows = world.rows()
    journeys = find_journeys(rows, order_lanes(rows, silent=VANTAGES))
    scale = scale_of(journeys, MEASURE)
    times = sorted(row.time_ns for row in rows)
    heights = [scale.at(time) for time in times]
    assert all(after >= before - 1e-6 for before, after in pairwise(heights))
    layout = lay_out(journeys, EPOCH, MEASURE)
    at_lane: dict[int, list[float]] = {}
    for path in layout.paths:
        assert all(low[1] <= high[1] for low, high in pairwise(path.points))
        for lane, height in path.points:
            at_lane.setdefault(lane, []).append(height)
    for found in at_lane.values():
        assert all(after - before >= MEASURE.apart - 1e-6 for before, after in pairwise(sorted(found)))


def test_the_leg_that_takes_time_is_wide() -> None:
    """In the lab only the core holds packets; where nothing takes time all legs between hosts are wide."""
    rows = crossing().rows()
    lanes = order_lanes(rows)
    assert wide_legs(lanes, find_journeys(rows, lanes)) == (False, False, False, True, False, False, False)
    quick = crossing(one_way_ms=0.01).rows()
    assert wide_legs(lanes, find_journeys(quick, lanes)) == (True, False, True, False, True, False, True)


@given(st.lists(st.floats(-1e4, 1e4), max_size=30).map(sorted), st.floats(0.1, 50))
def test_texts_are_spread(wanted: list[float], apart: float) -> None:
    """They keep their order and distance; those that were far enough apart do not move."""
    placed = spread(wanted, apart)
    assert len(placed) == len(wanted)
    assert all(after - before >= apart - 1e-6 for before, after in pairwise(placed))
    if all(after - before >= apart for before, after in pairwise(wanted)):
        assert placed == pytest.approx(wanted, abs=1e-6)
    assert sum(placed) == pytest.approx(sum(wanted), abs=1e-3)


def test_stretches_meet() -> None:
    """A cross meets in its middle; parallel and distant ones do not."""
    assert meeting(((0, 0), (2, 2)), ((0, 2), (2, 0))) == pytest.approx((1, 1))
    assert meeting(((0, 0), (2, 0)), ((0, 1), (2, 1))) is None
    assert meeting(((0, 0), (1, 1)), ((5, 0), (4, 9))) is None


def test_turned_boxes_overlap() -> None:
    """A box turned by 45 degrees fits into the corner that its upright hull would cover."""
    upright = Box(0, 0, 10, 10)
    assert upright.overlaps(Box(9, 0, 10, 10))
    assert not upright.overlaps(Box(10, 0, 10, 10))
    assert upright.overlaps(Box(10.5, 10.5, 12, 12))
    assert not upright.overlaps(Box(10.5, 10.5, 12, 12, math.pi / 4))
    assert upright.touches(((-20, 0), (20, 0)))
    assert not upright.touches(((-20, 6), (20, 6)))
