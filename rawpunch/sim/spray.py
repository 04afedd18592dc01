"""A birthday spray in virtual time: one host opens many ports, the other tries many, and every pair that meets is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rawpunch.ending import Ending
from rawpunch.rng import stream
from rawpunch.scene import Scene, Side
from rawpunch.sim.attempt import PORTS, learn
from rawpunch.sim.host import SimEnd
from rawpunch.sim.world import World
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.ttl import DEFAULT_TTL

_FIRST_HELD: Final = 2_000
"""Inside ports of the side that opens many: from here on."""


@dataclass(frozen=True, slots=True)
class Sprayed:
    """What came of a spray."""

    opened: tuple[int, ...]
    """External ports that were open."""
    tried: tuple[int, ...]
    """Ports that were tried."""
    met: tuple[int, ...]
    """Ports that are in both: hits, as the NAT's own table has them."""
    established: int
    """Connections that came of them, at both ends."""


def spray(
    scene: Scene,
    drawing: Side,
    opened: int,
    tried: int,
    *,
    seed: int,
    ports: tuple[int, int] = (1024, 65_535),
    first_ttl: int = DEFAULT_TTL,
    step_ns: int = 10_000,
) -> Sprayed:
    """Spray once, in a world of its own.

    Args:
        scene: the world.
        drawing: the side whose NAT draws its ports: it opens many towards the other's endpoint, which an observer told.
        opened: how many.
        tried: how many different ports of the drawing side's address the other one tries, from one port of its own.
        seed: source of all chance.
        ports: the range that is tried.
        first_ttl: time to live of the SYNs that open.
        step_ns: from one SYN to the next.
    """
    other: Side = "b" if drawing == "a" else "a"
    world = World(scene, seed=seed, record=False)
    host, trying = f"host{drawing.upper()}", f"host{other.upper()}"
    local = Endpoint(scene.host_address(other), PORTS[other])
    target = learn(world, {other: local}).get(other, Endpoint(scene.public_address(other), PORTS[other]))
    start_ns = world.now
    give_up_ns = start_ns + opened * step_ns + tried * step_ns + SECOND
    held: list[SimEnd] = []
    for place in range(opened):
        mine = Endpoint(scene.host_address(drawing), _FIRST_HELD + place)
        held.append(world.end(host, mine, target, give_up_ns=give_up_ns, first_ttl=first_ttl))
        world.open(host, held[-1], start_ns + place * step_ns)
    aims = tuple(stream(seed, "aims").sample(range(ports[0], ports[1] + 1), tried))
    begins_ns = start_ns + opened * step_ns + MS
    tries: list[SimEnd] = []
    for place, port in enumerate(aims):
        tries.append(
            world.end(trying, local, Endpoint(scene.public_address(drawing), port), give_up_ns=give_up_ns, first_ttl=DEFAULT_TTL)
        )
        world.open(trying, tries[-1], begins_ns + place * step_ns)
    world.run(until_ns=begins_ns)
    open_ports = _open_ports(world, drawing, held, target)
    world.run(until_ns=give_up_ns)
    established = sum(end.ending is Ending.ESTABLISHED for end in tries)
    both = min(established, sum(end.ending is Ending.ESTABLISHED for end in held))
    return Sprayed(open_ports, aims, tuple(sorted(set(open_ports) & set(aims))), both)


def _open_ports(world: World, drawing: Side, held: list[SimEnd], target: Endpoint) -> tuple[int, ...]:
    nat = world.nat(drawing)
    if nat is None:
        return tuple(end.machine.local.port for end in held)
    return tuple(binding.external.port for binding in nat.bindings if target in binding.remotes)
