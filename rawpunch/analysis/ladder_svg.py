"""The ladder as SVG: what the README shows. Lines are exactly to scale but for packets closer than a few pixels at one lane.

What a host sent and got, and when, is written in the margin beside its lane, so that text never falls on text; where lines crowd,
a thin leader connects. On the lines themselves stands the packet's kind wherever there is room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.geometry import Box, Point, Stretch, meeting
from rawpunch.analysis.journeys import LEFT, RIGHT, Journey
from rawpunch.analysis.ladder_layout import Layout, Measure, Path, lay_out, spread, wide_legs
from rawpunch.analysis.svg import element, span, text, track
from rawpunch.units import MS, US, format_duration

if TYPE_CHECKING:
    from rawpunch.analysis.ladder import Ladder

_MEASURE: Final = Measure(transit=130, gap=58, apart=4, tallest=1500)
_WIDE, _NARROW, _INSIDE = 400.0, 66.0, 40.0
"""Widths in pixels: all wide legs together; a narrow leg between two hosts; one between two devices of a host."""
_BEYOND: Final = 14.0
"""How far behind the lane that saw it last the line of a packet that vanished goes on."""
_AXIS: Final = 58.0
_TOP: Final = 118.0
_LINE: Final = 17.0
"""Height of a line of text in the margins."""
_CHARACTER: Final = 7.0
"""Width of a character of the 12 px face, a little more than most."""
_NOTE: Final = 22.0
"""From a host's lane to the text beside it."""
_PARTS: Final = (0.24, 0.3, 0.36, 0.18, 0.64, 0.7, 0.76, 0.82, 0.42, 0.58, 0.5)
"""Where on a line its label may stand, best first: near the ends, for lines cross in the middle."""

_INK, _PALE, _RULE, _BAND, _GROUND = "#1f2328", "#636c76", "#e6e9ed", "#f3f5f8", "#ffffff"
_COLOURS: Final = {
    "SYN": "#0b5fd0",
    "SYN-ACK": "#0a7d4b",
    "ACK": "#57606a",
    "DATA": "#1f2328",
    "FIN": "#7a43c9",
    "RST": "#cf222e",
    "ICMP": "#b35900",
}
_FACE: Final = "'Helvetica Neue', 'Segoe UI', Roboto, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

Note = tuple[float, float, str, Journey]
"""Height of the text, height of the event, time as text, journey."""


def colour_of(kind: str) -> str:
    """The colour of a kind of packet."""
    return _COLOURS.get(kind) or _COLOURS.get(kind.replace(" ", "-").partition("-")[0], _INK)


def render(ladder: Ladder, *, numbers: bool = False) -> str:
    """The whole drawing."""
    layout = lay_out(ladder.journeys, ladder.zero_ns, _MEASURE)
    return _Drawing(ladder, layout, numbers=numbers).document()


class _Drawing:
    def __init__(self, ladder: Ladder, layout: Layout, *, numbers: bool) -> None:
        self.ladder = ladder
        self.layout = layout
        self.numbers = numbers
        self.margin = 44 + _CHARACTER * max((len(words) for words in self._note_words()), default=0)
        self.xs = self._lane_xs()
        self.left = _AXIS + self.margin
        self.right = self.left + self.xs[-1]
        words = max(1.45 * len(ladder.title), 1.05 * len(ladder.subtitle), 70) * _CHARACTER
        self.width = max(self.right + (self.margin if ladder.lanes[-1].seen else _AXIS) + 14, words + 48)
        self.notes = {side: self._notes(side) for side in (LEFT, RIGHT)}
        lowest = max([layout.height, *(height for notes in self.notes.values() for height, *_ in notes)])
        self.bottom = _TOP + lowest + 30
        self.height = self.bottom + (46 if ladder.decider else 28)

    def document(self) -> str:
        """Ground, frame, breaks, lines, texts: later ones lie above earlier ones."""
        parts = [
            element("title", escape(self.ladder.title)),
            element("rect", width=self.width, height=self.height, fill=_GROUND),
            *self._head(),
            *self._lanes(),
            *self._breaks(),
            *(part for path in self.layout.paths for part in self._line(path)),
            *self._crossings(),
            *self._line_labels(),
            *self._margins(),
            *self._caption(),
        ]
        return (
            element(
                "svg",
                "\n" + "\n".join(parts) + "\n",
                xmlns="http://www.w3.org/2000/svg",
                viewBox=f"0 0 {self.width:.0f} {self.height:.0f}",
                width=round(self.width),
                height=round(self.height),
                font_family=_FACE,
                font_size=12,
                fill=_INK,
                role="img",
            )
            + "\n"
        )

    # --- places ---

    def _note_words(self) -> Iterator[str]:
        """What the margins must hold, for its length."""
        for journey in self.ladder.journeys:
            yield f"{self.ladder.time(journey.end_ns)} {self._words(journey)}"

    def _words(self, journey: Journey) -> str:
        again = " (again)" if journey.repeats else ""
        return self.ladder.label(journey, numbers=self.numbers) + again

    def _lane_xs(self) -> list[float]:
        """Where lanes stand, from the first at 0."""
        lanes = self.ladder.lanes
        wide = wide_legs(lanes, self.ladder.journeys)
        each = max(_WIDE / max(sum(wide), 1), 150)
        xs = [0.0]
        for (here, there), is_wide in zip(pairwise(lanes), wide, strict=True):
            narrow = _INSIDE if here.group == there.group else _NARROW
            xs.append(xs[-1] + (each if is_wide else narrow))
        return xs

    def _x(self, lane: int) -> float:
        return self.left + self.xs[lane]

    def _points(self, path: Path) -> list[Point]:
        """The way of a line; one that vanished goes on a little behind the lane that saw it last, into what swallowed it."""
        points = [(self._x(lane), _TOP + y) for lane, y in path.points]
        if not path.journey.arrived:
            x, y = points[-1]
            points.append((x + path.journey.way * _BEYOND, y))
        return points

    def _legs(self, path: Path) -> list[Stretch]:
        return list(pairwise(self._points(path)))

    # --- frame ---

    def _head(self) -> Iterator[str]:
        yield text(self.ladder.title, 24, 34, font_size=17, font_weight="600")
        if self.ladder.subtitle:
            yield text(self.ladder.subtitle, 24, 55, font_size=13, fill=_PALE)
        yield text(self.ladder.unit, _AXIS - 18, _TOP - 22, font_size=11, fill=_PALE, text_anchor="end")

    def _lanes(self) -> Iterator[str]:
        lanes = self.ladder.lanes
        top = _TOP - 14
        for group in dict.fromkeys(lane.group for lane in lanes):
            members = [self._x(index) for index, lane in enumerate(lanes) if lane.group == group]
            low, high = min(members), max(members)
            if low < high:
                yield element("rect", x=low, y=top - 14, width=high - low, height=self.bottom - top + 14, fill=_BAND)
            yield text(group, (low + high) / 2, top - 24, text_anchor="middle", font_weight="600", font_size=13)
        for y, tick in self.layout.ticks:
            for x1, x2 in ((_AXIS - 12, _AXIS - 4), (self.left, self.right)):
                yield element("line", x1=x1, y1=_TOP + y, x2=x2, y2=_TOP + y, stroke=_RULE)
            value = tick / (MS if self.ladder.unit == "ms" else US)
            yield text(f"{value:g}", _AXIS - 18, _TOP + y + 4, text_anchor="end", font_size=11, fill=_PALE)
        hosts = {lanes[0].group, lanes[-1].group}
        for index, lane in enumerate(lanes):
            x = self._x(index)
            looks: dict[str, str | float] = {"stroke": "#b1b9c2", "stroke_width": 1.2}
            if lane.group in hosts:
                looks = {"stroke": "#6e7781", "stroke_width": 2}
            if not lane.seen:
                looks["stroke_dasharray"] = "3 4"
            yield element("line", x1=x, y1=top, x2=x, y2=self.bottom, **looks)
            yield text(lane.device, x, top - 6, text_anchor="middle", font_size=10.5, fill=_PALE)

    def _breaks(self) -> Iterator[str]:
        left, right = self.left - 12, self.right + 12
        for cut in self.layout.breaks:
            middle = _TOP + (cut.top + cut.bottom) / 2
            yield element("rect", x=left, y=middle - 15, width=right - left, height=30, fill=_GROUND)
            for y in (middle - 15, middle + 15):
                yield element("path", d=track(_zigzag(left, right, y)), fill="none", stroke="#9aa4af", stroke_width=1.1)
            words = f"{format_duration(cut.duration_ns)} in which nothing was under way"
            yield text(words, (left + right) / 2, middle + 4, text_anchor="middle", fill=_PALE, font_style="italic")

    # --- packets ---

    def _line(self, path: Path) -> Iterator[str]:
        journey = path.journey
        colour = colour_of(journey.kind)
        points = self._points(path)
        if len(points) > 1:
            looks: dict[str, str | float] = {"stroke_dasharray": "7 4"} if journey.repeats else {}
            weight = 2.6 if journey.decides else 1.7
            yield element(
                "path", d=track(points), fill="none", stroke=colour, stroke_width=weight, stroke_linejoin="round", **looks
            )
        x, y = points[-1]
        if journey.arrived:
            before = points[-2] if len(points) > 1 else (x - journey.way, y)
            yield element("path", d=track(_arrow_head((x, y), before), closed=True), fill=colour)
        else:
            reach = 5.5
            cross = " ".join(track([(x - reach, y - slope * reach), (x + reach, y + slope * reach)]) for slope in (1, -1))
            yield element("path", d=cross, stroke=_GROUND, stroke_width=6, fill="none")
            yield element("path", d=cross, stroke=colour, stroke_width=2.4, fill="none", stroke_linecap="round")
        if journey.born_inside:
            yield element("circle", cx=points[0][0], cy=points[0][1], r=4, fill=colour, stroke=_GROUND)

    def _crossings(self) -> Iterator[str]:
        """A ring where two SYNs met."""
        paths = {id(path.journey): path for path in self.layout.paths}
        for one, other in self.ladder.crossings():
            legs = ((mine, its) for mine in self._legs(paths[id(one)]) for its in self._legs(paths[id(other)]))
            point = next((found for mine, its in legs if (found := meeting(mine, its)) is not None), None)
            if point is not None:
                yield element(
                    "circle",
                    cx=point[0],
                    cy=point[1],
                    r=9,
                    fill="none",
                    stroke=_COLOURS["SYN"],
                    stroke_width=1.2,
                    stroke_dasharray="2.5 2.5",
                )

    # --- texts ---

    def _line_labels(self) -> Iterator[str]:
        """The kind on each line, where it hides no other text; on a line without a text in a margin, always."""
        placed: list[Box] = []
        every_leg = [(path, leg) for path in self.layout.paths for leg in self._legs(path)]
        noted = {id(journey) for notes in self.notes.values() for *_, journey in notes}
        for path in sorted(self.layout.paths, key=lambda path: id(path.journey) in noted):
            journey = path.journey
            width = len(journey.kind) * _CHARACTER + 8
            found = self._place(path, width, placed, every_leg)
            if found is None and id(journey) not in noted:
                x, y = self._points(path)[0]
                found = Box(x + journey.way * (width / 2 + 8), y, width, 14)
            if found is None:
                continue
            placed.append(found)
            yield text(
                journey.kind,
                found.x,
                found.y + 4,
                transform=f"rotate({math.degrees(found.angle):.2f} {found.x:.1f} {found.y:.1f})",
                text_anchor="middle",
                font_size=11.5,
                font_weight="600",
                fill=colour_of(journey.kind),
                stroke=_GROUND,
                stroke_width=4.5,
                stroke_linejoin="round",
                paint_order="stroke",
            )

    def _place(self, path: Path, width: float, placed: Sequence[Box], every_leg: Sequence[tuple[Path, Stretch]]) -> Box | None:
        """The spot on a line that hides the fewest others and no text; None if there is none."""
        best: tuple[int, float, Box] | None = None
        for (x1, y1), (x2, y2) in self._legs(path):
            length = math.hypot(x2 - x1, y2 - y1)
            angle = math.atan2(y2 - y1, x2 - x1)
            angle = angle - math.pi if angle > math.pi / 2 else angle  # never upside down
            for part in _PARTS:
                if not width / 2 + 12 <= part * length <= length - width / 2 - 12:
                    continue
                box = Box(x1 + part * (x2 - x1), y1 + part * (y2 - y1), width, 15, angle)
                if any(box.overlaps(other) for other in placed):
                    continue
                hidden = sum(other is not path and box.touches(leg) for other, leg in every_leg)
                if best is None or (hidden, -length) < best[:2]:
                    best = hidden, -length, box
        return best[2] if best is not None and best[0] <= 1 else None

    def _notes(self, side: int) -> list[Note]:
        """What is written beside a host, from top to bottom."""
        lane = 0 if side == LEFT else len(self.ladder.lanes) - 1
        if not self.ladder.lanes[lane].seen:
            return []
        events = sorted(
            (
                (y, sighting.time_ns, path.journey)
                for path in self.layout.paths
                for (at, y), sighting in zip(path.points, path.journey.sightings, strict=True)
                if at == lane
            ),
            key=lambda event: event[:2],
        )
        heights = spread([y for y, *_ in events], _LINE)
        shift = max(0.0, -6.0 - min(heights, default=0.0))  # never into the head
        return [
            (height + shift, y, self.ladder.time(time_ns), journey)
            for height, (y, time_ns, journey) in zip(heights, events, strict=True)
        ]

    def _margins(self) -> Iterator[str]:
        for side, notes in self.notes.items():
            lane_x = self._x(0) if side == LEFT else self.right
            for height, y, time, journey in notes:
                sent = journey.way == -side
                colour = colour_of(journey.kind)
                leader = track([(lane_x + side * 3, _TOP + y), (lane_x + side * 18, _TOP + height)])
                yield element("path", d=leader, stroke=colour, stroke_width=0.8, opacity="0.55", fill="none")
                if journey.decides and not (sent and journey.arrived):
                    yield self._pill(lane_x + side * _NOTE, _TOP + height, side, time, journey)
                parts = [
                    span(time, fill=_PALE, font_size=11),
                    span(self._words(journey), font_weight="600" if sent else "400", fill=colour),
                    span("→" if journey.way == RIGHT else "←", fill=colour),
                ]
                words = "  ".join(parts) if side == LEFT else "  ".join(reversed(parts))
                attributes: dict[str, str] = {"text_anchor": "end" if side == LEFT else "start", "xml:space": "preserve"}
                yield element("text", words, x=lane_x + side * _NOTE, y=_TOP + height + 4, **attributes)

    def _pill(self, x: float, y: float, side: int, time: str, journey: Journey) -> str:
        """A ground under the words of the packet that decided."""
        width = (len(self._words(journey)) + len(time)) * _CHARACTER + 32
        left = x - width + 5 if side == LEFT else x - 5
        colour = colour_of(journey.kind)
        looks: dict[str, str] = {"fill_opacity": "0.12", "stroke_opacity": "0.5"}
        return element(
            "rect", x=left, y=y - 8.5, width=width, height=17, rx=4, fill=colour, stroke=colour, stroke_width=0.8, **looks
        )

    def _caption(self) -> Iterator[str]:
        y = self.bottom + 18
        ladder, decider = self.ladder, self.ladder.decider
        if decider is not None:
            first = next((sighting for sighting in decider.sightings if ladder.lanes[sighting.lane].seen), decider.sightings[0])
            words = (
                f", packet {first.number}, first seen at {ladder.lanes[first.lane].vantage} "
                f"after {ladder.time(first.time_ns)} {ladder.unit}."
            )
            kind = span(decider.kind, font_weight="600", fill=colour_of(decider.kind))
            yield element("text", f"Decided by {kind}{escape(words)}", x=24, y=y)
            y += 18
        remarks = [f"Time runs down to scale, in {ladder.unit} from the first SYN."]
        if any(not journey.arrived for journey in ladder.journeys):
            remarks.append("✕ last seen here.")
        if any(journey.born_inside for journey in ladder.journeys):
            remarks.append("● sent from here.")
        if any(journey.repeats for journey in ladder.journeys):
            remarks.append("Dashed: sent again.")
        if not all(lane.seen for lane in ladder.lanes):
            remarks.append("Recorded at one side only.")
        if ladder.left_out:
            remarks.append(f"{ladder.left_out} later packet{'s' * (ladder.left_out > 1)} left out.")
        yield text(" ".join(remarks), 24, y, fill=_PALE, font_size=11)


def _zigzag(left: float, right: float, y: float) -> list[Point]:
    step = 8.0
    return [(left + index * step, y + (3 if index % 2 else -3)) for index in range(int((right - left) // step) + 1)]


def _arrow_head(tip: Point, before: Point) -> list[Point]:
    length, half = 9.0, 3.6
    angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
    cos, sin = math.cos(angle), math.sin(angle)
    base = tip[0] - length * cos, tip[1] - length * sin
    return [tip, (base[0] - half * sin, base[1] + half * cos), (base[0] + half * sin, base[1] - half * cos)]
