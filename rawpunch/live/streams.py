"""A TCP stream to a server from a port of ours, which other connections of ours may be on too."""

from __future__ import annotations

import asyncio
import socket

from rawpunch.errors import PartialData
from rawpunch.live.sockets import begin_stream
from rawpunch.wire.endpoint import Endpoint


async def open_stream(
    server: Endpoint, local: Endpoint | None, within_s: float, *, limit: int, begun: socket.socket | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, from a given local endpoint if one is given; several connections may share it.

    Args:
        server: where to.
        local: where from; None for any port.
        within_s: how long that may take, in seconds.
        limit: octets of the longest line that will be read.
        begun: a socket whose SYN has left already (`begin_stream`); None to begin now.

    Raises:
        PartialData: the server does not answer.
    """
    try:
        sock = begun or begin_stream(server, local)
    except OSError as error:
        raise PartialData(f"no connection to {server}", why=str(error)) from error
    try:
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_connect(sock, (server.address, server.port))
        return await asyncio.open_connection(sock=sock, limit=limit)
    except OSError as error:
        sock.close()
        raise PartialData(f"no connection to {server}", why=str(error) or f"no answer within {within_s:g} s") from error
