"""STUN servers of every kind on the loopback, good ones and bad ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from rawpunch.wire import stun
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import Attribute, Kind, Message, XorMappedAddress

HOST = "127.0.0.1"
Say = Callable[[bytes], Awaitable[None]]
Behaviour = Callable[[Message, Endpoint, Say], Awaitable[None]]
"""What a server does about a request that came from an endpoint, with a function to say something."""


def octets(request: Message, *attributes: Attribute, kind: Kind = Kind.SUCCESS, transaction: bytes | None = None) -> bytes:
    """An answer's octets."""
    return stun.encode(Message(kind, transaction or request.transaction, attributes))


def answering(*attributes: Attribute, kind: Kind = Kind.SUCCESS) -> Behaviour:
    """Answers every request with these attributes."""

    async def behave(request: Message, _source: Endpoint, say: Say) -> None:
        await say(octets(request, *attributes, kind=kind))

    return behave


def saying(*what: bytes) -> Behaviour:
    """Says this, whatever was asked."""

    async def behave(_request: Message, _source: Endpoint, say: Say) -> None:
        for part in what:
            await say(part)

    return behave


async def good(request: Message, source: Endpoint, say: Say) -> None:
    """Answers as it should."""
    await say(octets(request, XorMappedAddress(source)))


async def stale_first(request: Message, source: Endpoint, say: Say) -> None:
    """Answers another request before."""
    await say(octets(request, XorMappedAddress(Endpoint("192.0.2.9", 9)), transaction=bytes(12)))
    await good(request, source, say)


async def stale_only(request: Message, source: Endpoint, say: Say) -> None:
    """Answers another request."""
    await say(octets(request, XorMappedAddress(source), transaction=bytes(12)))


async def by_octets(request: Message, source: Endpoint, say: Say) -> None:
    """Sends its answer octet by octet."""
    for octet in octets(request, XorMappedAddress(source)):
        await say(bytes((octet,)))
        await asyncio.sleep(0)


async def silence(_request: Message, _source: Endpoint, _say: Say) -> None:
    """Says nothing."""
    await asyncio.sleep(30)


@asynccontextmanager
async def tcp_server(behaviour: Behaviour, *, hangs_up: bool = False) -> AsyncIterator[Endpoint]:
    """A server over TCP; it closes after an answer if it hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(what: bytes) -> None:
            writer.write(what)
            await writer.drain()

        source = Endpoint(*writer.get_extra_info("peername")[:2])
        try:
            with suppress(OSError, EOFError):
                while True:
                    head = await reader.readexactly(20)
                    request = stun.decode(head + await reader.readexactly((stun.framed_length(head) or 0) - 20))
                    await behaviour(request, source, say)
                    if hangs_up:
                        break
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield Endpoint(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class UdpServer(asyncio.DatagramProtocol):
    """A server over UDP; it keeps when requests came, and passes over as many as it is told to."""

    def __init__(self, behaviour: Behaviour, deaf_to: int = 0) -> None:
        self.behaviour = behaviour
        self.deaf_to = deaf_to
        self.came: list[tuple[float, Message]] = []
        self.here = Endpoint(HOST, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.here = Endpoint(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = stun.decode(data)
        self.came.append((asyncio.get_running_loop().time(), request))

        async def say(what: bytes) -> None:
            if self._transport is not None:
                self._transport.sendto(what, addr)

        if len(self.came) > self.deaf_to:
            self._tasks.add(asyncio.create_task(self.behaviour(request, Endpoint(*addr[:2]), say)))  # type: ignore[arg-type]

    async def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def udp_server(behaviour: Behaviour, deaf_to: int = 0) -> AsyncIterator[UdpServer]:
    """A server over UDP that is deaf to the first few requests."""
    _, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: UdpServer(behaviour, deaf_to), local_addr=(HOST, 0)
    )
    try:
        yield server
    finally:
        await server.close()
