"""The observer's endpoints that a probe uses."""

from __future__ import annotations

from dataclasses import dataclass

from rawpunch.probe.ground import Ground
from rawpunch.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Remotes:
    """Held ports, which answer nothing by themselves, and one that listens.

    All but the last three are sent to from inside; those are only shot from.
    """

    first: Endpoint
    other_port: Endpoint
    """The same address, another port."""
    other_address: Endpoint | None
    """None where the observer has one."""
    control: Endpoint
    """Of the first address: where sessions that controls go through lead to."""
    listening: Endpoint
    stranger_port: Endpoint
    """Of the first address; nothing is sent to it before it sends."""
    stranger_address: Endpoint | None
    """Of the second address, the same."""
    unsolicited: tuple[Endpoint, ...]


async def take(ground: Ground, unsolicited: int) -> Remotes:
    """Take the ports.

    Raises:
        NotOffered: the observer has no raw sockets, or too few ports.
        PartialData: it is gone.
    """
    two = len(ground.outside.addresses) > 1
    wanted = [0, 0, 0, 0, *([1, 1] if two else []), *([1 if two else 0] * unsolicited)]
    held: list[Endpoint] = await ground.together(*(ground.hold(address) for address in wanted))
    first, other_port, control, stranger_port = held[:4]
    other_address, stranger_address = (held[4], held[5]) if two else (None, None)
    listening = Endpoint(ground.outside.addresses[0], ground.outside.ports[0])
    rest = tuple(held[6:] if two else held[4:])
    return Remotes(first, other_port, other_address, control, listening, stranger_port, stranger_address, rest)
