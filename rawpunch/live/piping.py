"""What a user does with a connection: pipe standard streams through it like nc, chat line by line, or give it to a command."""

from __future__ import annotations

import os
import select
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rawpunch.errors import RawpunchError, UsageError

_OCTETS: Final = 1 << 16
_MOST_WAITING: Final = 1 << 18
"""Octets that wait for the peer to take them, before no more are read."""
_LONGEST_LINE: Final = 1 << 13


@dataclass(frozen=True, slots=True)
class Carried:
    """Octets that went and came."""

    sent: int
    received: int


class Lines:
    """What a peer says, made fit for a terminal: whole lines, with nothing in them that a terminal would obey."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._rest = b""

    def shown(self, octets: bytes) -> bytes:
        """The lines that are whole by now; at the end (b""), or if it grows too long, also the one that is not."""
        whole, newline, self._rest = (self._rest + octets).rpartition(b"\n")
        if self._rest and (not octets or len(self._rest) > _LONGEST_LINE):
            whole, newline, self._rest = whole + newline + self._rest, b"\n", b""
        if not newline:
            return b""
        texts = whole.decode(errors="replace").split("\n")
        return "".join(f"{self._mark}{''.join(map(_harmless, text))}\n" for text in texts).encode()


def _harmless(character: str) -> str:
    return character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}"


def pipe(
    sock: socket.socket,
    *,
    source: int = 0,
    sink: int = 1,
    shown: Callable[[bytes], bytes] = bytes,
    until_either: bool = False,
) -> Carried:
    """Carry octets both ways until both ends have said that there are no more.

    Args:
        sock: connected; it is shut down for writing when the source ends, and left open.
        source: descriptor that is read.
        sink: descriptor that is written.
        shown: what to write of what came; b"" stands for the end.
        until_either: end as soon as the peer has ended, and not only when the source has too.

    Raises:
        RawpunchError: the connection broke.
    """
    sock.setblocking(False)
    flow = _Flow(sock)
    reading = True
    while flow.hears or ((reading or flow.waiting) and not until_either):
        poll = select.poll()
        poll.register(sock, (select.POLLIN if flow.hears else 0) | (select.POLLOUT if flow.waiting else 0))
        if reading and len(flow.waiting) < _MOST_WAITING:
            poll.register(source, select.POLLIN)
        ready = dict(poll.poll())
        if reading and ready.get(source):
            octets = os.read(source, _OCTETS)
            reading = bool(octets)
            flow.say(octets)
        state = ready.get(sock.fileno(), 0)
        if flow.hears and state & ~select.POLLOUT:
            _write(sink, shown(flow.hear()))
        elif state & (select.POLLERR | select.POLLHUP):
            flow.check()
            break  # the peer is gone altogether, and what we say reaches nobody
        if state & select.POLLOUT:
            flow.send()
    return Carried(flow.sent, flow.received)


class _Flow:
    """The connection, and what waits for it. What goes wrong here is the connection's doing, and not the user's streams'."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ends = False
        self.waiting = bytearray()
        self.sent = self.received = 0
        self.hears = True

    def say(self, octets: bytes) -> None:
        """Have octets sent when there is room; b"" for the end of all."""
        self.waiting += octets
        self._ends = not octets
        if self._ends and not self.waiting:
            self._end()

    def hear(self) -> bytes:
        """What came; b"" at the end."""
        with _breaking():
            try:
                octets = self._sock.recv(_OCTETS)
            except BlockingIOError:
                return b""
        self.received += len(octets)
        self.hears = bool(octets)
        return octets

    def send(self) -> None:
        """Send as much as there is room for."""
        with _breaking():
            gone = self._sock.send(self.waiting)
        del self.waiting[:gone]
        self.sent += gone
        if self._ends and not self.waiting:
            self._end()

    def check(self) -> None:
        """See whether an error is pending."""
        with _breaking():
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))

    def _end(self) -> None:
        with _breaking():
            self._sock.shutdown(socket.SHUT_WR)


@contextmanager
def _breaking() -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise RawpunchError("the connection broke", why=error.strerror or str(error)) from error


def _write(descriptor: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def execute(sock: socket.socket, command: str) -> int:
    """Run a command whose standard input and output are the connection; returns its exit code.

    Raises:
        UsageError: there is no such command.
    """
    sock.setblocking(True)
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdin=sock.fileno(), stdout=sock.fileno(), check=False)
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"cannot run {command!r}", why=getattr(error, "strerror", None) or str(error)) from error
    return done.returncode
