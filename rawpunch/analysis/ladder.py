"""One attempt as a ladder: vantage points as lanes, time downwards to scale, every packet one sloped line, crossings visible.

from rawpunch.analysis.ladder import ladder_of
drawing = ladder_of(run, run.attempts["attempt"][0])   # a notebook shows it by itself
print(drawing.text())                                  # for a terminal
Path("crossing.svg").write_text(drawing.svg())
print(drawing.mermaid())                               # for Markdown
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.journeys import LEFT, Journey, Lane, find_journeys, one_sided_journeys, order_lanes
from rawpunch.errors import BadParameter, UnknownName
from rawpunch.record.rows import SegmentRow
from rawpunch.units import MS, US
from rawpunch.wire import seq as sequence

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.reader import Dataset

_FAR_SIDE: Final = "peer"
_ABSURD: Final = 1 << 20
"""A sequence number farther than this from the initial one is no relative one; it is written as it is."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """What is to be drawn."""

    title: str
    subtitle: str
    lanes: tuple[Lane, ...]
    journeys: tuple[Journey, ...]
    zero_ns: int
    """The first SYN; times in the drawing count from it."""
    initial: dict[int, int]
    """Way -> initial sequence number."""
    left_out: int = 0
    """How many packets that followed the open are not shown."""

    def time(self, time_ns: int) -> str:
        """An instant as text, from the first SYN, in the drawing's unit (see `unit`)."""
        return f"{(time_ns - self.zero_ns) / self._divisor():.2f}"

    @property
    def unit(self) -> str:
        """ms, or µs where the whole story took less than a millisecond."""
        return "ms" if self._divisor() == MS else "µs"

    def _divisor(self) -> int:
        last = max((journey.end_ns for journey in self.journeys), default=0)
        return MS if last - self.zero_ns >= MS else US

    def label(self, journey: Journey, *, numbers: bool = False) -> str:
        """A packet's kind, on demand with relative sequence and acknowledgement numbers; data with its length."""
        words = [journey.kind]
        if numbers and journey.seq is not None:
            words.append(f"seq {self._relative(journey.seq, journey.way)}")
            if journey.ack is not None:
                words.append(f"ack {self._relative(journey.ack, -journey.way)}")
        if journey.payload_length:
            words.append(f"len {journey.payload_length}")
        return " ".join(words)

    def _relative(self, number: int, way: int) -> int:
        distance = sequence.distance(self.initial[way], number) if way in self.initial else _ABSURD
        return distance if abs(distance) < _ABSURD else number

    def crossings(self) -> list[tuple[Journey, Journey]]:
        """Pairs of SYNs that crossed: each left before the other arrived."""
        syns = [journey for journey in self.journeys if journey.kind == "SYN"]
        return [(one, other) for index, one in enumerate(syns) for other in syns[index + 1 :] if one.crosses(other)]

    @property
    def decider(self) -> Journey | None:
        """The packet that decided the attempt."""
        return next((journey for journey in self.journeys if journey.decides), None)

    def text(self, width: int = 80, *, numbers: bool = False, colour: bool = False) -> str:
        """For a terminal: plain ASCII; colour only when asked for.

        Raises:
            BadParameter: the width is too small for the lanes.
        """
        from rawpunch.analysis.ladder_text import render  # noqa: PLC0415  renderers know the model, not it them

        return render(self, width, numbers=numbers, colour=colour)

    def svg(self, *, numbers: bool = False) -> str:
        """A drawing that stands alone, on a light ground."""
        from rawpunch.analysis.ladder_svg import render  # noqa: PLC0415  as above

        return render(self, numbers=numbers)

    def mermaid(self, *, numbers: bool = False) -> str:
        """A `sequenceDiagram` for Markdown: in order of sending, with times; Mermaid itself has no time scale."""
        from rawpunch.analysis.ladder_mermaid import render  # noqa: PLC0415  as above

        return render(self, numbers=numbers)

    def _repr_svg_(self) -> str:
        return self.svg()


def ladder(
    segments: pd.DataFrame | Sequence[SegmentRow],
    *,
    attempt: str | None = None,
    decided_by: str | None = None,
    order: Sequence[str] | None = None,
    silent: Sequence[str] = (),
    until_ns: int | None = None,
    title: str | None = None,
    subtitle: str = "",
) -> Ladder:
    """Make the ladder of one attempt.

    Args:
        segments: the segments table, or rows of it.
        attempt: which attempt; not needed when the rows are of one.
        decided_by: vantage point # packet number, as in the attempts table; that packet is marked.
        order: vantage points or hosts from left to right, where their names do not tell.
        silent: vantage points that recorded too, though they may have seen nothing.
        until_ns: leave out packets that were first seen later than this after the first SYN.
        title: written above; the attempt's name if not given.
        subtitle: a second line.

    Raises:
        UnknownName: no packet belongs to that attempt.
        BadParameter: there are several attempts and none was named, or `order` names a vantage point that is not there.
    """
    rows = _rows(segments, attempt)
    names = sorted({row.attempt for row in rows})
    if not rows:
        raise UnknownName("there is no packet to draw" if attempt is None else f"no packet belongs to attempt {attempt!r}")
    if len(names) > 1:
        raise BadParameter("a ladder shows one attempt", why=f"there are {len(names)}", todo=f"attempt={names[0]!r}, for example")
    lanes = order_lanes(rows, order, silent)
    decider = _decider(decided_by)
    if len(lanes) == 1:
        lanes = (*lanes, Lane(_FAR_SIDE, _FAR_SIDE, "", LEFT, seen=False))
        journeys = one_sided_journeys(rows, decider)
    else:
        journeys = find_journeys(rows, lanes, decider)
    zero = min((journey.start_ns for journey in journeys if journey.kind == "SYN"), default=journeys[0].start_ns)
    if until_ns is not None:
        journeys = tuple(journey for journey in journeys if journey.start_ns - zero <= until_ns)
    initial: dict[int, int] = {}
    for journey in journeys:
        if journey.kind.startswith("SYN") and journey.seq is not None and not journey.born_inside:
            initial.setdefault(journey.way, journey.seq)
    return Ladder(names[0] if title is None else title, subtitle, lanes, journeys, zero, initial)


def ladder_of(
    run: Dataset, attempt: str, *, order: Sequence[str] | None = None, until_ns: int | None = None, closing: bool = False
) -> Ladder:
    """The ladder of an attempt of a run, with its pattern and outcome, the deciding packet marked.

    Args:
        run: the dataset.
        attempt: the attempt's name.
        order: see `ladder`.
        until_ns: see `ladder`.
        closing: whether to draw how an established connection was closed, too.

    Raises:
        UnknownName: the run has no such attempt, or no packet of it.
    """
    attempts = run.attempts
    found = attempts[attempts["attempt"] == attempt]
    if found.empty:
        raise UnknownName(f"the run has no attempt {attempt!r}", why=f"it has {len(attempts)} others", todo="see run.attempts")
    row = found.iloc[0]
    words = dict.fromkeys(str(row[name]).replace("_", " ") for name in ("pattern", "outcome"))
    segments = run.segments
    drawing = ladder(
        segments,
        attempt=attempt,
        decided_by=row["decided_by"] if isinstance(row["decided_by"], str) else None,
        order=order,
        silent=[str(vantage) for vantage in segments["vantage"].unique()] if order is None else (),
        until_ns=until_ns,
        title=", ".join(words).capitalize(),
        subtitle=f"{row['cell']} ({attempt})",
    )
    known = row[["established_a_ns", "established_b_ns"]]
    return drawing if closing or known.isna().any() else without_closing(drawing, int(known.max()))


def without_closing(drawing: Ladder, established_ns: int) -> Ladder:
    """Leave out what follows the first FIN or RST after both ends were established."""
    ends = (
        journey.start_ns
        for journey in drawing.journeys
        if journey.start_ns > established_ns and journey.kind.startswith(("FIN", "RST"))
    )
    end_ns = min(ends, default=None)
    if end_ns is None:
        return drawing
    return shortened(drawing, sum(journey.start_ns < end_ns for journey in drawing.journeys))


def shortened(drawing: Ladder, most: int) -> Ladder:
    """The first journeys of a drawing, which knows how many more there were."""
    kept = drawing.journeys[:most]
    return replace(drawing, journeys=kept, left_out=drawing.left_out + len(drawing.journeys) - len(kept))


def _rows(segments: Any, attempt: str | None) -> list[SegmentRow]:
    if hasattr(segments, "to_dict"):
        frame = segments if attempt is None else segments[segments["attempt"] == attempt]
        columns = [field.name for field in fields(SegmentRow) if field.name in frame.columns]
        plain = frame[columns].astype(object).where(frame[columns].notna(), None)
        return [SegmentRow(**record) for record in plain.to_dict("records")]
    return [row for row in segments if attempt is None or row.attempt == attempt]


def _decider(decided_by: str | None) -> tuple[str, int] | None:
    if decided_by is None:
        return None
    vantage, mark, number = decided_by.rpartition("#")
    if not mark or not number.strip().isdecimal():
        raise BadParameter(f"decided_by {decided_by!r} names no packet", todo="write vantage point # packet number: natB:out#12")
    return vantage.strip(), int(number)
