"""A probe's end of a connection to an observer: its own protocol, over TCP; `stun_client` asks it as a STUN server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from typing import Final, Self, TypeVar

from rawpunch.errors import Malformed, PartialData
from rawpunch.live.streams import open_stream
from rawpunch.probe import messages
from rawpunch.probe.messages import Answer, Arrived, Mapped, Mappings, Request
from rawpunch.wire.endpoint import Endpoint

_LATE_S: Final = 5.0
"""How long an answer may take beyond the time that its request asks to wait."""
_RST_AT_CLOSE: Final = struct.pack("ii", 1, 0)
_A = TypeVar("_A", bound=Answer)


def _gone(observer: Endpoint, why: str) -> PartialData:
    return PartialData(f"the observer {observer} is gone", why=why, todo="see whether it still runs, then probe again")


class ObserverClient:
    """One connection to an observer; requests may be under way together.

    Use `connect`, then `begin`; it ends with its context.
    """

    def __init__(
        self, observer: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float = _LATE_S
    ) -> None:
        self.observer = observer
        self.patience_s = patience_s
        self.local = Endpoint(*writer.get_extra_info("sockname")[:2])
        self.welcome: messages.Welcome | None = None
        self.session = ""
        self._writer = writer
        self._numbers = itertools.count(1)
        self._awaited: dict[int, asyncio.Future[Answer]] = {}
        self._over = ""
        self._listener = asyncio.create_task(self._listen(reader))

    @classmethod
    async def connect(
        cls, observer: Endpoint, *, local: Endpoint | None = None, within_s: float = 5.0, patience_s: float = _LATE_S
    ) -> Self:
        """Open a connection.

        Args:
            observer: one of its endpoints.
            local: from where; None for any.
            within_s: how long to wait.
            patience_s: how long an answer may take beyond the time that its request asks to wait.

        Raises:
            PartialData: the observer does not answer.
        """
        try:
            reader, writer = await open_stream(observer, local, within_s, limit=messages.MAX_ANSWER)
        except PartialData as error:
            todo = "see whether `rawpunch observe` runs there"
            raise PartialData(f"no connection to the observer {observer}", why=error.why, todo=todo) from error
        return cls(observer, reader, writer, patience_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        self._end("the connection was closed")
        self._listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listener
        self._writer.transport.abort()

    def reset_at_close(self) -> None:
        """Have the kernel end the connection by RST."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)

    async def ask(self, request: Request) -> Answer:
        """The answer to a request, which may be `Refused`; the request's id is chosen here.

        Raises:
            PartialData: the observer is gone, or does not answer in time.
        """
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._awaited[number] = future
        try:
            if self._over:
                raise _gone(self.observer, self._over)
            self._writer.write(messages.encode(request.numbered(number)))
            async with asyncio.timeout(getattr(request, "wait_ms", 0) / 1000 + self.patience_s):
                return await future
        except TimeoutError as error:
            raise _gone(self.observer, f"no answer to {request.tag!r} in time") from error
        finally:
            del self._awaited[number]

    async def want(self, request: Request, kind: type[_A]) -> _A:
        """The same, where only one kind of answer is of use.

        Raises:
            PartialData: the observer is gone, or refuses.
        """
        answer = await self.ask(request)
        if isinstance(answer, kind):
            return answer
        why = f"{answer.word}: {answer.why}" if isinstance(answer, messages.Refused) else f"it answered {answer.tag!r}"
        raise PartialData(f"the observer {self.observer} did not {request.tag!r}", why=why)

    async def begin(self, session: str = "") -> messages.Welcome:
        """Say hello and prove this connection's address.

        Args:
            session: one to join; "" for a new one.

        Raises:
            PartialData: the observer is gone, or refuses.
        """
        self.welcome = await self.want(messages.Hello(), messages.Welcome)
        proved = await self.want(messages.Prove(nonce=self.welcome.nonce, session=session), messages.Proved)
        self.session = proved.session
        return self.welcome

    async def arrivals(self, *, after: int = 0, at: Endpoint | None = None, wait_ms: int = 0) -> Arrived:
        """What has come from the proved addresses; waits for a first packet.

        Raises:
            PartialData: the observer is gone, or refuses.
        """
        return await self.want(messages.Arrivals(after=after, at=at, wait_ms=wait_ms), Arrived)

    async def mapped(self, *, after: int = 0, at: Endpoint | None = None, wait_ms: int = 0) -> Mappings:
        """The SYNs among them, in short.

        Raises:
            PartialData: the observer is gone, or refuses.
        """
        return await self.want(Mapped(after=after, at=at, wait_ms=wait_ms), Mappings)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hand answers to those who wait for them; at the end, tell them that there is no more."""
        try:
            while line := await reader.readuntil(b"\n"):
                answer = messages.parse_answer(line)
                future = self._awaited.get(answer.id)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, EOFError, Malformed, asyncio.LimitOverrunError) as error:
            self._end("it closed the connection" if isinstance(error, EOFError) else str(error) or "the connection broke")

    def _end(self, why: str) -> None:
        """Tell those who wait for an answer that there will be none."""
        self._over = self._over or why
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(_gone(self.observer, self._over))
