"""A stack as a program: how it is started, told and believed, and what becomes of it. On the loopback, without any right."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, LabBroken, UsageError
from rawpunch.live import foreign_stack
from rawpunch.live.end import Order
from rawpunch.live.foreign_stack import ForeignStack, StackEnd
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

KERNEL = f"exec {sys.executable} -m rawpunch.live.stack_program"
HERE = "127.0.0.1"


def _order(port: int, remote: int, *, attempt: str = "x") -> Order:
    now = now_ns()
    return Order(attempt, "stack", Endpoint(HERE, port), Endpoint(HERE, remote), now, now + SECOND, iss=0, profile="")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        return int(sock.getsockname()[1])


def _heard(stack: ForeignStack, within_s: float = 10) -> list[tuple[StackEnd, str, str]]:
    """What it says next, in however many pieces it comes."""
    until = now_ns() + round(within_s * SECOND)
    while now_ns() < until:
        if select.select([stack], [], [], 0.1)[0] and (said := list(stack.receive())):
            return said
    raise AssertionError("the program said nothing")


@pytest.fixture(scope="module")
def kernel() -> Iterator[ForeignStack]:
    """This kernel's own stack as a program."""
    with closing(ForeignStack(KERNEL)) as stack:
        yield stack


def test_a_kernel_as_a_program_opens_from_the_endpoint_that_it_is_told(kernel: ForeignStack) -> None:
    """It says established, or what else came of it; it needs no silence, as it uses sockets."""
    assert not kernel.makes_packets
    with socket.create_server((HERE, 0)) as server:
        end = StackEnd(_order(port := _free_port(), server.getsockname()[1]), kernel)
        end.launch(0)
        peer, address = server.accept()
        ((told, word, rest),) = _heard(kernel)
        told.told(word, rest, 5)
        assert (address, told, end.report.ending, end.report.at_ns) == ((HERE, port), end, "established", 5)
        end.finish(0)
        peer.settimeout(5)
        with pytest.raises(ConnectionResetError), peer:
            peer.recv(1)
    refused = StackEnd(_order(_free_port(), _free_port()), kernel)
    refused.launch(0)
    assert [word for _, word, _ in _heard(kernel)] == ["refused"]
    refused.finish(0)


def test_what_cannot_begin_says_why(kernel: ForeignStack) -> None:
    """That opening is not measured; the program goes on."""
    end = StackEnd(Order("x", "stack", Endpoint("192.0.2.1", 1), Endpoint(HERE, 9), 0, 0, iss=0, profile=""), kernel)
    end.launch(0)
    ((_, word, rest),) = _heard(kernel)
    with pytest.raises(UsageError, match="could not open") as caught:
        end.told(word, rest, 0)
    assert "192.0.2.1" in caught.value.why
    end.release()
    assert not kernel.is_over


def test_a_word_that_means_nothing_is_not_believed(kernel: ForeignStack) -> None:
    """Nor taken for an outcome."""
    end = StackEnd(_order(_free_port(), 9), kernel)
    with pytest.raises(BadParameter, match="'splendid'"):
        end.told("splendid", "", 0)
    assert end.undecided


def test_an_end_gives_up_by_itself(kernel: ForeignStack) -> None:
    """A program need not know when."""
    end = StackEnd(_order(_free_port(), 9), kernel)
    assert end.deadline == end.order.give_up_ns
    end.wake(7)
    assert (end.report.ending, end.report.at_ns) == ("timed_out", 7)
    assert end.deadline is None


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo hello; cat", "its first line is 'hello'"),
        ("echo ready steady; cat", "its first line is 'ready steady'"),
        ("exit 7", "it ended with status 7"),
        ("exec >&-; sleep 50", "it closed its standard output, or wrote a line without end"),
        ("head -c 9999 /dev/zero; sleep 50", "it closed its standard output, or wrote a line without end"),
        ("no-such-program-anywhere 2>/dev/null", "it ended with status 127"),
    ],
)
def test_what_is_no_stack_is_said_to_be_none(command: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it did instead."""
    monkeypatch.setattr(foreign_stack, "_ENDING_S", 0.2)
    with pytest.raises(BadParameter, match="is no program that is a stack") as caught:
        ForeignStack(command)
    assert caught.value.why == why


def test_a_program_that_is_never_ready_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends, with what it has started."""
    monkeypatch.setattr(foreign_stack, "STARTING_S", 0.1)
    monkeypatch.setattr(foreign_stack, "_ENDING_S", 0.1)
    with pytest.raises(BadParameter) as caught:
        ForeignStack("sleep 100; true")
    assert "not ready within 0.1 s" in caught.value.why


def test_what_it_is_told_and_how_it_ends(tmp_path: Path) -> None:
    """The environment, lines as documented, comments passed over; of what is open when it ends, nothing is known."""
    seen = tmp_path / "told"
    command = f'echo "# a comment"; echo ready $KIND; head -n 2 > {seen}; echo 1 established; echo 9 established'
    with closing(ForeignStack(command, {"KIND": "sockets"})) as stack:
        first, second = (StackEnd(_order(port, 9), stack) for port in (4001, 4002))
        first.launch(0)
        second.launch(0)
        said: list[tuple[StackEnd, str, str]] = []
        end = time.monotonic() + 10
        while not stack.is_over and time.monotonic() < end:
            said += _heard(stack)
        assert [(one.order.local.port, word) for one, word, _ in said] == [
            (4001, "established"),
            (4001, "failed"),
            (4002, "failed"),
        ]
        assert seen.read_text() == f"open 1 {HERE}:4001 {HERE}:9\nopen 2 {HERE}:4002 {HERE}:9\n"
        with pytest.raises(LabBroken, match="is gone"):
            StackEnd(_order(4003, 9), stack).launch(0)


def test_nothing_of_it_stays(tmp_path: Path) -> None:
    """Neither a program that takes no notice of its end, nor what it has started."""
    pids = tmp_path / "pids"
    stack = ForeignStack(f"sleep 99 & echo $! > {pids}; echo $$ >> {pids}; echo ready sockets; sleep 98; true")
    numbers = [int(line) for line in pids.read_text().split()]
    stack.close()
    for _ in range(200):
        if not any(_runs(pid) for pid in numbers):
            return
        time.sleep(0.01)
    pytest.fail(f"{[pid for pid in numbers if _runs(pid)]} of {numbers} still run")


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_crowd_of_lines_is_taken_whole() -> None:
    """Several answers at once, and one that comes in two pieces."""
    with closing(
        ForeignStack("echo ready sockets; read a; read b; printf '1 refu'; sleep 0.05; printf 'sed\\n2 reset\\n'; cat")
    ) as stack:
        ends = [StackEnd(_order(port, 9), stack) for port in (4001, 4002)]
        for end in ends:
            end.launch(0)
        words: list[str] = []
        while len(words) < 2:
            words += [word for _, word, _ in _heard(stack)]
        assert words == ["refused", "reset"]
