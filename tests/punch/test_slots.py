"""Slots: both sides try the same at the same time, one thing after the other."""

from __future__ import annotations

import itertools

import pytest

from rawpunch.nat.oracle import Strategy
from rawpunch.punch.known import Known
from rawpunch.punch.plan import Path, make_plan
from rawpunch.punch.slots import gap_ns, slots_of
from rawpunch.units import MS

NOTHING = Known.of_findings({})
NO_NAT = Known.of_findings({"mapping": {"class": "none"}})


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("sides", [(NOTHING, NOTHING), (NO_NAT, NOTHING), (NOTHING, NO_NAT)])
def test_slots_follow_each_other(sides: tuple[Known, Known], inside: bool) -> None:
    """Every try of every step but the relay has its slot, and what is on its way at a slot's end has arrived before the next."""
    plan = make_plan(*sides, Path((30 * MS, 30 * MS), 2 * MS))
    slots = list(slots_of(plan, inside=inside))
    assert len(slots) == inside + sum(step.tries for step in plan.steps if step.strategy is not Strategy.RELAY)
    assert slots[0].begins_ns == 0
    assert [slot.inside for slot in slots] == [inside] * inside + [False] * (len(slots) - inside)
    for slot in slots:
        assert slot.begins_ns + max(slot.step.a.begins_ns, slot.step.b.begins_ns) < slot.opened_by_ns < slot.ends_ns
    for one, following in itertools.pairwise(slots):
        assert following.begins_ns - one.ends_ns == gap_ns(plan.path) > 2 * 30 * MS


def test_what_only_a_relay_can_do_has_no_slot() -> None:
    """Where something terminates TCP nothing is tried."""
    proxied = Known.of_findings({"terminates_tcp": {"class": "true"}})
    assert not list(slots_of(make_plan(proxied, NOTHING)))
