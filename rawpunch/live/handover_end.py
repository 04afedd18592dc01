"""The handover end: raw packets until the connection is open, an ordinary kernel socket from then on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import Malformed, RawpunchError
from rawpunch.live.end import Order
from rawpunch.live.handover import HandedOver, Prompter, hand_over
from rawpunch.live.kernel_end import CLOSE_BY_RST, evidence_of
from rawpunch.live.raw_end import RawEnd
from rawpunch.live.sockets import RawPort
from rawpunch.tcp.state import Offer
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Flow
from rawpunch.wire.segment import IcmpError, Segment

RULE = "handed_over"
"""What stands as the rule in the transitions, where the kernel took over."""


class HandoverEnd(RawEnd):
    """A raw end that hands its connection over as soon as it is established.

    Args:
        order: what to do.
        port: the host's raw sockets.
        offer: what its SYN offers; None for the profile's own.
        shared: whether connections of ours may be on the local port already (see `Guard`).
        hear: takes in what has come to the port, for all ends that share it; None if this end has the port to itself.
        craft: see `RawEnd`.

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
        hear: Callable[[], None] | None = None,
        craft: Callable[[Segment], bytes] = encode,
    ) -> None:
        super().__init__(order, port, offer=offer, shared=shared, craft=craft)
        self._hear = hear or self._hear_alone
        self._prompter: Prompter | None = None
        self._handed: HandedOver | None = None
        port.stamp_ns()  # from now on the kernel notes when packets come

    @property
    def deadline(self) -> int | None:
        """No timer of ours runs once the kernel has it."""
        return None if self._handed else super().deadline

    def arrived(self, packet: Segment | IcmpError, now: int) -> None:
        """A packet has come; if it opened the connection, hand that over.

        Raises:
            MachineCannot: this process may not; the peer has been reset.
            OSError: the kernel refused; the peer has been reset.
        """
        if self._prompter is not None:
            self._prompt(packet, self._prompter)
            return
        super().arrived(packet, now)
        if self.report.ending == Ending.ESTABLISHED.value:
            self._hand_over()

    def _prompt(self, packet: Segment | IcmpError, prompter: Prompter) -> None:
        """Tell the socket of a packet that came before it could hear."""
        if isinstance(packet, Segment) and packet.flow == Flow(self.order.remote, self.order.local):
            at_ns = self._port.stamp_ns()
            if self._handed is None or (at_ns is not None and at_ns <= self._handed.hearing_ns):
                prompter.tell(packet)

    def _hear_alone(self) -> None:
        for octets in self._port.receive():
            with suppress(Malformed):  # ICMP that is not about a TCP segment
                self.arrived(decode(octets), now_ns())

    def _hand_over(self) -> None:
        try:
            self._prompter = Prompter(ipv6=self.order.local.is_ipv6)
            self._handed = hand_over(self._machine, self._prompter, self._hear, early=bytes(self._early))
        except (RawpunchError, OSError):
            super().finish(now_ns())
            raise
        change = {"before": self._machine.state.value, "after": self._machine.state.value, "rule": RULE, "cause": "TCP_REPAIR"}
        self.report.transitions.append({"time_ns": self._handed.hearing_ns, **change})

    def take(self) -> socket.socket | None:
        """The socket, which is the caller's from now on; None as long as there is none."""
        return self._handed.sock if self._handed else None

    @property
    def took_ns(self) -> int | None:
        """How long the handover took; None before it."""
        return self._handed.took_ns if self._handed else None

    def finish(self, now: int) -> None:
        """Read TCP_INFO and close by RST, as a kernel end does; without a socket, abort."""
        if self._handed is None:
            super().finish(now)
        elif self._handed.sock.fileno() >= 0:
            self.report.evidence = evidence_of(self._handed.sock)
            self._handed.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RST)
            self._handed.sock.close()

    def release(self) -> None:
        """Lift the guard, and tell no more."""
        super().release()
        if self._prompter is not None:
            self._prompter.close()
