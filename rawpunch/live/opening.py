"""One attempt at a connection: launched, attended to until it is decided, and closed; here by the kernel.

What stays behind is the socket, if it was taken, and nothing else.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import MachineCannot
from rawpunch.live.end import Order
from rawpunch.live.guard import Guard
from rawpunch.live.kernel_end import KernelEnd
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from rawpunch.live.raw_end import RawEnd

_ERRNOS: Final = {
    Ending.REFUSED: errno.ECONNREFUSED,
    Ending.RESET: errno.ECONNRESET,
    Ending.UNREACHABLE: errno.EHOSTUNREACH,
    Ending.TIMED_OUT: errno.ETIMEDOUT,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection, and how it came about."""

    sock: socket.socket
    local: Endpoint
    remote: Endpoint
    method: Literal["raw", "kernel"]
    why: str
    """Why it was not opened raw; "" if it was, or if `kernel` was asked for."""


class Opening:
    """What every attempt has: an end, which decides, and a time at which something is due.

    Args:
        order: what to do.
        end: what does it.
    """

    def __init__(self, order: Order, end: KernelEnd | RawEnd) -> None:
        self.order = order
        self._deciding = end
        self._taken = False

    @property
    def undecided(self) -> bool:
        """Whether there is anything left to attend to."""
        return self._deciding.undecided

    def rest_ns(self) -> int:
        """How long nothing is due."""
        deadline = self._deciding.deadline
        return SECOND if deadline is None else max(deadline - now_ns(), 0)


class KernelOpening(Opening):
    """An attempt by the kernel; a guard keeps it silent until the SYN leaves, if this process may have one.

    Args:
        order: what to do.
        why: why it is not by raw packets; "" if nobody wished that.

    Raises:
        UsageError: the local port is in use.
    """

    events: Final = select.POLLOUT

    def __init__(self, order: Order, why: str) -> None:
        self._end = KernelEnd(order)
        super().__init__(order, self._end)
        self._why = why
        self._guard: Guard | None = None
        try:
            with suppress(MachineCannot):
                self._guard = Guard(order.local, shared=True)
        except BaseException:
            self._end.finish(now_ns())
            raise

    def fileno(self) -> int:
        """What becomes writable when the kernel has decided."""
        return self._end.fileno()

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
            raise error_of(self._end.report.ending, self._end.report.cause)
        sock = self._end.take()
        sock.setblocking(blocking)
        self._taken = True
        return Opened(sock, self.order.local, self.order.remote, "kernel", self._why)

    def close(self) -> None:
        """Leave nothing behind but the socket, if it was taken."""
        self._unguard()
        if not self._taken:
            self._end.finish(now_ns())


def error_of(ending: str, cause: str) -> OSError:
    """How an opening ended, as an error of the system's."""
    number = _ERRNOS.get(Ending(ending), errno.ECONNABORTED)
    return OSError(number, f"{os.strerror(number)}{f' ({cause})' if cause else ''}")
