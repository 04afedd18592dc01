"""Pipes and chats over a connection: nothing is lost, ends are passed on, and no peer commands our terminal."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import RawpunchError, UsageError
from rawpunch.live.piping import Carried, Lines, execute, pipe

MEBIBYTE = 1 << 20


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.socket() as listener, socket.socket() as one:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        with other:
            yield one, other


class _Side(threading.Thread):
    """One side: pipes what it is given, keeps what came."""

    def __init__(self, sock: socket.socket, text: bytes) -> None:
        super().__init__()
        self.sock, self.text, self.came = sock, text, b""
        self.carried: Carried | None = None

    def run(self) -> None:
        source, feed = os.pipe()
        found, sink = os.pipe()
        feeder = threading.Thread(target=self._feed, args=(feed,))
        eater = threading.Thread(target=self._eat, args=(found,))
        feeder.start()
        eater.start()
        self.carried = pipe(self.sock, source=source, sink=sink)
        os.close(sink)
        feeder.join()
        eater.join()
        os.close(source)
        os.close(found)

    def _feed(self, descriptor: int) -> None:
        rest = self.text
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.close(descriptor)

    def _eat(self, descriptor: int) -> None:
        while octets := os.read(descriptor, 1 << 16):
            self.came += octets


@pytest.mark.parametrize("sizes", [(0, 0), (5, 0), (0, 3 * MEBIBYTE), (4 * MEBIBYTE, 3 * MEBIBYTE)])
def test_all_that_goes_in_comes_out(ends: tuple[socket.socket, socket.socket], sizes: tuple[int, int]) -> None:
    """Both ways at once, whatever the sizes; each end waits until the other one has ended too."""
    texts = [os.urandom(size) for size in sizes]
    sides = [_Side(sock, text) for sock, text in zip(ends, texts, strict=True)]
    for side in sides:
        side.start()
    for side in sides:
        side.join(20)
    assert [side.came for side in sides] == texts[::-1]
    assert [side.carried for side in sides] == [Carried(*sizes), Carried(*sizes[::-1])]


def test_a_broken_connection_is_named(ends: tuple[socket.socket, socket.socket]) -> None:
    """A RST ends a pipe with a reason, and no traceback."""
    one, other = ends
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    source, feed = os.pipe()
    with pytest.raises(RawpunchError, match="broke"):
        pipe(one, source=source, sink=feed)
    os.close(source)
    os.close(feed)


def test_a_chat_ends_when_either_has_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    """The peer's end is the end, though nothing of ours has ended."""
    one, other = ends
    source, feed = os.pipe()
    found, sink = os.pipe()
    other.sendall(b"bye\n")
    other.shutdown(socket.SHUT_WR)
    assert pipe(one, source=source, sink=sink, shown=Lines("peer: ").shown, until_either=True) == Carried(0, 4)
    assert os.read(found, 99) == b"peer: bye\n"
    for descriptor in (source, feed, found, sink):
        os.close(descriptor)


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_no_peer_commands_a_terminal(parts: list[bytes]) -> None:
    """Whatever comes in whatever pieces, only printable characters and tabs are shown, each line with its mark."""
    lines = Lines("> ")
    shown = b"".join(lines.shown(part) for part in parts if part) + lines.shown(b"")
    for line in shown.decode().split("\n")[:-1]:
        assert line.startswith("> ")
        assert all(character.isprintable() or character == "\t" for character in line)
    assert shown.count(b"\n") in {b"".join(parts).count(b"\n"), b"".join(parts).count(b"\n") + 1}


def test_a_command_gets_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    """It reads what the peer says and answers; its exit code is ours to know."""
    one, other = ends
    other.sendall(b"abc\n")
    script = "import sys; print(sys.stdin.readline().upper(), end=''); sys.exit(3)"
    assert execute(one, f'{sys.executable} -c "{script}"') == 3
    assert other.recv(99) == b"ABC\n"
    with pytest.raises(UsageError, match="cannot run"):
        execute(one, "no-such-command-anywhere")
