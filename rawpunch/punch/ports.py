"""External ports: those that a NAT was seen to give, and a guess at the next one. `predict` makes one from the other."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rawpunch.errors import BadParameter
from rawpunch.wire.endpoint import MAX_PORT


class Kind(enum.StrEnum):
    """Rules that a NAT may follow."""

    SAME = "same"
    KEPT = "kept"
    STEPS = "steps"
    DRAWN = "drawn"


@dataclass(frozen=True, slots=True)
class Mapped:
    """A new mapping of ours."""

    port: int
    """As seen outside."""
    inside_port: int | None = None
    at_ns: int | None = None
    """When it was made."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            BadParameter: a port is none.
        """
        for port in (self.port, self.inside_port):
            if port is not None and not 0 < port <= MAX_PORT:
                raise BadParameter(f"{port} is no port", todo="ports are 1..65535")


@dataclass(frozen=True, slots=True)
class Guess:
    """A port, and how likely it is the next one."""

    port: int
    odds: float
