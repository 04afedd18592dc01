r"""The ladder for a terminal: plain ASCII that fits in 80 columns, diagonals of / and \ with an X where they cross.

    0.00     SYN |------|------|\           /|------|------| SYN     0.00
                 |      |      |   \     /   |      |      |
                 |      |      |      X      |      |      |
                 |      |      |   /     \   |      |      |
   20.05     SYN |<-----|------|/           \|------|----->| SYN     20.05

Devices of one host stand in one column, unless packets take their time between them. What a host sent and got is written beside
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.geometry import meeting
from rawpunch.analysis.journeys import RIGHT, Journey
from rawpunch.analysis.ladder_layout import Layout, Measure, Path, lay_out, wide_legs
from rawpunch.errors import BadParameter
from rawpunch.units import format_duration

if TYPE_CHECKING:
    from rawpunch.analysis.ladder import Ladder

_MOST: Final = 120
"""No wider than this: diagonals would become dotted lines."""
_NARROW: Final = 7
_LEAST_WIDE: Final = 8
_TIME: Final = 9
_COLOURS: Final = {"SYN": "34", "SYN-ACK": "32", "ACK": "2", "DATA": "0", "FIN": "35", "RST": "31", "ICMP": "33"}


def render(ladder: Ladder, width: int = 80, *, numbers: bool = False, colour: bool = False) -> str:
    """The whole drawing, lines ending in newlines.

    Raises:
        BadParameter: the width is too small.
    """
    canvas = _Canvas(ladder, min(width, _MOST), numbers)
    return "\n".join(canvas.lines(colour=colour)) + "\n"


@dataclass(frozen=True, slots=True)
class _Cell:
    """One character, and the kind of packet that it belongs to."""

    glyph: str
    kind: str = ""


class _Canvas:
    def __init__(self, ladder: Ladder, width: int, numbers: bool) -> None:
        self.ladder = ladder
        self.numbers = numbers
        self.label_width = max((len(self._note(journey)) for journey in ladder.journeys), default=0)
        self.margin = _TIME + self.label_width + 2
        self.columns = self._columns(width - 2 * self.margin)
        widest = max((there - here for here, there in pairwise(self.columns)), default=0)
        rows = min(max(round(widest / 2.4), 6), 14)
        self.layout: Layout = lay_out(ladder.journeys, ladder.zero_ns, Measure(transit=rows, gap=3, apart=1, tallest=120))
        self.height = _row(self.layout.height) + 1
        self.cells: dict[tuple[int, int], _Cell] = {}
        self.span = self.columns[-1] + 1
        self._draw()

    def _note(self, journey: Journey) -> str:
        again = " again" if journey.repeats else ""
        decides = "*" if journey.decides else ""
        return f"{self.ladder.label(journey, numbers=self.numbers)}{again}{decides}"

    def _columns(self, available: int) -> list[int]:
        """The column of each lane, from 0; lanes of one host share one where no time passes between them."""
        lanes = self.ladder.lanes
        wide = wide_legs(lanes, self.ladder.journeys)
        narrow = [0 if here.group == there.group else _NARROW for here, there in pairwise(lanes)]
        fixed = sum(step for step, is_wide in zip(narrow, wide, strict=True) if not is_wide)
        each = (available - 1 - fixed) // max(sum(wide), 1)
        if each < _LEAST_WIDE:
            needed = fixed + _LEAST_WIDE * sum(wide) + 1 + 2 * self.margin
            raise BadParameter(
                "the ladder does not fit", why=f"it needs {needed} columns", todo="widen the terminal, or draw SVG"
            )
        columns = [0]
        for step, is_wide in zip(narrow, wide, strict=True):
            columns.append(columns[-1] + (each if is_wide else step))
        return columns

    # --- drawing ---

    def _draw(self) -> None:
        cut_rows = {row for cut in self.layout.breaks for row in range(_row(cut.top) + 1, _row(cut.bottom))}
        for row in range(self.height):
            for column in self.columns:
                self.cells[row, column] = _Cell(":" if row in cut_rows else "|")
        for path in self.layout.paths:
            self._draw_path(path)
        self._draw_crossings()
        for path in self.layout.paths:
            self._draw_ends(path)
        for cut in self.layout.breaks:
            words = f" {format_duration(cut.duration_ns)} later "
            for column, glyph in enumerate(words.center(self.span, "~")):
                self.cells[(_row(cut.top) + _row(cut.bottom)) // 2, column] = _Cell(glyph)

    def _points(self, path: Path) -> list[tuple[int, int]]:
        """(column, row), one for each column on the way: a host's devices in one column count as one."""
        points: list[tuple[int, int]] = []
        for lane, y in path.points:
            if points and points[-1][0] == self.columns[lane]:
                points.pop()
            points.append((self.columns[lane], _row(y)))
        return points

    def _draw_path(self, path: Path) -> None:
        kind = path.journey.kind
        for (c1, r1), (c2, r2) in pairwise(self._points(path)):
            step = 1 if c2 > c1 else -1
            slope = "\\" if step == RIGHT else "/"
            if r2 - r1 <= 1:  # a step down shows at the end of the run
                for column in range(c1 + step, c2, step):
                    self._put(r1, column, "-", kind)
                if r2 > r1:
                    self._put(r1, c2 - step, slope, kind)
            else:
                for row in range(r1, r2 + 1):
                    self._put(row, _column_at(row, (c1, r1), (c2, r2)), slope, kind)

    def _put(self, row: int, column: int, glyph: str, kind: str) -> None:
        before = self.cells.get((row, column))
        if before is not None and {before.glyph, glyph} == {"/", "\\"}:
            glyph = "X"
        elif before is not None and before.glyph == "|":
            glyph = "+"
        self.cells[row, column] = _Cell(glyph, kind)

    def _draw_crossings(self) -> None:
        """An X where two lines meet, in place of both, so that every crossing shows."""
        for index, one in enumerate(self.layout.paths):
            for other in self.layout.paths[index + 1 :]:
                for mine in self._diagonals(one):
                    for its in self._diagonals(other):
                        point = meeting(mine, its) if one.journey.way != other.journey.way else None
                        if point is not None:
                            self._mark_crossing(_row(point[1]), _row(point[0]), (mine, its), one.journey.kind)

    def _diagonals(self, path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        return [(start, end) for start, end in pairwise(self._points(path)) if end[1] - start[1] > 1]

    def _mark_crossing(
        self, row: int, column: int, lines: tuple[tuple[tuple[int, int], tuple[int, int]], ...], kind: str
    ) -> None:
        for start, end in lines:
            here = row, _column_at(row, start, end)
            if start[1] < row < end[1] and self.cells.get(here, _Cell(" ")).glyph in "\\/X":
                self.cells.pop(here, None)
        if (row, column) not in self.cells:
            self.cells[row, column] = _Cell("X", kind)

    def _draw_ends(self, path: Path) -> None:
        journey = path.journey
        points = self._points(path)
        step = 1 if journey.way == RIGHT else -1
        column, row = points[-1]
        if not journey.arrived:
            self.cells[row, column] = _Cell("x", journey.kind)
        elif len(points) > 1 and points[-2][1] == row:
            self.cells[row, column - step] = _Cell(">" if journey.way == RIGHT else "<", journey.kind)
        first_column, first_row = points[0]
        if journey.born_inside:
            self.cells[first_row, first_column] = _Cell("o", journey.kind)
            if not journey.arrived:
                self._write_inline(first_row, first_column, step, self._note(journey), journey.kind)

    def _write_inline(self, row: int, column: int, step: int, words: str, kind: str) -> None:
        """The words of a packet that no host saw, near its start, where nothing else stands."""
        for at_row in (row, row + 1, row + 2, row - 1):
            for shift in range(2, 12):
                start = column + shift if step == RIGHT else column - shift - len(words) + 1
                span = range(start - 1, start + len(words) + 1)
                if span.start >= 0 and span.stop <= self.span and all((at_row, cell) not in self.cells for cell in span):
                    for place, glyph in enumerate(words):
                        self.cells[at_row, start + place] = _Cell(glyph, kind)
                    return

    # --- lines ---

    def lines(self, *, colour: bool) -> Iterator[str]:
        """All lines of the drawing, without trailing blanks."""
        ladder = self.ladder
        yield from (line for line in (ladder.title, ladder.subtitle) if line)
        yield ""
        yield from self._head()
        left, right = self._notes()
        for row in range(self.height):
            body = "".join(_painted(self.cells.get((row, column), _Cell(" ")), colour=colour) for column in range(self.span))
            time, journey = left.get(row, ("", None))
            words = self._note(journey) if journey else ""
            margin = f"{time:>{_TIME}} {_painted_words(words.rjust(self.label_width), journey, colour=colour)} "
            time, journey = right.get(row, ("", None))
            words = self._note(journey) if journey else ""
            other = f" {_painted_words(words.ljust(self.label_width), journey, colour=colour)} {time}"
            yield f"{margin}{body}{other}".rstrip()
        yield ""
        yield from self._foot()

    def _head(self) -> Iterator[str]:
        """The hosts' names over their columns, on as many lines as they need."""
        lines: list[list[str]] = []
        for group in dict.fromkeys(lane.group for lane in self.ladder.lanes):
            members = [column for lane, column in zip(self.ladder.lanes, self.columns, strict=True) if lane.group == group]
            middle = self.margin + (min(members) + max(members)) / 2
            start = max(round(middle - (len(group) - 1) / 2), 0)
            for line in lines:
                if "".join(line[max(start - 1, 0) : start + len(group) + 1]).strip() == "":
                    break
            else:
                line = []
                lines.append(line)
            line.extend(" " * (start + len(group) - len(line)))
            line[start : start + len(group)] = group
        yield from ("".join(line) for line in lines)

    def _notes(self) -> tuple[dict[int, tuple[str, Journey]], dict[int, tuple[str, Journey]]]:
        """Row -> (time, journey) at the left and at the right host."""
        sides: tuple[dict[int, tuple[str, Journey]], dict[int, tuple[str, Journey]]] = ({}, {})
        last = len(self.ladder.lanes) - 1
        for path in self.layout.paths:
            for (lane, y), sighting in zip(path.points, path.journey.sightings, strict=True):
                if lane in (0, last) and self.ladder.lanes[lane].seen:
                    sides[lane != 0][_row(y)] = self.ladder.time(sighting.time_ns), path.journey
        return sides

    def _foot(self) -> Iterator[str]:
        ladder = self.ladder
        decider = ladder.decider
        if decider is not None:
            first = next((sighting for sighting in decider.sightings if ladder.lanes[sighting.lane].seen), decider.sightings[0])
            where, when = ladder.lanes[first.lane].vantage, ladder.time(first.time_ns)
            yield f"* decided it: packet {first.number}, first seen at {where}, {when} {ladder.unit}"
        words = [f"{ladder.unit} from the first SYN, to scale"]
        if any(not journey.arrived for journey in ladder.journeys):
            words.append("x last seen here")
        if any(journey.born_inside for journey in ladder.journeys):
            words.append("o sent from here")
        if ladder.left_out:
            words.append(f"{ladder.left_out} later packet{'s' * (ladder.left_out > 1)} left out")
        yield "; ".join(words)


def _column_at(row: int, start: tuple[int, int], end: tuple[int, int]) -> int:
    """The column of a line from (column, row) to (column, row) in a row, never on the lanes at its ends."""
    (c1, r1), (c2, r2) = start, end
    distance = math.floor(abs(c2 - c1) * (row - r1) / (r2 - r1) + 0.5)
    column = c1 + distance if c2 > c1 else c1 - distance
    return min(max(column, min(c1, c2) + 1), max(c1, c2) - 1)


def _row(height: float) -> int:
    return math.floor(height + 0.5)


def _painted(cell: _Cell, *, colour: bool) -> str:
    code = _code(cell.kind)
    return f"\x1b[{code}m{cell.glyph}\x1b[0m" if colour and cell.kind else cell.glyph


def _painted_words(words: str, journey: Journey | None, *, colour: bool) -> str:
    return f"\x1b[{_code(journey.kind)}m{words}\x1b[0m" if colour and journey is not None else words


def _code(kind: str) -> str:
    return _COLOURS.get(kind) or _COLOURS.get(kind.replace(" ", "-").partition("-")[0], "0")
