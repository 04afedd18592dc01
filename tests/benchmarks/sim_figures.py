"""Figures of the simulator and the NAT machine, on one core.

./dev run python tests/benchmarks/sim_figures.py [OFFSETS]
"""

from __future__ import annotations

import random
import sys
import time
from itertools import islice, product

from rawpunch.machine import Arrived
from rawpunch.nat import personas
from rawpunch.nat.behavior import Behavior
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.scene import Nat, Scene
from rawpunch.sim import Trial, punch
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import Flags, Segment

PERSONAS = 16
ONE_WAY_NS = 20 * MS


def matrix(offsets: int) -> None:
    """All pairs of sixteen personas at this many offsets, from twice the one-way delay early to twice late."""
    nats = [Nat(persona=name) for name in islice(personas.names(), PERSONAS)]
    spread = [round(4 * ONE_WAY_NS * (place / max(offsets - 1, 1) - 0.5)) + 1 for place in range(offsets)]
    began, made, opened = time.perf_counter(), 0, 0
    for a, b in product(nats, nats):
        scene = Scene.between(a, b, ONE_WAY_NS)
        for offset_ns in spread:
            opened += punch(scene, Trial(offset_ns=offset_ns), seed=made).opened
            made += 1
    took = time.perf_counter() - began
    each_ms = 1e3 * took / made
    print(f"{PERSONAS} x {PERSONAS} pairs x {offsets} offsets: {took:.1f} s, {each_ms:.2f} ms each, {opened} of {made} opened")


def box(count: int = 20_000) -> None:
    """What one packet costs the NAT machine: the first of a connection, then traffic in both directions."""
    inside, remote, external = Endpoint("10.1.0.2", 4000), Endpoint("203.0.113.2", 5000), Endpoint("198.51.100.2", 4000)
    options = (Mss(1460), SackPermitted(), Timestamps(1, 0), Nop(), WindowScale(7))
    nat = NatBox(Behavior(), [external.address], dice=random.Random(1))
    syns = [Segment(Endpoint(inside.address, 1024 + n), remote, Flags.SYN, 2**31, options=options) for n in range(count)]
    for what, port, packets in (
        ("a connection's first", INSIDE, syns),
        ("traffic out", INSIDE, [Segment(inside, remote, Flags.ACK, 2**31 + 1, 6)] * count),
        ("traffic in", OUTSIDE, [Segment(remote, external, Flags.ACK, 6, 2**31 + 1)] * count),
    ):
        if what == "traffic out":
            nat.step(Arrived(Segment(remote, external, Flags.SYN | Flags.ACK, 5, 2**31 + 1), OUTSIDE), now=0)
        stimuli = [Arrived(packet, port) for packet in packets]
        began = time.perf_counter()
        for now, stimulus in enumerate(stimuli):
            nat.step(stimulus, now=now)
        print(f"NAT machine, {what} packet: {1e6 * (time.perf_counter() - began) / count:.1f} us, n = {count}")


if __name__ == "__main__":
    box()
    matrix(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
