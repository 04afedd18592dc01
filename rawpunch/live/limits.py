"""What our two servers let a stranger have: connections, requests, octets, memory. No clock inside; time is an argument in ns."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from rawpunch.units import SECOND

KNOWN_ADDRESSES: Final = 4_096
"""Addresses that are remembered; the one not heard of for longest is forgotten first."""
MAX_CREDIT: Final = 4_096
"""Octets that an address can save up."""
_BURST: Final = 5
"""Seconds of new connections that may come at once."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much is allowed at any server."""

    connections: int
    """Open ones, of all addresses; the server also needs as many files (ulimit -n)."""
    connections_per_address: int
    new_connections_per_s: float
    """Of one address, after a burst of five times that; further ones are closed at once."""
    requests_per_s: float
    """After a burst of the same; over TCP further ones wait, over UDP they are dropped."""
    first_s: float = 10
    """How long a connection may be silent before its first message."""
    message_s: float = 5
    """How long a message may take from its first octet to its last, and how long an answer may wait to be taken."""
    silence_s: float = 120
    """How long a connection may be silent afterwards; asking for the time now and then is enough."""


@dataclass(frozen=True, slots=True)
class ObserverLimits(ServerLimits):
    """Those of an observer. The defaults leave room for a full probe and for little else."""

    connections: int = 400
    connections_per_address: int = 200
    new_connections_per_s: float = 100
    requests_per_s: float = 200
    """Of one address."""
    packets_per_s: float = 100
    """Crafted packets and connections back to one address, after a burst of the same."""
    sessions: int = 32
    sessions_per_address: int = 8
    held: int = 256
    """Ports, of all sessions; with all connections they stay below the 1,024 files that a process may usually have open."""
    held_per_session: int = 64
    connects_back: int = 64
    """Under way, of all sessions."""
    addresses_per_session: int = 16
    requests_at_once: int = 16
    """Under way on one connection; it is not read from while there are more."""
    log: int = 16_384
    """Packets kept for a session."""
    grace_s: float = 30
    """How long a session lives without a connection."""


@dataclass(frozen=True, slots=True)
class RendezvousLimits(ServerLimits):
    """Those of a rendezvous server. The defaults leave room for thousands of peers who introduce themselves, and no more."""

    connections: int = 10_000
    connections_per_address: int = 64
    new_connections_per_s: float = 20
    requests_per_s: float = 20
    """Of one connection."""
    peers_per_room: int = 16
    pairs_per_peer: int = 8
    """Introductions of one peer that are under way."""
    octets: int = 1 << 18
    """Of one connection, all that it may ever send: a session takes about a thousand."""
    unsent: int = 1 << 17
    """Octets that may wait for a peer who does not take them; then it is cut off."""
    pair_s: float = 30
    """How long an introduction waits for both to be ready."""
    plain_peers: int = 64
    """In the plain mode's one list."""
    plain_s: float = 600
    """How long one of them stays in it."""


class Credit:
    """Octets that an address has sent us and not yet had back.

    Whoever forges a source address can make us send to his victim no more than he has sent us himself.
    """

    def __init__(self) -> None:
        self._balance: OrderedDict[str, int] = OrderedDict()

    def earn(self, address: str, octets: int) -> None:
        """That many octets have come from an address."""
        self._balance[address] = min(self._balance.pop(address, 0) + octets, MAX_CREDIT)
        if len(self._balance) > KNOWN_ADDRESSES:
            self._balance.popitem(last=False)

    def spend(self, address: str, octets: int) -> bool:
        """Whether that many octets may go to an address; if so, they count as gone."""
        balance = self._balance.get(address, 0)
        if octets > balance:
            return False
        self._balance[address] = balance - octets
        return True


class Rates:
    """A token bucket for each address.

    Args:
        per_s: tokens that come in a second.
        burst: tokens that a bucket holds; it is full at first.
    """

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_ns = per_s / SECOND
        self._burst = max(burst, 1.0)
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, address: str, now: int) -> int:
        """Take a token.

        Returns:
            0 if there was one; else the time in ns until there will be one, and none is taken.
        """
        tokens, since = self._buckets.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + max(now - since, 0) * self._per_ns)
        wait = 0 if tokens >= 1 else max(round((1 - tokens) / self._per_ns), 1)
        self._buckets[address] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > KNOWN_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class Door:
    """Who may come in: so many connections, so many of one address, and so many new ones a second."""

    def __init__(self, limits: ServerLimits) -> None:
        self.rates = Rates(limits.new_connections_per_s, _BURST * limits.new_connections_per_s)
        """Of new connections, by address."""
        self._limits = limits
        self._open: Counter[str] = Counter()
        self.inside = 0
        """Connections that came in and have not left."""

    def enter(self, address: str, now: int) -> bool:
        """Whether one more connection of an address may; if so, it counts as open until it leaves."""
        full = self.inside >= self._limits.connections or self._open[address] >= self._limits.connections_per_address
        if full or self.rates.take(address, now):
            if not self._open[address]:
                del self._open[address]
            return False
        self.inside += 1
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One that came in has gone."""
        self.inside -= 1
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]
