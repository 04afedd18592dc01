"""The UDP end: what hole punching is without TCP's handshake, to compare with.

It sends a greeting at its instant and again every tenth of a second, says that it has heard what comes, and is connected when the
peer says the same: datagrams then pass both ways.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.live.end import Order, Report
from rawpunch.live.sockets import bound
from rawpunch.units import MS

AGAIN_NS: Final = 100 * MS
"""From one greeting to the next."""
_HELLO: Final = b"rawpunch: hello"
_HEARD: Final = b"rawpunch: heard"
_OCTETS: Final = 64


class UdpEnd:
    """A UDP socket that greets its peer until it is heard.

    Raises:
        UsageError: the local endpoint cannot be bound.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.report = Report(order.attempt)
        self._remote = (order.remote.address, order.remote.port)
        self._again_ns: int | None = None
        self._told = False
        # not connected: a connected one would die of an ICMP error, and hears nobody else
        self._sock = bound(order.local, socket.SOCK_DGRAM)

    def fileno(self) -> int:
        """The socket's descriptor; readable when something has come."""
        return self._sock.fileno()

    @property
    def undecided(self) -> bool:
        """Whether the socket is to be watched."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """When it greets again, or gives up."""
        if not self.undecided:
            return None
        return self.order.give_up_ns if self._again_ns is None else min(self._again_ns, self.order.give_up_ns)

    def launch(self, at_ns: int) -> None:
        """Send the first greeting."""
        self._say(_HELLO)
        self._again_ns = at_ns + AGAIN_NS

    def ready(self, now: int) -> None:
        """Something has come: say that it was heard, once for each greeting."""
        with suppress(BlockingIOError):
            while True:
                message, source = self._sock.recvfrom(_OCTETS)
                if source[:2] != self._remote or message not in (_HELLO, _HEARD):
                    continue
                if message == _HELLO or not self._told:
                    self._told = True
                    self._say(_HEARD)
                if message == _HEARD:
                    self.report.conclude(Ending.ESTABLISHED, now)

    def wake(self, now: int) -> None:
        """Greet again, or give up."""
        if now >= self.order.give_up_ns:
            self.report.conclude(Ending.TIMED_OUT, now, "the peer did not say that it heard")
            self.finish(now_ns())
        elif self._again_ns is not None and now >= self._again_ns:
            self._say(_HELLO)
            self._again_ns += AGAIN_NS

    def finish(self, now: int) -> None:  # noqa: ARG002  UDP has no farewell
        """Close."""
        self._sock.close()

    def release(self) -> None:
        """Nothing is held after the close."""

    def _say(self, message: bytes) -> None:
        self._sock.sendto(message, self._remote)
