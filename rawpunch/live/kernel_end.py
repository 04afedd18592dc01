"""The kernel end: an ordinary socket, bound, connected at an instant, with the kernel's own evidence."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import UsageError
from rawpunch.live.end import Order, Report
from rawpunch.live.sockets import TcpInfo, bound
from rawpunch.wire.ttl import DEFAULT_TTL

ENDINGS: Final = {
    errno.ECONNREFUSED: Ending.REFUSED,
    errno.ECONNRESET: Ending.RESET,
    errno.EPIPE: Ending.RESET,
    errno.EHOSTUNREACH: Ending.UNREACHABLE,
    errno.ENETUNREACH: Ending.UNREACHABLE,
    errno.ENOPROTOOPT: Ending.UNREACHABLE,
    errno.EACCES: Ending.UNREACHABLE,
    errno.EPROTO: Ending.UNREACHABLE,
    errno.ETIMEDOUT: Ending.TIMED_OUT,
}
_IP_MINTTL: Final = 21
"""linux/in.h."""
CLOSE_BY_RST: Final = struct.pack("ii", 1, 0)
_CLOSE_IN_ORDER: Final = struct.pack("ii", 0, 0)


class KernelEnd:
    """A kernel socket that connects at its instant.

    Raises:
        UsageError: the local endpoint cannot be bound.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.report = Report(order.attempt)
        self._sock = bound(order.local, socket.SOCK_STREAM, socket.SO_REUSEADDR)
        # a close by RST leaves no TIME-WAIT behind, and so nothing for the next attempt to stumble over
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RST)
        self._remote = (order.remote.address, order.remote.port)

    def fileno(self) -> int:
        """The socket's descriptor; writable when the kernel has decided."""
        return self._sock.fileno()

    @property
    def undecided(self) -> bool:
        """Whether the socket is to be watched."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """When it gives up."""
        return self.order.give_up_ns if self.undecided else None

    def launch(self, at_ns: int) -> None:  # noqa: ARG002  the kernel stamps its own segments
        """Call connect(); the SYN leaves inside the call."""
        number = self._sock.connect_ex(self._remote)
        if number in (0, *ENDINGS):
            self._decided(number, now_ns())
        elif number != errno.EINPROGRESS:
            why = f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"
            raise UsageError(f"cannot connect from {self.order.local}", why=why, todo="choose another local port")

    @contextmanager
    def other_ttl(self, ttl: int) -> Iterator[None]:
        """Have what leaves meanwhile live that long."""
        option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if self.order.local.is_ipv6 else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        if ttl != DEFAULT_TTL:
            self._sock.setsockopt(*option, ttl)
            if not self.order.local.is_ipv6:
                overhear_its_death(self._sock, ttl)
        yield
        if ttl != DEFAULT_TTL:
            self._sock.setsockopt(*option, DEFAULT_TTL)

    def ready(self, now: int) -> None:
        """The socket has become writable: read what the kernel decided."""
        self._decided(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), now)

    def _decided(self, number: int, now: int) -> None:
        if number == 0:
            self.report.conclude(Ending.ESTABLISHED, now)
        else:
            name = errno.errorcode.get(number, str(number))
            self.report.conclude(ENDINGS.get(number, Ending.UNREACHABLE), now, f"{name}: {os.strerror(number)}")

    def wake(self, now: int) -> None:
        """Give up: close."""
        self.report.conclude(Ending.TIMED_OUT, now, "no answer before the attempt was given up")
        self.finish(now)

    def finish(self, now: int) -> None:  # noqa: ARG002  the kernel closes by its own clock
        """Read TCP_INFO and close, if that was not done before."""
        if self._sock.fileno() < 0:
            return
        self.report.evidence = evidence_of(self._sock)
        self._sock.close()

    def take(self) -> socket.socket:
        """The socket, which is the caller's from now on: an ordinary one."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_IN_ORDER)
        if not self.order.local.is_ipv6:
            overhear_its_death(self._sock, 0)
        return self._sock

    def release(self) -> None:
        """Nothing is held after the close."""


def overhear_its_death(sock: socket.socket, ttl: int) -> None:
    """Have a socket ignore the ICMP error that a SYN brings which died on its way, because it was sent with that time to live.

    Such an error ends a socket in SYN-SENT. The kernel holds the time to live of what the error quotes against the least that the
    socket takes in (RFC 5082; tcp_v4_err), and what died has less than what was sent. 0 has it listen again.
    """
    sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, ttl)


def evidence_of(sock: socket.socket) -> dict[str, int]:
    """What TCP_INFO says of a socket's opening, by the names of the attempts table, and the state it was in when asked."""
    info = TcpInfo.of(sock)
    return {
        "state": info.state,
        "rtt_ns": info.rtt_ns,
        "segs_out": info.segs_out,
        "segs_in": info.segs_in,
        "dsack_dups": info.dsack_dups,
    }
