"""What an observer does for those who have proved their address: ports held, packets crafted, packets reported.

A session acts between the ports that it holds and the addresses that it has proved, and nowhere else. So nobody can be made to
send to a third party, and no packet of ours can disturb a connection that is not the session's own.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import Malformed, UsageError
from rawpunch.live.guard import Guard
from rawpunch.live.limits import ObserverLimits, Rates
from rawpunch.live.sockets import RawPort
from rawpunch.probe.crafting import answer_to, crafted
from rawpunch.probe.messages import SNAP, Craft, Hold, Refusal, SendPacket
from rawpunch.probe.site import Site
from rawpunch.units import MS
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Packet, Segment

_PACKETS_AT_ONCE: Final = 512
"""Packets taken from the tap before others have their turn."""
_STRANGERS: Final = 1_024
"""SYNs of unproved addresses that are remembered: a probe may ask afterwards what its first one looked like."""
_DYNAMIC: Final = range(20_000, 60_000)
_TRIES: Final = 20


class NotDone(Exception):
    """A request that is not carried out."""

    def __init__(self, word: Refusal, why: str, retry_ms: int = 0) -> None:
        super().__init__(why)
        self.word, self.why, self.retry_ms = word, why, retry_ms


@dataclass(frozen=True, slots=True)
class Logged:
    """A packet that came."""

    number: int
    at_ns: int
    octets: bytes
    here: Endpoint
    """The observer's endpoint: its destination, or the source that it quotes."""
    packet: Packet


@dataclass(frozen=True, slots=True)
class Port:
    """A held port."""

    guard: Guard
    answer: Craft | None
    ttl: int


@dataclass(slots=True)
class Session:
    """One probe's dealings."""

    identity: str
    log: deque[Logged]
    addresses: set[str] = field(default_factory=set)
    connections: int = 0
    held: dict[Endpoint, Port] = field(default_factory=dict)
    next: int = 0
    """Number of the next packet logged."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, at_ns: int, octets: bytes, here: Endpoint, packet: Packet) -> None:
        """Log a packet and wake whoever waits for one."""
        self.log.append(Logged(self.next, at_ns, octets[:SNAP], here, packet))
        self.next += 1
        news, self.news = self.news, asyncio.Event()
        news.set()

    def lost(self, after: int) -> int:
        """How many packets with a number of at least `after` have been pushed out."""
        first = self.log[0].number if self.log else self.next
        return max(0, first - after)

    async def rows(self, after: int, limit: int, wait_ms: int, wanted: Callable[[Logged], bool]) -> tuple[list[Logged], int, int]:
        """The wanted packets from a number on, the number to go on with, and how many were lost; waits for a first one."""
        end = now_ns() + wait_ms * MS
        while True:
            lost = self.lost(after)
            skip = max(0, after - self.log[0].number) if self.log else 0
            rows = list(itertools.islice(filter(wanted, itertools.islice(self.log, skip, None)), limit))
            rest_ns = end - now_ns()
            if rows or rest_ns <= 0:
                return rows, rows[-1].number + 1 if len(rows) == limit else self.next, lost
            try:
                async with asyncio.timeout(rest_ns / 1e9):
                    await self.news.wait()
            except TimeoutError:
                continue


class Sessions:
    """All sessions, and the tap that feeds them.

    Args:
        site: the observer's endpoints.
        limits: how much is allowed.
        port: raw sockets; None where they are not allowed.
    """

    def __init__(self, site: Site, limits: ObserverLimits, port: RawPort | None) -> None:
        self.site = site
        self.port = port
        self.all: dict[str, Session] = {}
        self._limits = limits
        self._by_address: dict[str, list[Session]] = {}
        self._holders: dict[Endpoint, Session] = {}
        self._listening = set(site.endpoints)
        self._strangers: deque[tuple[int, bytes, Segment]] = deque(maxlen=_STRANGERS)
        self._packets = Rates(limits.packets_per_s, limits.packets_per_s)

    def proved(self, address: str) -> bool:
        """Whether a session has proved this address."""
        return address in self._by_address

    @property
    def dropped(self) -> int:
        """Packets that the kernel could not hand to the tap."""
        return self.port.lost if self.port is not None else 0

    # --- beginning and end ---

    def join(self, identity: str, address: str) -> Session:
        """The session of that identity, or a new one for "", with one proved address more.

        Raises:
            NotDone: there is none such, or there are too many.
        """
        if identity:
            session = self.all.get(identity)
            if session is None:
                raise NotDone(Refusal.NO_SESSION, "there is no such session")
            if address not in session.addresses and len(session.addresses) >= self._limits.addresses_per_session:
                raise NotDone(Refusal.TOO_MANY, "this session has proved as many addresses as it may")
        else:
            of_address = self._by_address.get(address, [])
            if len(of_address) >= self._limits.sessions_per_address:
                self._make_room(of_address)
            if len(self.all) >= self._limits.sessions:
                self._make_room(self.all.values())
            session = Session(secrets.token_urlsafe(16), deque(maxlen=self._limits.log))
            self.all[session.identity] = session
        if address not in session.addresses:
            session.addresses.add(address)
            self._by_address.setdefault(address, []).append(session)
            for at_ns, octets, syn in self._strangers:
                if syn.source.address == address:
                    session.add(at_ns, octets, syn.destination, syn)
        session.connections += 1
        return session

    def _make_room(self, among: Iterable[Session]) -> None:
        """End the oldest session that has no connection and only waits for its probe to come back.

        Raises:
            NotDone: all are in use.
        """
        waiting = next((session for session in among if session.connections == 0), None)
        if waiting is None:
            raise NotDone(Refusal.TOO_MANY, "there are too many sessions", retry_ms=1_000)
        self.end(waiting)

    def leave(self, session: Session) -> None:
        """A connection of a session has ended; without any other it lives on for its grace, for the probe may come back."""
        session.connections -= 1
        if session.connections == 0:
            asyncio.get_running_loop().call_later(self._limits.grace_s, self._end_if_left, session)

    def _end_if_left(self, session: Session) -> None:
        if session.connections == 0:
            self.end(session)

    def end(self, session: Session) -> None:
        """Give back all that a session holds."""
        if self.all.pop(session.identity, None) is None:
            return
        for endpoint in list(session.held):
            self.release(session, endpoint)
        for address in session.addresses:
            mine = self._by_address[address]
            mine.remove(session)
            if not mine:
                del self._by_address[address]

    # --- actions ---

    def hold(self, session: Session, wish: Hold) -> Endpoint:
        """Take a port for a session.

        Raises:
            NotDone: not allowed, or the port is in use.
        """
        if self.port is None:
            raise NotDone(Refusal.NO_RAW, "this observer may not open raw sockets")
        address = self.address(wish.address)
        if ":" in address:
            raise NotDone(Refusal.NO_RAW, "raw packets are IPv4 only")
        if len(session.held) >= self._limits.held_per_session or len(self._holders) >= self._limits.held:
            raise NotDone(Refusal.TOO_MANY, "as many ports are held as may be")
        if wish.port and (wish.port < 1024 or wish.port in self.site.ports):
            raise NotDone(Refusal.PORT_IN_USE, f"port {wish.port} is not to be had")
        ports = [wish.port] if wish.port else [secrets.choice(_DYNAMIC) for _ in range(_TRIES)]
        for port in ports:
            endpoint = Endpoint(address, port)
            try:
                guard = Guard(endpoint)
            except UsageError:
                continue
            session.held[endpoint] = Port(guard, wish.answer, wish.ttl)
            self._holders[endpoint] = session
            return endpoint
        raise NotDone(Refusal.PORT_IN_USE, f"port {ports[-1]} of {address} is in use")

    def release(self, session: Session, endpoint: Endpoint) -> None:
        """Give a held port back.

        Raises:
            NotDone: the session does not hold it.
        """
        port = session.held.pop(endpoint, None)
        if port is None:
            raise NotDone(Refusal.NOT_YOURS, f"this session does not hold {endpoint}")
        del self._holders[endpoint]
        port.guard.close()

    def send(self, session: Session, wish: SendPacket) -> tuple[int, int]:
        """Send a crafted packet; returns when, and how many octets.

        Raises:
            NotDone: source or target are not the session's, or it is too fast.
        """
        if wish.source not in session.held:
            raise NotDone(Refusal.NOT_YOURS, f"this session does not hold {wish.source}")
        self.check_target(session, wish.to)
        return self._put(crafted(wish), wish.to.address)

    def address(self, index: int) -> str:
        """The observer's address of that index.

        Raises:
            NotDone: it has only one.
        """
        if index >= len(self.site.addresses):
            raise NotDone(Refusal.NO_SUCH_ADDRESS, "this observer has one address")
        return self.site.addresses[index]

    def check_target(self, session: Session, to: Endpoint) -> None:
        """Make sure that packets go to those who asked for them, and not too many; takes a token.

        Raises:
            NotDone: the address is not proved, or it gets too many packets.
        """
        if to.address not in session.addresses:
            raise NotDone(Refusal.NOT_YOURS, f"this session has not proved {to.address}")
        if to.port == 0:
            raise NotDone(Refusal.MALFORMED, "port 0 is nowhere")
        wait_ns = self._packets.take(to.address, now_ns())
        if wait_ns:
            raise NotDone(Refusal.TOO_FAST, "too many packets to this address", retry_ms=-(-wait_ns // MS))

    def _put(self, octets: bytes, address: str) -> tuple[int, int]:
        if self.port is None:
            raise NotDone(Refusal.NO_RAW, "this observer may not open raw sockets")
        at_ns = now_ns()
        try:
            self.port.send(octets, address)
        except OSError as error:
            raise NotDone(Refusal.NOT_SENT, str(error)) from error
        return at_ns, len(octets)

    # --- the tap ---

    def tap(self) -> None:
        """Take what has come to this host and log what belongs to a session."""
        if self.port is None:
            return
        for octets in itertools.islice(self.port.receive(), _PACKETS_AT_ONCE):
            try:
                packet = decode(octets)
            except Malformed:
                continue  # other traffic of this host
            here = packet.destination if isinstance(packet, Segment) else packet.quoted.source
            for session in self._concerned(here, packet):
                session.add(now_ns(), octets, here, packet)
            if isinstance(packet, Segment) and packet.kind == "SYN":
                self._came(packet, octets)

    def _concerned(self, here: Endpoint, packet: Packet) -> Iterator[Session]:
        """Who holds the port; for one that listens, all sessions of the address. An ICMP error may come from any router."""
        there = packet.source.address if isinstance(packet, Segment) else packet.quoted.destination.address
        holder = self._holders.get(here)
        if holder is not None:
            if there in holder.addresses:
                yield holder
        elif here in self._listening and (not isinstance(packet, Segment) or packet.kind == "SYN"):
            yield from self._by_address.get(there, ())

    def _came(self, syn: Segment, octets: bytes) -> None:
        here = syn.destination
        holder = self._holders.get(here)
        if holder is None:
            if here in self._listening and not self.proved(syn.source.address):
                self._strangers.append((now_ns(), octets[:SNAP], syn))
            return
        port = holder.held[here]
        if port.answer is None or syn.source.address not in holder.addresses:
            return
        if self._packets.take(syn.source.address, now_ns()) == 0:
            octets = answer_to(syn, port.answer, iss=secrets.randbits(32), ttl=port.ttl)
            try:
                self._put(octets, syn.source.address)
            except NotDone:
                return  # the route went; the probe sees that nothing came
