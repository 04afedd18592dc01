"""What a rendezvous server lets a peer have, and what it has counted. No clock inside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RendezvousLimits:
    """How much is allowed. The defaults leave room for thousands of peers who introduce themselves, and for nothing else."""

    connections: int = 10_000
    """Open ones, of all addresses; the server also needs as many files (ulimit -n)."""
    connections_per_address: int = 64
    new_connections_per_s: float = 20
    """Of one address, after a burst of five times that; further ones are closed at once."""
    peers_per_room: int = 16
    pairs_per_peer: int = 8
    """Introductions of one peer that are under way."""
    requests_per_s: float = 20
    """Of one connection, after a burst of the same; further ones wait."""
    octets: int = 1 << 18
    """Of one connection, all that it may ever send: a session takes about a thousand."""
    unsent: int = 1 << 17
    """Octets that may wait for a peer who does not take them; then it is cut off."""
    first_s: float = 10
    """How long a connection may be silent before its first message."""
    message_s: float = 5
    """How long a message may take from its first octet to its last."""
    expiry_s: float = 120
    """How long a peer may be silent afterwards; asking for the time now and then is enough."""
    pair_s: float = 30
    """How long an introduction waits for both to be ready."""
    plain_peers: int = 64
    """In the plain mode's one list."""
    plain_s: float = 600
    """How long one of them stays in it."""


@dataclass(slots=True)
class Counted:
    """What has passed the server since it began."""

    connections: int = 0
    refused: int = 0
    """Connections closed at once, for a limit's sake."""
    cut_off: int = 0
    """Connections closed for garbage, slowness, silence or too many octets."""
    registered: int = 0
    introduced: int = 0
    started: int = 0
    """Pairs that were given a common start."""
    bindings: int = 0
    """STUN requests answered."""
    came: int = 0
    """Octets."""
    went: int = 0
