"""The ladder as a Mermaid `sequenceDiagram`, which Markdown viewers draw.

Mermaid has no time scale: packets stand in the order in which they were sent, each with the time it left and the time it arrived;
crossings and long waits are notes. Hosts that only forward are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rawpunch.analysis.ladder_layout import find_gaps
from rawpunch.units import format_duration

if TYPE_CHECKING:
    from rawpunch.analysis.journeys import Journey
    from rawpunch.analysis.ladder import Ladder


def render(ladder: Ladder, *, numbers: bool = False) -> str:
    """The whole diagram, without a code fence."""
    return "\n".join(_lines(ladder, numbers)) + "\n"


def _lines(ladder: Ladder, numbers: bool) -> Iterator[str]:
    lanes = ladder.lanes
    ends = {0, len(lanes) - 1} | {
        end.lane for journey in ladder.journeys for end in (journey.sightings[0], journey.sightings[-1])
    }
    groups = list(dict.fromkeys(lane.group for index, lane in enumerate(lanes) if index in ends))
    names = {group: f"p{index}" for index, group in enumerate(groups)}
    yield "sequenceDiagram"
    for group, name in names.items():
        yield f"    participant {name} as {_clean(group)}"
    gaps = list(find_gaps(ladder.journeys))
    crossed = {id(later): earlier for earlier, later in ladder.crossings()}
    for journey in ladder.journeys:
        while gaps and journey.start_ns >= gaps[0].end_ns:
            cut = gaps.pop(0)
            yield f"    Note over {names[groups[0]]},{names[groups[-1]]}: {format_duration(cut.end_ns - cut.start_ns)} later"
        yield f"    {_message(ladder, journey, names, numbers)}"
        if id(journey) in crossed:
            yield f"    Note over {names[groups[0]]},{names[groups[-1]]}: the two SYNs crossed"
        if journey.decides:
            first = journey.sightings[0]
            vantage = _clean(ladder.lanes[first.lane].vantage)
            yield f"    Note over {names[groups[0]]},{names[groups[-1]]}: packet {first.number} at {vantage} decided it"


def _message(ladder: Ladder, journey: Journey, names: dict[str, str], numbers: bool) -> str:
    first, last = (names[ladder.lanes[sighting.lane].group] for sighting in (journey.sightings[0], journey.sightings[-1]))
    again = " again" if journey.repeats else ""
    words = f"{ladder.label(journey, numbers=numbers)}{again}"
    if not journey.arrived:
        return f"{first}-x{last}: {words}, {ladder.time(journey.start_ns)} {ladder.unit}, lost"
    arrow = "-->>" if journey.born_inside else "->>"
    if not all(ladder.lanes[sighting.lane].seen for sighting in journey.sightings):
        return f"{first}{arrow}{last}: {words}, {ladder.time(journey.start_ns)} {ladder.unit}"
    return f"{first}{arrow}{last}: {words}, {ladder.time(journey.start_ns)} to {ladder.time(journey.end_ns)} {ladder.unit}"


def _clean(name: str) -> str:
    """Without what Mermaid takes for its own."""
    return name.replace(";", ",").replace("#", "no. ").replace("\n", " ")
