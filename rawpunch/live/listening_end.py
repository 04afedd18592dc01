"""The listening end: an ordinary socket that waits for one connection, for a peer that is to find a server."""

from __future__ import annotations

import socket
from contextlib import suppress

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import UsageError
from rawpunch.live.end import Order, Report
from rawpunch.live.kernel_end import CLOSE_BY_RST, evidence_of
from rawpunch.live.sockets import RawPort, bound
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.ttl import DEFAULT_TTL


class ListeningEnd:
    """A kernel socket that listens from the moment it is ordered.

    Args:
        order: what to do.
        port: the host's raw sockets, for a SYN that opens its NAT.

    Raises:
        UsageError: the local endpoint cannot be bound.
    """

    def __init__(self, order: Order, port: RawPort) -> None:
        self.order = order
        self._port = port
        self.report = Report(order.attempt)
        self._accepted: socket.socket | None = None
        self._sock = bound(order.local, socket.SOCK_STREAM, socket.SO_REUSEADDR)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RST)
        try:
            self._sock.listen(1)
        except OSError as error:
            self._sock.close()
            raise UsageError(f"cannot listen on {order.local}", why=str(error), todo="choose another local port") from error

    def fileno(self) -> int:
        """The socket's descriptor; readable when somebody has connected."""
        return self._sock.fileno()

    @property
    def undecided(self) -> bool:
        """Whether the socket is to be watched."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """When it gives up."""
        return self.order.give_up_ns if self.undecided else None

    def launch(self, at_ns: int) -> None:  # noqa: ARG002  it listens already
        """Send the SYN that opens its NAT and dies on the way, if that is ordered."""
        poke = poke_of(self.order)
        if poke is not None:
            self._port.send(encode(poke), poke.destination.address)

    def ready(self, now: int) -> None:
        """Somebody has connected: accept."""
        with suppress(BlockingIOError, ConnectionAbortedError):  # gone again before we came
            self._accepted, _ = self._sock.accept()
            self.report.conclude(Ending.ESTABLISHED, now)

    def wake(self, now: int) -> None:
        """Give up: close."""
        self.report.conclude(Ending.TIMED_OUT, now, "nobody connected before the attempt was given up")
        self.finish(now_ns())

    def finish(self, now: int) -> None:  # noqa: ARG002  the kernel closes by its own clock
        """Read TCP_INFO of the connection, if there is one, and close."""
        if self._accepted is not None:
            self.report.evidence = evidence_of(self._accepted)
            self._accepted.close()
            self._accepted = None
        self._sock.close()

    def release(self) -> None:
        """Nothing is held after the close."""


def poke_of(order: Order) -> Segment | None:
    """The SYN with which a listening end opens its NAT; None if it sends none."""
    if order.first_ttl == DEFAULT_TTL:
        return None
    remote = Endpoint(order.remote.address, order.poke_port or order.remote.port)
    return Segment(order.local, remote, Flags.SYN, order.iss, options=(Mss(1460),), ttl=order.first_ttl)
