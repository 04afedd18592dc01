"""A sample in virtual time: the SYNs of a host through its NAT, to observers that keep silent."""

from __future__ import annotations

from rawpunch.scene import OBSERVERS, Scene
from rawpunch.sim.world import Sighting, World
from rawpunch.study.sampling import PlannedSample
from rawpunch.units import MS


def sampled(sample: PlannedSample, scene: Scene, *, seed: int, start_ns: int) -> tuple[list[Sighting], int]:
    """Take a sample in a world of its own; returns what was seen, and when it was over."""
    world = World(scene, seed=seed, start_ns=start_ns)
    host = world.host("hostA")
    for observer in OBSERVERS:
        world.host(observer).tap = lambda _packet, _now: True
    for place, connection in enumerate(sample.connections):
        world.at(sample.began_ns + place * sample.interval_ns, host.emit, connection.segment())
    over_ns = sample.began_ns + len(sample.connections) * sample.interval_ns + sum(scene.one_way_ns) + 20 * MS
    world.run(until_ns=over_ns)
    return world.sightings, over_ns
