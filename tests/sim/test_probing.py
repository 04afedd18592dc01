"""The whole probe in the simulator: what it says of NATs whose behaviour is known, of no NAT, and when luck is bad."""

from __future__ import annotations

import pytest

from rawpunch.nat import personas
from rawpunch.probe.confusion import Match, compare
from rawpunch.probe.report import Report
from rawpunch.probe.run import probe
from rawpunch.scene import Leg, Nat, Scene
from rawpunch.sim.probing import Circumstances, SimGround
from rawpunch.units import MS, SECOND

ONE_WAY_NS = 20 * MS


def scene(persona: str | None, *, loss: float = 0) -> Scene:
    """A host behind a persona, 20 ms from the observer."""
    nat = Nat(persona=persona) if persona is not None else None
    return Scene(nat_a=nat, nat_b=None, leg_a=Leg(up_ns=ONE_WAY_NS, down_ns=ONE_WAY_NS, loss=loss))


def probed(where: Scene, seed: int, how: Circumstances | None = None) -> tuple[Report, int]:
    """A report, and how long it took (ns)."""
    ground = SimGround(where, seed=seed, circumstances=how)
    began = ground.now()
    return ground.run(probe(ground)), ground.now() - began


@pytest.mark.parametrize("persona", personas.names())
def test_every_persona_is_told_as_it_is(persona: str) -> None:
    """No class is wrong and none is left open, within 15 s."""
    report, took_ns = probed(scene(persona), seed=7)
    rows = compare(report, personas.load(persona).behavior)
    assert [row for row in rows if row.match in {Match.WRONG, Match.NOT_DETERMINED}] == []
    assert took_ns < 15.5 * SECOND
    assert report.broken_off == ""
