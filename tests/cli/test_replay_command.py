"""rawpunch replay as a user types it: what is refused before anything is built, and what a replay prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.cli import app
from rawpunch.replay.script import script_of
from rawpunch.replay.text import format_text
from rawpunch.units import MS
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from tests.replay.stage import A, B, opened
from tests.replay.test_replay_flows import written

TRIES = 4
FOLDER = Path(__file__).parents[2] / "data" / "captures"
RAWPUNCH = [sys.executable, "-m", "rawpunch.cli.app"]


def call(*words: str, code: int = 0, tries: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a command line, and expect an exit code; more than once where a machine that stalls may spoil it."""
    for _ in range(tries):
        done = subprocess.run([*RAWPUNCH, "replay", *words], capture_output=True, text=True, timeout=110, check=False)
        if done.returncode == code:
            break
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def capture(tmp_path: Path) -> str:
    """A capture of one crossing at both hosts."""
    return str(written(tmp_path / "crossing.pcapng", *opened(one_way_ns=(40 * MS, 40 * MS), offset_ns=2 * MS)))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code and the words of a command line that is refused."""
    code = app.main(["replay", *words])
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    return code, told.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--flow", "7"], 2, "there is no flow 7"),
        (["--side", "c"], 2, "'c' is no side of a flow"),
        (["--speed", "0"], 2, "a speed of 0.0"),
        (["--offset", "soon"], 2, "'soon' is not a duration"),
        (["--answer", "shout"], 2, "'shout' is not an answer"),
        (["--nat-a", "some"], 2, "'some'"),
        (["--scene", "absent.toml"], 2, "cannot read the scene"),
        (["--side", "a", "--target", "8.8.8.8:53"], 4, "8.8.8.8:53 is neither the loopback nor in the lab"),
        (["--side", "a", "--target", "10.0.0.1:80"], 4, "safety policy"),
        (["--target", "127.0.0.1:80"], 2, "a target takes the place of one side"),
        (["--side", "a", "--target", "[::1]:80"], 2, "IPv6"),
        (["--side", "a", "--target", "example.org"], 2, "is not an endpoint"),
    ],
)
def test_mistakes_are_told_before_anything_is_built(
    capture: str, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    """Exit code and words."""
    found, told = refused(capsys, capture, *words)
    assert found == code
    assert says in told


def test_files_that_hold_no_flow_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Absent, no capture, a script with a mistake, a flow that begins in its middle, several flows."""

    def told(path: Path) -> str:
        code, words = refused(capsys, str(path))
        assert code == 2
        return words

    assert "cannot be read" in told(tmp_path / "absent")
    odd = tmp_path / "odd"
    odd.write_bytes(bytes(64))
    assert "rawpunch:" in told(odd)
    odd.write_text("0 A > B SYN seq 1\n+1 nonsense\n")
    assert "odd, line 2: '+1 nonsense' is not a time and a segment" in told(odd)
    a, _ = opened()
    middle = [seen for seen in a.seen if isinstance(seen.packet, Segment) and not seen.packet.flags & Flags.SYN]
    cut = written(tmp_path / "cut.pcapng", type(a)(a.vantage, a.a, a.b, a.at, tuple(middle)))
    assert "has no SYN" in told(cut)


def test_several_flows_have_to_be_chosen_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists them by number."""
    data = [encode(Segment(Endpoint(A.address, port), B, Flags.SYN, port * 7919)) for port in (1001, 1002)]
    path = write_pcapng(
        tmp_path / "two.pcapng",
        [Interface("x", RAW_IP)],
        [Recorded(at, 0, octets, len(octets)) for at, octets in enumerate(data)],
    )
    code, told = refused(capsys, str(path))
    assert code == 2
    assert "has 2 flows" in told
    assert "2 is 10.1.0.2:1002 > 10.2.0.2:5000 (unanswered)" in told
    assert "--flow N" in told


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Its options and whole command lines."""
    assert app.main(["replay", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--offset" in told
    assert "rawpunch replay hostA.pcap hostB.pcap" in told


@pytest.mark.lab
def test_a_replay_as_a_document(capture: str, tmp_path: Path) -> None:
    """One JSON document: pattern and outcome of both, what became of each packet, the run that was kept."""
    words = (capture, "--one-way", "40ms", "--seed", "5", "--check", "--json", "--repeat", "2", "-o", str(tmp_path))
    done = call(*words, tries=TRIES)
    (line,) = done.stdout.splitlines()
    document = json.loads(line)
    assert document["schema"] == "rawpunch.replay/1"
    assert document["same_outcome"] is True
    assert len(document["replays"]) == 2
    first = document["replays"][0]
    assert first["captured"] == first["replayed"] == {"pattern": "simultaneous", "outcome": "established"}
    assert first["totals"] == {"as captured": 12, "differently": 0, "missing": 0, "extra": 0}
    assert document["timing_error_ns"]["n"] == 2 * 5
    assert (Path(document["run"]) / "manifest.json").is_file()


@pytest.mark.lab
def test_a_script_replayed_differently_is_told(tmp_path: Path) -> None:
    """B too late, NATs that reset: the table names the first difference, and --check fails."""
    script = tmp_path / "crossing.txt"
    script.write_text(format_text(script_of("crossing", opened(one_way_ns=(10 * MS, 10 * MS), offset_ns=2 * MS))))
    done = call(str(script), "--one-way", "10ms", "--answer", "rst", "--offset", "30ms", "--patience", "100ms", "--check", code=1)
    assert "captured: simultaneous, established" in done.stdout
    assert "replayed: refused, refused" in done.stdout
    assert "first difference: A sent SYN-ACK (packet 6): missing" in done.stdout
    assert re.search(r"A +got +RST-ACK +- +#\d+ +extra", done.stdout)
    assert "given up: SYN" in done.stdout


@pytest.mark.parametrize(
    "name", ["three_way-kernel-kernel", "refused-raw-raw", "icmp_ended-raw-raw", "reset_midway-kernel-kernel", "split-kernel-raw"]
)
def test_what_is_not_said_is_as_captured(name: str) -> None:
    """Without options NATs are where the capture shows them and answer as theirs did: pattern and outcome are the same."""
    assert app.main(["replay", str(FOLDER / f"{name}.pcapng"), "--on", "sim", "--check", "--seed", "5"]) == 0


def test_a_self_connect_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It has one end."""
    code, told = refused(capsys, str(FOLDER / "self_connect-raw.pcapng"), "--on", "sim")
    assert code == 2
    assert "a self-connect cannot be replayed" in told
