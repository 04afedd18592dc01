"""The plain mode: a minimal broker's peer list, for programs that know nothing of ours.

Whoever connects is in the list for as long as the connection lasts. Each gets the list of all others: a count octet, then six
octets for each endpoint, as soon as it connects and again whenever somebody joins. What it sends is thrown away.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from rawpunch.clock import now_ns
from rawpunch.live.limits import Rates, RendezvousLimits
from rawpunch.live.rendezvous_counted import Counted
from rawpunch.punch.rendezvous import encode_plain
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

_MAX_SAID: Final = 256
"""Octets that one may send: nobody has anything to say here."""


class PlainPeers:
    """Those in the list, in the order in which they came."""

    def __init__(self, limits: RendezvousLimits, counted: Counted, rates: Rates) -> None:
        self.limits = limits
        self.counted = counted
        self.rates = rates
        self.peers: dict[PlainPeer, None] = {}

    def tell(self) -> None:
        """Send everybody the list of the others."""
        for one in list(self.peers):
            octets = encode_plain([other.source for other in self.peers if other is not one])
            self.counted.went += len(octets)
            one.transport.write(octets)
            if one.transport.get_write_buffer_size() > self.limits.unsent:
                self.counted.cut_off += 1
                one.transport.abort()

    def expire(self, now: int) -> None:
        """Close the connections that have lasted long enough."""
        for one in [one for one in self.peers if one.until_ns <= now]:
            one.transport.abort()


class PlainPeer(asyncio.Protocol):
    """One connection."""

    __slots__ = ("_all", "_said", "source", "transport", "until_ns")

    def __init__(self, peers: PlainPeers) -> None:
        self._all = peers
        self._said = 0
        self.until_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join, if there is room for an IPv4 peer."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._all.counted.connections += 1
        full = len(self._all.peers) >= self._all.limits.plain_peers
        if peer is None or ":" in peer[0] or full or self._all.rates.take(peer[0], now_ns()):
            self._all.counted.refused += 1
            self.transport.abort()
            return
        self.source = Endpoint(peer[0], peer[1])
        self.until_ns = now_ns() + round(self._all.limits.plain_s * SECOND)
        self._all.peers[self] = None
        self._all.tell()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  why it went makes no difference
        """Leave."""
        self._all.peers.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Throw it away; who says much is cut off."""
        self._said += len(data)
        self._all.counted.came += len(data)
        if self._said > _MAX_SAID:
            self._all.counted.cut_off += 1
            self.transport.abort()
