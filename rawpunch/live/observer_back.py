"""A connection back to whoever asked for one, made by the kernel: what a NAT lets in, without raw sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.live.sockets import family_of
from rawpunch.probe.messages import Connected, Outcome
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

_RST_AT_CLOSE: Final = struct.pack("ii", 1, 0)
_NOT_OURS: Final = {errno.EADDRNOTAVAIL, errno.EADDRINUSE}


async def connect_back(source: Endpoint, to: Endpoint, wait_ms: int, *, number: int) -> Connected:
    """Open a connection and end it at once with a RST, so that the same 4-tuple can be used again.

    Args:
        source: from where; port 0 for any.
        to: to where.
        wait_ms: how long to wait; the kernel sends its SYN again meanwhile, after one second and so on.
        number: the request's.

    Raises:
        OSError: the source endpoint is not to be had.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(to), socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
        sock.bind((source.address, source.port))
        source = Endpoint(source.address, sock.getsockname()[1])
        began = now_ns()
        outcome, cause = Outcome.CONNECTED, ""
        try:
            async with asyncio.timeout(wait_ms * MS / 1e9):
                await loop.sock_connect(sock, (to.address, to.port))
        except TimeoutError:
            outcome = Outcome.SILENT
        except ConnectionRefusedError as error:
            outcome, cause = Outcome.REFUSED, str(error)
        except OSError as error:
            if error.errno in _NOT_OURS:
                raise
            outcome, cause = Outcome.UNREACHABLE, str(error)
        return Connected(id=number, source=source, outcome=outcome, took_ns=now_ns() - began, cause=cause)
