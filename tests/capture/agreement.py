"""Whether the bulk forms say what the pure ones say of a classified capture."""

from __future__ import annotations

from pathlib import Path

from rawpunch.capture.classified import Classified, Whole
from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import seen_of
from rawpunch.capture.readings import PATTERNS
from rawpunch.record.attempts import split
from rawpunch.record.outcome import outcome_of
from rawpunch.record.pattern import Seen, Side, tell
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError


def agree(found: Classified) -> None:
    """Each attempt is told as the pure form tells it."""
    assert isinstance(found, Whole)
    rows = found.rows()
    for attempt, row in enumerate(rows):
        views = found.views_of(attempt)
        told = tell(views)
        assert row["pattern"] == told.pattern
        assert row["outcome"] == outcome_of(told)
        decided = None if told.decided_by is None else f"{told.decided_at}#{told.decided_by.number}"
        assert row["decided_by"] == decided
        assert row["established_ns"] == (told.decided_ns if row["outcome"] == "established" else None)
        at_a, at_b = (codes[attempt] for codes in (found.told.at_a, found.told.at_b))
        assert (None if at_a < 0 else PATTERNS[at_a]) == told.at_a
        assert (None if at_b < 0 else PATTERNS[at_b]) == told.at_b
        assert row["first_ns"] == min(view.seen[0].time_ns for view in views)


def attempts_of(path: Path) -> list[tuple[str, list[int]]]:
    """Vantage point and packet numbers of each attempt there, as the pure form splits them."""
    frame = read_capture(path).sort_values(["time_ns", "number"], kind="stable")
    flows: dict[tuple[str, frozenset[Endpoint]], list[tuple[Side, Seen]]] = {}
    for vantage, seen in zip(frame["interface"].tolist(), seen_of(frame), strict=True):
        packet = seen.packet
        flow = packet.quoted.reverse if isinstance(packet, IcmpError) else packet.flow
        side: Side = 0 if flow.source == flow.canonical.source else 1
        flows.setdefault((vantage, frozenset((flow.source, flow.destination))), []).append((side, seen))
    return sorted(
        (vantage, [seen.number for _, seen in attempt]) for (vantage, _), flow in flows.items() for attempt in split(flow)
    )


def splits_alike(path: Path, found: Classified) -> None:
    """Each attempt at each vantage point has the packets that the pure form gives it."""
    assert isinstance(found, Whole)
    packets, ordered = found.packets, found.ordered
    parts = []
    for start, end in zip(ordered.attempts.start.tolist(), ordered.attempts.end.tolist(), strict=True):
        place = ordered.place[start:end]
        parts.append((packets.vantages[packets.vantage[place[0]]].interface, packets.number[place].tolist()))
    assert sorted(parts) == attempts_of(path)
