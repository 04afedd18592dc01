"""What an observer lets a stranger have: octets, requests, connections, memory. No clock inside; time is an argument in ns."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from rawpunch.units import SECOND

KNOWN_ADDRESSES: Final = 4_096
"""Addresses that are remembered; the one not heard of for longest is forgotten first."""
MAX_CREDIT: Final = 4_096
"""Octets that an address can save up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is allowed. The defaults leave room for a full probe and for little else."""

    connections: int = 400
    """Open ones, of all addresses."""
    connections_per_address: int = 200
    new_connections_per_s: float = 100
    """Of one address, after a burst of five times that; further ones are closed at once."""
    requests_per_s: float = 200
    """Of one address, after a burst of the same; over TCP further ones wait, over UDP they are dropped."""
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
    first_s: float = 10
    """How long a connection may be silent before its first message."""
    idle_s: float = 120
    """How long it may be silent afterwards."""
    message_s: float = 5
    """How long a message may take from its first octet to its last, and how long an answer may wait to be taken."""
    grace_s: float = 30
    """How long a session lives without a connection."""


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
