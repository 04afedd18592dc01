"""A program that dials again: connect(), and at once again whenever it is refused or reset, until connected or out of patience.

It is a process of its own, on a processor of its own. On a loopback everything happens inside the call: a SYN is answered before
`connect` returns, by RST unless the other program is in a call of its own at that very moment. What the tries left on the wire is
not recorded, for there are thousands of them, and a tap would slow each; how the last one went, TCP_INFO says.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns, sleep_until
from rawpunch.ending import Ending
from rawpunch.errors import RawpunchError
from rawpunch.live.kernel_end import CLOSE_BY_RST, ENDINGS, evidence_of
from rawpunch.wire.endpoint import Endpoint

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PENDING: Final = frozenset({errno.EINPROGRESS, errno.EALREADY})
"""The call has waited long enough, and the try goes on."""
_ENDINGS: Final = ENDINGS | {errno.ECONNABORTED: Ending.RESET} | dict.fromkeys(_PENDING, Ending.TIMED_OUT)
_A_CALL: Final = struct.pack("ll", 0, 100_000)
"""SO_SNDTIMEO: how long a call waits for an answer that does not come, 0.1 s."""


class Diallers:
    """The programs of one host, one after the other.

    Args:
        channel: to whoever says what to dial.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sock: socket.socket | None = None

    def serve(self) -> None:
        """Do what is asked for until the channel closes.

        Requests: ``{"dial": WORDS}`` (see `dial`), then ``{"tell": true}`` for what TCP_INFO says of the connection, and
        ``{"close": true}``.
        """
        while True:
            try:
                message, _ = self._channel.receive()
                self._channel.send(self._answered(message))
            except RawpunchError:  # whoever asked is gone
                self._close()
                return

    def _answered(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(message)
        except OSError as error:
            self._close()
            return {"unable": f"{errno.errorcode.get(error.errno or 0, '')}: {error.strerror}"}

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "dial" in message:
            return self.dial(**message["dial"])
        if "tell" in message:
            return {"evidence": evidence_of(self._sock) if self._sock is not None else {}}
        self._close()
        return {"closed": True}

    def dial(
        self,
        *,
        local: str,
        remote: str,
        anew: bool,
        at_ns: int,
        until_ns: int,
        most_tries: int,
        say_so: bool = False,
        ports: list[int] | None = None,
    ) -> dict[str, Any]:
        """Try from an instant on.

        Args:
            local: the endpoint that is dialled from; "" for whatever the kernel gives, another one for each try.
            remote: what is dialled.
            anew: whether each try has a socket of its own; else one is dialled with again, and keeps its port.
            at_ns: instant of the first try.
            until_ns: when patience ends.
            most_tries: how many there may be.
            say_so: whether to answer ``{"began_ns": NS}`` before the first try.
            ports: the first and the last of the ephemeral range that the kernel of this network namespace is to draw from
                meanwhile; None to leave it as it is.

        Raises:
            OSError: the local endpoint cannot be bound.
        """
        there = Endpoint.parse(remote)
        before = self._draw_from(ports)
        try:
            attempt = self._attempt(Endpoint.parse(local) if local else None, there, anew=anew)
            began_ns = sleep_until(at_ns)
            if say_so:
                self._channel.send({"began_ns": began_ns})
            tries, number = 0, errno.ETIMEDOUT
            while number and tries < most_tries and now_ns() < until_ns:
                tries += 1
                number = attempt(until_ns)
            ended_ns = now_ns()
        finally:
            self._draw_from(before)
        connected = self._sock if number == 0 else None
        return {
            "tries": tries,
            "ending": _ENDINGS.get(number, Ending.UNREACHABLE).value if number else Ending.ESTABLISHED.value,
            "cause": f"{errno.errorcode.get(number, number)}: {os.strerror(number)}" if number else "",
            "began_ns": began_ns,
            "ended_ns": ended_ns,
            "itself": connected is not None and connected.getsockname() == connected.getpeername(),
            "local": str(Endpoint(*connected.getsockname()[:2])) if connected is not None else local,
        }

    def _draw_from(self, ports: list[int] | None) -> list[int] | None:
        """Narrow or widen the ephemeral range; returns the one before, if it was changed."""
        if ports is None:
            return None
        before = [int(word) for word in _RANGE.read_text(encoding="ascii").split()]
        _RANGE.write_text(f"{ports[0]} {ports[1]}", encoding="ascii")
        return before

    def _attempt(self, local: Endpoint | None, remote: Endpoint, *, anew: bool) -> Callable[[int], int]:
        """One try, given when patience ends; it returns the error's number, or 0."""
        where = (remote.address, remote.port)

        def attempt(until_ns: int) -> int:
            sock = self._opened(local) if anew or self._sock is None else self._sock
            number = sock.connect_ex(where)
            while number in _PENDING and now_ns() < until_ns:
                number = sock.connect_ex(where)
            return number

        return attempt

    def _opened(self, local: Endpoint | None) -> socket.socket:
        """A new socket instead of the one before."""
        self._close()
        self._sock = _socket()
        if local is not None:
            self._sock.bind((local.address, local.port))
        return self._sock

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _socket() -> socket.socket:
    """A blocking one that waits a moment at most, and goes by RST: no TIME-WAIT is to stand in the next attempt's way."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RST)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _A_CALL)
    return sock


def serve(channel: Channel, cpu: int | None = None) -> None:
    """Entry of a host's process that dials.

    Args:
        channel: to whoever says what.
        cpu: the processor to stay on; the other program has another one.
    """
    be_punctual()
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    gc.freeze()
    channel.send({"ready": True})
    Diallers(channel).serve()
