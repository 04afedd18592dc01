"""Messages between the processes of one run: JSON documents over a pair of Unix sockets, one packet each."""

from __future__ import annotations

import json
import socket
from typing import Any, Final, Self

from rawpunch.errors import LabBroken

MAX_MESSAGE: Final = 1 << 20
_MAX_FDS: Final = 16

Message = dict[str, Any]


class Channel:
    """One end of a pair of sockets that carries whole messages.

    Args:
        sock: a SOCK_SEQPACKET Unix socket.
        peer: who is at the other end, for error messages.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.sock = sock
        self.peer = peer
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE)

    @classmethod
    def pair(cls, left: str, right: str) -> tuple[Self, Self]:
        """Two connected channels; `left` holds the first one."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one, right), cls(other, left)

    @classmethod
    def adopt(cls, fd: int, peer: str) -> Self:
        """The channel behind a descriptor that came with a message."""
        return cls(socket.socket(fileno=fd), peer)

    def fileno(self) -> int:
        """The socket's descriptor, for select."""
        return self.sock.fileno()

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send one message, with file descriptors if given.

        Raises:
            LabBroken: the other end is gone.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            socket.send_fds(self.sock, [data], list(fds))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._gone() from error

    def receive(self) -> tuple[Message, list[int]]:
        """Wait for one message and the file descriptors that came with it.

        Raises:
            LabBroken: the other end is gone.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, MAX_MESSAGE, _MAX_FDS)
        except ConnectionResetError as error:
            raise self._gone() from error
        if not data:
            raise self._gone()
        return json.loads(data), fds

    def ask(self, message: Message) -> Message:
        """Send one message and wait for its answer.

        Raises:
            LabBroken: the other end is gone, or answered with an error.
        """
        self.send(message)
        answer, _ = self.receive()
        if "error" in answer:
            raise LabBroken(f"{self.peer}: {answer['error']}", why=answer.get("why", ""), todo=answer.get("todo", ""))
        return answer

    def close(self) -> None:
        """Close this end; the other one reads an end of file."""
        self.sock.close()

    def _gone(self) -> LabBroken:
        return LabBroken(f"{self.peer} is gone", why="its process ended", todo="look at its message above, then run again")
