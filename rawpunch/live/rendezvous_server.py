"""The rendezvous server: introduces peers to each other, and never carries a word of theirs.

One event loop, no task and no thread for a peer: a connection is a small object that the loop calls. What a peer may have is in
`limits`; who sends garbage, sends it slowly, does not read, or says nothing is cut off, and the others do not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from typing import Any, Final, Self, cast

from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.errors import MachineCannot, Malformed, RawpunchError
from rawpunch.live.limits import Door, RendezvousLimits
from rawpunch.live.rendezvous_counted import Counted
from rawpunch.live.rendezvous_pairs import Pair, Pairs
from rawpunch.live.rendezvous_plain import PlainPeer, PlainPeers
from rawpunch.live.sockets import TcpInfo, allow_files, family_of
from rawpunch.probe.site import Site, binding_answers
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.rendezvous import Answer, Refused, Request
from rawpunch.punch.starting import Readiness
from rawpunch.units import SECOND
from rawpunch.wire import stun
from rawpunch.wire.endpoint import Endpoint

_MAX_STUN: Final = 1_024
_SWEEP_S: Final = 0.5
_BACKLOG: Final = 1_024
_KERNEL_BUFFER: Final = 1 << 15
"""Octets that the kernel may hold for a peer who does not take them."""
_MAX_WRONG: Final = 3
"""Lines that are no messages, before a connection is closed."""


class Connection(asyncio.Protocol):
    """One TCP connection: a peer, once it has registered; until then, maybe only somebody who asks by STUN who he is."""

    __slots__ = (
        "_buffer",
        "_since",
        "_tokens",
        "came",
        "due",
        "here",
        "peer",
        "room",
        "server",
        "source",
        "transport",
        "went",
        "wrong",
    )

    def __init__(self, server: RendezvousServer) -> None:
        self.server = server
        self.peer: messages.Peer | None = None
        self.room = ""
        self.came = self.went = self.wrong = 0
        self.due = 0
        """When it is cut off unless it says something (complete) before."""
        self._buffer = bytearray()
        self._tokens, self._since = server.limits.requests_per_s, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or not."""
        self.transport = cast("asyncio.Transport", transport)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if peer is None or own is None:  # reset before we came to it
            self.source = self.here = Endpoint("0.0.0.0", 0)  # noqa: S104  nobody
            self.transport.abort()
            return
        self.source, self.here = Endpoint(peer[0].partition("%")[0], peer[1]), Endpoint(own[0].partition("%")[0], own[1])
        self._since = now_ns()
        self.due = self._since + round(self.server.limits.first_s * SECOND)
        self.server.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  why it went makes no difference
        """Forget it."""
        self.server.leave(self)

    def eof_received(self) -> bool:
        """It says no more: nothing holds it any longer."""
        return False

    def data_received(self, data: bytes) -> None:
        """Octets, in whatever pieces they come."""
        self.came += len(data)
        self.server.counted.came += len(data)
        if self.came > self.server.limits.octets:
            self.cut_off()
            return
        if not self._buffer:
            self.due = min(self.due, now_ns() + round(self.server.limits.message_s * SECOND))
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        """Carry out the messages that are whole, as many as its rate allows."""
        while self._buffer and not self.transport.is_closing():
            try:
                length = self._whole()
            except Malformed:
                self.cut_off()
                return
            if not length:
                return
            if wait_s := self._wait_s():
                self.transport.pause_reading()
                asyncio.get_running_loop().call_later(wait_s, self._resume)
                return
            message = bytes(self._buffer[:length])
            del self._buffer[:length]
            self.due = now_ns() + round(self.server.limits.silence_s * SECOND)
            try:
                self.server.heard(self, message)
            except Malformed as error:
                self.wrong += 1
                if self.wrong >= _MAX_WRONG:
                    self.cut_off()
                    return
                self.say(Refused(word="malformed", why=(error.why or error.what)[:200]))

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self._go_on()

    def _whole(self) -> int:
        """Octets of the first message, if it is all there; 0 if not yet.

        Raises:
            Malformed: it is neither STUN nor a line, or too long.
        """
        if self._buffer[0] & 0xC0 == 0:
            length = stun.framed_length(bytes(self._buffer[:20])) or 0
            if length > _MAX_STUN:
                raise Malformed(f"a STUN message of {length} octets is too long")
            return length if 0 < length <= len(self._buffer) else 0
        if self._buffer[0] != ord("{"):
            raise Malformed("neither STUN nor a line of ours")
        end = self._buffer.find(b"\n", 0, messages.MAX_REQUEST) + 1
        if not end and len(self._buffer) >= messages.MAX_REQUEST:
            raise Malformed("a line without an end")
        return end

    def _wait_s(self) -> float:
        """Take a token: 0, or the time until there is one."""
        now, rate = now_ns(), self.server.limits.requests_per_s
        self._tokens = min(rate, self._tokens + (now - self._since) * rate / SECOND)
        self._since = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate + 1e-4
        self._tokens -= 1
        return 0.0

    def say(self, answer: Answer) -> None:
        """Send a message; one who does not take what he is sent is cut off."""
        self.write(messages.encode(answer))

    def write(self, octets: bytes) -> None:
        """Send octets."""
        if self.transport.is_closing():
            return
        self.went += len(octets)
        self.server.counted.went += len(octets)
        self.transport.write(octets)
        if self.transport.get_write_buffer_size() > self.server.limits.unsent:
            self.cut_off()

    def cut_off(self) -> None:
        """End it."""
        if not self.transport.is_closing():
            self.server.counted.cut_off += 1
        self.transport.abort()

    @property
    def rtt_ns(self) -> int:
        """Round trip to it, as the kernel measured it."""
        info = TcpInfo.of(self.transport.get_extra_info("socket"))
        return info.min_rtt_ns if 0 < info.min_rtt_ns < info.rtt_ns else info.rtt_ns


class RendezvousServer:
    """Serves as long as its context is open.

    Args:
        site: where to listen.
        limits: how much is allowed.
        rooms: names of the only rooms there are (`room_name`); None for any.
        plain_port: a further port of the first address for the plain mode; 0 for none.
    """

    def __init__(
        self, site: Site, limits: RendezvousLimits | None = None, *, rooms: frozenset[str] | None = None, plain_port: int = 0
    ) -> None:
        self.site = site
        self.limits = limits or RendezvousLimits()
        self.counted = Counted()
        self.connections: set[Connection] = set()
        self.rooms: dict[str, dict[int, Connection]] = {}
        self.pairs = Pairs(self.limits)
        self._only = rooms
        self._plain_port = plain_port
        self._door = Door(self.limits)
        self._plain = PlainPeers(self.limits, self.counted, self._door.rates)
        self._numbers = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            MachineCannot: an address is not this machine's, or a port is in use.
        """
        allow_files(self.limits.connections)
        endpoints = [(endpoint, False) for endpoint in self.site.endpoints]
        if self._plain_port:
            endpoints.append((Endpoint(self.site.addresses[0], self._plain_port), True))
        try:
            for endpoint, plain in endpoints:
                await self._listen(endpoint, plain=plain)
        except OSError as error:
            await self.__aexit__()
            raise MachineCannot(
                f"cannot listen on {endpoint}", why=str(error), todo="give an address of this machine and a port that is free"
            ) from error
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for server in self._servers:
            server.close()
        for transport in [one.transport for one in self.connections] + [one.transport for one in self._plain.peers]:
            transport.abort()
        await asyncio.sleep(0)  # the loop tells them

    async def _listen(self, endpoint: Endpoint, *, plain: bool) -> None:
        sock = socket.socket(family_of(endpoint), socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
            # accepted sockets inherit it; asyncio leaves it alone where a socket's protocol number is 0, as here. Without it a
            # "go" waits for the peer's delayed ACK of what was said before
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((endpoint.address, endpoint.port))
        except OSError:
            sock.close()
            raise
        loop = asyncio.get_running_loop()
        made: Any = (lambda: PlainPeer(self._plain)) if plain else (lambda: Connection(self))
        self._servers.append(await loop.create_server(made, sock=sock, backlog=_BACKLOG))

    async def _sweep(self) -> None:
        """Cut off who is silent or slow, and end what nobody is ready for."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = now_ns()
            for connection in [connection for connection in self.connections if connection.due <= now]:
                connection.cut_off()
            self.pairs.expire(now)
            self._plain.expire(now)

    # --- who comes and goes ---

    def enter(self, connection: Connection) -> None:
        """Somebody has connected."""
        self.counted.connections += 1
        if not self._door.enter(connection.source.address, now_ns()):
            self.counted.refused += 1
            connection.transport.abort()
            return
        self.connections.add(connection)

    def leave(self, connection: Connection) -> None:
        """Somebody has gone: those who knew of him are told."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._door.leave(connection.source.address)
        if connection.peer is None:
            return
        number, room = connection.peer.number, self.rooms[connection.room]
        del room[number]
        self.pairs.leave(connection)
        for other in room.values():
            other.say(messages.Left(number=number))
        if not room:
            del self.rooms[connection.room]

    # --- what they say ---

    def heard(self, connection: Connection, octets: bytes) -> None:
        """One whole message.

        Raises:
            Malformed: it is none.
        """
        if octets[0] & 0xC0 == 0:
            found = binding_answers(self.site, connection.here, connection.source, stun.decode(octets), stream=True)
            if found is not None:
                self.counted.bindings += 1
                connection.write(stun.encode(found[1][0]))
            return
        came_ns = now_ns()
        request = messages.parse_request(octets)
        answer = self._answer(connection, request, came_ns)
        if answer is not None:
            connection.say(answer)

    def _answer(self, connection: Connection, request: Request, came_ns: int) -> Answer | None:
        number = request.id
        match request:
            case messages.Clock(at_ns=at_ns):
                return messages.Time(id=number, at_ns=at_ns, came_ns=came_ns, left_ns=now_ns())
            case messages.Account():
                return messages.Accounted(id=number, came=connection.came, went=connection.went)
            case messages.Register():
                return self._register(connection, request)
        if connection.peer is None:
            return Refused(id=number, word="not_registered", why="register first")
        if isinstance(request, messages.Introduce):
            return self._introduce(connection, request)
        return self._ready(connection, request)

    def _register(self, connection: Connection, request: messages.Register) -> Answer | None:
        number = request.id
        if connection.peer is not None:
            return Refused(id=number, word="registered_already")
        if self._only is not None and request.room not in self._only:
            return Refused(id=number, word="no_such_room", why="this server has no room of that token")
        room = self.rooms.setdefault(request.room, {})
        if len(room) >= self.limits.peers_per_room:
            return Refused(id=number, word="full", why=f"the room has {len(room)} peers")
        others = list(room.values())
        pair = self.pairs.introduce(connection, others[-1], now_ns())[0] if request.meet and others else None
        if request.meet and others and pair is None:
            return Refused(id=number, word="full", why="too many introductions of who came last are under way")
        connection.room = request.room
        connection.peer = peer = messages.Peer(
            number=next(self._numbers),
            endpoint=connection.source,
            name=request.name,
            inside=request.inside,
            findings=request.findings,
            seen=request.seen,
            consent=request.consent,
            nonce=request.nonce,
        )
        self.counted.registered += 1
        connection.say(
            messages.Registered(
                id=number,
                number=peer.number,
                you=connection.source,
                here=connection.here,
                peers=[other.peer for other in others if other.peer is not None],
                expires_ms=round(1_000 * self.limits.silence_s),
            )
        )
        for other in others:
            other.say(messages.Joined(peer=peer))
        room[peer.number] = connection
        if pair is not None:
            self._tell(pair)
        return None

    def _introduce(self, connection: Connection, request: messages.Introduce) -> Answer | None:
        other = self.rooms[connection.room].get(request.to)
        if other is None or other is connection or other.peer is None or connection.peer is None:
            return Refused(id=request.id, word="no_such_peer", why=f"nobody in your room has the number {request.to}")
        pair, new = self.pairs.introduce(connection, other, now_ns())
        if pair is None:
            return Refused(id=request.id, word="full", why="too many introductions of one of you are under way")
        connection.say(messages.Introducing(id=request.id, pair=pair.number))
        if new:
            self._tell(pair)
        return None

    def _tell(self, pair: Pair) -> None:
        """Introduce the two of a new pair."""
        if pair.a.peer is not None and pair.b.peer is not None:
            self.counted.introduced += 1
            self.pairs.tell(pair, pair.a.peer, pair.b.peer)

    def _ready(self, connection: Connection, request: messages.Ready) -> Answer | None:
        pair = self.pairs.of(connection, request.pair)
        if pair is None:
            return Refused(id=request.id, word="no_such_pair", why=f"you have no pair {request.pair}")
        connection.say(messages.Waiting(id=request.id, pair=pair.number))
        if self.pairs.ready(pair, connection, Readiness(connection.rtt_ns, request.error_ns, request.tolerance_ns), now_ns()):
            self.counted.started += 1
        return None


def serve(channel: Channel, addresses: list[str], ports: list[int], plain_port: int = 0) -> None:
    """Entry of a server's process in a lab; it serves until the channel closes, and says what it has counted when asked.

    Args:
        channel: to the lab's owner, who is told when the server listens.
        addresses: one or two.
        ports: those that listen on each.
        plain_port: of the plain mode; 0 for none.
    """
    asyncio.run(_serve_lab(channel, Site(tuple(addresses), tuple(ports)), plain_port))


async def _serve_lab(channel: Channel, site: Site, plain_port: int) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with RendezvousServer(site, plain_port=plain_port) as server:

        def said() -> None:
            try:
                channel.receive()
                channel.send({"came": server.counted.came, "went": server.counted.went, "introduced": server.counted.introduced})
            except RawpunchError:
                loop.remove_reader(channel.fileno())
                over.set()

        loop.add_reader(channel.fileno(), said)
        channel.send({"ready": True})
        await over.wait()
