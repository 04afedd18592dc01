"""The proof on a punched connection: until it is done, who is at the other end is a stranger, and no word of his goes further."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import Malformed, RawpunchError
from rawpunch.punch.proof import CHOSEN, HELLO_OCTETS, NONCE_OCTETS, PROOF_OCTETS, Challenge, Hello, Role
from rawpunch.units import SECOND

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Stranger(RawpunchError):
    """Who is at the other end did not prove to be the peer."""


@dataclass(slots=True)
class Prover:
    """What we are in an attempt at one peer."""

    key: bytes
    role: Role
    several: bool = True
    """Whether more than one connection may come about, of which the leader has to choose one."""
    challenge: Challenge | None = None
    """What each has to prove; None if both have yet to say hello."""
    claimed: bool = field(default=False)

    async def prove(self, sock: socket.socket, until_ns: int) -> None:
        """Prove ourselves and have the other one do so; afterwards the stream stands where the user's begins.

        Args:
            sock: connected and non-blocking; it stays open whatever happens. TCP_NODELAY is on from now on: what is said first
                would wait for the proof's acknowledgement otherwise.
            until_ns: when to give up.

        Raises:
            Stranger: he did not, or did it on a connection that is not the one.
        """
        loop = asyncio.get_running_loop()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(max(until_ns - now_ns(), 0) / SECOND):
                challenge = self.challenge or await self._hello(sock)
                await loop.sock_sendall(sock, challenge.proof(self.key))
                if not challenge.verify(self.key, await _read(sock, PROOF_OCTETS)):
                    raise Stranger("it does not know the room's token", todo="give both sides the same --room")
                if self.several:
                    await self._choose(sock, leads=challenge.leads)
        except TimeoutError as error:
            raise Stranger("it did not prove that it is the peer in time") from error
        except (OSError, EOFError) as error:
            raise Stranger("it ended the connection before it had proved anything", why=str(error)) from error
        except Malformed as error:
            raise Stranger("it is no peer", why=error.what) from error

    async def _hello(self, sock: socket.socket) -> Challenge:
        mine = Hello(self.role, os.urandom(NONCE_OCTETS))
        await asyncio.get_running_loop().sock_sendall(sock, mine.encode())
        return Challenge(mine, Hello.decode(await _read(sock, HELLO_OCTETS)))

    async def _choose(self, sock: socket.socket, *, leads: bool) -> None:
        if leads:
            if self.claimed:
                raise Stranger("another connection to the peer was quicker")
            self.claimed = True
            await asyncio.get_running_loop().sock_sendall(sock, CHOSEN)
        elif await _read(sock, len(CHOSEN)) != CHOSEN:
            raise Malformed("no choice of a connection came after the proof")


async def _read(sock: socket.socket, count: int) -> bytes:
    """Exactly that many octets, and not one of those behind them.

    Raises:
        EOFError: the stream ended before.
    """
    loop = asyncio.get_running_loop()
    came = b""
    while len(came) < count:
        part = await loop.sock_recv(sock, count - len(came))
        if not part:
            raise EOFError("it closed it")
        came += part
    return came


def reset(sock: socket.socket) -> None:
    """Close by RST: the other one knows at once, and the port is free for the next try."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    sock.close()
