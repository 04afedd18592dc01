"""The prober end: plays a branch of an opening to the other end's stack on raw sockets, its own kernel kept silent by a guard."""

from __future__ import annotations

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.live.end import Order, Report
from rawpunch.live.guard import Guard
from rawpunch.live.sockets import RawPort
from rawpunch.machine import Abort, Arrived, Concluded, Open, Send, Stimulus, Woke
from rawpunch.tcp.branches import Prober, parse_branch
from rawpunch.wire.codec import encode_packet
from rawpunch.wire.segment import IcmpError, Segment


class ProberEnd:
    """A driver round one `Prober`.

    Args:
        order: what to do; its script is the branch.
        port: the host's raw sockets, shared by all its crafted ends.

    Raises:
        UsageError: the local port is in use.
        Malformed: the script is no branch.
    """

    def __init__(self, order: Order, port: RawPort) -> None:
        self.order = order
        self.report = Report(order.attempt)
        self._port = port
        self._machine = Prober(order.local, order.remote, iss=order.iss, puts=parse_branch(order.script))
        self._guard = Guard(order.local)

    @property
    def undecided(self) -> bool:
        """Whether there is still something to put, or to wait for."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """The machine's next deadline, or the instant to give up."""
        if not self.undecided:
            return None
        return min(at for at in (self._machine.deadline, self.order.give_up_ns) if at is not None)

    def launch(self, at_ns: int) -> None:
        """Begin to wait for the stack's SYN."""
        self._step(Open(), at_ns)

    def arrived(self, packet: Segment | IcmpError, now: int) -> None:
        """A packet for this end's endpoint has come."""
        self._step(Arrived(packet), now)

    def wake(self, now: int) -> None:
        """Put the next packet, or give up."""
        if now >= self.order.give_up_ns:
            self.report.conclude(Ending.TIMED_OUT, now, "the stack sent no SYN, or not all was put in time")
            self._step(Abort(), now)
        else:
            self._step(Woke(), now)

    def finish(self, now: int) -> None:
        """Put nothing more."""
        self._step(Abort(), now)

    def release(self) -> None:
        """Lift the guard."""
        self._guard.close()

    def _step(self, stimulus: Stimulus, now: int) -> None:
        for effect in self._machine.step(stimulus, now=now):
            match effect:
                case Send(packet):
                    self._port.send(encode_packet(packet), self.order.remote.address)
                case Concluded(ending):
                    self.report.conclude(ending, now_ns())
