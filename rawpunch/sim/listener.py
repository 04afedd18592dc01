"""The observer's host in the simulator: ports that listen, ports that are held, connections back, and what is logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rawpunch.errors import PartialData
from rawpunch.probe import messages
from rawpunch.probe.crafting import SYN_OPTIONS, answer_to
from rawpunch.probe.ground import Outside
from rawpunch.probe.messages import Craft, Outcome
from rawpunch.sim.world import World
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment


@dataclass(slots=True)
class Opening:
    """A connection back under way."""

    syn: Segment
    outcome: Outcome | None = None


class Listener:
    """What obs2 does with what comes.

    Args:
        world: where it is.
        outside: what it has.
        report: gets each packet that a probe may know of, and the observer's endpoint that it concerns.
    """

    def __init__(self, world: World, outside: Outside, report: Callable[[Endpoint, Packet], None]) -> None:
        self.host = world.host("obs2")
        self.host.tap = self._came
        self.proved: set[str] = set()
        self.held: dict[Endpoint, tuple[Craft | None, int]] = {}
        self.clients: dict[Endpoint, Endpoint] = {}
        """Where probes' connections come from -> where they have come to."""
        self.requests: dict[bytes, Callable[[], Any]] = {}
        self.results: dict[bytes, tuple[Any, PartialData | None]] = {}
        self.greeted: dict[bytes, Endpoint] = {}
        """Each hello, and where it came from."""
        self.opening: dict[tuple[Endpoint, Endpoint], Opening] = {}
        self._world = world
        self._outside = outside
        self._report = report
        self._listening = {Endpoint(address, port) for address in outside.addresses for port in outside.ports}
        self._gone = False

    def go(self, _: None) -> None:
        """Disappear."""
        self._gone = True

    def open(self, source: Endpoint, to: Endpoint) -> None:
        """Send the SYN of a connection back."""
        syn = Segment(source, to, Flags.SYN, self._world.draw_iss(), options=SYN_OPTIONS)
        self.opening[source, to] = Opening(syn)
        self.host.emit(syn)

    def _came(self, packet: Packet, _now: int) -> bool:
        if self._gone:
            return True
        if isinstance(packet, IcmpError):
            self._error(packet)
        elif (opening := self.opening.get((packet.destination, packet.source))) is not None:
            self._answered(opening, packet)
        elif packet.destination in self.held:
            self._at_held(packet)
        elif packet.destination in self._listening:
            self._at_listening(packet)
        elif not packet.rst:
            self._reset(packet)
        return True

    def _error(self, error: IcmpError) -> None:
        at, there = error.quoted.source, error.quoted.destination
        opening = self.opening.get((at, there))
        if opening is not None:
            opening.outcome = opening.outcome or Outcome.UNREACHABLE
        elif at in self.held and there.address in self.proved:
            self._report(at, error)

    def _answered(self, opening: Opening, segment: Segment) -> None:
        if opening.outcome is None and segment.rst:
            opening.outcome = Outcome.REFUSED
        elif opening.outcome is None and segment.kind == "SYN-ACK":
            opening.outcome = Outcome.CONNECTED
            self.host.emit(Segment(segment.destination, segment.source, Flags.RST | Flags.ACK, segment.ack, segment.end))

    def _at_held(self, segment: Segment) -> None:
        if segment.source.address not in self.proved:
            return
        self._report(segment.destination, segment)
        answer, ttl = self.held[segment.destination]
        if answer is not None and segment.kind == "SYN":
            self.host.emit(decode(answer_to(segment, answer, iss=self._world.draw_iss(), ttl=ttl)))

    def _at_listening(self, segment: Segment) -> None:
        """What a kernel and the server behind it do."""
        here, there = segment.destination, segment.source
        if segment.kind == "SYN":
            if there.address in self.proved:
                self._report(here, segment)
            self.host.emit(Segment(here, there, Flags.SYN | Flags.ACK, self._world.draw_iss(), segment.end, options=SYN_OPTIONS))
        elif segment.payload.startswith(b"hello "):
            self.greeted[segment.payload] = there
            self._answer(segment)
        elif segment.payload in self.requests:
            self._request(segment)
        elif segment.payload:
            if not isinstance(messages.parse_request(segment.payload), messages.Where):
                return
            place = messages.encode(messages.Place(you=there, here=here))
            self.host.emit(Segment(here, there, Flags.ACK | Flags.PSH, segment.ack, segment.end, payload=place))
        elif segment.fin:
            self.host.emit(Segment(here, there, Flags.FIN | Flags.ACK, segment.ack, segment.end))

    def _request(self, segment: Segment) -> None:
        """A probe's request; asked again, it is answered again and not done again."""
        if self.clients.get(segment.source) != segment.destination:
            self._reset(segment)
            return
        number = segment.payload
        if number not in self.results:
            try:
                self.results[number] = self.requests[number](), None
            except PartialData as error:
                self.results[number] = None, error
        self._answer(segment)

    def _answer(self, segment: Segment) -> None:
        """Say the same back."""
        here, there = segment.destination, segment.source
        self.host.emit(Segment(here, there, Flags.ACK | Flags.PSH, segment.ack, segment.end, payload=segment.payload))

    def _reset(self, segment: Segment) -> None:
        here, there = segment.destination, segment.source
        if segment.has_ack:
            self.host.emit(Segment(here, there, Flags.RST, segment.ack, window=0))
        else:
            self.host.emit(Segment(here, there, Flags.RST | Flags.ACK, 0, segment.end, window=0))
