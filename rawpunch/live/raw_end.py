"""The raw end: a handshake machine on raw sockets, its kernel kept silent by a guard."""

from __future__ import annotations

from collections.abc import Callable

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import Malformed
from rawpunch.live.end import Order, Report
from rawpunch.live.guard import Guard
from rawpunch.live.machines import machine_of
from rawpunch.live.sockets import RawPort
from rawpunch.machine import Abort, Arrived, Changed, Concluded, Delivered, Open, Send, Stimulus, Woke
from rawpunch.tcp.state import Offer
from rawpunch.wire.codec import encode
from rawpunch.wire.segment import IcmpError, Packet, Segment


class RawEnd:
    """A driver round one `Handshake`: the SYN is crafted ahead of its instant, answers leave as ready bytes.

    Args:
        order: what to do.
        port: the host's raw sockets, shared by all its raw ends.
        offer: what its SYN offers; None for the profile's own.
        shared: whether connections of ours may be on the local port already (see `Guard`).
        craft: makes the SYN's bytes: scapy in experiments, our codec for whoever cannot wait until scapy is imported.

    Raises:
        UsageError: the local port is in use.
    """

    def __init__(
        self,
        order: Order,
        port: RawPort,
        *,
        offer: Offer | None = None,
        shared: bool = False,
        craft: Callable[[Segment], bytes] = encode,
    ) -> None:
        self.order = order
        self.report = Report(order.attempt)
        self._port = port
        self._early = bytearray()
        self._guard = Guard(order.local, shared=shared)
        self._machine = machine_of(order, offer)
        self._syn = self._machine.prepare_syn(order.at_ns)
        self._syn_bytes = craft(self._syn)

    @property
    def undecided(self) -> bool:
        """Whether the opening is still under way."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """The machine's next deadline, or the instant to give up."""
        if not self.undecided:
            return self._machine.deadline
        return min(at for at in (self._machine.deadline, self.order.give_up_ns) if at is not None)

    def launch(self, at_ns: int) -> None:
        """Open: the SYN leaves first, then the machine is told, so that nothing delays the packet."""
        self._port.send(self._syn_bytes, self.order.remote.address)
        self._step(Open(), at_ns)

    def arrived(self, packet: Segment | IcmpError, now: int) -> None:
        """A packet for this end's endpoint has come."""
        self._step(Arrived(packet), now)

    def wake(self, now: int) -> None:
        """Step the machine at its deadline, or give up."""
        if self.undecided and now >= self.order.give_up_ns:
            self.report.conclude(Ending.TIMED_OUT, now, "no answer before the attempt was given up")
            self._step(Abort(), now)
        else:
            self._step(Woke(), now)

    def finish(self, now: int) -> None:
        """Abort what is open."""
        self._step(Abort(), now)

    def release(self) -> None:
        """Lift the guard."""
        self._guard.close()

    def _step(self, stimulus: Stimulus, now: int) -> None:
        changes: list[tuple[Changed, int]] = []
        for effect in self._machine.step(stimulus, now=now):
            match effect:
                case Send(packet):
                    self._send(packet)
                case Changed():
                    changes.append((effect, now))
                case Concluded(ending):
                    self.report.conclude(ending, now_ns(), _cause(stimulus))
                case Delivered(payload):
                    self._early += payload
        self.report.transitions += [
            {"time_ns": at, "before": change.before, "after": change.after, "rule": change.rule, "cause": change.cause}
            for change, at in changes
        ]

    def _send(self, packet: Packet) -> None:
        if packet == self._syn and not self.report.transitions:
            return  # it has left already, as ready bytes
        if not isinstance(packet, Segment):
            raise Malformed("a TCP endpoint sends segments only")
        self._port.send(encode(packet), packet.destination.address)


def _cause(stimulus: Stimulus) -> str:
    if isinstance(stimulus, Arrived):
        return f"{stimulus.packet.kind} came"
    return type(stimulus).__name__.lower()
