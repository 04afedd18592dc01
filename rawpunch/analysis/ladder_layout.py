"""Where things stand in a ladder: one model of lanes, time scale and paths for all renderers. Pure; no characters, no pixels.

Time runs downwards to scale. Two things bend the scale, and both are shown or bounded: a long time in which nothing was under way
is cut to a marked break, and events at one vantage point that would fall on each other are set apart by a least distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from rawpunch.analysis.journeys import Journey, Lane
from rawpunch.units import MS

_LONG_LEG: Final = 0.2
"""A leg whose transit is at least this part of the slowest leg's is drawn wide, for its lines to slope."""
_IDLE_TRANSITS: Final = 2.5
_IDLE_MEDIANS: Final = 4
_LEAST_IDLE_NS: Final = 2 * MS
_PADDING: Final = 0.15
"""How much of a transit is left on each side of a break."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A renderer's sizes, in its own unit (rows or pixels)."""

    transit: float
    """Height of the slowest journey."""
    gap: float
    """Height of a break."""
    apart: float
    """Least distance of two packets at one vantage point."""
    tallest: float
    """Height that the scale may fill; a longer story is drawn with a smaller scale."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which nothing was under way, cut out."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Break:
    """A cut as drawn."""

    top: float
    bottom: float
    duration_ns: int
    """What was cut out."""


@dataclass(frozen=True, slots=True)
class Path:
    """A journey as drawn: (lane, height) for each sighting."""

    journey: Journey
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """All paths, on one scale."""

    paths: tuple[Path, ...]
    breaks: tuple[Break, ...]
    ticks: tuple[tuple[float, int], ...]
    """(height, time since the first SYN in ns)."""
    height: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From time to height."""

    origin_ns: int
    per_ns: float
    gap: float
    gaps: tuple[Gap, ...]

    def at(self, time_ns: int) -> float:
        """The height of an instant; inside a gap, in proportion between the break's edges."""
        height = (time_ns - self.origin_ns) * self.per_ns
        for cut in self.gaps:
            inside = min(max(time_ns - cut.start_ns, 0), cut.end_ns - cut.start_ns)
            height += inside * (self.gap / (cut.end_ns - cut.start_ns) - self.per_ns)
        return height


def find_gaps(journeys: Sequence[Journey]) -> tuple[Gap, ...]:
    """Times of more than 2 ms in which nothing was under way, long beside the slowest journey.

    Where all journeys take less than a millisecond (no delay, or a record from one side), long beside the other idle times.
    """
    spans: list[list[int]] = []
    for journey in sorted(journeys, key=lambda journey: journey.start_ns):
        if spans and journey.start_ns <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], journey.end_ns)
        else:
            spans.append([journey.start_ns, journey.end_ns])
    slowest = _slowest(journeys)
    usual = _IDLE_TRANSITS * slowest if slowest >= MS else _IDLE_MEDIANS * _usual_wait(journeys)
    padding = round(_unit(journeys) * _PADDING)
    least = max(_LEAST_IDLE_NS, usual, 4 * padding)
    return tuple(
        Gap(before[1] + padding, after[0] - padding) for before, after in pairwise(spans) if after[0] - before[1] > least
    )


def scale_of(journeys: Sequence[Journey], measure: Measure) -> Scale:
    """The scale on which the slowest journey has the height wanted, or a smaller one where the story is long."""
    if not journeys:
        return Scale(0, 0.0, measure.gap, ())
    gaps = find_gaps(journeys)
    first = min(journey.start_ns for journey in journeys)
    shown = max(journey.end_ns for journey in journeys) - first - sum(cut.end_ns - cut.start_ns for cut in gaps)
    return Scale(first, min(measure.transit / _unit(journeys), measure.tallest / max(shown, 1)), measure.gap, gaps)


def _slowest(journeys: Sequence[Journey]) -> int:
    return max((journey.end_ns - journey.start_ns for journey in journeys), default=0)


def _unit(journeys: Sequence[Journey]) -> float:
    """What the scale is measured by, in ns: the slowest journey, or where none takes time, the usual wait."""
    slowest = _slowest(journeys)
    return slowest if slowest >= MS else max(slowest, _usual_wait(journeys), 1)


def _usual_wait(journeys: Sequence[Journey]) -> float:
    """Median of the waits of more than a millisecond between the starts of journeys; 0 if there are none."""
    waits = [later.start_ns - earlier.start_ns for earlier, later in pairwise(journeys)]
    return median([wait for wait in waits if wait > MS] or [0])


def lay_out(journeys: Sequence[Journey], zero_ns: int, measure: Measure) -> Layout:
    """Place all journeys.

    Args:
        journeys: in the order in which they began.
        zero_ns: instant that ticks count from.
        measure: the renderer's sizes.
    """
    scale = scale_of(journeys, measure)
    heights = _heights(journeys, scale, measure.apart)
    paths = tuple(
        Path(journey, tuple((sighting.lane, heights[index, place]) for place, sighting in enumerate(journey.sightings)))
        for index, journey in enumerate(journeys)
    )
    breaks = tuple(Break(scale.at(cut.start_ns), scale.at(cut.end_ns), cut.end_ns - cut.start_ns) for cut in scale.gaps)
    height = max((y for path in paths for _, y in path.points), default=0.0)
    return Layout(paths, breaks, _ticks(scale, zero_ns, height, measure), height)


def _heights(journeys: Sequence[Journey], scale: Scale, apart: float) -> dict[tuple[int, int], float]:
    """(journey, place on its way) -> height: as the scale says, pushed down where another packet stands at that lane."""
    events = sorted(
        (sighting.time_ns, index, place)
        for index, journey in enumerate(journeys)
        for place, sighting in enumerate(journey.sightings)
    )
    taken: dict[int, float] = {}
    heights: dict[tuple[int, int], float] = {}
    reached: dict[int, float] = {}
    for time_ns, index, place in events:
        lane = journeys[index].sightings[place].lane
        height = max(scale.at(time_ns), taken.get(lane, -apart) + apart, reached.get(index, 0.0))
        taken[lane] = reached[index] = heights[index, place] = height
    return heights


def _ticks(scale: Scale, zero_ns: int, height: float, measure: Measure) -> tuple[tuple[float, int], ...]:
    """Round instants, about four to a transit, outside breaks."""
    if scale.per_ns <= 0:
        return ()
    step = _round_step(measure.transit / 4 / scale.per_ns)
    ticks = []
    edges = [scale.origin_ns, *(edge for cut in scale.gaps for edge in (cut.start_ns, cut.end_ns)), None]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        assert start is not None  # noqa: S101  only the last edge is open
        tick = -(-(start - zero_ns) // step) * step
        while scale.at(zero_ns + tick) <= height + 1e-6 and (end is None or zero_ns + tick < end):
            ticks.append((scale.at(zero_ns + tick), tick))
            tick += step
    return tuple(ticks)


def _round_step(least: float) -> int:
    """The first of 1, 2, 5, 10, 20 ... ns that is not less."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10


def wide_legs(lanes: Sequence[Lane], journeys: Sequence[Journey]) -> tuple[bool, ...]:
    """For each pair of neighbouring lanes, whether packets take their time between them; all, when they do so nowhere."""
    times: list[list[int]] = [[] for _ in lanes[1:]]
    for journey in journeys:
        for here, there in pairwise(journey.sightings):
            low, high = sorted((here.lane, there.lane))
            for leg in range(low, high):
                times[leg].append(abs(there.time_ns - here.time_ns) // (high - low))
    usual = [median(found) if found else 0 for found in times]
    slowest = max(usual, default=0)
    if slowest < MS // 10:
        return tuple(here.group != there.group for here, there in pairwise(lanes))
    return tuple(time >= slowest * _LONG_LEG for time in usual)


def spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Positions as near as possible (least squares) to those wanted, in their order, at least `apart` from each other.

    Args:
        wanted: ascending positions.
        apart: least distance.
    """
    blocks: list[tuple[float, int]] = []  # (sum of the shifted positions, how many)
    for index, position in enumerate(wanted):
        total, count = position - index * apart, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            earlier = blocks.pop()
            total, count = total + earlier[0], count + earlier[1]
        blocks.append((total, count))
    shifted = [total / count for total, count in blocks for _ in range(count)]
    return [position + index * apart for index, position in enumerate(shifted)]
