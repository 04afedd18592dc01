"""decode, classify and ladder on capture files, as a user types them: data, talk, exit codes."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import rawpunch
from rawpunch.capture.columns import COLUMNS, read_table
from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.cli.app import main
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss
from rawpunch.wire.segment import Flags, Segment

START_NS = 1_700_000_000 * SECOND
A, B, C = Endpoint("10.1.0.2", 1000), Endpoint("10.2.0.2", 2000), Endpoint("10.3.0.2", 3000)
SYN, SYN_ACK, ACK, RST_ACK, FIN_ACK = (Flags(bits) for bits in (0x02, 0x12, 0x10, 0x14, 0x11))
CROSSING = [
    (0, Segment(A, B, SYN, 100, options=(Mss(1460),))),
    (5, Segment(B, A, SYN, 500)),
    (5.1, Segment(A, B, SYN_ACK, 100, 501)),
    (15, Segment(B, A, SYN_ACK, 500, 101)),
    (50, Segment(A, B, FIN_ACK, 101, 501)),
]
REFUSED = [(100, Segment(A, C, SYN, 7)), (101, Segment(C, A, RST_ACK, 0, 8))]


@dataclass
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def call(*words: object, code: int = 0) -> Done:
    """Run a command line in this process; it ends with this exit code and without a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        done = Done(main([*map(str, words)]), out.getvalue(), err.getvalue())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def document(done: Done) -> dict[str, Any]:
    """The one JSON document on stdout."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crossing and a refused call."""
    recorded = [
        Recorded(START_NS + round(at * MS), 0, encode(segment), 60, outgoing=segment.source == A)
        for at, segment in CROSSING + REFUSED
    ]
    return write_pcapng(tmp_path_factory.mktemp("captures") / "some.pcapng", [Interface("hostA:eth0", RAW_IP)], recorded)


@pytest.fixture(scope="module")
def broken(capture: Path) -> Path:
    """The same, cut in its last record."""
    path = capture.with_name("broken.pcapng")
    path.write_bytes(capture.read_bytes()[:-7])
    return path


# --- decode ---


def test_decode_writes_parquet(capture: Path, tmp_path: Path) -> None:
    """One file per capture, with all columns as `read_table` has them; the document counts."""
    packed = tmp_path / "packed.pcapng.gz"
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    told = document(call("decode", capture, packed, "-o", tmp_path / "out" / "deep", "--json"))
    assert told["schema"] == "rawpunch.decode/1"
    assert [(file["packets"], file["rows"], file["skipped"]) for file in told["files"]] == [(7, 7, {}), (7, 7, {})]
    for file, name in zip(told["files"], ("some.parquet", "packed.parquet"), strict=True):
        assert Path(file["parquet"]) == tmp_path / "out" / "deep" / name
        frame = pd.read_parquet(file["parquet"])
        assert list(frame.columns) == list(COLUMNS)
        expected = read_table(capture).to_pylist()
        assert frame.astype(object).where(frame.notna(), None).to_dict("records") == expected
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == ["packed.parquet", "some.parquet"]


def test_decode_shows_the_first_rows(capture: Path) -> None:
    """As many as asked for, endpoints in one word, options in the toolkit's notation."""
    lines = call("decode", capture, "--head", "-n", 2).stdout.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["1", str(START_NS), "hostA:eth0", "out", str(A), str(B), "SYN", "100", "0", "64", "mss", "1460"]
    told = document(call("decode", capture, "--head", "--json"))
    assert [row["kind"] for row in told["files"][0]["head"]] == ["SYN", "SYN", "SYN-ACK", "SYN-ACK", "FIN-ACK", "SYN", "RST-ACK"]


def test_decode_keeps_what_could_be_read(broken: Path, capture: Path, tmp_path: Path) -> None:
    """A damaged file ends with 5 and the reason; the rows before the damage, and the other files, are there."""
    done = call("decode", broken, capture, "-o", tmp_path, code=5)
    assert "broken.pcapng: file ends inside a record (1)" in done.stderr
    assert len(pd.read_parquet(tmp_path / "broken.parquet")) == 6
    assert len(pd.read_parquet(tmp_path / "some.parquet")) == 7


def test_decode_goes_on_behind_a_file_that_is_no_capture(capture: Path, tmp_path: Path) -> None:
    """It ends with 5 if others could be read, else with 2; nothing is left of it."""
    (tmp_path / "text.pcap").write_text("no capture")
    done = call("decode", tmp_path / "text.pcap", capture, "-o", tmp_path / "out", code=5)
    assert "text.pcap is not a capture file" in done.stderr
    call("decode", tmp_path / "text.pcap", "-o", tmp_path / "out", code=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["some.parquet"]


def test_decode_without_a_wish(capture: Path, tmp_path: Path) -> None:
    """Neither a folder nor --head, or both: what to write; two files of one name: refused before anything is written."""
    assert "--head" in call("decode", capture, code=2).stderr
    call("decode", capture, "--head", "-o", tmp_path, code=2)
    assert "some.pcapng.parquet" in call("decode", capture, capture, "-o", tmp_path, code=2).stderr
    assert not list(tmp_path.iterdir())


def test_decode_into_a_folder_that_cannot_be(capture: Path, tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in call("decode", capture, "-o", tmp_path / "file", code=2).stderr


def test_names_that_clash_keep_their_endings(capture: Path, tmp_path: Path) -> None:
    """some.pcapng and some.pcapng.gz."""
    packed = tmp_path / "some.pcapng.gz"
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    call("decode", capture, packed, "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["some.pcapng.gz.parquet", "some.pcapng.parquet"]


# --- classify ---


def test_the_document_of_classify(capture: Path) -> None:
    """Exactly these keys, in this order."""
    told = document(call("classify", capture, "--json"))
    assert list(told) == ["schema", "totals", "flows"]
    assert told["schema"] == "rawpunch.classify/1"
    assert told["totals"] == {"segments": 7, "flows": 2, "by_pattern": {"simultaneous": 1, "refused": 1}, "skipped": {}}
    assert told["flows"] == [
        {
            "flow": "10.1.0.2:1000 > 10.2.0.2:2000",
            "pattern": "simultaneous",
            "outcome": "established",
            "syn": 2,
            "syn_ack": 2,
            "rst": 0,
            "syn_retransmissions": 0,
            "icmp_errors": 0,
            "segments": 5,
            "first_ns": START_NS,
            "established_ns": START_NS + 15 * MS,
            "decided_by": "hostA:eth0#4",
        },
        {
            "flow": "10.1.0.2:1000 > 10.3.0.2:3000",
            "pattern": "refused",
            "outcome": "refused",
            "syn": 1,
            "syn_ack": 0,
            "rst": 1,
            "syn_retransmissions": 0,
            "icmp_errors": 0,
            "segments": 2,
            "first_ns": START_NS + 100 * MS,
            "established_ns": None,
            "decided_by": "hostA:eth0#7",
        },
    ]


def test_the_table_of_classify(capture: Path) -> None:
    """A line for each flow, as many as wanted, and one for all."""
    lines = call("classify", capture).stdout.splitlines()
    assert lines[2].split() == ["2", str(A), ">", str(C), "refused", "refused", "1", "0", "1", "0", "0", "2", "hostA:eth0#7"]
    assert lines[-1] == "7 segments, 2 flows: simultaneous 1, refused 1"
    done = call("classify", capture, "--most", 1)
    assert len(done.stdout.splitlines()) == 3
    assert "1 more flows are not shown" in done.stderr


def test_classify_says_what_it_could_not_read(broken: Path, tmp_path: Path) -> None:
    """Damage: the document all the same, then 5. No capture or no file: 2. No TCP: 5, too."""
    done = call("classify", broken, "--json", code=5)
    assert document(done)["totals"]["skipped"] == {"file ends inside a record": 1}
    assert "file ends inside a record" in done.stderr
    (tmp_path / "empty.pcap").write_bytes(b"")
    assert "it is empty" in call("classify", tmp_path / "empty.pcap", code=2).stderr
    assert "No such file" in call("classify", tmp_path / "none.pcap", code=2).stderr
    assert "cannot be read" in call("classify", tmp_path, code=2).stderr
    udp = b"\x60\0\0\0\0\x08\x11\x40" + bytes(40)
    silent = write_pcapng(tmp_path / "silent.pcapng", [Interface("x", RAW_IP)], [Recorded(START_NS, 0, udp, len(udp))])
    done = call("classify", silent, code=5)
    assert "no TCP in its 1 packets" in done.stderr
    assert done.stdout == "0 segments, 0 flows\n"


# --- ladder ---


def test_the_ladder_of_a_flow(capture: Path, tmp_path: Path) -> None:
    """By number, by pattern, or the only one; as text, SVG or Mermaid; without the closing unless asked for."""
    by_pattern = call("ladder", capture, "--pattern", "simultaneous").stdout
    assert by_pattern == call("ladder", capture, "--flow", 1).stdout
    assert by_pattern.startswith("Simultaneous, established\n10.1.0.2:1000 > 10.2.0.2:2000 (flow 1 of 2)\n")
    assert "FIN" not in by_pattern
    assert "FIN-ACK" in call("ladder", capture, "--flow", 1, "--closing").stdout
    assert "RST-ACK*" in call("ladder", capture, "--flow", 2).stdout
    call("ladder", capture, "--flow", 1, "-o", tmp_path / "crossing.svg")
    assert (tmp_path / "crossing.svg").read_text().startswith("<svg")
    assert call("ladder", capture, "--flow", 1, "--format", "mermaid").stdout.startswith("sequenceDiagram")


def test_a_ladder_that_cannot_be(capture: Path, broken: Path, tmp_path: Path) -> None:
    """Several flows and none chosen, no such flow or pattern, options of the other kind, no TCP: what to do instead."""
    assert "--flow N" in call("ladder", capture, code=2).stderr
    assert "no flow 3" in call("ladder", capture, "--flow", 3, code=2).stderr
    assert "simultaneous, refused" in call("ladder", capture, "--pattern", "split", code=2).stderr
    assert "--ends" in call("ladder", capture, "--ends", "raw-raw", code=2).stderr
    assert "belongs to capture files" in call("ladder", "nothing", "--flow", 1, code=2).stderr
    assert "these are no files: b.pcap" in call("ladder", capture, capture, "b.pcap", code=2).stderr
    call("ladder", broken, "--flow", 1, code=5)
    silent = write_pcapng(tmp_path / "silent.pcapng", [Interface("x", RAW_IP)], [])
    assert "no TCP" in call("ladder", silent, code=5).stderr
    assert "'.pdf' is not a form" in call("ladder", capture, "--flow", 1, "-o", tmp_path / "x.pdf", code=2).stderr
    assert "not for the terminal" in call("ladder", capture, "--flow", 1, "--format", "png", code=2).stderr


def test_a_ladder_in_pixels(capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a program of the machine; without it, that is said."""
    if shutil.which("rsvg-convert"):
        call("ladder", capture, "--flow", 1, "-o", tmp_path / "crossing.png")
        assert (tmp_path / "crossing.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "-o ladder.svg" in call("ladder", capture, "--flow", 1, "-o", tmp_path / "other.png", code=3).stderr


# --- the package ---


def test_functions_of_the_package(capture: Path) -> None:
    """`rawpunch.read_capture`, `iter_captures` and `classify` are the ones of the capture floor; nothing is imported before."""
    assert len(rawpunch.read_capture(capture)) == 7
    assert sum(len(part) for part in rawpunch.iter_captures([capture, capture])) == 14
    assert rawpunch.classify(capture).by_pattern() == {"simultaneous": 1, "refused": 1}
    lazily = "import sys, rawpunch; assert not {'pandas', 'pyarrow', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", lazily], check=True)
