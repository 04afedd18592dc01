"""One attempt at a connection by raw packets, which the kernel takes over; see `opening`."""

from __future__ import annotations

import select
import threading
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import Malformed
from rawpunch.live.end import Order
from rawpunch.live.handover_end import HandoverEnd
from rawpunch.live.offering import kernels_offer
from rawpunch.live.opening import Opened, Opening, error_of
from rawpunch.live.packet_filter import one_flow
from rawpunch.live.sockets import RawPort, TcpInfo
from rawpunch.wire.codec import decode
from rawpunch.wire.segment import Segment

_TCP_CLOSE: Final = 7
"""A state of struct tcp_info (net/tcp_states.h)."""


class RawOpening(Opening):
    """An attempt by raw packets: a handover end with a packet socket of its own.

    Args:
        order: what to do.
        mtu: of the way, in octets: its SYN offers what this host's kernel would.

    Raises:
        UsageError: the local port is in use.
        MachineCannot: this process lacks what raw packets take.
    """

    events: Final = select.POLLIN

    def __init__(self, order: Order, mtu: int) -> None:
        self._port = RawPort(one_flow(order.local, order.remote), ipv6=order.remote.is_ipv6)
        try:
            offer = kernels_offer(mtu, ipv6=order.remote.is_ipv6)
            self._end = HandoverEnd(order, self._port, offer=offer, shared=True)
        except BaseException:
            self._port.close()
            raise
        super().__init__(order, self._end)

    def fileno(self) -> int:
        """What becomes readable when a packet has come."""
        return self._port.fileno()

    def launch(self) -> None:
        """Send the SYN."""
        self._end.launch(self.order.at_ns)

    def attend(self) -> None:
        """Take in what has come, and do what is due."""
        self._hear()
        deadline = self._end.deadline
        if self._end.undecided and deadline is not None and deadline <= now_ns():
            self._end.wake(now_ns())

    def _hear(self) -> None:
        for octets in self._port.receive():
            try:
                packet = decode(octets)
            except Malformed:
                continue  # ICMP that is not about a TCP segment
            if (packet.destination if isinstance(packet, Segment) else packet.quoted.source) == self.order.local:
                self._end.arrived(packet, now_ns())

    def opened(self, *, blocking: bool) -> Opened:
        """The connection.

        Raises:
            OSError: there is none; its errno says why.
        """
        self._hear()  # whatever came during the handover is said again now
        sock = self._end.take()
        if sock is None:
            raise error_of(self._end.report.ending, self._end.report.cause)
        if TcpInfo.of(sock).state == _TCP_CLOSE:
            raise error_of(Ending.RESET.value, "the peer reset the connection while it was handed over")
        sock.setblocking(blocking)
        self._taken = True
        return Opened(sock, self.order.local, self.order.remote, "raw", "")

    def close(self) -> None:
        """Leave nothing behind but the socket, if it was taken."""
        if not self._taken:
            self._end.finish(now_ns())
        self._end.release()
        threading.Thread(target=self._port.close, name="close").start()  # the kernel takes 15 ms for it, and nobody has to wait
