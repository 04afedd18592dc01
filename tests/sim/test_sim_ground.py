"""The simulator's ground keeps what the Protocol promises to plans."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from rawpunch.errors import BadParameter, PartialData
from rawpunch.probe.conversation import told
from rawpunch.probe.ground import Ground, NotOffered, Place
from rawpunch.probe.kit import Kit
from rawpunch.probe.messages import Craft, Outcome, Refusal, SendPacket
from rawpunch.scene import Leg, Nat, Scene
from rawpunch.sim.probing import Circumstances, SimGround
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Segment

RTT_NS = 40 * MS


def ground(persona: str = "full-cone", **how: Any) -> SimGround:
    """A ground behind a persona, 20 ms from the observer."""
    leg = Leg(up_ns=RTT_NS // 2, down_ns=RTT_NS // 2)
    return SimGround(Scene(nat_a=Nat(persona=persona), nat_b=None, leg_a=leg), seed=4, circumstances=Circumstances(**how))


def run(on: SimGround, plan: Coroutine[Any, Any, Any]) -> Any:
    """Run a plan there."""
    return on.run(plan)


def test_it_is_a_ground() -> None:
    """For the type checker too."""
    here: Ground = ground()
    assert len(here.insiders) == 2
    assert here.outside.raw


def test_ports_are_fresh_and_as_wished() -> None:
    """Never the same twice on one host; the same number on the other host is another port."""
    here = ground()
    ports = [here.reserve(parity=number % 2) for number in range(200)]
    assert len(set(ports)) == 200
    assert [endpoint.port % 2 for endpoint in ports] == [number % 2 for number in range(200)]
    assert here.reserve(1, port=ports[0].port) == Endpoint(here.insiders[1], ports[0].port)
    here.release(ports[0])
    with pytest.raises(BadParameter, match="reserved before"):
        here.reserve(port=ports[0].port)


def test_a_syn_is_seen_outside_with_its_mapped_endpoint_and_an_answer_inside() -> None:
    """Records are numbered in the order in which they become known; our own are handed back, not seen."""
    here = ground()

    async def plan() -> None:
        kit = Kit(here)
        held = await here.hold(answer=Craft.SYN_ACK)
        began = here.now()
        opening = await kit.open(held)
        assert opening is not None
        assert here.now() - began == pytest.approx(RTT_NS, abs=MS)
        assert opening.mapped.address == here.proved[0]
        assert opening.came is not None
        assert opening.came.number > opening.sent.number
        assert opening.syn.ttl == 64 - 2
        await here.sleep(RTT_NS)
        (answer,) = here.seen(Place.INSIDE, opening.inside)
        assert isinstance(answer.packet, Segment)
        assert answer.packet.kind == "SYN-ACK"
        assert here.seen(Place.INSIDE, opening.inside, answer.number) == ()

    run(here, plan())


def test_a_syn_with_a_low_ttl_dies_at_a_router_that_says_so() -> None:
    """One hop is the NAT, two are the core; both errors come to the port that sent it."""
    here = ground()

    async def plan() -> list[str]:
        kit = Kit(here)
        held = await here.hold()
        sources = []
        for ttl in (1, 2):
            inside = here.reserve()
            await here.send(kit.syn(inside, held, ttl=ttl))
            await here.sleep(RTT_NS)
            (error,) = (seen.packet for seen in here.seen(Place.INSIDE, inside))
            assert isinstance(error, IcmpError)
            sources.append(error.source)
        return sources

    assert run(here, plan()) == ["10.1.0.1", "198.51.100.1"]


def test_what_is_not_offered_is_refused_by_word() -> None:
    """As a real observer does."""
    here = ground(addresses=1)

    async def plan() -> None:
        held = await here.hold(port=30_000)
        for word, wish in (
            (Refusal.NO_SUCH_ADDRESS, here.hold(1)),
            (Refusal.PORT_IN_USE, here.hold(port=30_000)),
            (Refusal.NOT_YOURS, here.craft(SendPacket(kind=Craft.SYN, source=held, to=Endpoint("203.0.113.9", 80)))),
            (Refusal.NOT_YOURS, here.connect_back(Endpoint("203.0.113.9", 80), wait_ns=SECOND)),
        ):
            with pytest.raises(NotOffered) as refused:
                await wish
            assert refused.value.word is word
        await here.unhold(held)
        assert await here.hold(port=30_000) == held

    run(here, plan())
    bare = ground(raw=False)
    with pytest.raises(NotOffered, match="no_raw"):
        run(bare, bare.hold())


def test_a_connection_back_ends_as_the_nat_lets_it() -> None:
    """A full cone lets it in, where the reserved port says nothing; a NAT that resets refuses it."""
    open_one, shut_one = ground("full-cone"), ground("rst-sender")

    async def plan(here: SimGround) -> Outcome:
        kit = Kit(here)
        opening = await told(kit, here.reserve(), Endpoint(here.outside.addresses[0], here.outside.ports[0]), 3)
        assert opening is not None
        done = await here.connect_back(opening.mapped, address=1, wait_ns=SECOND // 2)
        came = [seen.packet for seen in here.seen(Place.INSIDE, opening.inside) if isinstance(seen.packet, Segment)]
        assert any(segment.kind == "SYN" and segment.source == done.source for segment in came) == (here is open_one)
        return done.outcome

    assert run(open_one, plan(open_one)) is Outcome.SILENT
    assert run(shut_one, plan(shut_one)) is Outcome.REFUSED


def test_the_connection_to_the_observer_can_be_renewed_and_survives_eviction() -> None:
    """A table of eight that twenty connections go through: the plan notes nothing of it but the time."""
    here = ground("tiny-table")

    async def plan() -> None:
        kit = Kit(here)
        held = await here.hold()
        await here.renew()
        for _ in range(20):
            await kit.open(held)
        assert await here.hold()

    run(here, plan())


def test_an_observer_that_is_gone_is_named_in_time() -> None:
    """Not at once: a kernel tries again, and so does the connection."""
    here = ground(gone_ns=SECOND)

    async def plan() -> None:
        await here.sleep(2 * SECOND)
        with pytest.raises(PartialData, match="gone"):
            await here.hold()
        assert here.now() < 40 * SECOND

    run(here, plan())


def test_repeats_follow_the_loss_that_controls_show() -> None:
    """Few where nothing gets lost, more where packets do, never endlessly many."""
    kit = Kit(ground())
    assert kit.repeats == 8
    kit.control(200, 200)
    assert kit.repeats == 3
    kit.control(200, 160)
    assert 5 <= kit.repeats <= 6
    assert kit.loss == pytest.approx(0.1, abs=0.01)
