"""What a rendezvous server has counted. No clock inside."""

from __future__ import annotations

from dataclasses import dataclass


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
