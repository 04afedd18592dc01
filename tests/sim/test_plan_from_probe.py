"""The whole way in the simulator: both sides are probed, and their reports are enough for the plan that the NATs deserve."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from rawpunch.errors import BadParameter
from rawpunch.nat import oracle, personas
from rawpunch.probe.run import probe
from rawpunch.punch.known import Known, nat_hops
from rawpunch.punch.plan import make_plan
from rawpunch.scene import Leg, Nat, Scene
from rawpunch.sim.probing import SimGround
from rawpunch.units import MS

NATS = (None, *personas.names())


@pytest.fixture(scope="module")
def reports() -> dict[str | None, dict[str, Any]]:
    """What a probe says of each persona, as it would be sent to the other side."""
    found = {}
    for name in NATS:
        leg = Leg(up_ns=20 * MS, down_ns=20 * MS)
        ground = SimGround(Scene(nat_a=Nat(persona=name) if name else None, nat_b=None, leg_a=leg), seed=1)
        found[name] = ground.run(probe(ground)).to_json()
    return found


def test_reports_lead_to_the_strategy_that_the_oracle_names(reports: dict[str | None, dict[str, Any]]) -> None:
    """For all 841 pairs: the oracle looks at the NATs themselves, the plan at what was found out about them from outside."""
    known = {name: Known.of_findings(report["findings"]) for name, report in reports.items()}
    differs = {}
    for a, b in product(NATS, NATS):
        planned = make_plan(known[a], known[b]).first.strategy
        told = oracle.best(*(personas.load(name).behavior if name else None for name in (a, b)))
        if planned is not told.strategy:
            differs[a, b] = (planned, told.strategy)
    assert differs == {}


def test_the_outermost_nat_is_the_last_private_router(reports: dict[str | None, dict[str, Any]]) -> None:
    """One hop behind a NAT at home, more behind a carrier's; garbage is refused."""
    assert nat_hops(reports["port-restricted"]["path"]) == 1
    steps = [{"ttl": 1, "private": True}, {"ttl": 2, "private": False}, {"ttl": 3, "private": True}, {"ttl": 4, "private": False}]
    assert nat_hops({"steps": steps}) == 3
    assert nat_hops({}) == 1
    with pytest.raises(BadParameter):
        nat_hops({"steps": [{"ttl": "x", "private": True}]})
    with pytest.raises(BadParameter):
        nat_hops({"steps": [7]})
