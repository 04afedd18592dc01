"""A NAT that terminates TCP: connections from inside are taken here and made anew outside. For `cmd:`, in a NAT's namespace."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
from contextlib import suppress

_SO_ORIGINAL_DST = 80
_PORTS = range(9_900, 9_964)
"""Several: two connections from one port inside, to different places, must not become one here."""
_RST_AT_CLOSE = struct.pack("ii", 1, 0)

RULES = """
table ip proxy {
  chain divert {
    type nat hook prerouting priority dstnat;
    iifname "%(inside)s" meta l4proto tcp redirect to :%(low)s-%(high)s
  }
  chain hide {
    type nat hook postrouting priority srcnat;
    oifname "%(outside)s" masquerade
  }
}
"""


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, EOFError):
        while octets := await reader.read(65_536):
            writer.write(octets)
            await writer.drain()
        writer.write_eof()


async def _taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    _, port, address = struct.unpack_from("!HH4s", sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))
    try:
        async with asyncio.timeout(10):
            there = await asyncio.open_connection(socket.inet_ntoa(address), port)
        await asyncio.gather(_relay(reader, there[1]), _relay(there[0], writer))
        there[1].close()
    except (OSError, TimeoutError):
        with suppress(OSError):  # it may have gone meanwhile
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
    writer.close()


async def _serve() -> None:
    for port in _PORTS:
        server = await asyncio.start_server(_taken, "0.0.0.0", port)  # noqa: S104  its own namespace
    await server.serve_forever()


if __name__ == "__main__":
    names = {"inside": os.environ["RAWPUNCH_INSIDE_DEVICE"], "outside": os.environ["RAWPUNCH_OUTSIDE_DEVICE"]}
    names |= {"low": str(_PORTS[0]), "high": str(_PORTS[-1])}
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    subprocess.run(["nft", "-f", "-"], input=RULES % names, text=True, check=True, env=os.environ | {"PATH": path})
    asyncio.run(_serve())
