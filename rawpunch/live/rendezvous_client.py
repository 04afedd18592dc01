"""A peer's end of a connection to a rendezvous server, from the very port that it will punch from."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from typing import TYPE_CHECKING, Final, Self, TypeVar

from rawpunch.clock import now_ns
from rawpunch.errors import Malformed, PartialData, RawpunchError
from rawpunch.live.sockets import TcpInfo
from rawpunch.live.streams import open_stream
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.rendezvous import Answer, Go, Introduced, Joined, Left, Over, Request, Start
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from rawpunch.punch.starting import Offset

_LATE_S: Final = 5.0
_NEWS: Final = 256
"""Messages of the server's own that may wait to be read."""
_A = TypeVar("_A", bound=Answer)
News = Joined | Left | Introduced | Start | Go | Over


def _gone(server: Endpoint, why: str) -> PartialData:
    return PartialData(f"the rendezvous server {server} is gone", why=why, todo="see whether `rawpunch rendezvous` runs there")


class RendezvousClient:
    """One connection to a server. Use `connect`, then `register`; it ends with its context."""

    def __init__(self, server: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.local = Endpoint(*writer.get_extra_info("sockname")[:2])
        self.rtt_ns = TcpInfo.of(writer.get_extra_info("socket")).rtt_ns
        """Of the handshake, as the kernel measured it."""
        self.offset: Offset | None = None
        """How far the server's clock is ahead of ours, once it was measured."""
        self._writer = writer
        self._numbers = itertools.count(1)
        self._awaited: dict[int, asyncio.Future[tuple[Answer, int]]] = {}
        self._news: asyncio.Queue[tuple[News, int] | None] = asyncio.Queue(_NEWS)
        self._over = ""
        self._listener = asyncio.create_task(self._listen(reader))

    @classmethod
    async def connect(
        cls,
        server: Endpoint,
        *,
        local: Endpoint | None = None,
        begun: socket.socket | None = None,
        within_s: float = 5.0,
    ) -> Self:
        """Open a connection; its port may be shared with others of ours, and with the guard of a raw end.

        Args:
            server: where it listens.
            local: where from; None for any port.
            begun: a socket whose SYN has left already (`sockets.begin_stream`); None to begin now.
            within_s: how long to wait, in seconds.

        Raises:
            PartialData: the server does not answer.
        """
        try:
            reader, writer = await open_stream(server, local, within_s, limit=messages.MAX_ANSWER, begun=begun)
        except PartialData as error:
            todo = "see whether `rawpunch rendezvous` runs there"
            raise PartialData(f"no connection to the rendezvous server {server}", why=error.why, todo=todo) from error
        return cls(server, reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listener
        self._writer.transport.abort()

    async def ask(self, request: Request, kind: type[_A]) -> _A:
        """The answer to a request.

        Raises:
            PartialData: the server is gone, does not answer in time, or refuses.
        """
        return (await self._ask(request, kind))[0]

    async def _ask(self, request: Request, kind: type[_A]) -> tuple[_A, int]:
        number = next(self._numbers)
        future: asyncio.Future[tuple[Answer, int]] = asyncio.get_running_loop().create_future()
        self._awaited[number] = future
        try:
            if self._over:
                raise _gone(self.server, self._over)
            self._writer.write(messages.encode(request.numbered(number)))
            async with asyncio.timeout(_LATE_S):
                answer, at_ns = await future
        except TimeoutError as error:
            raise _gone(self.server, f"no answer to {request.tag!r} in time") from error
        finally:
            del self._awaited[number]
        if not isinstance(answer, kind):
            why = f"{answer.word}: {answer.why}" if isinstance(answer, messages.Refused) else f"it answered {answer.tag!r}"
            raise PartialData(f"the rendezvous server {self.server} did not {request.tag!r}", why=why)
        return answer, at_ns

    async def measure_clock(self, exchanges: int = 5) -> Offset:
        """Ask for the time that often, and take the quickest answer.

        Raises:
            PartialData: the server is gone.
            BadParameter: a clock was set meanwhile.
        """
        from rawpunch.punch.starting import Exchange, Offset  # noqa: PLC0415  most punches need no clock

        seen = []
        for _ in range(exchanges):
            asked_ns = now_ns()
            time, at_ns = await self._ask(messages.Clock(at_ns=asked_ns), messages.Time)
            seen.append(Exchange(asked_ns, time.came_ns, time.left_ns, at_ns))
        self.offset = Offset.of(seen)
        return self.offset

    async def ready(self, pair: int, tolerance_ns: int) -> None:
        """Say that we can begin, and how well we know the server's clock.

        Raises:
            PartialData: the server is gone, or refuses.
        """
        error_ns = self.offset.bound_ns(now_ns()) if self.offset else None
        await self.ask(messages.Ready(pair=pair, error_ns=error_ns, tolerance_ns=tolerance_ns), messages.Waiting)

    async def news(self, within_s: float) -> tuple[News, int]:
        """What the server says unasked, in order, and when it came.

        Raises:
            PartialData: the server is gone.
            TimeoutError: it says nothing in that time.
        """
        if self._over and self._news.empty():
            raise _gone(self.server, self._over)
        async with asyncio.timeout(within_s):
            found = await self._news.get()
        if found is None:
            raise _gone(self.server, self._over)
        return found

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hand answers to those who wait for them, and keep the rest; at the end, tell all that there is no more."""
        try:
            while True:
                line = await reader.readuntil(b"\n")
                at_ns = now_ns()
                answer = messages.parse_answer(line)
                if isinstance(answer, News):
                    self._news.put_nowait((answer, at_ns))
                    continue
                future = self._awaited.get(answer.id)
                if future is not None and not future.done():
                    future.set_result((answer, at_ns))
        except (OSError, EOFError, Malformed, asyncio.LimitOverrunError, asyncio.QueueFull) as error:
            self._over = _why(error)
            for future in self._awaited.values():
                if not future.done():
                    future.set_exception(_gone(self.server, self._over))
            if not self._news.full():
                self._news.put_nowait(None)


def _why(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it closed the connection"
    if isinstance(error, asyncio.QueueFull):
        return "it said more than anybody reads"
    return error.what if isinstance(error, RawpunchError) else str(error)
