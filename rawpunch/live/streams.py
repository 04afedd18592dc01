"""A TCP stream to a server from a port of ours, which other connections of ours may be on too."""

from __future__ import annotations

import asyncio
import socket

from rawpunch.errors import PartialData
from rawpunch.wire.endpoint import Endpoint


async def open_stream(
    server: Endpoint, local: Endpoint | None, within_s: float, *, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, from a given local endpoint if one is given; several connections may share it.

    Args:
        server: where to.
        local: where from; None for any port.
        within_s: how long that may take, in seconds.
        limit: octets of the longest line that will be read.

    Raises:
        PartialData: the server does not answer.
    """
    family = socket.AF_INET6 if server.is_ipv6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # asyncio leaves it alone where a socket's protocol number is 0; a second request would wait for a delayed ACK
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if local is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((local.address, local.port))
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_connect(sock, (server.address, server.port))
        return await asyncio.open_connection(sock=sock, limit=limit)
    except OSError as error:
        sock.close()
        raise PartialData(f"no connection to {server}", why=str(error) or f"no answer within {within_s:g} s") from error
