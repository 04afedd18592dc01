"""rawpunch punch as a user types it: a chat in terminals, a pipe, a command, and what a stranger gets wrong."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rawpunch.cli.app import main
from rawpunch.cli.head_start import HeadStart
from rawpunch.live.punching import Punched

RAWPUNCH = [sys.executable, "-m", "rawpunch.cli.app"]
PUNCH = [*RAWPUNCH, "punch", "--kernel", "--room", "correct-horse"]
PATIENCE_S = 60
LACKING = Path(__file__).parents[1] / "live" / "lacking.py"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A rendezvous server on the loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    words = [*RAWPUNCH, "rendezvous", "--address", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)


class _Terminal:
    """A program in a terminal of its own, and what it has shown."""

    def __init__(self, words: list[str]) -> None:
        self._own, theirs = pty.openpty()
        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.shown = ""

    def until(self, text: str) -> None:
        """Wait until it has shown something."""
        end = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self._own], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self._own, 4096).decode(errors="replace")
                except OSError:  # the program has ended, and its terminal with it
                    assert text in self.shown, self.shown

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._own, text.encode())

    def close(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(PATIENCE_S)
        os.close(self._own)
        return code


@contextmanager
def _two(words: list[str]) -> Iterator[tuple[_Terminal, _Terminal]]:
    both = _Terminal(words), _Terminal(words)
    try:
        yield both
    finally:
        for one in both:
            one.process.kill()
            one.process.wait()


def test_two_people_chat(server: str) -> None:
    """What one types the other reads, marked and harmless; Ctrl-D of one ends both in order."""
    with _two([*PUNCH, "--rendezvous", server, "--chat"]) as (alice, bob):
        for one in (alice, bob):
            one.until("say something")
        alice.type("hello bob\n")
        bob.until("peer: hello bob")
        bob.type("bell \x16\x07 and colour \x16\x1b[31m\n")  # Ctrl-V has the terminal take the next one as it is
        alice.until("peer: bell \ufffd and colour \ufffd[31m")
        alice.type("\x04")
        for one in (alice, bob):
            one.until("over: ")
            assert one.close() == 0


def test_a_pipe_carries_files(server: str) -> None:
    """Both ways at once, to the last octet; the talk is on stderr."""
    files = [os.urandom(300_000), os.urandom(5)]
    with (
        subprocess.Popen(
            [*PUNCH, "--rendezvous", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as one,
        subprocess.Popen([*PUNCH, "--rendezvous", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert one.stdin is not None
        one.stdin.write(files[0])
        one.stdin.close()
        one.stdin = None
        said, _ = other.communicate(files[1], PATIENCE_S)
        heard, talk = one.communicate(timeout=PATIENCE_S)
        assert (said, heard) == (files[0], files[1])
        assert b"the peer has proved itself" in talk
        assert (one.returncode, other.returncode) == (0, 0)


def test_a_usual_line_has_a_head_start(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command takes the punch that began before Typer was loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    taken = []
    take = HeadStart.take

    def noted(start: HeadStart) -> Punched:
        taken.append(start.line.room)
        return take(start)

    monkeypatch.setattr(HeadStart, "take", noted)
    line = ["punch", "--kernel", "--room", "early", "--rendezvous", server]
    with subprocess.Popen([*RAWPUNCH, *line, "--exec", "echo hello"], stderr=subprocess.DEVNULL) as peer:
        assert main(line) == 0
    assert peer.returncode == 0
    shown = capfd.readouterr()
    assert shown.out == "hello\n"
    assert "registered; our public endpoint is 127.0.0.1:" in shown.err
    assert taken == ["early"]


def test_a_command_serves_the_peer(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--exec` has it speak over the connection; a document says how it came about, with the plan on stderr."""
    (tmp_path / "word").write_text("served\n")
    words = [*PUNCH, "--rendezvous", server]
    own = words[len(RAWPUNCH) :]
    with subprocess.Popen([*words, "--exec", f"cat {tmp_path}/word"], stderr=subprocess.DEVNULL) as other:
        assert main(own) == 0
        assert other.wait(PATIENCE_S) == 0
    assert capfd.readouterr().out == "served\n"
    with subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert main([*own, "--json", "--explain"]) == 0
        theirs = json.loads(other.communicate(timeout=PATIENCE_S)[0])
    caught = capfd.readouterr()
    mine = json.loads(caught.out)
    assert (mine["local"], mine["remote"]) == (theirs["remote"], theirs["local"])
    assert (mine["schema"], mine["method"], mine["strategy"]) == ("rawpunch.punch/1", "kernel", "simultaneous")
    assert "the oracle:" in caught.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--room", "t"], 2, "either --rendezvous or --peer"),
        (["--room", "", "--rendezvous", "127.0.0.1"], 2, "token is empty"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--raw", "--kernel"], 2, "exclude each other"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--chat", "--json"], 2, "exclude each other"),
        (["--room", "t", "--rendezvous", "127.0.0.1:0"], 2, "is no endpoint"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--exec", "no-such-command-anywhere"], 2, "no such command"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--exec", "'"], 2, "is no command"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--findings", "/dev/null"], 2, "no report of a probe"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--policy", "/dev/null/none"], 2, "cannot be read"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--accept-spray", "9999"], 2, "accept-spray"),
        (["--room", "t", "--rendezvous", "127.0.0.1", "--at", "10:00:00"], 2, "go with --peer"),
        (["--room", "t", "--peer", "127.0.0.1:9"], 2, "--peer needs --local-port"),
        (
            ["--room", "t", "--peer", "127.0.0.1:9", "--accept-spray", "9", "--retries", "1", "--local-port", "9"],
            2,
            "go with --rend",
        ),
        (["--room", "t", "--peer", "127.0.0.1", "--local-port", "9", "--retries", "1"], 2, "is no endpoint"),
        (["--room", "t", "--peer", "127.0.0.1:9", "--local-port", "9", "--at", "24:00:00"], 2, "no time of day"),
        (["--room", "t", "--rendezvous", "127.0.0.1:1", "--kernel"], 5, "no connection to the rendezvous server"),
    ],
)
def test_what_a_stranger_gets_wrong(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake has its word and its exit code, and no traceback."""
    assert main(["punch", *words]) == code
    caught = capsys.readouterr()
    assert said in caught.err
    assert "Traceback" not in caught.err
    assert not caught.out


def test_a_failure_has_a_cause_and_a_ladder(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is at the other end: one line says why, and what was seen is listed."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    words = ["--room", "t", "--peer", f"127.0.0.1:{port}", "--local-port", str(int(port) ^ 1), "--retries", "1", "--kernel"]
    assert main(["punch", *words]) == 1
    said = capsys.readouterr().err
    assert "what was seen:" in said
    assert f"nobody has 127.0.0.1:{port} open" in said


@pytest.mark.lab
def test_it_works_between_hosts_of_a_standing_lab(tmp_path: Path) -> None:
    """Each host's command meets at the server in obs1; one opens raw if it may and the other by its kernel; nothing is left.

    A host without TCP_REPAIR says so once and punches by its kernel; told to do it raw, it says what it cannot.
    """
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}

    def inside(host: str, *words: str, lacks: str = "") -> subprocess.Popen[bytes]:
        without = [sys.executable, str(LACKING), lacks] if lacks else []
        command = [*RAWPUNCH, "lab", "exec", host, *without, *RAWPUNCH, *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def talk(one: subprocess.Popen[bytes], other: subprocess.Popen[bytes]) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        assert one.stdin is not None
        one.stdin.write(b"from A")
        one.stdin.close()
        one.stdin = None
        heard = other.communicate(b"from B", PATIENCE_S)
        return heard, one.communicate(timeout=PATIENCE_S)

    subprocess.run([*RAWPUNCH, "lab", "up"], check=True, capture_output=True, env=environment, timeout=PATIENCE_S)
    try:
        with inside("obs1", "rendezvous", "--address", "192.0.2.2") as meeting:
            assert meeting.stdout is not None
            assert meeting.stdout.readline().strip() == b"192.0.2.2:7800"
            common = ("punch", "--rendezvous", "192.0.2.2", "--room", "t")
            with inside("hostA", *common, "--auto") as one, inside("hostB", *common, "--kernel") as other:
                (said, theirs), (heard, own) = talk(one, other)
            with inside("hostA", *common, "--auto", lacks="TCP_REPAIR") as one, inside("hostB", *common, "--raw") as other:
                (said_too, _), (heard_too, own_too) = talk(one, other)
            with inside("hostA", *common, "--raw", lacks="TCP_REPAIR") as one:
                _, refused = one.communicate(timeout=PATIENCE_S)
            meeting.send_signal(signal.SIGINT)
            meeting.communicate(timeout=PATIENCE_S)
        assert (said_too, heard_too) == (b"from A", b"from B")
        assert own_too.count(b"raw packets are not possible here (TCP_REPAIR: Protocol not available): the kernel opens") == 1
        assert b", kernel, as raw is not possible: TCP_REPAIR" in own_too
        assert (one.returncode, b"cannot punch by raw packets" in refused) == (3, True)
        assert (said, heard) == (b"from A", b"from B")
        assert b"connected from 10.2.0.2:" in theirs
        assert b"simultaneous, try 1, raw" in own or b"as raw is not possible" in own
    finally:
        down = subprocess.run([*RAWPUNCH, "lab", "down"], capture_output=True, env=environment, timeout=PATIENCE_S, check=False)
    assert down.stdout == b"down\n"
