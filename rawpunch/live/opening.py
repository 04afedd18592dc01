"""One attempt at a connection, by raw packets or by the kernel: launched, attended to until it is decided, and closed.

What stays behind is the socket, if it was taken, and nothing else.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from rawpunch.clock import now_ns
from rawpunch.errors import MachineCannot, Malformed
from rawpunch.live.end import Order
from rawpunch.live.guard import Guard
from rawpunch.live.handover_end import HandoverEnd
from rawpunch.live.kernel_end import KernelEnd
from rawpunch.live.packet_filter import one_flow
from rawpunch.live.sockets import RawPort, TcpInfo
from rawpunch.machine import Ending
from rawpunch.tcp.state import Offer
from rawpunch.units import SECOND
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

_ERRNOS: Final = {
    Ending.REFUSED: errno.ECONNREFUSED,
    Ending.RESET: errno.ECONNRESET,
    Ending.UNREACHABLE: errno.EHOSTUNREACH,
    Ending.TIMED_OUT: errno.ETIMEDOUT,
}
_TCP_CLOSE: Final = 7
"""A state of struct tcp_info (net/tcp_states.h)."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection, and how it came about."""

    sock: socket.socket
    local: Endpoint
    remote: Endpoint
    method: Literal["raw", "kernel"]
    why: str
    """Why it was not opened raw; "" if it was, or if `kernel` was asked for."""


class RawOpening:
    """An attempt by raw packets: a handover end with a packet socket of its own.

    Args:
        order: what to do.
        offer: what its SYN offers.

    Raises:
        UsageError: the local port is in use.
        MachineCannot: this process lacks what raw packets take.
    """

    events: Final = select.POLLIN

    def __init__(self, order: Order, offer: Offer) -> None:
        self.order = order
        self._port = RawPort(one_flow(order.local, order.remote), ipv6=order.remote.is_ipv6)
        try:
            self._end = HandoverEnd(order, self._port, offer=offer, shared=True)
        except BaseException:
            self._port.close()
            raise
        self._taken = False

    def fileno(self) -> int:
        """What becomes readable when a packet has come."""
        return self._port.fileno()

    @property
    def undecided(self) -> bool:
        """Whether there is anything left to attend to."""
        return self._end.undecided

    def rest_ns(self) -> int:
        """How long nothing is due."""
        return _rest_ns(self._end.deadline)

    def launch(self) -> None:
        """Send the SYN."""
        self._end.launch(self.order.at_ns)

    def attend(self) -> None:
        """Take in what has come, and do what is due."""
        self._hear()
        deadline = self._end.deadline
        if self._end.undecided and deadline is not None and deadline <= now_ns():
            self._end.wake(now_ns())

    def _hear(self) -> None:
        for octets in self._port.receive():
            try:
                packet = decode(octets)
            except Malformed:
                continue  # ICMP that is not about a TCP segment
            if (packet.destination if isinstance(packet, Segment) else packet.quoted.source) == self.order.local:
                self._end.arrived(packet, now_ns())

    def opened(self, *, blocking: bool) -> Opened:
        """The connection.

        Raises:
            OSError: there is none; its errno says why.
        """
        self._hear()  # whatever came during the handover is said again now
        sock = self._end.take()
        if sock is None:
            raise _error(self._end.report.ending, self._end.report.cause)
        if TcpInfo.of(sock).state == _TCP_CLOSE:
            raise _error(Ending.RESET.value, "the peer reset the connection while it was handed over")
        sock.setblocking(blocking)
        self._taken = True
        return Opened(sock, self.order.local, self.order.remote, "raw", "")

    def close(self) -> None:
        """Leave nothing behind but the socket, if it was taken."""
        if not self._taken:
            self._end.finish(now_ns())
        self._end.release()
        threading.Thread(target=self._port.close, name="close").start()  # the kernel takes 15 ms for it, and nobody has to wait


class KernelOpening:
    """An attempt by the kernel; a guard keeps it silent until the SYN leaves, if this process may have one.

    Args:
        order: what to do.
        why: why it is not by raw packets; "" if nobody wished that.

    Raises:
        UsageError: the local port is in use.
    """

    events: Final = select.POLLOUT

    def __init__(self, order: Order, why: str) -> None:
        self.order = order
        self._why = why
        self._end = KernelEnd(order)
        self._guard: Guard | None = None
        try:
            with suppress(MachineCannot):
                self._guard = Guard(order.local, shared=True)
        except BaseException:
            self._end.finish(now_ns())
            raise
        self._taken = False

    def fileno(self) -> int:
        """What becomes writable when the kernel has decided."""
        return self._end.fileno()

    @property
    def undecided(self) -> bool:
        """Whether there is anything left to attend to."""
        return self._end.undecided

    def rest_ns(self) -> int:
        """How long nothing is due."""
        return _rest_ns(self._end.deadline)

    def launch(self) -> None:
        """Send the SYN, and let the kernel hear."""
        with self._end.other_ttl(self.order.first_ttl):
            self._end.launch(self.order.at_ns)
        self._unguard()

    def _unguard(self) -> None:
        if self._guard is not None:
            self._guard.close()

    def attend(self) -> None:
        """Read what the kernel decided, or give up."""
        poll = select.poll()
        poll.register(self._end.fileno(), select.POLLOUT)
        if poll.poll(0):
            self._end.ready(now_ns())
        elif self._end.deadline is not None and self._end.deadline <= now_ns():
            self._end.wake(now_ns())

    def opened(self, *, blocking: bool) -> Opened:
        """The connection.

        Raises:
            OSError: there is none; its errno says why.
        """
        if self._end.report.ending != Ending.ESTABLISHED.value:
            raise _error(self._end.report.ending, self._end.report.cause)
        sock = self._end.take()
        sock.setblocking(blocking)
        self._taken = True
        return Opened(sock, self.order.local, self.order.remote, "kernel", self._why)

    def close(self) -> None:
        """Leave nothing behind but the socket, if it was taken."""
        self._unguard()
        if not self._taken:
            self._end.finish(now_ns())


def _rest_ns(deadline: int | None) -> int:
    return SECOND if deadline is None else max(deadline - now_ns(), 0)


def _error(ending: str, cause: str) -> OSError:
    number = _ERRNOS.get(Ending(ending), errno.ECONNABORTED)
    return OSError(number, f"{os.strerror(number)}{f' ({cause})' if cause else ''}")
