"""An observer that does as a test says: it answers, refuses, lies, or dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rawpunch.probe import messages
from rawpunch.probe.messages import Answer, Refusal, Refused, Request
from rawpunch.wire.endpoint import Endpoint

Handler = Callable[[Request], Answer | None]
"""What to answer; None for what the observer does otherwise."""


def _nothing_special(_: Request) -> None:
    return None


@dataclass
class FakeObserver:
    """Its state; tests change it while it serves."""

    endpoint: Endpoint
    addresses: list[str]
    raw: bool = True
    here: str = ""
    """The address that it takes itself for; "" for the right one."""
    handler: Handler = _nothing_special
    arrivals: list[messages.Arrival] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    silent: bool = False
    """Whether it takes requests and answers none."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    server: asyncio.Server | None = None

    def asked(self, kind: type[Request]) -> int:
        """How many requests of a kind came."""
        return sum(isinstance(request, kind) for request in self.requests)

    def cut(self) -> None:
        """Break all connections."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def die(self) -> None:
        """Stop listening, and break all connections."""
        if self.server is not None:
            self.server.close()
        self.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.writers.append(writer)
        tasks = []
        try:
            while line := await reader.readline():
                request = messages.parse_request(line)
                self.requests.append(request)
                tasks.append(asyncio.create_task(self._answer(request, writer)))
        except OSError:
            return
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        answer = self.handler(request) or await self._usual(request, writer)
        if not self.silent:
            writer.write(messages.encode(answer.numbered(request.id)))

    async def _usual(self, request: Request, writer: asyncio.StreamWriter) -> Answer:
        you = Endpoint(*writer.get_extra_info("peername"))
        here = Endpoint(*writer.get_extra_info("sockname"))
        match request:
            case messages.Hello():
                ports = [self.endpoint.port]
                here = Endpoint(self.here, here.port) if self.here else here
                return messages.Welcome(nonce="n", you=you, here=here, addresses=self.addresses, ports=ports, raw=self.raw)
            case messages.Prove():
                return messages.Proved(session="s", addresses=[you.address])
            case messages.Where():
                return messages.Place(you=you, here=here)
            case messages.Hold(address=address):
                return messages.Held(endpoint=Endpoint(self.addresses[address], 4000))
            case messages.Release(endpoint=endpoint):
                return messages.Released(endpoint=endpoint)
            case messages.SendPacket():
                return messages.Sent(at_ns=1, octets=40)
            case messages.Connect(to=to):
                return messages.Connected(source=to, outcome=messages.Outcome.SILENT, took_ns=1)
            case messages.Arrivals(after=after, wait_ms=wait_ms):
                if not self.arrivals[after:]:
                    await asyncio.sleep(wait_ms / 1_000)
                return messages.Arrived(packets=self.arrivals[after:], next=max(after, len(self.arrivals)), lost=0)
        return Refused(word=Refusal.MALFORMED)


@asynccontextmanager
async def fake_observer(address: str = "127.0.0.1", *others: str) -> AsyncIterator[FakeObserver]:
    """A fake observer on a free port of some addresses."""
    fake = FakeObserver(Endpoint(address, 0), [address, *others])
    fake.server = first = await asyncio.start_server(fake.serve, address, 0)
    port = first.sockets[0].getsockname()[1]
    fake.endpoint = Endpoint(address, port)
    more = [await asyncio.start_server(fake.serve, other, port) for other in others]
    try:
        yield fake
    finally:
        for server in (first, *more):
            server.close()
        fake.cut()
        await asyncio.sleep(0)
