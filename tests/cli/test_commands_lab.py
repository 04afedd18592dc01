"""The commands as a user types them, against a real lab: what they print, what they leave, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rawpunch.cli import app

pytestmark = pytest.mark.lab

RAWPUNCH = [sys.executable, "-m", "rawpunch.cli.app"]
FEW, MANY = 6, 16
"""Repeats of a run that is stopped as soon as it has begun, and of one that something is done to while it goes on."""
SMALL = ["--set", "one_way_ns=5ms", "--set", "offset=0.0,2.0", "--seed", "7"]


def _call(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*RAWPUNCH, *words], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def _said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    """What a command that starts no process of its own prints, called within this one: there it is loaded once for all."""
    ended = app.main(list(words))
    said = capsys.readouterr()
    assert ended == code, said.err
    assert "Traceback" not in said.err
    return said.out, said.err


def _document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small complete run."""
    data = tmp_path_factory.mktemp("data")
    document = _document(_call("run", "raw-vs-kernel", *SMALL, "--repeat", "2", "--data", str(data), "--json"))
    assert document["attempts"] == 24
    return Path(document["run"])


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of its own, so that no standing lab of the user is touched."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path
    app.main(["clean"])


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    """Attempts, segments, transitions, mappings, captures and a manifest, all verified; patterns and verdicts in the document."""
    assert "as they were written" in _call("runs", "verify", str(run)).stdout
    assert {path.name for path in run.iterdir()} >= {
        "attempts",
        "segments",
        "transitions",
        "mappings",
        "captures",
        "manifest.json",
    }
    document = _document(_call("runs", "show", str(run), "--json"))
    assert sum(document["by_pattern"].values()) == sum(document["by_outcome"].values()) == 24
    assert [verdict["verdict"] for verdict in document["verdicts"]].count("refuted") == 0


def test_every_undisturbed_attempt_has_the_pattern_of_its_cell(run: Path) -> None:
    """No offset: the SYNs cross. Two one-way delays late: half simultaneous if the NATs are silent, refused if they reset."""
    import rawpunch  # noqa: PLC0415  pandas is not needed elsewhere here

    expected = {"drop": ("half_simultaneous", "established"), "rst": ("refused", "refused")}
    for row in rawpunch.load(run).attempts.itertuples():
        if not row.disturbed:
            assert (row.pattern, row.outcome) == (
                expected[str(row.nat_answer)] if row.offset else ("simultaneous", "established")
            )


def test_a_refused_attempt_names_the_rst(run: Path) -> None:
    """The deciding packet is the RST, where it was born: at the outer device of the NAT that sent it."""
    import rawpunch  # noqa: PLC0415  pandas is not needed elsewhere here

    dataset = rawpunch.load(run)
    refused = dataset.attempts[(dataset.attempts.outcome == "refused") & ~dataset.attempts.disturbed]
    segments = dataset.segments.set_index(["attempt", "number"])
    for attempt, decided_by in zip(refused.attempt, refused.decided_by, strict=True):
        vantage, _, number = decided_by.partition("#")
        assert vantage == "natB:out"
        assert segments.loc[(attempt, int(number))].kind == "RST-ACK"


def test_ladders_come_in_three_forms(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text for the terminal, SVG and Mermaid; an attempt that is not there is named."""
    assert "hostA" in _said(capsys, "ladder", str(run), "--pattern", "simultaneous")[0]
    _said(capsys, "ladder", str(run), "--pattern", "refused", "-o", str(tmp_path / "r.svg"))
    assert (tmp_path / "r.svg").read_text().lstrip().startswith("<")
    assert "sequenceDiagram" in _said(capsys, "ladder", str(run), "--format", "mermaid")[0]
    assert "no attempt" in _said(capsys, "ladder", str(run), "--pattern", "split", code=2)[1]
    assert "c999" in _said(capsys, "ladder", str(run), "c999-r0000", code=2)[1]


def test_a_damaged_run_is_found_out(run: Path, tmp_path: Path) -> None:
    """One changed byte in a capture is a problem with a name, and exit code 1."""
    import shutil  # noqa: PLC0415  only here

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    capture = next((copy / "captures").iterdir())
    data = bytearray(capture.read_bytes())
    data[-1] ^= 1
    capture.write_bytes(data)
    assert capture.name in _call("runs", "verify", str(copy), code=1).stdout


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    """It prints namespaces, links and rules, and makes no folder."""
    said = _call("run", "raw_vs_kernel", "--dry-run", "--data", str(tmp_path / "data")).stdout
    assert "ip link add" in said
    assert "masquerade" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("words", "code", "needle"),
    [
        (["run", "nosuch"], 2, "no experiment"),
        (["run", "raw_vs_kernel", "--set", "ends=x"], 2, "not a level"),
        (["run", "raw_vs_kernel", "--on", "moon"], 2, "moon"),
        (["run", "absent.py"], 2, "no file"),
        (["run"], 2, "no experiment is named"),
        (["run", "--resume", "nowhere"], 2, "no run"),
        (["runs", "show", "nosuch"], 2, "no run"),
        (["ladder", "nosuch"], 2, "no run"),
        (["lab", "exec", "hostA", "true"], 2, "no lab is up"),
        (["lab", "up", "--answer", "maybe"], 2, "not an answer"),
        (["lab", "up", "--one-way", "soon"], 2, "not a duration"),
        (["lab", "up", "--scene", "absent.toml"], 2, "cannot read"),
    ],
)
def test_mistakes_are_named(
    words: list[str],
    code: int,
    needle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What happened, what to do, the documented exit code, no traceback."""
    monkeypatch.chdir(tmp_path)
    _, stderr = _said(capsys, *words, code=code)
    assert needle in stderr
    assert "try:" in stderr


def _start(data: Path, repeats: int) -> tuple[subprocess.Popen[str], Path]:
    """A run of many attempts, once its first part is on the disk."""
    process = subprocess.Popen(
        [*RAWPUNCH, "run", "raw-vs-kernel", *SMALL, "--repeat", str(repeats), "--data", str(data)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not list(data.glob("runs/*/*/attempts/*.parquet")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.05)
    return process, next(data.glob("runs/*/*"))


def _lab_processes() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"rawpunch.lab.keeper" in words:
            found.add(int(path.parent.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_is_resumed(tmp_path: Path, how: signal.Signals) -> None:
    """After Ctrl-C or kill -9 no process of the lab is left, finished attempts are kept, and --resume makes the rest once."""
    before = _lab_processes()
    process, path = _start(tmp_path / "data", FEW)
    with process:
        process.send_signal(how)
        _, stderr = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume" in stderr
    assert "Traceback" not in stderr
    end = time.monotonic() + 5
    while _lab_processes() - before and time.monotonic() < end:
        time.sleep(0.02)
    assert not _lab_processes() - before
    document = _document(_call("run", "--resume", str(path), "--json"))
    assert document["attempts"] == 12 * FEW
    assert _document(_call("runs", "verify", str(path), "--json"))["problems"] == []


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """While one process writes a run, another may not resume it."""
    process, path = _start(tmp_path / "data", MANY)
    with process:
        stderr = _call("run", "--resume", str(path), code=2).stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert str(path) in stderr


def test_a_nat_that_dies_is_named_and_finished_attempts_stay(tmp_path: Path) -> None:
    """The NAT's device is deleted in the middle: exit code 3, the device's name, and what was finished is kept."""
    process, path = _start(tmp_path / "data", MANY)
    with process:
        keeper = next(pid for pid in _lab_processes() if _parent_of(pid) == process.pid)
        _in_node(keeper, "natB", ["ip", "link", "delete", "dev", "out"])
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "natB:out" in stderr
    assert "--resume" in stderr
    assert _document(_call("runs", "verify", str(path), "--json"))["problems"] == []


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _in_node(keeper: int, node: str, command: list[str]) -> None:
    """Enter a lab's node from outside, as a user with nsenter would: nodes' descriptors are in the order of their making."""
    from rawpunch.lab.wiring import NODES  # noqa: PLC0415  only here

    spaces = [
        fd for fd in sorted(Path(f"/proc/{keeper}/fd").iterdir(), key=lambda p: int(p.name)) if "net:[" in str(fd.readlink())
    ]
    enter = ["nsenter", f"--user=/proc/{keeper}/ns/user", f"--net={spaces[NODES.index(node)]}", "--preserve-credentials"]
    subprocess.run([*enter, *command], check=True, capture_output=True, timeout=20)


def test_a_standing_lab_stands_until_it_is_taken_down(runtime: Path) -> None:
    """Up, status, exec, a second up refused, down; afterwards nothing is left."""
    before = _lab_processes()
    _call("lab", "up", "--one-way", "4ms", "--answer", "rst")
    status = _document(_call("lab", "status", "--json"))
    assert any("10.1.0.2" in address for address in status["nodes"]["hostA"])
    assert "10.1.0.2" in _call("lab", "exec", "hostA", "ip", "-4", "address").stdout
    assert "masquerade" in _call("lab", "exec", "natA", "nft", "list", "ruleset").stdout
    knock = (
        "import socket,time; t=time.monotonic(); s=socket.socket(); print(s.connect_ex(('203.0.113.2', 1)), time.monotonic()-t)"
    )
    number, took = _call("lab", "exec", "hostA", sys.executable, "-c", knock).stdout.split()
    assert number == "111"  # refused by natB's RST, after a way there and back
    assert float(took) > 0.008
    assert "up already" in _call("lab", "up", code=2).stderr
    assert "no host" in _call("lab", "exec", "hostC", "true", code=2).stderr
    _call("lab", "down")
    end = time.monotonic() + 5
    while _lab_processes() - before and time.monotonic() < end:  # the workers die of their keeper's death
        time.sleep(0.02)
    assert _lab_processes() <= before
    assert list((runtime / "rawpunch").iterdir()) == []


def test_a_killed_standing_lab_leaves_only_a_stale_file(runtime: Path) -> None:
    """Killing the keeper with -9 takes everything down; the next command notices, and clean has nothing to fear."""
    _call("lab", "up")
    pid = _document(_call("lab", "status", "--json"))["pid"]
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while _lab_processes() & {pid} and time.monotonic() < end:
        time.sleep(0.02)
    assert "no lab is up" in _call("lab", "status", code=2).stderr
    assert "nothing to clean" in _call("clean").stdout
    (runtime / "rawpunch" / "lab.json").write_text("garbage")
    assert "removed" in _call("clean").stdout


def test_the_doctor_examines_and_the_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine that runs these tests the doctor is content."""
    document = _document(_call("doctor", "--json"))
    assert document["able"] is True
    assert {"namespaces", "nft", "nat rules", "capture ring"} <= {finding["name"] for finding in document["findings"]}
    listed, _ = _said(capsys, "experiments")
    assert "raw_vs_kernel" in listed
    assert "branch = (none), SYN-ACK 0 1" in listed
    assert "RST 70000" not in listed
    assert "RST 70000" in _said(capsys, "experiments", "stack_conformance")[0]
    assert "no experiment is called" in _said(capsys, "experiments", "nothing", code=2)[1]
