"""A head start is for lines that are sure; Typer has the last word, and of what it did not ask for nothing stays."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.cli import head_start, loading
from rawpunch.cli.app import COMMANDS, main
from rawpunch.cli.head_start import HeadStart, Line, read
from rawpunch.wire.endpoint import Endpoint
from tests.live.false_rendezvous import false_server

WHERE = ["--rendezvous", "192.0.2.2", "--room", "t"]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings in the folder, at home or in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["punch", *WHERE], Line("192.0.2.2", "t", "auto")),
        (["-q", "punch", *WHERE, "--kernel"], Line("192.0.2.2", "t", "kernel")),
        (
            ["punch", "-v", "--raw", "--chat", "--room=t=u", "--rendezvous=meet.example.org:7"],
            Line("meet.example.org:7", "t=u", "raw"),
        ),
        (["punch", *WHERE, "--auto", "--pipe", "--quiet"], Line("192.0.2.2", "t", "auto")),
        (["punch", "--rendezvous", "192.0.2.2", "--room", "--kernel"], Line("192.0.2.2", "--kernel", "auto")),
    ],
)
def test_usual_lines_are_understood(words: list[str], line: Line) -> None:
    """With the global options before the command or after, and values that look like options."""
    assert read(words) == line


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["rendezvous", *WHERE],
        ["punch"],
        ["punch", "--rendezvous", "192.0.2.2"],
        ["punch", "--room", "t"],
        ["punch", "--rendezvous", "192.0.2.2", "--room"],
        ["punch", *WHERE, "--room", "u"],
        ["punch", *WHERE, "--kernel", "--raw"],
        ["punch", *WHERE, "--chat", "--pipe"],
        ["punch", *WHERE, "--json"],
        ["punch", *WHERE, "--explain"],
        ["punch", *WHERE, "--wait", "5"],
        ["punch", *WHERE, "--kern"],
        ["punch", *WHERE, "-vq"],
        ["punch", *WHERE, "--help"],
        ["punch", *WHERE, "--exec", "cat"],
        ["punch", *WHERE, "more"],
        ["--version", "punch", *WHERE],
    ],
)
def test_any_other_line_waits_for_typer(words: list[str]) -> None:
    """Other commands, lines that lack something or say it twice, and options that change what is done."""
    assert read(words) is None


@pytest.mark.parametrize("where", ["environment", "folder", "home"])
def test_with_settings_a_line_waits_for_typer(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What stands elsewhere may change what the line means."""
    if where == "environment":
        monkeypatch.setenv("RAWPUNCH_PUNCH_WAIT", "5")
    else:
        folder = tmp_path if where == "folder" else tmp_path / "config" / "rawpunch"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rawpunch.toml").write_text("[punch]\nwait = 5\n")
    assert read(["punch", *WHERE]) is None


ROOMS = st.sampled_from([["--room", "t"], ["--room=--x"], ["--room", "--kernel"], ["--room="]])
SERVERS = st.sampled_from([["--rendezvous", "meet:7"], ["--rendezvous=192.0.2.2"]])
OTHERS = st.sampled_from(
    [[word] for word in ("--kernel", "--raw", "--auto", "--chat", "--pipe", "-q", "--verbose", "--json", "x")]
)


@given(
    st.tuples(ROOMS, SERVERS, st.lists(OTHERS, max_size=3)).flatmap(lambda all_: st.permutations([all_[0], all_[1], *all_[2]]))
)
def test_typer_reads_the_same(parts: list[list[str]]) -> None:
    """Whatever gets a head start is a line that Typer takes, and means to Typer what it means here."""
    words = [word for part in parts for word in part]
    line = read(["punch", *words])
    if line is None:
        return
    command = loading.load("punch", COMMANDS["punch"].module)
    with command.make_context("punch", words) as context:
        said = dict(context.params)
    methods = [name for name in ("raw", "kernel", "auto") if said.pop(name)] or ["auto"]
    assert Line(said.pop("rendezvous"), said.pop("room"), methods[0]) == line  # type: ignore[arg-type]  # checked by its value
    assert said.pop("chat") + said.pop("pipe") <= 1
    usual = {param.name: param.default for param in command.params if param.name in said}
    assert {name: value or None for name, value in said.items()} == {name: value or None for name, value in usual.items()}


@pytest.fixture
def quiet_server() -> Iterator[str]:
    """A rendezvous server that says that somebody is there, and introduces nobody."""
    over = threading.Event()
    found: list[str] = []
    ready = threading.Event()

    async def serve() -> None:
        async with false_server(Endpoint("127.0.0.1", 9), introduces=False) as endpoint:
            found.append(str(endpoint))
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    yield found[0]
    over.set()
    thread.join()


def test_what_typer_did_not_ask_for_is_given_up(
    quiet_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the two read a line differently, Typer's reading counts; the other punch ends, with all its files."""
    started: list[HeadStart] = []

    def other(_: object) -> Line:
        return Line(quiet_server, "of another room", "kernel")

    def noted(line: Line) -> HeadStart:
        started.append(HeadStart(line))
        return started[0]

    monkeypatch.setattr(head_start, "read", other)
    monkeypatch.setattr(head_start, "HeadStart", noted)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        files = _files()
        code = main(["punch", "--rendezvous", f"127.0.0.1:{closed.getsockname()[1]}", "--room", "t", "--kernel"])
    assert code == 5
    said = capsys.readouterr().err
    assert "no connection to the rendezvous server 127.0.0.1:" in said
    assert "registered" not in said  # what was noted by the other one is not told
    assert len(started) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "head start"]
    assert _files() <= files
    assert head_start.under_way(started[0].line) is None


def _files() -> int:
    until = time.monotonic() + 1  # a packet socket takes the kernel a while to close
    while True:
        count = len(list(Path("/proc/self/fd").iterdir()))
        if time.monotonic() > until or not [thread for thread in threading.enumerate() if thread.name == "close"]:
            return count
        time.sleep(0.01)


def test_what_it_finds_wrong_is_said_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the head start's is the command's: the same words, the same exit code."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert main(["punch", "--rendezvous", f"127.0.0.1:{closed.getsockname()[1]}", "--room", "t", "--kernel"]) == 5
    assert "try: see whether `rawpunch rendezvous` runs there" in capsys.readouterr().err
    assert main(["punch", "--rendezvous", "127.0.0.1:99999", "--room", "t"]) == 2
    assert "is no endpoint" in capsys.readouterr().err


def test_interrupted_it_leaves_nothing(quiet_server: str) -> None:
    """Ctrl-C while it waits for the peer: one line, and 130."""
    words = [sys.executable, "-m", "rawpunch.cli.app", "punch", "--kernel", "--room", "t", "--rendezvous", quiet_server]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "registered" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "rawpunch: interrupted; finished attempts are kept"
    assert "Traceback" not in rest
