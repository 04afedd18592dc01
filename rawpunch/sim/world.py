"""A scene made of machines, in virtual time.

Hosts and NATs answer at once; only the core's links take time, and what a scene puts between host and NAT; they are the same
`Link` machines as the lab's delay lines.
Whatever the lab's recorder would see is recorded under the same names. Every chance comes from the seed, in streams by name, so
that one seed gives one story.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

from rawpunch.errors import UnknownName
from rawpunch.link.link import PPM, Link, Path
from rawpunch.machine import Arrived, Changed, Effect, Machine, Refused, Send, Stimulus, Woke
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.row import Row
from rawpunch.replay.player import Player
from rawpunch.rng import stream
from rawpunch.scene import OBSERVERS, SHARED, SIDES, VANTAGES, Scene, Side
from rawpunch.sim.host import End, Host, SimEnd, SimPlayer
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import LINUX, Profile, profile
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Packet, Segment
from rawpunch.wire.ttl import DEFAULT_TTL

_LOW_ISS: Final = 1 << 28
"""Initial sequence numbers lie above: near zero, a RST with sequence number 0 looks as if it were in the window."""
_TIME_EXCEEDED: Final = 11


class Sighting(NamedTuple):
    """A packet at a vantage point."""

    time_ns: int
    vantage: str
    outgoing: bool
    """Whether it left that device, as its node sees it."""
    packet: Packet


@dataclass(frozen=True, slots=True)
class Happening:
    """A state change of a NAT, or a packet that it refused."""

    time_ns: int
    node: str
    """natA or natB."""
    what: Changed | Refused


class World:
    """The nodes of a scene and the events to come.

    Args:
        scene: what there is.
        seed: source of all chance.
        start_ns: the first instant.
        record: whether packets and NATs' state changes are kept; without it a world is half as slow.
    """

    def __init__(self, scene: Scene, *, seed: int, start_ns: int = 0, record: bool = True) -> None:
        self.scene = scene
        self.now = start_ns
        self.sightings: list[Sighting] = []
        """What the recorder saw, in order."""
        self.happenings: list[Happening] = []
        self.private_leaks = 0
        """Packets with a private source address that reached the core."""
        self._seed = seed
        self._record = record
        self._heap: list[tuple[int, int, Callable[..., None], Any]] = []
        self._count = 0
        self._links: dict[tuple[str, str], _Held] = {}
        self._iss = stream(seed, "iss")
        self._routes: dict[str, str] = {}
        self._seats: dict[str, _Seat] = {side: self._seat(side) for side in SIDES}
        self._observers: dict[str, Host] = {}
        for number, (name, addresses) in enumerate(OBSERVERS.items(), 1):
            device = f"o{number}"
            self._routes.update(dict.fromkeys(addresses, device))
            self._observers[device] = self._observers[name] = Host(self._emitter(device), self._server)

    def _seat(self, side: Side) -> _Seat:
        nat, upper = self.scene.nat(side), side.upper()
        addresses = self.scene.external_addresses(side) or self.scene.host_addresses(side)
        self._routes.update(dict.fromkeys(addresses, side))
        box = None
        if nat is not None:
            inside = self.scene.host_address(side).rsplit(".", 1)[0] + ".1"
            own = self.scene.own_addresses(side)
            box = NatBox(nat.behavior, own, dice=stream(self._seed, f"nat{upper}"), inside=inside)
        seat = _Seat(
            Host(self._emitter(side)),
            box,
            f"nat{upper}",
            f"host{upper}:eth0",
            f"nat{upper}:in",
            f"nat{upper}:out",
            f"core:{side}",
        )
        carrier = self.scene.carrier(side)
        if box is not None and carrier is not None:
            between = SHARED.rsplit(".", 1)[0] + ".1"
            outer = NatBox(carrier.behavior, addresses, dice=stream(self._seed, f"carrier{upper}"), inside=between)
            seat.middle = Row(box, outer)
        path = self.scene.inside(side)
        if not path.is_plain:
            seat.up = self._held(path.up_ns, path.loss_ppm, seat.at_host, seat.at_inside, partial(self._at_inside, seat))
            seat.down = self._held(path.down_ns, path.loss_ppm, seat.at_inside, seat.at_host, partial(self._at_host, seat))
        return seat

    def _emitter(self, device: str) -> Callable[[Packet], None]:
        if device in SIDES:
            return lambda packet: self._leave(self._seats[device], packet)
        return lambda packet: self._core(device, packet)

    def _server(self, local: Endpoint, remote: Endpoint) -> SimEnd:
        """An observer is a server at every port."""
        return SimEnd(Handshake(local, remote, iss=self.draw_iss(), profile=LINUX))

    # --- what a driver may do ---

    def draw_iss(self) -> int:
        """An initial sequence number."""
        return self._iss.randrange(_LOW_ISS, 1 << 32)

    def host(self, name: str) -> Host:
        """A host by name: hostA, hostB, obs1, obs2.

        Raises:
            UnknownName: there is none.
        """
        if name in {"hostA", "hostB"}:
            return self._seats[name[-1].lower()].host
        if name in OBSERVERS:
            return self._observers[name]
        raise UnknownName(f"the scene has no host {name!r}", todo=f"hostA, hostB, {', '.join(OBSERVERS)}")

    def nat(self, side: Side) -> NatBox | None:
        """The NAT of a side."""
        return self._seats[side].box

    def seat(self, side: Side, middle: Machine[Stimulus, Effect]) -> None:
        """Put something else in the NAT's place: a machine with the NAT's two ports."""
        self._seats[side].middle = middle

    def end(
        self,
        host: str,
        local: Endpoint,
        remote: Endpoint | None,
        *,
        iss: int | None = None,
        stack: str | Profile = LINUX,
        give_up_ns: int | None = None,
        first_ttl: int = DEFAULT_TTL,
    ) -> SimEnd:
        """A new end on a host, closed as yet: a SYN that comes before it opens is answered by RST, as by any closed port.

        Args:
            host: whose.
            local: its own endpoint, one of the host's addresses.
            remote: the other one; None to listen.
            iss: its initial sequence number; None to draw one.
            stack: the TCP that it plays.
            give_up_ns: instant at which it gives up.
            first_ttl: time to live of its first SYN; with another one than usual, it does not mind if that dies on the way.

        Raises:
            UnknownName: there is no such host or stack.
            BadParameter: the endpoints are in use.
        """
        own = profile(stack) if isinstance(stack, str) else stack
        machine = Handshake(local, remote, iss=self.draw_iss() if iss is None else iss, profile=own)
        end = SimEnd(machine, give_up_ns=give_up_ns, first_ttl=first_ttl)
        self.host(host).add(end)
        return end

    def player(self, host: str, player: Player, *, give_up_ns: int | None = None) -> SimPlayer:
        """An end that plays its side of a captured flow.

        Raises:
            UnknownName: there is no such host.
            BadParameter: the endpoint is in use.
        """
        end = SimPlayer(player, give_up_ns=give_up_ns)
        self.host(host).add(end)
        return end

    def open(self, host: str, end: End, at_ns: int | None = None) -> None:
        """Let an end open at an instant, or now."""
        self.at(self.now if at_ns is None else at_ns, self._open, (self.host(host), end))

    def do(self, host: str, end: End, stimulus: Stimulus) -> None:
        """Let an end's user do something now."""
        self.host(host).step(end, stimulus, self.now)
        self._arm(self.host(host), end)

    def at(self, instant_ns: int, action: Callable[..., None], argument: Any) -> None:
        """Have something done at an instant."""
        self._count += 1
        heapq.heappush(self._heap, (instant_ns, self._count, action, argument))

    def run(self, *, until_ns: int | None = None, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until an instant, or until something is so, or until nothing is left to happen.

        Args:
            until_ns: the last instant; the world's time is that afterwards.
            until: looked at after every event.
        """
        heap = self._heap
        while heap and not until():
            if until_ns is not None and heap[0][0] > until_ns:
                break
            self.now, _, action, argument = heapq.heappop(heap)
            action(argument)
        if until_ns is not None and not until():
            self.now = max(self.now, until_ns)

    # --- events ---

    def _open(self, what: tuple[Host, End]) -> None:
        host, end = what
        host.open(end, self.now)
        self._arm(host, end)

    def _arm(self, host: Host, end: End) -> None:
        """Have an end woken at its deadline; of several alarms, those that come too early do nothing."""
        deadline = end.deadline
        if deadline is not None:
            self.at(max(deadline, self.now), self._ring, (host, end, deadline))

    def _ring(self, what: tuple[Host, End, int]) -> None:
        host, end, deadline = what
        if end.deadline == deadline:
            host.wake(end, self.now)
            self._arm(host, end)

    def _see(self, vantage: str, outgoing: bool, packet: Packet) -> None:
        self.sightings.append(Sighting(self.now, vantage, outgoing, packet))

    def _leave(self, seat: _Seat, packet: Packet) -> None:
        """A host sends a packet."""
        if self._record:
            self._see(seat.at_host, True, packet)
        if seat.up is None:
            self._at_inside(seat, packet)
        else:
            self._hold(seat.up, packet)

    def _at_inside(self, seat: _Seat, packet: Packet) -> None:
        """A host's packet comes to its NAT."""
        if self._record:
            self._see(seat.at_inside, False, packet)
        self._at_nat(seat, packet, INSIDE)

    def _at_nat(self, seat: _Seat, packet: Packet, port: str) -> None:
        if seat.middle is not None:
            self._step_nat(seat, Arrived(packet, port))
            return
        router = seat.at_inside if port == INSIDE else seat.at_outside
        passed = self._routed(packet, lambda error: self._from_nat(seat, error, port), router)
        if passed is not None:
            self._from_nat(seat, passed, OUTSIDE if port == INSIDE else INSIDE)

    def _step_nat(self, seat: _Seat, stimulus: Arrived | Woke) -> None:
        middle = seat.middle
        if middle is None:
            return
        for effect in middle.step(stimulus, now=self.now):
            if isinstance(effect, Send):
                self._from_nat(seat, effect.packet, effect.port)
            elif self._record and isinstance(effect, Changed | Refused):
                self.happenings.append(Happening(self.now, seat.node, effect))
        deadline = middle.deadline
        if deadline is not None and (seat.alarm is None or deadline < seat.alarm):
            seat.alarm = deadline
            self.at(max(deadline, self.now), self._ring_nat, seat)

    def _ring_nat(self, seat: _Seat) -> None:
        if seat.alarm is not None and seat.alarm <= self.now:
            seat.alarm = None
            self._step_nat(seat, Woke())

    def _from_nat(self, seat: _Seat, packet: Packet, port: str) -> None:
        """A packet leaves a NAT."""
        if port == OUTSIDE:
            if self._record:
                self._see(seat.at_outside, True, packet)
                self._see(seat.at_core, False, packet)
            self._core(seat.at_core[-1], packet)
            return
        if self._record:
            self._see(seat.at_inside, True, packet)
        if seat.down is None:
            self._at_host(seat, packet)
        else:
            self._hold(seat.down, packet)

    def _at_host(self, seat: _Seat, packet: Packet) -> None:
        """A packet comes to a host behind its NAT."""
        if self._record:
            self._see(seat.at_host, False, packet)
        self._to_host(seat.host, packet)

    def _to_host(self, host: Host, packet: Packet) -> None:
        end = host.arrived(packet, self.now)
        if end is not None:
            self._arm(host, end)

    def _core(self, source: str, packet: Packet) -> None:
        """A packet comes to the core: it is routed and held as long as its two legs are."""
        sender = packet.source.address if isinstance(packet, Segment) else packet.source
        if sender.startswith("10."):
            self.private_leaks += 1
            return
        passed = self._routed(packet, lambda error: self._deliver(source, error), f"core:{source}")
        if passed is None:
            return
        target = passed.destination.address if isinstance(passed, Segment) else passed.destination
        device = self._routes.get(target)
        if device is None:
            return
        self._hold(self._link(source, device), passed)

    def _hold(self, held: _Held, packet: Packet) -> None:
        """A packet goes into a link."""
        link = held.link
        before = link.deadline
        for item in link.arrive(packet, now=self.now):
            held.deliver(item)
        if link.deadline is not None and (before is None or link.deadline < before):
            self.at(link.deadline, self._release, held)

    def _release(self, held: _Held) -> None:
        link = held.link
        for item in link.wake(now=self.now):
            held.deliver(item)
        if link.deadline is not None:
            self.at(link.deadline, self._release, held)

    def _held(self, delay_ns: int, loss_ppm: int, source: str, target: str, deliver: Callable[[Packet], None]) -> _Held:
        path = Path(delay_ns=delay_ns, loss_ppm=loss_ppm)
        dice = stream(self._seed, "link", source, target) if path.uncertain else None
        return _Held(Link(path=path, dice=dice), deliver)

    def _link(self, source: str, device: str) -> _Held:
        held = self._links.get((source, device))
        if held is None:
            legs = {"a": self.scene.leg_a, "b": self.scene.leg_b}
            up_ns = legs[source].up_ns if source in legs else 0
            down_ns = legs[device].down_ns if device in legs else 0
            kept_ppm = PPM
            for leg in (legs[end] for end in (source, device) if end in legs):
                kept_ppm = kept_ppm * (PPM - leg.loss_ppm) // PPM
            deliver = partial(self._deliver, device)
            held = self._links[source, device] = self._held(up_ns + down_ns, PPM - kept_ppm, source, device, deliver)
        return held

    def _deliver(self, device: str, packet: Packet) -> None:
        """A packet leaves the core."""
        seat = self._seats.get(device)
        if seat is None:
            self._to_host(self._observers[device], packet)
            return
        if self._record:
            self._see(seat.at_core, True, packet)
            self._see(seat.at_outside, False, packet)
        self._at_nat(seat, packet, OUTSIDE)

    def _routed(self, packet: Packet, report: Callable[[Packet], None], where: str) -> Packet | None:
        """The packet one hop older; None where its time is over, which its sender is told at once."""
        if packet.ttl > 1:
            return replace(packet, ttl=packet.ttl - 1)
        if isinstance(packet, Segment):
            source = self._router_address(where)
            report(IcmpError(source, packet.source.address, _TIME_EXCEEDED, 0, packet.flow, packet.seq))
        return None

    def _router_address(self, where: str) -> str:
        """The address with which a router speaks through the device a packet came in by."""
        node, _, device = where.partition(":")
        side: Side = "b" if node == "natB" or device == "b" else "a"
        if node == "core" and device not in SIDES:
            return OBSERVERS["obs1" if device == "o1" else "obs2"][0].rsplit(".", 1)[0] + ".1"
        if device == "in":
            return self.scene.host_address(side).rsplit(".", 1)[0] + ".1"
        outer = self.scene.external_addresses(side) or (self.scene.host_address(side),)
        return outer[0] if node != "core" else outer[0].rsplit(".", 1)[0] + ".1"


class _Held(NamedTuple):
    """A link, and where it leads."""

    link: Link[Packet]
    deliver: Callable[[Packet], None]


class _Seat:
    """A host, its NAT, and the names of their devices."""

    __slots__ = ("alarm", "at_core", "at_host", "at_inside", "at_outside", "box", "down", "host", "middle", "node", "up")

    def __init__(
        self, host: Host, box: NatBox | None, node: str, at_host: str, at_inside: str, at_outside: str, at_core: str
    ) -> None:
        self.host = host
        self.box = box
        self.middle: Machine[Stimulus, Effect] | None = box
        """What stands between host and core; None for a plain router."""
        self.node = node
        self.at_host, self.at_inside, self.at_outside, self.at_core = at_host, at_inside, at_outside, at_core
        self.up: _Held | None = None
        """From the host to what stands there; None for a mere cable."""
        self.down: _Held | None = None
        self.alarm: int | None = None
        """The earliest instant for which an alarm is set."""
        assert {at_host, at_inside, at_outside, at_core} <= set(VANTAGES)  # noqa: S101  the names are the lab's
