"""From a planned attempt to the orders of its two ends, the same for every driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rawpunch.live.end import Order
from rawpunch.record.words import EndKind
from rawpunch.rng import stream
from rawpunch.scene import SIDES, Scene, Side
from rawpunch.study.planned import Planned
from rawpunch.wire.endpoint import Endpoint

_KERNELS: Final[Mapping[str, str]] = {EndKind.KERNEL: "linux", EndKind.LISTENING: "linux"}
"""The profile that plays a kernel where there is none."""


def orders_of(
    planned: Planned,
    scene: Scene,
    *,
    port: int,
    at_ns: tuple[int, int],
    seed: int,
    aims: Mapping[Side, Endpoint],
) -> tuple[Order, Order]:
    """The orders of A and B.

    Args:
        planned: the attempt.
        scene: its world.
        port: the inside port that both open from.
        at_ns: instants of the two first SYNs.
        seed: of initial sequence numbers.
        aims: side -> where its peer aims.
    """
    attempt = planned.attempt
    dice = stream(seed, "iss", planned.name)
    # far from zero: there, conntrack takes a RST with sequence number 0 for one in the window
    isns = [dice.randrange(1 << 28, 1 << 32) for _ in SIDES]
    kinds, scripts = (attempt.end_a, attempt.end_b), (attempt.script_a, attempt.script_b)
    ttls = (attempt.first_ttl_a, attempt.first_ttl_b)

    def order(me: int) -> Order:
        return Order(
            attempt=planned.name,
            kind=kinds[me],
            local=Endpoint(scene.host_address(SIDES[me]), port),
            remote=aims[SIDES[1 - me]],
            at_ns=at_ns[me],
            give_up_ns=at_ns[me] + attempt.give_up_ns,
            iss=isns[me],
            profile=_KERNELS.get(kinds[me], attempt.profile),
            script=scripts[me],
            scheduler=attempt.scheduler,
            first_ttl=ttls[me],
            poke_port=attempt.poke_port,
            retry_ns=attempt.retry_ns,
            told_ns=at_ns[me] + attempt.told_ns if attempt.told_ns else 0,
            peer_iss=isns[1 - me],
        )

    return order(0), order(1)
