"""A simulated host: handshake machines, and a TCP that resets what belongs to none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Final, Protocol

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter
from rawpunch.machine import Abort, Arrived, Changed, Concluded, Effect, Listen, Open, Send, Stimulus, Woke
from rawpunch.replay.player import Player
from rawpunch.tcp.handshake import Handshake
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment
from rawpunch.wire.ttl import DEFAULT_TTL

_TIME_EXCEEDED: Final = 11

Emit = Callable[[Packet], None]
"""Puts a packet on the host's link."""


class EndMachine(Protocol):
    """What plays an end."""

    @property
    def local(self) -> Endpoint:
        """Its own endpoint."""

    @property
    def remote(self) -> Endpoint | None:
        """The other one, as far as it knows."""

    @property
    def deadline(self) -> int | None:
        """When to wake it."""

    def step(self, stimulus: Stimulus, *, now: int) -> Sequence[Effect]:
        """Take one stimulus."""


class End:
    """One end of a connection: a machine, and what became of it.

    Args:
        machine: the machine, not yet opened.
        give_up_ns: instant at which it gives up if nothing has decided by then; None for never.
        first_ttl: time to live of its first SYN.
    """

    __slots__ = ("at_ns", "cause", "ending", "first_ttl", "give_up_ns", "machine", "transitions")
    any_remote: ClassVar = False
    """Whether it gets what comes for its endpoint from anywhere."""

    def __init__(self, machine: EndMachine, *, give_up_ns: int | None = None, first_ttl: int = DEFAULT_TTL) -> None:
        self.machine = machine
        self.give_up_ns = give_up_ns
        self.first_ttl = first_ttl
        self.ending: Ending | None = None
        """How its opening ended; None while it is under way."""
        self.at_ns: int | None = None
        """When."""
        self.cause = ""
        self.transitions: list[tuple[int, Changed]] = []

    @property
    def deadline(self) -> int | None:
        """When to wake it."""
        own = self.machine.deadline
        if self.ending is not None or self.give_up_ns is None:
            return own
        return self.give_up_ns if own is None else min(own, self.give_up_ns)

    def conclude(self, ending: Ending, now: int, cause: str) -> None:
        """Note how the opening ended; only the first conclusion counts."""
        if self.ending is None:
            self.ending, self.at_ns, self.cause = ending, now, cause

    def why(self, stimulus: Stimulus) -> str:
        """What concluded it, if this did."""
        return f"{stimulus.packet.kind} came" if isinstance(stimulus, Arrived) else type(stimulus).__name__.lower()


class SimEnd(End):
    """An end that is a TCP."""

    __slots__ = ()
    machine: Handshake


class SimPlayer(End):
    """An end that plays its side of a captured flow; its peer may have been moved by a NAT."""

    __slots__ = ()
    machine: Player
    any_remote = True

    def why(self, stimulus: Stimulus) -> str:  # noqa: ARG002  a player knows better
        """What it waited for in vain."""
        return f"{self.machine.waiting_for} never came" if self.machine.waiting_for else ""


class Host:
    """One host with its addresses.

    Args:
        emit: what to do with a packet that it sends.
        servers: the machine of a server for a local endpoint that a SYN came to, or None where no server is.
    """

    def __init__(self, emit: Emit, servers: Callable[[Endpoint, Endpoint], End | None] = lambda *_: None) -> None:
        self.emit = emit
        """Puts a packet on its link."""
        self.tap: Callable[[Packet, int], bool] = lambda *_: False
        """Gets each packet that comes, and when; what it says yes to is for nobody else."""
        self._servers = servers
        self._ends: dict[tuple[Endpoint, Endpoint | None], End] = {}

    @property
    def ends(self) -> tuple[End, ...]:
        """All its ends."""
        return tuple(self._ends.values())

    def add(self, end: End) -> None:
        """Give the host an end; what comes for it is its own from now on, opened or not.

        Raises:
            BadParameter: its endpoints are in use.
        """
        key = (end.machine.local, None if end.any_remote else end.machine.remote)
        if key in self._ends:
            raise BadParameter(f"{key[0]} has an end towards {key[1]} already", todo="choose another port")
        self._ends[key] = end

    def arrived(self, packet: Packet, now: int) -> End | None:
        """Take a packet, and say whose it was."""
        if self.tap(packet, now):
            return None
        local, remote = _ends_of(packet)
        end = self._ends.get((local, remote)) or self._ends.get((local, None))
        if end is None and isinstance(packet, Segment):
            if packet.syn and not packet.has_ack:
                end = self._servers(local, remote)
            if end is None:
                if not packet.rst:
                    self.emit(_reset(packet))
                return None
            self.add(end)
            self.step(end, Listen(), now)
        if end is None:
            return None
        if isinstance(packet, IcmpError) and packet.type == _TIME_EXCEEDED and end.first_ttl != DEFAULT_TTL:
            return end  # it wanted its SYN to die on the way
        self.step(end, Arrived(packet), now)
        return end

    def open(self, end: End, now: int) -> None:
        """Send the end's SYN, unless it has ended already."""
        if end.ending is None:
            self.step(end, Open(), now)

    def wake(self, end: End, now: int) -> None:
        """The end's deadline has come."""
        if end.ending is None and end.give_up_ns is not None and now >= end.give_up_ns:
            end.conclude(Ending.TIMED_OUT, now, "no answer before the attempt was given up")
            self.step(end, Abort(), now)
        else:
            self.step(end, Woke(), now)

    def abort(self, end: End, now: int) -> None:
        """End it, resetting what is open."""
        self.step(end, Abort(), now)

    def step(self, end: End, stimulus: Stimulus, now: int) -> None:
        """Step an end's machine and do what it asks for."""
        first = not end.transitions
        for effect in end.machine.step(stimulus, now=now):
            if isinstance(effect, Send):
                packet = effect.packet
                if first and end.first_ttl != DEFAULT_TTL and isinstance(packet, Segment) and packet.syn:
                    packet = replace(packet, ttl=end.first_ttl)
                self.emit(packet)
            elif isinstance(effect, Changed):
                end.transitions.append((now, effect))
            elif isinstance(effect, Concluded):
                end.conclude(effect.ending, now, end.why(stimulus))


def _ends_of(packet: Packet) -> tuple[Endpoint, Endpoint]:
    """Local and remote endpoint of a packet that came."""
    if isinstance(packet, Segment):
        return packet.destination, packet.source
    return packet.quoted.source, packet.quoted.destination


def _reset(segment: Segment) -> Segment:
    """The RST of a host that has no such connection (RFC 9293, section 3.10.7.1)."""
    if segment.has_ack:
        return Segment(segment.destination, segment.source, Flags.RST, segment.ack, window=0)
    return Segment(segment.destination, segment.source, Flags.RST | Flags.ACK, 0, segment.end, window=0)
