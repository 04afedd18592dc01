"""One attempt of two hosts to connect through their NATs, in a world of its own.

Each host may first ask an observer what it looks like outside, from the very port that it will open from (claim C9), and keeps
that connection open. Then both open towards each other's endpoint, one later by the offset.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from rawpunch.ending import Ending
from rawpunch.machine import Listen
from rawpunch.scene import OBSERVERS, SIDES, Scene, Side
from rawpunch.sim.host import SimEnd
from rawpunch.sim.world import World
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import MAX_PORT, Endpoint
from rawpunch.wire.ttl import DEFAULT_TTL

LOW_TTL: Final = 2
"""A SYN with this time to live passes its own NAT and dies in the core."""
PORTS: Final = {"a": 20_001, "b": 30_002}
"""Where the hosts open from."""

_OBSERVER: Final = Endpoint(OBSERVERS["obs1"][0], 3478)
_SECOND_OBSERVER: Final = Endpoint(OBSERVERS["obs2"][0], 3478)
_POKED_PORT: Final = 9
_LEARNING_NS: Final = SECOND


class Aim(enum.StrEnum):
    """How a host knows the other's endpoint."""

    ASSUMED = "assumed"
    """It takes the other's inside port for the outside one."""
    LEARNED = "learned"
    """The other asked an observer and passed the answer on."""
    PREDICTED = "predicted"
    """The other asked two observers, and the next port is as far from the second's as that is from the first's."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the two hosts do."""

    offset_ns: int = 0
    """Start of B after the start of A; negative when B is first."""
    aim: Aim = Aim.LEARNED
    low_ttl: Side | None = None
    """Whose first SYN is to open its own NAT and to die before the other's."""
    give_up_ns: int = 3 * SECOND
    """How long after its own start an end without an answer gives up."""
    stack: str = "linux"


@dataclass(frozen=True, slots=True)
class Punched:
    """What became of it."""

    a: SimEnd
    b: SimEnd
    world: World

    @property
    def opened(self) -> bool:
        """Whether both ends are established."""
        return self.a.ending is Ending.ESTABLISHED and self.b.ending is Ending.ESTABLISHED


def punch(scene: Scene, trial: Trial, *, seed: int, record: bool = False) -> Punched:
    """Make one attempt in a fresh world."""
    world = World(scene, seed=seed, record=record)
    local: dict[Side, Endpoint] = {side: Endpoint(scene.host_address(side), PORTS[side]) for side in SIDES}
    seen: dict[Side, Endpoint] = {side: Endpoint(scene.public_address(side), PORTS[side]) for side in SIDES}
    if trial.aim is not Aim.ASSUMED:
        seen |= learn(world, local)
    if trial.aim is Aim.PREDICTED:
        again = learn(world, local, _SECOND_OBSERVER)
        seen |= {side: following(seen[side], endpoint) for side, endpoint in again.items()}
    start = world.now
    late: dict[Side, int] = {"a": max(0, -trial.offset_ns), "b": max(0, trial.offset_ns)}
    ends: dict[Side, SimEnd] = {}
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        host, begins = f"host{side.upper()}", start + late[side]
        ends[side] = world.end(
            host,
            local[side],
            seen[other],
            stack=trial.stack,
            give_up_ns=begins + trial.give_up_ns,
            first_ttl=LOW_TTL if trial.low_ttl == side else DEFAULT_TTL,
        )
        world.open(host, ends[side], begins)
    a, b = ends["a"], ends["b"]
    world.run(until=lambda: a.ending is not None and b.ending is not None)
    return Punched(a, b, world)


def reverse(scene: Scene, listens: Side, *, seed: int, poke: bool = False, record: bool = False) -> Punched:
    """Let one host listen where an observer saw it, and the other connect there.

    Args:
        scene: the world.
        listens: the side that listens.
        seed: source of all chance.
        poke: whether it first sends a SYN, which dies on the way, to the other's address.
        record: whether packets are kept.
    """
    world = World(scene, seed=seed, record=record)
    other: Side = "b" if listens == "a" else "a"
    local = {side: Endpoint(scene.host_address(side), PORTS[side]) for side in SIDES}
    host, caller = f"host{listens.upper()}", f"host{other.upper()}"
    mine = learn(world, {listens: local[listens]}).get(listens, local[listens])
    give_up_ns = world.now + 3 * SECOND
    server = world.end(host, local[listens], None, give_up_ns=give_up_ns)
    world.do(host, server, Listen())
    if poke:
        towards = Endpoint(scene.public_address(other), _POKED_PORT)
        world.open(host, world.end(host, local[listens], towards, give_up_ns=world.now + 1, first_ttl=LOW_TTL))
        world.run(until_ns=world.now + 1)
    client = world.end(caller, local[other], mine, give_up_ns=give_up_ns)
    world.open(caller, client)
    world.run(until=lambda: server.ending is not None and client.ending is not None)
    return Punched(server, client, world) if listens == "a" else Punched(client, server, world)


def following(first: Endpoint, second: Endpoint) -> Endpoint:
    """The endpoint that comes after these two, if they are steps of one size."""
    port = 2 * second.port - first.port
    return Endpoint(second.address, port) if 0 < port <= MAX_PORT else second


def learn(world: World, local: dict[Side, Endpoint], observer: Endpoint = _OBSERVER) -> dict[Side, Endpoint]:
    """Let each host connect to an observer, and say which endpoint the observer saw; a host that got no answer is left out."""
    asking: dict[Side, SimEnd] = {}
    for side, endpoint in local.items():
        host = f"host{side.upper()}"
        asking[side] = world.end(host, endpoint, observer, give_up_ns=world.now + _LEARNING_NS)
        world.open(host, asking[side])
    world.run(until=lambda: all(end.ending is not None for end in asking.values()))
    servers = [end.machine for name in OBSERVERS for end in world.host(name).ends if isinstance(end, SimEnd)]
    answered = {machine.iss: machine.remote for machine in servers}
    seen: dict[Side, Endpoint] = {}
    for side, end in asking.items():
        remote = answered.get(end.machine.irs or 0)
        if end.ending is Ending.ESTABLISHED and remote is not None:
            seen[side] = remote
    return seen
