"""Many connections of the kernel's at once: from one port to many, for prediction, or from many ports to one, for a spray.

Each that opens is given to whoever proves it; the rest is closed without a word when the time is over.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.live.kernel_end import CLOSE_BY_RST, overhear_its_death
from rawpunch.live.sockets import allow_files, family_of
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.ttl import DEFAULT_TTL

_BATCH: Final = 16
"""Connections that are begun between two looks at the clock."""

Pairs = Sequence[tuple[Endpoint, Endpoint]]
"""From where to where; a local port of 0 is any free one."""


async def fan_out(
    pairs: Pairs,
    *,
    opened: Callable[[socket.socket, Endpoint], None],
    until_ns: int,
    per_s: int,
    first_ttl: int = DEFAULT_TTL,
) -> int:
    """Open connections until the time is over or this is cancelled; says how many SYNs were begun.

    Args:
        pairs: all of them.
        opened: takes a connection that has opened, a non-blocking socket, with its remote endpoint.
        until_ns: when to give up what has not opened.
        per_s: how many to begin in a second.
        first_ttl: time to live of each first SYN; what is said later has the usual one.
    """
    allow_files(len(pairs))
    loop = asyncio.get_running_loop()
    waiting: dict[int, tuple[socket.socket, Endpoint]] = {}

    def decided(number: int) -> None:
        sock, remote = waiting.pop(number)
        loop.remove_writer(number)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
        else:
            overhear_its_death(sock, 0)
            opened(sock, remote)

    begun = 0
    start_ns = now_ns()
    try:
        for local, remote in pairs:
            sock = _begun(local, remote, first_ttl)
            if sock is not None:
                begun += 1
                waiting[sock.fileno()] = sock, remote
                loop.add_writer(sock.fileno(), decided, sock.fileno())
            if begun % _BATCH == 0:
                await asyncio.sleep(max(start_ns + begun * SECOND // per_s - now_ns(), 0) / SECOND)
        await asyncio.sleep(max(until_ns - now_ns(), 0) / SECOND)
    finally:
        for number, (sock, _) in waiting.items():
            loop.remove_writer(number)
            sock.close()
    return begun


def _begun(local: Endpoint, remote: Endpoint, first_ttl: int) -> socket.socket | None:
    """A socket whose SYN has left; None where this host has no port or file left for it."""
    sock = socket.socket(family_of(remote), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RST)
        sock.bind((local.address, local.port))
        if first_ttl != DEFAULT_TTL:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, first_ttl)
            overhear_its_death(sock, first_ttl)
        number = sock.connect_ex((remote.address, remote.port))
        if number not in (0, errno.EINPROGRESS):
            sock.close()
            return None
        if first_ttl != DEFAULT_TTL:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, DEFAULT_TTL)
    except OSError:
        sock.close()
        return None
    return sock
