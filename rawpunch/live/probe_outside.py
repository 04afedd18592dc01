"""A probe's dealings with its observer: one session over connections that may break, and what arrived there.

Nothing waits for ever: a request has its time, a broken connection is made anew a few times, and then the observer is called
gone, once and for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from rawpunch.errors import MachineCannot, Malformed, PartialData, UsageError
from rawpunch.live.observer_client import ObserverClient
from rawpunch.live.probe_log import ProbeLog
from rawpunch.probe import messages
from rawpunch.probe.ground import NotOffered, Outside, Place
from rawpunch.probe.messages import Answer, Refusal, Refused, Request
from rawpunch.probe.site import Site
from rawpunch.wire.endpoint import Endpoint

FIRST_CONNECT_S: Final = 8.0
CONNECT_S: Final = 4.0
"""How long the first connection, and any other, may take; the kernel sends its SYN again meanwhile."""
PATIENCE_S: Final = 4.0
"""How long an answer may take beyond the time that its request asks to wait.

A kernel whose SYN got lost waits 3 s before it sends data again (RFC 6298, section 5.7).
"""
CONNECTIONS: Final = 3
"""How often, in all for one request, a connection is used before the observer is called gone."""
_PAUSE_S: Final = 0.3
_TOO_FAST_S: Final = 20.0
"""How long a request that is too fast is tried again, at most."""
_POLL_MS: Final = 2_000
_A = TypeVar("_A", bound=Answer)


@dataclass(slots=True)
class _State:
    """What is known of the observer."""

    session: str = ""
    after: int = 0
    """Number of the first arrival that is not noted yet."""
    lost: int = 0
    dropped: int = 0
    proved: list[str] = field(default_factory=list)
    gone: PartialData | None = None


class ObserverLink:
    """One session with one observer.

    Use `connect`, and `close` at the end.

    Args:
        observer: an endpoint of it.
        local: the address to connect from.
        log: where arrivals are noted.
    """

    def __init__(self, observer: Endpoint, local: str, log: ProbeLog) -> None:
        self.observer = observer
        self.local = local
        self.outside = Outside((), (), raw=False)
        self._named: tuple[str, ...] = ()
        self._log = log
        self._state = _State()
        self._client: ObserverClient | None = None
        self._mending = asyncio.Lock()
        self._over = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    @property
    def proved(self) -> tuple[str, ...]:
        """Our addresses as the observer knows them."""
        return tuple(self._state.proved)

    @property
    def lost(self) -> int:
        """Arrivals that the observer could not keep for us, or its kernel could not hand to it."""
        return self._state.lost + self._state.dropped

    def give_up(self, error: PartialData) -> None:
        """Call the observer gone, whether it is or not: all that waits for it ends."""
        if self._state.gone is None:
            self._state.gone = error
            self._over.set()
            self._log.stir()

    async def pause(self, seconds: float) -> None:
        """Let time pass, as long as the observer is there.

        Raises:
            PartialData: it is gone.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass
        if self._state.gone is not None:
            raise self._state.gone

    @property
    def gone(self) -> PartialData | None:
        """Why the observer is called gone, if it is."""
        return self._state.gone

    # --- beginning and end ---

    async def connect(self) -> None:
        """Begin a session, see which addresses the observer really has, and begin to listen to what arrives there.

        Raises:
            PartialData: it does not answer, or refuses.
            MachineCannot: it is behind a NAT of its own.
        """
        self._client, welcome = await self._begun(self.observer)
        addresses = [welcome.here.address, *(address for address in welcome.addresses if address != welcome.here.address)]
        try:
            site = Site(tuple(addresses), tuple(welcome.ports))
        except (UsageError, Malformed) as error:
            raise PartialData(f"the observer {self.observer} makes no sense", why=error.what) from error
        answering = await asyncio.gather(*(self._answers_at(address) for address in site.addresses[1:]))
        known = (self.observer.address, *(a for a, there in zip(site.addresses[1:], answering, strict=True) if there))
        self.outside = Outside(known, site.ports, welcome.raw)
        self._named = tuple(welcome.addresses)
        if welcome.raw:
            self._poller = asyncio.create_task(self._poll())

    async def close(self) -> None:
        """End the session's connection."""
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
        await self._drop()

    def index(self, address: int) -> int:
        """The observer's own number of one of its addresses that answered.

        Raises:
            NotOffered: there is no such address.
        """
        if not 0 <= address < len(self.outside.addresses) or self.outside.addresses[address] not in self._named:
            raise NotOffered(Refusal.NO_SUCH_ADDRESS, f"the observer has {' and '.join(self.outside.addresses)}")
        return self._named.index(self.outside.addresses[address])

    async def _connected(self, observer: Endpoint, local: Endpoint | None = None) -> ObserverClient:
        local = local or Endpoint(self.local, 0)
        within_s = CONNECT_S if self._state.session else FIRST_CONNECT_S
        return await ObserverClient.connect(observer, local=local, within_s=within_s, patience_s=PATIENCE_S)

    async def _begin(self, client: ObserverClient, observer: Endpoint) -> messages.Welcome:
        """Say hello and prove this connection's address.

        Raises:
            PartialData: the observer is gone.
            NotOffered: it refuses.
            MachineCannot: it is behind a NAT of its own.
        """
        welcome = _wanted(await self._patiently(client, messages.Hello()), messages.Welcome)
        if welcome.here.address != observer.address:
            raise MachineCannot(
                f"the observer {observer} takes itself for {welcome.here.address}",
                why="it is behind a NAT or a proxy of its own, and would send its packets from the wrong address",
                todo="run `rawpunch observe` on a machine that has its public address itself",
            )
        prove = messages.Prove(nonce=welcome.nonce, session=self._state.session)
        proved = _wanted(await self._patiently(client, prove), messages.Proved)
        self._state.session = proved.session
        if welcome.you.address not in self._state.proved:
            self._state.proved.append(welcome.you.address)
        return welcome

    async def _answers_at(self, address: str) -> bool:
        """Whether the observer is at another address that it names: no packet goes where no nonce came from."""
        try:
            client, _ = await self._begun(Endpoint(address, self.observer.port))
        except (PartialData, MachineCannot):
            return False
        client.reset_at_close()
        await client.close()
        return True

    async def _begun(self, observer: Endpoint) -> tuple[ObserverClient, messages.Welcome]:
        """A connection that has joined the session, and what the observer said at its beginning; tried a few times.

        Raises:
            PartialData: the observer does not answer, or refuses.
            MachineCannot: it is behind a NAT of its own.
        """
        for last in (*[False] * (CONNECTIONS - 1), True):
            client: ObserverClient | None = None
            try:
                client = await self._connected(observer)
                return client, await self._begin(client, observer)
            except (PartialData, MachineCannot) as error:
                if client is not None:
                    await client.close()
                if last or client is None or isinstance(error, NotOffered | MachineCannot):
                    raise
            await asyncio.sleep(_PAUSE_S)
        raise PartialData(f"the observer {observer} is gone")

    # --- requests ---

    async def want(self, request: Request, kind: type[_A]) -> _A:
        """The answer to a request.

        Raises:
            NotOffered: the observer refuses, and would refuse again.
            PartialData: it is gone.
        """
        return _wanted(await self._asked(lambda client: self._patiently(client, request)), kind)

    async def _asked(self, ask: Callable[[ObserverClient], Coroutine[Any, Any, Answer]]) -> Answer:
        """Ask over the connection there is; over a new one when it breaks."""
        for last in (*[False] * (CONNECTIONS - 1), True):
            client = await self._usable()
            try:
                return await ask(client)
            except PartialData as error:
                await self._broken(client, error, last=last)
        raise self._state.gone or PartialData(f"the observer {self.observer} is gone")

    @staticmethod
    async def _patiently(client: ObserverClient, request: Request) -> Answer:
        """The answer; a refusal because we were too fast is waited out."""
        end = asyncio.get_running_loop().time() + _TOO_FAST_S
        while True:
            answer = await client.ask(request)
            again = isinstance(answer, Refused) and (answer.word is Refusal.TOO_FAST or answer.retry_ms > 0)
            if not again or not isinstance(answer, Refused):
                return answer
            wait_s = max(answer.retry_ms, 10) / 1_000
            if asyncio.get_running_loop().time() + wait_s > end:
                return answer
            await asyncio.sleep(wait_s)

    async def _usable(self) -> ObserverClient:
        """The connection, a new one if there is none.

        Raises:
            PartialData: the observer is gone.
        """
        async with self._mending:
            if self._client is None:
                self._client = await self._anew()
            return self._client

    async def renew(self) -> None:
        """See `probe.ground.Ground.renew`."""
        async with self._mending:
            client = None
            try:
                client = await self._connected(self.observer)
                await self._begin(client, self.observer)
            except PartialData:
                if client is not None:
                    await client.close()
                return
            old, self._client = self._client, client
        if old is not None:
            old.reset_at_close()
            await old.close()

    async def _anew(self) -> ObserverClient:
        """A new connection that has joined the session.

        Raises:
            PartialData: the observer is gone.
        """
        for last in (*[False] * (CONNECTIONS - 1), True):
            if self._state.gone is not None:
                raise self._state.gone
            joined = False
            try:
                client = await self._connected(self.observer)
            except PartialData as error:
                await self._not_there(error, last=last)
                continue
            try:
                await self._begin(client, self.observer)
                joined = True
            except NotOffered as error:
                self._be_gone(f"the observer {self.observer} has forgotten this probe", error)
            except PartialData as error:
                await self._not_there(error, last=last)
            finally:
                if not joined:
                    await client.close()
            if joined:
                return client
        raise self._state.gone or PartialData(f"the observer {self.observer} is gone")

    async def _not_there(self, error: PartialData, *, last: bool) -> None:
        if last:
            self._be_gone(f"the observer {self.observer} is gone", error)
        else:
            await asyncio.sleep(_PAUSE_S)

    async def _broken(self, client: ObserverClient, error: PartialData, *, last: bool) -> None:
        if self._client is client:
            await self._drop()
        if last and self._state.gone is None:
            self._be_gone(f"the observer {self.observer} is gone", error)

    def _be_gone(self, what: str, error: PartialData) -> None:
        self.give_up(PartialData(what, why=error.why or error.what, todo=error.todo))

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def prove(self, local: Endpoint) -> Endpoint | None:
        """See `probe.ground.Ground.prove`."""
        if self._state.gone is not None:
            raise self._state.gone
        try:
            async with await self._connected(self.observer, local) as client:
                client.reset_at_close()
                return (await self._begin(client, self.observer)).you
        except NotOffered:
            return None
        except PartialData:
            await self.want(messages.Where(), messages.Place)  # whether it is there at all
            return None

    # --- what arrived ---

    async def settle(self) -> None:
        """See `probe.ground.Ground.settle`."""
        if not self.outside.raw:
            if self._state.gone is not None:
                raise self._state.gone
            return
        while await self._fetched(wait_ms=0):
            pass

    async def _poll(self) -> None:
        """Have what arrives sent here as soon as it does."""
        with suppress(PartialData):
            while True:
                known = self._state.after
                await self._fetched(wait_ms=_POLL_MS)
                if self._state.after == known:
                    await asyncio.sleep(_PAUSE_S / 10)  # an observer that does not wait is not asked all the time

    async def _fetched(self, wait_ms: int) -> bool:
        """Note what arrived; whether there is more."""
        wish = messages.Arrivals(after=self._state.after, wait_ms=wait_ms)
        answer = await self.want(wish, messages.Arrived)
        state = self._state
        state.dropped = max(state.dropped, answer.dropped)
        if wish.after == state.after:
            state.lost += answer.lost
        for arrival in answer.packets:
            if arrival.number < state.after:
                continue  # another request under way brought it
            state.after = arrival.number + 1
            try:
                packet = arrival.packet
            except Malformed:
                continue  # an observer of another make, which reports more than ours does
            self._log.came(Place.OBSERVER, arrival.at_ns, bytes.fromhex(arrival.octets), packet)
        state.after = max(state.after, answer.next)
        return len(answer.packets) >= messages.MAX_ROWS


def _wanted(answer: Answer, kind: type[_A]) -> _A:
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, Refused):
        raise NotOffered(answer.word, answer.why)
    raise PartialData(f"the observer answered {answer.tag!r}, and not what was asked")
