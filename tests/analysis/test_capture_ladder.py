"""Flows of capture files as ladders, and what single vantage points know, on the reference captures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rawpunch.analysis.capture_ladder import ladder_of_flow
from rawpunch.analysis.views import patterns_by_view, views_figure
from rawpunch.capture.blocks import Walk
from rawpunch.capture.classified import Classified
from rawpunch.capture.classify import classify
from rawpunch.capture.pcapng import Interface, Recorded, write_pcapng
from rawpunch.errors import BadParameter, UnknownName

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "captures"
SHARED = ROOT / ".." / "shared" / "captures"
LANES = ["hostA:eth0", "natA:in", "natA:out", "core:a", "core:b", "natB:out", "natB:in", "hostB:eth0"]


def reference(name: str) -> Classified:
    """One of the reference captures."""
    return classify(FOLDER / f"{name}.pcapng")


def one_file_each(name: str, folder: Path) -> list[Path]:
    """The same capture as eight files without interface names and directions, as separate tcpdumps would leave them."""
    walk = Walk(FOLDER / f"{name}.pcapng")
    packets: dict[int, list[Recorded]] = {}
    for piece in walk.pieces():
        starts = piece.at
        for i in range(len(starts)):
            begin = starts[i]
            data = piece.data[begin : begin + piece.captured[i]].tobytes()
            packets.setdefault(int(piece.interface[i]), []).append(Recorded(int(piece.time_ns[i]), 0, data, len(data)))
    return [
        write_pcapng(folder / f"place-{letter}.pcapng", [Interface("")], packets.get(index, []))
        for index, letter in enumerate("hgfedcba")  # against the alphabet: A stands on the right
    ]


def test_a_crossing_from_one_file() -> None:
    """All vantage points in their order, the crossing seen, the deciding packet marked, the closing left out."""
    drawing = ladder_of_flow(reference("simultaneous-kernel-kernel"), 0)
    assert [lane.vantage for lane in drawing.lanes] == LANES
    assert (drawing.title, len(drawing.crossings())) == ("Simultaneous, established", 1)
    assert [journey.kind for journey in drawing.journeys] == ["SYN", "SYN", "SYN-ACK", "SYN-ACK", "ACK", "ACK"]
    assert all(journey.arrived and len(journey.sightings) == 8 for journey in drawing.journeys)
    assert drawing.decider is not None
    assert drawing.decider.kind == "SYN-ACK"
    assert drawing.left_out == 2
    assert len(ladder_of_flow(reference("simultaneous-kernel-kernel"), 0, closing=True).journeys) == 8
    assert ladder_of_flow(reference("simultaneous-kernel-kernel"), 0, most=2).left_out == 6


def test_a_split_handshake_crosses_nothing() -> None:
    """B's SYN leaves after A's has arrived."""
    drawing = ladder_of_flow(reference("split-kernel-raw"), 0)
    assert [journey.kind for journey in drawing.journeys] == ["SYN", "SYN", "SYN-ACK", "ACK"]
    assert drawing.crossings() == []


def test_hosts_that_saw_nothing_are_lanes_too() -> None:
    """A SYN that B's NAT drops ends before B's lane."""
    drawing = ladder_of_flow(reference("unanswered-kernel-kernel"), 0)
    assert [lane.vantage for lane in drawing.lanes] == LANES
    assert [(journey.kind, journey.repeats, journey.arrived) for journey in drawing.journeys] == [
        ("SYN", False, False),
        ("SYN", True, False),
    ]


@pytest.mark.parametrize("name", ["simultaneous-raw-raw", "half_simultaneous-kernel-kernel", "refused-kernel-kernel"])
def test_places_are_told_by_times(name: str, tmp_path: Path) -> None:
    """Files that say neither where they were taken nor which way packets went give the same journeys."""
    found = classify(one_file_each(name, tmp_path))
    assert len(found) == 1
    drawing, known = ladder_of_flow(found, 0), ladder_of_flow(reference(name), 0)
    assert [lane.vantage for lane in drawing.lanes] == list("abcdefgh")
    mirrored = [(journey.kind, -journey.way, len(journey.sightings)) for journey in drawing.journeys]
    assert mirrored == [(journey.kind, journey.way, len(journey.sightings)) for journey in known.journeys]
    assert len(drawing.crossings()) == len(known.crossings())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the captures for trying things out are not here (../shared/captures)")
def test_four_files_of_a_crossing() -> None:
    """Lanes have the part of the files' names in which they differ; packets that escaped a NAT end there."""
    found = classify([SHARED / f"lab-crossing-{place}.pcap" for place in ("NB", "A", "B", "NA")])
    drawing = ladder_of_flow(found, 0)
    assert [lane.vantage for lane in drawing.lanes] == ["A", "NA", "NB", "B"]
    assert [journey.kind for journey in drawing.journeys if journey.kind.startswith("SYN")] == ["SYN"] * 2 + ["SYN-ACK"] * 2
    assert len(drawing.crossings()) == 1
    assert drawing.decider is not None
    assert "decided it: packet 3, first seen at B" in drawing.text()


def test_one_vantage_point_alone(tmp_path: Path) -> None:
    """The far side is inferred; each packet goes its way though no direction is noted."""
    (alone, *_) = one_file_each("simultaneous-raw-raw", tmp_path)
    drawing = ladder_of_flow(classify(alone), 0)
    assert [(lane.vantage, lane.seen) for lane in drawing.lanes] == [("place-h", True), ("peer", False)]
    ways = [journey.way for journey in drawing.journeys]
    assert ways[:2] == [1, -1]
    assert set(ways) == {1, -1}


def test_no_such_flow() -> None:
    """Named, with how many there are."""
    with pytest.raises(UnknownName, match="no flow 2"):
        ladder_of_flow(reference("split-raw-raw"), 1)


# --- what one place knows ---


def test_patterns_by_view() -> None:
    """A half-simultaneous open is told by both ends together only; a view that saw nothing is empty."""
    names = ("half_simultaneous-raw-raw", "unanswered-raw-kernel")
    frame = patterns_by_view({name: reference(name) for name in names})
    assert list(frame.columns) == [*LANES, "together"]
    assert list(frame.index) == list(names)
    assert frame.to_numpy().tolist() == [
        ["split"] * 6 + ["three_way"] * 2 + ["half_simultaneous"],
        ["unanswered"] * 6 + [None] * 2 + ["unanswered"],
    ]


def test_the_figure_has_a_word_for_each() -> None:
    """Every told pattern is written into its cell; an empty frame is refused."""
    frame = patterns_by_view({"some": reference("half_simultaneous-raw-raw")})
    figure = views_figure(frame, title="By vantage point")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["split"] * 6 + ["three-way"] * 2 + ["half sim."]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["some"]
    assert figure.axes[0].get_title(loc="left") == "By vantage point"
    with pytest.raises(BadParameter):
        views_figure(pd.DataFrame())
