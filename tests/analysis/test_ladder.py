"""The three drawings say what happened: every packet, every crossing, every break, and the packet that decided."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from rawpunch.analysis.ladder import ladder, ladder_of
from rawpunch.dataset.schema import table_of
from rawpunch.dataset.store import MachineInfo, Manifest, RunWriter, load
from rawpunch.errors import BadParameter, UnknownName
from rawpunch.record.rows import AttemptRow
from tests.analysis.made_world import ACK, EPOCH, RST, SYN, VANTAGES, World, crossing, late, repeated

SVG = "{http://www.w3.org/2000/svg}"

CROSSING = r"""
                hostA   natA          core          natB   hostB
     0.00     SYN |------|------|\            /|------|------| SYN     0.00
                  |      |      |  \        /  |      |      |
                  |      |      |    \    /    |      |      |
                  |      |      |       X      |      |      |
                  |      |      |    /    \    |      |      |
                  |      |      | /          \ |      |      |
    20.06     SYN |<-----|------|/            \|------|----->| SYN     20.06
    20.06 SYN-ACK |------|------|\            /|------|------| SYN-ACK 20.06
                  |      |      |  \        /  |      |      |
                  |      |      |     \  /     |      |      |
"""


def test_a_crossing_in_plain_text() -> None:
    """Lanes, diagonals and an X in the middle; times and kinds beside the hosts; 80 columns of ASCII."""
    text = ladder(crossing().rows()).text()
    assert CROSSING in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert sum("X" in line for line in text.splitlines()) == 3
    assert text.splitlines()[-1] == "ms from the first SYN, to scale"


def test_rows_of_text_are_to_scale() -> None:
    """B's start a quarter of the delay later stands a quarter of a transit lower."""
    lines = ladder(crossing(5).rows()).text().splitlines()
    row = {match[1]: number for number, line in enumerate(lines) if (match := re.search(r"SYN +(\d+\.\d\d)$", line))}
    transit = row["20.06"] - next(number for number, line in enumerate(lines) if " 0.00 " in line)
    assert row["5.00"] - (row["20.06"] - transit) == pytest.approx(transit / 4, abs=0.6)


def test_text_fits_or_says_why() -> None:
    """The drawing keeps to the width given; a terminal that is too narrow is told what would do."""
    for width in (80, 100, 120):
        assert max(map(len, ladder(crossing().rows()).text(width).splitlines())) <= width
    with pytest.raises(BadParameter, match="does not fit") as caught:
        ladder(crossing().rows()).text(40)
    needed = int(re.findall(r"\d+", caught.value.why)[0])
    assert ladder(crossing().rows()).text(needed)


def test_colour_is_asked_for() -> None:
    """With colour the same characters come, between escape sequences."""
    drawing = ladder(late().rows())
    coloured = drawing.text(colour=True)
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == drawing.text()


def test_a_refused_open_in_text() -> None:
    """The SYN ends with x at natB, the RST begins with o below it, and the deciding packet has a star and its number."""
    rows = late().rows()
    rst = next(row for row in rows if row.kind == "RST-ACK" and row.vantage == "natB:out")
    text = ladder(rows, decided_by=f"natB:out#{rst.number}").text()
    assert re.search(r"\\\|------x +\|\n.*/\|------o +\|", text)
    assert text.count("RST-ACK*") == 1
    assert f"* decided it: packet {rst.number}, first seen at natB:out, 20.06 ms" in text
    assert "X" not in text


def test_a_wait_is_a_marked_break() -> None:
    """The second before the retransmission is one line with its length, in all three drawings."""
    drawing = ladder(repeated().rows())
    assert re.search(r"~+ 97\d(\.\d)? ms later ~+", drawing.text())
    assert "SYN again" in drawing.text()
    assert len(drawing.text().splitlines()) < 60
    assert "in which nothing was under way" in drawing.svg()
    assert 'stroke-dasharray="7 4"' in drawing.svg()
    assert re.search(r"Note over p0,p\d: 97\d(\.\d)? ms later", drawing.mermaid())


def test_a_packet_that_no_host_saw_is_named_on_its_line() -> None:
    """A RST from NAT to NAT has no text in a margin: its kind stands at its beginning."""
    world = crossing()
    world.send(True, 90, RST, 5, begin=2, end=5)
    assert re.search(r"\|      o------\|\\ RST +\|", ladder(world.rows()).text())
    assert ">RST</text>" in ladder(world.rows()).svg()


def test_numbers_on_demand() -> None:
    """Relative to each side's initial number; a RST's 0 stays as it is."""
    assert "SYN-ACK seq 0 ack 1" in ladder(crossing().rows()).text(120, numbers=True)
    assert "seq" not in ladder(crossing().rows()).text()
    far = [replace(row, seq=row.seq and (row.seq + 2**32 - 1000) % 2**32) for row in late().rows()]
    assert "RST-ACK seq" in ladder(far).mermaid(numbers=True)
    high = World()
    at_b = high.send(True, 0, SYN, 2**32 - 1)
    high.send(True, at_b + 30, ACK, 0, 7)
    assert "ACK seq 1 ack 7" in ladder(high.rows()).mermaid(numbers=True)


# --- SVG ---


def _texts(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}text"))  # noqa: S314  we made it ourselves


def test_svg_is_well_formed_and_complete() -> None:
    """It parses, stays inside its view box, and names each packet in both margins."""
    drawing = ladder(crossing(6).rows(), title="A < B & C", subtitle="5 > 4")
    root = ET.fromstring(drawing.svg())  # noqa: S314  we made it ourselves
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    words = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "A < B & C" in words
    assert sum("SYN-ACK" in word and re.search(r"\d\.\d\d", word) is not None for word in words) == 4
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height
    assert drawing._repr_svg_() == drawing.svg()


def test_a_true_crossing_is_ringed() -> None:
    """Where two SYNs meet stands a ring, in the middle of the core when both start together; nowhere when they do not meet."""
    root = ET.fromstring(ladder(crossing().rows()).svg())  # noqa: S314  we made it ourselves
    rings = [circle for circle in root.iter(f"{SVG}circle") if circle.attrib["fill"] == "none"]
    lanes = sorted({float(line.attrib["x1"]) for line in root.iter(f"{SVG}line") if line.attrib["x1"] == line.attrib["x2"]})
    assert [float(ring.attrib["cx"]) for ring in rings] == [pytest.approx((lanes[3] + lanes[4]) / 2, abs=1)]
    assert 'stroke-dasharray="2.5 2.5"' not in ladder(late().rows()).svg()


def test_texts_in_a_margin_do_not_touch() -> None:
    """However many packets a host saw at once, their lines of text keep their distance."""
    world = crossing()
    for number in range(10):
        world.send(number % 2 == 0, 70 + number / 100, ACK, 5000 + number, 1)
    svg = ladder(world.rows()).svg()
    for anchor in ("start", "end"):
        ys = sorted(
            float(text.attrib["y"])
            for text in _texts(svg)
            if text.attrib.get("text-anchor") == anchor and len(text) == 3  # time, kind, arrow
        )
        assert len(ys) > 10
        assert all(after - before >= 16.5 for before, after in pairwise(ys))


# --- Mermaid ---


def test_mermaid_of_a_crossing() -> None:
    """Hosts that only forward are left out; packets come in order of sending; the crossing is a note."""
    assert ladder(crossing(6).rows()).mermaid().splitlines() == [
        "sequenceDiagram",
        "    participant p0 as hostA",
        "    participant p1 as hostB",
        "    p0->>p1: SYN, 0.00 to 20.06 ms",
        "    p1->>p0: SYN, 6.00 to 26.06 ms",
        "    Note over p0,p1: the two SYNs crossed",
        "    p1->>p0: SYN-ACK, 20.06 to 40.12 ms",
        "    p0->>p1: SYN-ACK, 26.06 to 46.12 ms",
        "    p0->>p1: ACK, 40.12 to 60.18 ms",
        "    p1->>p0: ACK, 46.12 to 66.18 ms",
    ]


def test_mermaid_of_a_refused_open() -> None:
    """A lost SYN has a cross, a NAT's RST a dashed line, and no word breaks Mermaid's grammar."""
    rows = late().rows()
    rst = next(row for row in rows if row.kind == "RST-ACK" and row.vantage == "natB:out")
    lines = ladder(rows, decided_by=f"natB:out # {rst.number}").mermaid().splitlines()
    assert "    p0-xp2: SYN, 0.00 ms, lost" in lines
    assert any(line.startswith("    p2-->>p0: RST-ACK, 20.06 to ") for line in lines)
    assert f"    Note over p0,p3: packet {rst.number} at natB:out decided it" in lines
    assert not any(";" in line or "#" in line for line in lines)


# --- from tables ---


def test_from_a_data_frame() -> None:
    """A frame as pandas gives it, nullable integers and all, draws the same as the rows."""
    rows = [*crossing().rows(), *(replace(row, attempt="other") for row in late().rows())]
    frame = table_of("segments", rows).to_pandas(types_mapper={"int64": pd.Int64Dtype()}.get)
    assert ladder(frame, attempt="made").text() == ladder(crossing().rows()).text()
    with pytest.raises(BadParameter, match="one attempt"):
        ladder(frame)
    with pytest.raises(UnknownName, match="nothing"):
        ladder(frame, attempt="nothing")
    with pytest.raises(UnknownName):
        ladder([])
    with pytest.raises(BadParameter, match="names no packet"):
        ladder(rows, attempt="made", decided_by="the RST")


def test_a_record_from_one_side() -> None:
    """One vantage point gives arrows to a dashed far side, with times on the near side only."""
    drawing = ladder(repeated().rows(["hostA:eth0"]))
    assert [lane.group for lane in drawing.lanes] == ["hostA", "peer"]
    assert re.search(r"0\.00 +SYN \|-+>\|$", drawing.text(), re.MULTILINE)
    assert "Recorded at one side only." in drawing.svg()
    assert "p0->>p1: SYN, 0.00 ms" in drawing.mermaid()


def test_packets_after_an_instant_are_left_out() -> None:
    """`until_ns` ends the story early."""
    assert len(ladder(crossing().rows(), until_ns=1_000_000).journeys) == 2


def test_microseconds_where_all_is_quick() -> None:
    """Without a delay the drawing counts in microseconds."""
    drawing = ladder(crossing(one_way_ms=0.01).rows())
    assert drawing.unit == "µs"
    assert drawing.time(EPOCH + 70_000) == "70.00"


def _run(root: Path, **columns: object) -> Path:
    """A run with one attempt on disk."""
    world = crossing()
    world.send(True, 90, RST, 1001)
    rows = world.rows()
    fields: dict[str, object] = {
        "attempt": "made",
        "cell": "ends=raw-raw",
        "repeat": 0,
        "driver": "lab",
        "end_a": "raw",
        "end_b": "raw",
        "outcome": "established",
        "pattern": "simultaneous",
        "established_a_ns": EPOCH + 41_000_000,
        "established_b_ns": EPOCH + 42_000_000,
        "decided_by": f"{rows[0].vantage}#{rows[0].number}",
        "disturbed": False,
    }
    row = AttemptRow(**(fields | columns))  # type: ignore[arg-type]
    manifest = Manifest(
        experiment="made",
        run_id="one",
        rawpunch_version="0",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        seed=1,
        driver="lab",
        grid={"ends": ("raw-raw",)},
        repeats=1,
        machine=MachineInfo(kernel="6", python="3", cpus=1),
    )
    with RunWriter.create(manifest, root=root) as writer:
        writer.write_part("p", {"attempts": [row], "segments": rows}, levels={"ends=raw-raw": {"ends": "raw-raw"}})
        writer.finish()
        return writer.path


def test_from_a_run(tmp_path: Path) -> None:
    """The attempt's pattern, outcome, cell and deciding packet come from its row; its closing is left out unless asked for."""
    run = load(_run(tmp_path))
    drawing = ladder_of(run, "made")
    assert (drawing.title, drawing.subtitle) == ("Simultaneous, established", "ends=raw-raw (made)")
    assert drawing.decider is drawing.journeys[0]
    assert (len(drawing.journeys), drawing.left_out) == (6, 1)
    assert "later packet left out" in drawing.text()
    assert "later packet left out" in drawing.svg()
    assert len(ladder_of(run, "made", closing=True).journeys) == 7
    assert tuple(lane.vantage for lane in drawing.lanes) == VANTAGES
    with pytest.raises(UnknownName, match="no attempt"):
        ladder_of(run, "other")


def test_a_failed_attempt_is_drawn_to_its_end(tmp_path: Path) -> None:
    """Without both ends established nothing is a closing; a word that is pattern and outcome stands once."""
    changes = {"established_b_ns": None, "outcome": "refused", "pattern": "refused", "decided_by": None}
    drawing = ladder_of(load(_run(tmp_path, **changes)), "made")
    assert drawing.title == "Refused"
    assert (len(drawing.journeys), drawing.left_out, drawing.decider) == (7, 0, None)
