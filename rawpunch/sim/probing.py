"""A probe's ground in the simulator: hostA with two addresses asks obs2, through whatever stands in A's place.

The connection to the observer is made of packets that pass the NAT as any others do, so it takes a place in its table, can be
evicted, and is made anew. What the observer has seen is known here when word of it can have come. Limits are those of a real one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rawpunch.errors import BadParameter, PartialData
from rawpunch.probe.crafting import SYN_OPTIONS, crafted
from rawpunch.probe.ground import Dice, NotOffered, Outside, Place, Seen
from rawpunch.probe.messages import Connected, Craft, Outcome, Refusal, SendPacket
from rawpunch.rng import stream
from rawpunch.scene import OBSERVERS, Scene
from rawpunch.sim.listener import Listener
from rawpunch.sim.tasks import Tasks
from rawpunch.sim.world import World
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Packet, Segment
from rawpunch.wire.seq import add

PORTS: Final = (3478, 3479)
"""Where the observer listens."""
_LOW, _HIGH = 32_768, 61_000
_RETRY_NS: Final = 200 * MS
"""How long a kernel waits before it sends data again."""
_SYN_RETRY_NS: Final = SECOND
_TRIES: Final = 10
_SYN_TRIES: Final = 5
_CONNECTS: Final = 3
_PACKETS_PER_S: Final = 100
"""What an observer crafts for one address, after a burst of the same (`live.limits`)."""
_MAX_HELD: Final = 64

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What may be different from a willing observer and a quiet NAT."""

    addresses: int = 2
    """How many the observer has."""
    raw: bool = True
    """Whether it has raw sockets."""
    insiders: int = 2
    gone_ns: int | None = None
    """When, after the beginning, the observer disappears."""
    cross_per_s: int = 0
    """Connections that a third inside host opens each second, at random instants."""


class SimGround:
    """The ground of one probe.

    Args:
        scene: what there is; only A's side matters.
        seed: source of all chance.
        circumstances: what is different from usual.
        prepare: may put something else in the NAT's place.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        seed: int,
        circumstances: Circumstances | None = None,
        prepare: Callable[[World], None] = lambda _: None,
    ) -> None:
        self._how = circumstances or Circumstances()
        self.world = World(scene, seed=seed, start_ns=SECOND, record=False)
        prepare(self.world)
        self.tasks = Tasks(self.world)
        self.insiders = scene.host_addresses("a")[: self._how.insiders]
        self.outside = Outside(OBSERVERS["obs2"][: self._how.addresses], PORTS, self._how.raw)
        self.dice: Dice = stream(seed, "probe")
        self.proved: tuple[str, ...] = ()
        self.records: list[Seen] = []
        """All packets that have a number, in order."""
        self._down_ns = scene.leg_a.down_ns + scene.inside_a.down_ns
        self._host = self.world.host("hostA")
        self._host.tap = self._at_inside
        self._reserved: set[Endpoint] = set()
        self._ever: set[Endpoint] = set()
        self._kernel: dict[Endpoint, list[Segment]] = {}
        """Endpoints of our own connections to the observer, and what came to them."""
        self._known: dict[tuple[Place, Endpoint], list[Seen]] = {}
        self._untold: list[tuple[int, Endpoint, Packet]] = []
        """What the observer has seen and we do not know of yet."""
        self._listener = Listener(self.world, self.outside, self._observed)
        self._control: tuple[Endpoint, Endpoint] | None = None
        self._connecting = False
        self._request = 0
        self._tokens, self._tokens_at = float(_PACKETS_PER_S), self.world.now
        if self._how.gone_ns is not None:
            self.world.at(self.world.now + self._how.gone_ns, self._listener.go, None)
        if self._how.cross_per_s:
            self._third = scene.host_address("a").rsplit(".", 1)[0] + ".9"
            self._crossing = stream(seed, "cross")
            self._cross(None)

    def run(self, plan: Coroutine[Any, Any, _T]) -> _T:
        """Run a plan in this world, connected to the observer.

        Raises:
            PartialData: the observer cannot be reached.
        """
        return self.tasks.run(self._begun(plan))

    async def _begun(self, plan: Coroutine[Any, Any, _T]) -> _T:
        try:
            await self._connected()
        except PartialData:
            plan.close()
            raise
        return await plan

    # --- time ---

    @property
    def packets(self) -> int:
        """How many packets have a number."""
        return len(self.records)

    def now(self) -> int:
        """The time."""
        return self.world.now

    async def sleep(self, ns: int) -> None:
        """Let time pass."""
        await self.tasks.sleep_until(self.world.now + ns)

    async def until(self, condition: Callable[[], bool], deadline_ns: int) -> bool:
        """Wait until something is so."""
        return await self.tasks.until(condition, deadline_ns)

    async def together(self, *plans: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines at once."""
        return await self.tasks.together(*plans)

    # --- inside ---

    def reserve(self, insider: int = 0, *, port: int = 0, parity: int | None = None) -> Endpoint:
        """A fresh port.

        Raises:
            BadParameter: it was reserved before.
        """
        address = self.insiders[insider]
        while True:
            endpoint = Endpoint(address, port or self.dice.randrange(_LOW, _HIGH))
            if endpoint in self._ever:
                if port:
                    raise BadParameter(f"{endpoint} was reserved before")
                continue
            if parity is None or endpoint.port % 2 == parity:
                break
        self._ever.add(endpoint)
        self._reserved.add(endpoint)
        return endpoint

    def release(self, *endpoints: Endpoint) -> None:
        """Give ports back."""
        self._reserved.difference_update(endpoints)

    async def send(self, segment: Segment) -> Seen:
        """Send a segment from a reserved endpoint.

        Raises:
            BadParameter: its source is not reserved.
        """
        if segment.source not in self._reserved:
            raise BadParameter(f"{segment.source} is not reserved")
        record = self._numbered(Place.INSIDE, segment, outgoing=True)
        self._host.emit(segment)
        return record

    def seen(self, place: Place, at: Endpoint, after: int = 0) -> tuple[Seen, ...]:
        """What has come."""
        known = self._known.get((place, at), [])
        return tuple(known[bisect_right(known, after, key=_number) :])

    # --- observer ---

    async def settle(self) -> None:
        """Come to know all that the observer has seen."""
        await self._asked(lambda: None)
        self._tell(None)

    async def prove(self, insider: int = 0) -> Endpoint | None:
        """A connection from a fresh port, which proves its address."""
        endpoint = self._kernel_port(insider)
        remote = Endpoint(self.outside.addresses[0], PORTS[0])
        mapped = await self._handshake(endpoint, remote)
        if mapped is not None:
            self._listener.proved.add(mapped.address)
            self.proved = (*self.proved, *({mapped.address} - set(self.proved)))
            syn_ack = self._kernel[endpoint][0]
            self._host.emit(Segment(endpoint, remote, Flags.RST | Flags.ACK, syn_ack.ack, add(syn_ack.seq, 1)))
        del self._kernel[endpoint]
        return mapped

    async def renew(self) -> None:
        """Connect anew and end the old connection."""
        old, self._control = self._control, None
        try:
            await self._connected()
        except PartialData:
            self._control = old
            return
        if old is not None:
            self._host.emit(Segment(old[0], Endpoint(self.outside.addresses[0], PORTS[0]), Flags.RST | Flags.ACK, 1, 1))

    async def hold(self, address: int = 0, *, port: int = 0, answer: Craft | None = None, ttl: int = 64) -> Endpoint:
        """Take a port of the observer.

        Raises:
            NotOffered: it refuses.
        """
        return await self._asked(lambda: self._held(address, port, answer, ttl))

    def _held(self, address: int, port: int, answer: Craft | None, ttl: int) -> Endpoint:
        if not self.outside.raw:
            raise NotOffered(Refusal.NO_RAW)
        if address >= len(self.outside.addresses):
            raise NotOffered(Refusal.NO_SUCH_ADDRESS)
        if len(self._listener.held) >= _MAX_HELD:
            raise NotOffered(Refusal.TOO_MANY)
        while True:
            endpoint = Endpoint(self.outside.addresses[address], port or self.dice.randrange(20_000, 60_000))
            if endpoint not in self._listener.held:
                self._listener.held[endpoint] = (answer, ttl)
                return endpoint
            if port:
                raise NotOffered(Refusal.PORT_IN_USE)

    async def unhold(self, endpoint: Endpoint) -> None:
        """Give a port back."""
        await self._asked(lambda: self._listener.held.pop(endpoint, None))

    async def craft(self, wish: SendPacket) -> Seen:
        """Let the observer send a packet.

        Raises:
            NotOffered: it refuses.
        """
        packet = decode(crafted(wish))
        record = self._numbered(Place.OBSERVER, packet, outgoing=True)

        def act() -> None:
            if wish.to.address not in self._listener.proved:
                raise NotOffered(Refusal.NOT_YOURS)
            if wish.source not in self._listener.held:
                raise NotOffered(Refusal.NOT_YOURS)
            self._listener.host.emit(packet)

        await self._token()
        sent_ns = self.world.now + self._down_ns
        await self._asked(act)
        sent = Seen(record.number, sent_ns, Place.OBSERVER, outgoing=True, packet=packet)
        self.records[record.number - 1] = sent
        return sent

    async def connect_back(self, to: Endpoint, *, address: int = 0, port: int = 0, wait_ns: int) -> Connected:
        """Let the observer's kernel open a connection.

        Raises:
            NotOffered: it refuses.
        """
        if address >= len(self.outside.addresses):
            raise NotOffered(Refusal.NO_SUCH_ADDRESS)
        if to.address not in self._listener.proved:
            raise NotOffered(Refusal.NOT_YOURS)
        source = Endpoint(self.outside.addresses[address], port or self.dice.randrange(20_000, 60_000))
        began = self.world.now
        await self._asked(lambda: self._listener.open(source, to))
        opened = self._listener.opening[source, to]
        resend_ns = _SYN_RETRY_NS
        while opened.outcome is None and self.world.now < began + wait_ns:
            until_ns = min(began + wait_ns, began + resend_ns)
            if not await self.until(lambda: opened.outcome is not None, until_ns) and until_ns < began + wait_ns:
                self._listener.host.emit(opened.syn)
                resend_ns *= 2
        del self._listener.opening[source, to]
        await self.sleep(self._down_ns)
        return Connected(source=source, outcome=opened.outcome or Outcome.SILENT, took_ns=self.world.now - began)

    # --- how it is done ---

    def _numbered(self, place: Place, packet: Packet, *, outgoing: bool, at_ns: int | None = None) -> Seen:
        at_ns = self.world.now if at_ns is None else at_ns
        self.records.append(Seen(len(self.records) + 1, at_ns, place, outgoing, packet))
        return self.records[-1]

    def _at_inside(self, packet: Packet, now: int) -> bool:
        at = packet.destination if isinstance(packet, Segment) else packet.quoted.source
        if at in self._kernel:
            if isinstance(packet, Segment):
                self._kernel[at].append(packet)
                self.tasks.news()
            return True
        if at not in self._reserved:
            return False
        record = self._numbered(Place.INSIDE, packet, outgoing=False, at_ns=now)
        self._known.setdefault((Place.INSIDE, at), []).append(record)
        self.tasks.news()
        return True

    def _observed(self, at: Endpoint, packet: Packet) -> None:
        """The observer reports a packet: word of it comes one way later."""
        self._untold.append((self.world.now, at, packet))
        self.world.at(self.world.now + self._down_ns, self._tell, self.world.now)

    def _tell(self, until_ns: int | None) -> None:
        while self._untold and (until_ns is None or self._untold[0][0] <= until_ns):
            at_ns, at, packet = self._untold.pop(0)
            record = self._numbered(Place.OBSERVER, packet, outgoing=False, at_ns=at_ns)
            self._known.setdefault((Place.OBSERVER, at), []).append(record)
        self.tasks.news()

    async def _token(self) -> None:
        """Wait for the right to let a packet be crafted."""
        now = self.world.now
        self._tokens = min(_PACKETS_PER_S, self._tokens + (now - self._tokens_at) * _PACKETS_PER_S / SECOND) - 1
        self._tokens_at = now
        if self._tokens < 0:
            await self.sleep(round(-self._tokens * SECOND / _PACKETS_PER_S))

    def _kernel_port(self, insider: int = 0) -> Endpoint:
        endpoint = self.reserve(insider)
        self.release(endpoint)
        self._kernel[endpoint] = []
        return endpoint

    async def _handshake(self, local: Endpoint, remote: Endpoint) -> Endpoint | None:
        """Open a connection as a kernel does and say hello; where it comes from, as the observer sees it."""
        syn = Segment(local, remote, Flags.SYN, self.world.draw_iss(), options=SYN_OPTIONS)
        came = self._kernel[local]

        def answered() -> bool:
            return any(segment.kind == "SYN-ACK" and segment.ack == add(syn.seq, 1) for segment in came)

        for _ in range(_SYN_TRIES):
            self._host.emit(syn)
            if await self.until(answered, self.now() + _SYN_RETRY_NS):
                hello = b"hello %s" % str(local).encode()
                if not await self._exchanged(hello, local):
                    return None
                await self.sleep(2 * self._down_ns)  # it says a nonce, and we say it back
                return self._listener.greeted[hello]
        return None

    async def _connected(self) -> tuple[Endpoint, Endpoint]:
        """The connection to the observer, made anew if need be.

        Raises:
            PartialData: the observer does not answer.
        """
        while self._connecting:
            await self.tasks.forever_until(lambda: not self._connecting)
        if self._control is None:
            self._connecting = True
            try:
                local, remote = self._kernel_port(), Endpoint(self.outside.addresses[0], PORTS[0])
                mapped = await self._handshake(local, remote)
                if mapped is None:
                    raise PartialData("the observer is gone", why="it does not answer")
                self._listener.proved.add(mapped.address)
                self._listener.clients[mapped] = remote
                self.proved = (*self.proved, *({mapped.address} - set(self.proved)))
                self._control = local, mapped
            finally:
                self._connecting = False
                self.tasks.news()
        return self._control

    async def _asked(self, act: Callable[[], _T]) -> _T:
        """Have the observer do something, and get its answer, by a packet each way.

        Raises:
            NotOffered: it refuses.
            PartialData: it is gone.
        """
        self._request += 1
        number = b"%d" % self._request
        self._listener.requests[number] = act
        for _ in range(_CONNECTS):
            control = await self._connected()
            if await self._exchanged(number, control[0]):
                result, error = self._listener.results[number]
                if error is not None:
                    raise error
                answer: _T = result
                return answer
            if self._control == control:
                self._control = None
        raise PartialData("the observer is gone", why="it no longer answers")

    async def _exchanged(self, number: bytes, local: Endpoint) -> bool:
        """Send a request until its answer comes; False if the connection is broken."""
        request = Segment(local, Endpoint(self.outside.addresses[0], PORTS[0]), Flags.ACK | Flags.PSH, 1, 1, payload=number)
        came = self._kernel[local]

        def over() -> bool:
            return any(segment.payload == number or segment.rst for segment in came)

        for _ in range(_TRIES):
            self._host.emit(request)
            if await self.until(over, self.now() + _RETRY_NS + 2 * self._down_ns):
                break
        answered = any(segment.payload == number for segment in came)
        if answered:
            came[:] = [segment for segment in came if segment.payload != number]
        return answered

    def _cross(self, _: None) -> None:
        """The third host opens a connection, and another one later."""
        source = Endpoint(self._third, self._crossing.randrange(1024, 65_536))
        target = Endpoint(OBSERVERS["obs1"][0], 443)
        self._host.emit(Segment(source, target, Flags.SYN, self._crossing.randrange(1 << 28, 1 << 32), options=SYN_OPTIONS))
        gap_ns = round(self._crossing.expovariate(self._how.cross_per_s) * SECOND)
        self.world.at(self.world.now + gap_ns, self._cross, None)


def _number(record: Seen) -> int:
    return record.number
