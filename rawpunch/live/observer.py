"""The observer: the cooperating server outside the NAT. STUN over TCP and UDP, and more for those who have proved their address.

Who may get what:

| who | gets |
|---|---|
| an address that sends datagrams | STUN answers, as long as they are no longer in all than what came from it |
| a TCP connection: it has echoed our initial sequence number | STUN answers and its own endpoint, on that connection |
| a connection that has echoed a nonce | a session: packets to that address, reports of packets from it (`observer_sessions`) |

A bare STUN request over UDP (20 octets) is shorter than any answer (32): the first one earns nothing, the retransmission half a
second later is answered. A client that pads its request, or has proved its address over TCP, is answered at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.errors import MachineCannot, Malformed, RawpunchError
from rawpunch.live.limits import Credit, Door, ObserverLimits, Rates
from rawpunch.live.observer_back import connect_back
from rawpunch.live.observer_sessions import Logged, NotDone, Session, Sessions
from rawpunch.live.sockets import RawPort, family_of
from rawpunch.probe import messages
from rawpunch.probe.messages import Answer, Refusal, Refused, Request
from rawpunch.probe.site import Site, binding_answers
from rawpunch.wire import stun
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

_MAX_STUN: Final = 1_024
"""Octets of a STUN message over TCP; a Binding request with every attribute there is takes less."""
_DATAGRAMS_AT_ONCE: Final = 64
_MAX_WRONG_NONCES: Final = 3
_BACKLOG: Final = 128
_KERNEL_BUFFER: Final = 1 << 16
"""Octets that the kernel may hold for a client who does not take them; left to itself it would be megabytes each."""


@dataclass(slots=True)
class Client:
    """A TCP connection to us."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    source: Endpoint
    here: Endpoint
    writing: asyncio.Lock
    nonce: str = ""
    wrong: int = 0
    session: Session | None = None

    async def write(self, octets: bytes, within_s: float) -> None:
        """Send octets; a client that does not take them is cut off."""
        try:
            async with asyncio.timeout(within_s), self.writing:
                self.writer.write(octets)
                await self.writer.drain()
        except TimeoutError:
            self.writer.transport.abort()


class Observer:
    """Serves as long as its context is open.

    Args:
        site: where to listen.
        limits: how much is allowed.
        raw: whether to use raw sockets, if this process may.
    """

    def __init__(self, site: Site, limits: ObserverLimits | None = None, *, raw: bool = True) -> None:
        self.site = site
        self.limits = limits or ObserverLimits()
        self.without_raw = "raw sockets were not asked for"
        """Why there are no raw sockets; "" if there are."""
        port = None
        if raw:
            try:
                port, self.without_raw = RawPort(), ""
            except MachineCannot as error:
                self.without_raw = error.why
        self.sessions = Sessions(site, self.limits, port)
        self._credit = Credit()
        self._requests = Rates(self.limits.requests_per_s, self.limits.requests_per_s)
        self._door = Door(self.limits)
        self._servers: list[asyncio.Server] = []
        self._datagrams: dict[Endpoint, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connects_back = 0

    # --- beginning and end ---

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            MachineCannot: an address is not this machine's, or a port is in use.
        """
        try:
            for endpoint in self.site.endpoints:
                await self._listen(endpoint)
        except OSError as error:
            await self.__aexit__()
            raise MachineCannot(
                f"cannot listen on {endpoint}", why=str(error), todo="give an address of this machine and a port that is free"
            ) from error
        if self.sessions.port is not None:
            asyncio.get_running_loop().add_reader(self.sessions.port.fileno(), self.sessions.tap)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._datagrams.values():
            loop.remove_reader(sock)
            sock.close()
        for session in list(self.sessions.all.values()):
            self.sessions.end(session)
        if self.sessions.port is not None:
            loop.remove_reader(self.sessions.port.fileno())
            self.sessions.port.close()
            self.sessions.port = None

    async def _listen(self, endpoint: Endpoint) -> None:
        family = family_of(endpoint)
        stream = socket.socket(family, socket.SOCK_STREAM)
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
            # accepted sockets inherit it; asyncio leaves it alone where a socket's protocol number is 0
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.bind((endpoint.address, endpoint.port))
            stream.listen(_BACKLOG)
            # only now, so that a second observer on the same port is refused, but our own connections back can start from it
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError:
            stream.close()
            raise
        self._servers.append(await asyncio.start_server(self._accept, sock=stream, limit=messages.MAX_REQUEST))
        datagrams = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._datagrams[endpoint] = datagrams
        datagrams.bind((endpoint.address, endpoint.port))
        asyncio.get_running_loop().add_reader(datagrams, self._on_datagrams, datagrams, endpoint)

    # --- UDP ---

    def _on_datagrams(self, sock: socket.socket, here: Endpoint) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                octets, (address, port, *_) = sock.recvfrom(2_048)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer
            if port:
                self._datagram(octets, Endpoint(address.partition("%")[0], port), here)

    def _datagram(self, octets: bytes, source: Endpoint, here: Endpoint) -> None:
        self._credit.earn(source.address, len(octets))
        try:
            request = stun.decode(octets)
        except Malformed:
            return
        found = binding_answers(self.site, here, source, request, stream=False)
        if found is None or self._requests.take(source.address, now_ns()):
            return
        origin, answers = found
        proved = self.sessions.proved(source.address)
        for answer in map(stun.encode, answers):
            if proved or self._credit.spend(source.address, len(answer)):
                with contextlib.suppress(OSError):  # no room or no route: a datagram may be lost
                    self._datagrams[origin].sendto(answer, (source.address, source.port))
                return

    # --- TCP ---

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        if task is None or peer is None or own is None:  # reset before we came to it
            writer.transport.abort()
            return
        source = Endpoint(peer[0].partition("%")[0], peer[1])
        if not self._door.enter(source.address, now_ns()):
            writer.transport.abort()
            return
        client = Client(reader, writer, source, Endpoint(own[0].partition("%")[0], own[1]), asyncio.Lock())
        self._tasks.add(task)
        try:
            await self._serve(client)
        except (OSError, EOFError, Malformed, asyncio.LimitOverrunError):
            writer.transport.abort()  # gone, silent, slow, or not speaking our language
        except asyncio.CancelledError:
            writer.transport.abort()  # we are closing
        finally:
            self._door.leave(source.address)
            self._tasks.discard(task)
            if client.session is not None:
                self.sessions.leave(client.session)
            writer.close()

    async def _serve(self, client: Client) -> None:
        """One message after the other, until the client has gone or deserves no more."""
        under_way: set[asyncio.Task[None]] = set()
        within_s = self.limits.first_s
        try:
            while first := await self._first(client, within_s):
                within_s = self.limits.silence_s
                speaks_stun = first[0] & 0xC0 == 0
                async with asyncio.timeout(self.limits.message_s):
                    octets = await (self._stun if speaks_stun else self._line)(client, first)
                while wait_ns := self._requests.take(client.source.address, now_ns()):  # noqa: ASYNC110  time alone brings tokens
                    await asyncio.sleep(wait_ns / 1e9)
                if speaks_stun:
                    await self._binding(client, octets)
                    continue
                while len(under_way) >= self.limits.requests_at_once:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._carry_out(client, octets))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                await asyncio.sleep(0)  # it has begun before the next one is read
            await asyncio.gather(*under_way)  # a client may close its side and still wait for answers
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    @staticmethod
    async def _first(client: Client, within_s: float) -> bytes:
        """The first octet of a message; none at the end."""
        async with asyncio.timeout(within_s):  # wait_for of Python 3.11 swallows a cancellation that comes with the octet
            return await client.reader.read(1)

    async def _stun(self, client: Client, first: bytes) -> bytes:
        head = first + await client.reader.readexactly(7)
        length = stun.framed_length(head)
        if length is None or length > _MAX_STUN:
            raise Malformed(f"a STUN message of {length} octets is too long")
        return head + await client.reader.readexactly(length - len(head))

    async def _line(self, client: Client, first: bytes) -> bytes:
        if first != b"{":
            raise Malformed("neither STUN nor a line of ours")
        return first + await client.reader.readuntil(b"\n")

    async def _binding(self, client: Client, octets: bytes) -> None:
        found = binding_answers(self.site, client.here, client.source, stun.decode(octets), stream=True)
        if found is not None:
            await client.write(stun.encode(found[1][0]), self.limits.message_s)

    # --- the observer's own protocol ---

    async def _carry_out(self, client: Client, line: bytes) -> None:
        number = 0
        try:
            request = messages.parse_request(line)
            number = request.id
            answer = await self._answer(client, request)
        except Malformed as error:
            answer = Refused(id=number, word=Refusal.MALFORMED, why=(error.why or error.what)[:200])
        except NotDone as error:
            answer = Refused(id=number, word=error.word, why=error.why, retry_ms=error.retry_ms)
        await client.write(messages.encode(answer), self.limits.message_s)

    async def _answer(self, client: Client, request: Request) -> Answer:
        number = request.id
        match request:
            case messages.Hello():
                client.nonce = secrets.token_urlsafe(16)
                return messages.Welcome(
                    id=number,
                    nonce=client.nonce,
                    you=client.source,
                    here=client.here,
                    addresses=list(self.site.addresses),
                    ports=list(self.site.ports),
                    raw=self.sessions.port is not None,
                )
            case messages.Prove():
                return self._prove(client, request)
            case messages.Where():
                return messages.Place(id=number, you=client.source, here=client.here)
        if client.session is None:
            raise NotDone(Refusal.NOT_PROVED, "this connection has not echoed its nonce")
        return await self._answer_proved(client.session, request)

    def _prove(self, client: Client, request: messages.Prove) -> Answer:
        nonce, client.nonce = client.nonce, ""  # one try for each
        if not nonce or not hmac.compare_digest(nonce.encode(), request.nonce.encode(errors="replace")):
            client.wrong += 1
            if client.wrong >= _MAX_WRONG_NONCES:
                client.writer.transport.abort()
            raise NotDone(Refusal.WRONG_NONCE, "that is not the nonce of this connection; say hello for another")
        if client.session is not None:
            raise NotDone(Refusal.TOO_MANY, "this connection has a session")
        client.session = self.sessions.join(request.session, client.source.address)
        return messages.Proved(id=request.id, session=client.session.identity, addresses=sorted(client.session.addresses))

    async def _answer_proved(self, session: Session, request: Request) -> Answer:
        number = request.id
        match request:
            case messages.Hold():
                return messages.Held(id=number, endpoint=self.sessions.hold(session, request))
            case messages.Release(endpoint=endpoint):
                self.sessions.release(session, endpoint)
                return messages.Released(id=number, endpoint=endpoint)
            case messages.SendPacket():
                at_ns, octets = self.sessions.send(session, request)
                return messages.Sent(id=number, at_ns=at_ns, octets=octets)
            case messages.Connect():
                return await self._connect(session, request)
            case messages.Arrivals(after=after, limit=limit, wait_ms=wait_ms, at=at):
                rows, following, lost = await session.rows(after, limit, wait_ms, lambda row: at in (None, row.here))
                packets = [messages.Arrival(number=row.number, at_ns=row.at_ns, octets=row.octets.hex()) for row in rows]
                return messages.Arrived(id=number, packets=packets, next=following, lost=lost, dropped=self.sessions.dropped)
            case messages.Mapped(after=after, limit=limit, wait_ms=wait_ms, at=at):
                rows, following, lost = await session.rows(
                    after, limit, wait_ms, lambda row: at in (None, row.here) and _is_syn(row)
                )
                return messages.Mappings(
                    id=number, rows=list(_mappings(rows)), next=following, lost=lost, dropped=self.sessions.dropped
                )
        raise NotDone(Refusal.MALFORMED, "a request that this observer does not know")

    async def _connect(self, session: Session, request: messages.Connect) -> Answer:
        address = self.sessions.address(request.address)
        if request.port and request.port not in self.site.ports:
            raise NotDone(Refusal.NOT_YOURS, f"port {request.port} is none of this observer's")
        if self._connects_back >= self.limits.connects_back:
            raise NotDone(Refusal.TOO_MANY, "too many connections back are under way", retry_ms=1_000)
        self.sessions.check_target(session, request.to)
        self._connects_back += 1
        try:
            return await connect_back(Endpoint(address, request.port), request.to, request.wait_ms, number=request.id)
        except OSError as error:
            raise NotDone(Refusal.PORT_IN_USE, str(error)) from error
        finally:
            self._connects_back -= 1


def _is_syn(row: Logged) -> bool:
    return isinstance(row.packet, Segment) and row.packet.kind == "SYN"


def _mappings(rows: list[Logged]) -> Iterator[tuple[int, int, str, int]]:
    for row in rows:
        if isinstance(row.packet, Segment):
            yield row.at_ns, row.packet.seq, row.packet.source.address, row.packet.source.port


def serve(channel: Channel, addresses: list[str], ports: list[int], *, raw: bool = True) -> None:
    """Entry of an observer's process in a lab; it serves until the channel closes.

    Args:
        channel: to the lab's owner, who is told when the observer listens.
        addresses: one or two.
        ports: those that listen on each.
        raw: whether to use raw sockets.
    """
    asyncio.run(_serve_lab(channel, Site(tuple(addresses), tuple(ports)), raw=raw))


async def _serve_lab(channel: Channel, site: Site, *, raw: bool) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def said() -> None:
        try:
            channel.receive()
        except RawpunchError:
            loop.remove_reader(channel.fileno())
            over.set()

    async with Observer(site, raw=raw) as observer:
        loop.add_reader(channel.fileno(), said)
        channel.send({"ready": True, "without_raw": observer.without_raw})
        await over.wait()
