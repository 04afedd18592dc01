"""The replay end: one side of a captured flow on raw sockets, its kernel kept silent by a guard."""

from __future__ import annotations

from typing import Final

from rawpunch.clock import now_ns, spin_until
from rawpunch.ending import Ending
from rawpunch.errors import Malformed
from rawpunch.live.end import Order, Report
from rawpunch.live.guard import Guard
from rawpunch.live.sockets import RawPort
from rawpunch.machine import Arrived, Concluded, Open, Send, Stimulus, Woke
from rawpunch.replay.part import Part
from rawpunch.units import SECOND, US
from rawpunch.wire.codec import encode
from rawpunch.wire.packets import craft
from rawpunch.wire.segment import IcmpError, Segment

_EARLY_NS: Final = 300 * US
"""How long before a packet's instant it wants to be woken; the rest is spun away."""
_READY_NS: Final = 250 * US
"""How long before an expected arrival its answer is rehearsed for the last time."""
_STALE_NS: Final = 1 * SECOND
"""A time stamp older than this is not the packet's."""


class ReplayEnd:
    """A driver round one `Player`: scapy crafts the first segment ahead of its instant, the others leave as ready bytes.

    Args:
        order: what to do.
        part: what to play.
        port: the host's raw sockets, shared by all its crafted ends.

    Raises:
        UsageError: the local port is in use.
    """

    def __init__(self, order: Order, part: Part, port: RawPort) -> None:
        self.order = order
        self.report = Report(order.attempt)
        self.player = part.player(local=order.local, remote=order.remote, iss=order.iss)
        self._port = port
        self._port.stamp_ns()  # from now on the kernel notes them
        self._guard = Guard(order.local)
        self._left = self.player.upcoming()
        """A segment that leaves, or has left, before the player is told."""
        self._first_bytes = craft(self._left) if self._left is not None else b""

    @property
    def undecided(self) -> bool:
        """Whether there is still something to send or to wait for."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """Shortly before the player's next deadline, or the instant to give up."""
        if not self.undecided:
            return None
        player = self.player.deadline
        return self.order.give_up_ns if player is None else min(player - _EARLY_NS, self.order.give_up_ns)

    @property
    def ready_ns(self) -> int | None:
        """Shortly before the arrival is expected that the next segment answers; None if none is."""
        expected_ns = self.player.expected_ns if self.undecided else None
        return None if expected_ns is None else expected_ns - _READY_NS

    def launch(self, at_ns: int) -> None:
        """Open: a segment that waits for nothing leaves first, then the player is told, so that nothing delays the packet."""
        if self._left is not None:
            self._port.send(self._first_bytes, self._left.destination.address)
        self._step(Open(), at_ns)
        self._left = None

    def arrived(self, packet: Segment | IcmpError, now: int) -> None:
        """A packet for this end's endpoint has come; what follows it counts from when the kernel had it."""
        stamp_ns = self._port.stamp_ns()
        self._step(Arrived(packet), now if stamp_ns is None else min(max(stamp_ns, now - _STALE_NS), now))
        if self._left is not None:  # not launched yet, and the peer may be somewhere else than was thought
            self._left = self.player.upcoming()
            self._first_bytes = encode(self._left) if self._left is not None else b""
        self._keep_up()

    def wake(self, now: int) -> None:
        """Step the player at its deadline, to the microsecond, or give up."""
        if now >= self.order.give_up_ns:
            self._conclude(self.player.ending(), now, "the replay was given up")
            return
        self._keep_up()

    def _keep_up(self) -> None:
        """Send what is due, and what will be soon."""
        while self.undecided and (due_ns := self.player.deadline) is not None and due_ns - now_ns() <= _EARLY_NS:
            self._left = self.player.upcoming()
            data = encode(self._left) if self._left is not None else b""
            now = spin_until(due_ns)
            if self._left is not None:
                self._port.send(data, self._left.destination.address)
            self._step(Woke(), now)
            self._left = None

    def finish(self, now: int) -> None:
        """Nothing: a replay sends what its script has and no more."""

    def release(self) -> None:
        """Lift the guard."""
        self._guard.close()

    def _step(self, stimulus: Stimulus, now: int) -> None:
        for effect in self.player.step(stimulus, now=now):
            match effect:
                case Send(Segment() as segment):
                    if segment != self._left:
                        self._port.send(encode(segment), segment.destination.address)
                    self._left = None  # the next one like it has not left yet
                case Send():
                    raise Malformed("a TCP endpoint sends segments only")
                case Concluded(ending):
                    waited = self.player.waiting_for
                    self._conclude(ending, now, f"{waited} never came" if waited else "")

    def _conclude(self, ending: Ending, now: int, cause: str) -> None:
        decided = self.player.decided_ns()
        self.report.conclude(ending, now if decided is None else decided, cause)
