"""First contact: how long a round trip takes, which addresses we have outside, who answers on the way, who answers falsely."""

from __future__ import annotations

from typing import Final

from rawpunch.probe.facts import Contact, Hop, Opening, Tally
from rawpunch.probe.ground import Place, Seen
from rawpunch.probe.kit import Kit
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Segment
from rawpunch.wire.seq import add

_FIRST: Final = 4
_HOPS: Final = 5
_PROVED_AT_ONCE: Final = 6
_PROVED_MOST: Final = 48
_ENOUGH_AGAIN: Final = 12
"""Connections that show no new address, after which there is none: with two equally likely ones, 1 in 4,000 would miss one."""


async def contact(kit: Kit, silent: Endpoint) -> Contact:
    """Send the first SYNs to a port that answers nothing, and prove all addresses we seem to have.

    Raises:
        PartialData: the observer is gone.
    """
    ground = kit.ground
    if len(ground.insiders) > 1:
        await ground.prove(1)
    insides = [ground.reserve() for _ in range(_FIRST)]
    first = await kit.open(silent, inside=insides[0])
    if first is not None:
        kit.rtt_ns = max(1, _rtt_ns(kit, first))
    found = [first] if first is not None else []
    rest: list[Opening | None] = await ground.together(*(kit.open(silent, inside=inside) for inside in insides[1:]))
    found += [opening for opening in rest if opening is not None]
    answered = [seen.number for inside in insides for seen in _false(kit, inside, silent)]
    addresses: tuple[str, ...] = ()
    if len(found) < _FIRST and not answered:
        addresses = await prove_all(kit)
        found += await kit.several(_FIRST, lambda: kit.open(silent))
        answered = [seen.number for opening in found for seen in _false(kit, opening.inside, silent)]
    for opening in found:
        kit.control(opening.tries, 1)
    await kit.close(*found)
    false = Tally(max(len(found), len(answered)), len(answered), tuple(answered))
    seen_at = (opening.mapped.address for opening in found)
    return Contact(tuple(found), await hops(kit, silent), false, tuple(dict.fromkeys((*seen_at, *addresses))))


def _rtt_ns(kit: Kit, opening: Opening) -> int:
    """From a SYN's sending until word of its coming; of one that was repeated, from the last one."""
    return kit.ground.now() - opening.sent.at_ns


def _false(kit: Kit, inside: Endpoint, silent: Endpoint) -> list[Seen]:
    """SYN-ACKs from an endpoint that sends none."""
    return [
        seen
        for seen in kit.ground.seen(Place.INSIDE, inside)
        if isinstance(seen.packet, Segment) and seen.packet.kind == "SYN-ACK" and seen.packet.source == silent
    ]


async def prove_all(kit: Kit) -> tuple[str, ...]:
    """Connect to the observer until no new external address shows; SYNs from addresses that it does not know are not reported."""
    addresses: dict[str, None] = {}
    again = tried = 0
    while again < _ENOUGH_AGAIN * max(1, len(addresses)) and tried < _PROVED_MOST:
        mapped = await kit.ground.together(*(kit.ground.prove() for _ in range(_PROVED_AT_ONCE)))
        tried += _PROVED_AT_ONCE
        new = {endpoint.address for endpoint in mapped if endpoint is not None} - addresses.keys()
        again = 0 if new else again + sum(endpoint is not None for endpoint in mapped)
        addresses.update(dict.fromkeys(sorted(new)))
    return tuple(addresses)


async def hops(kit: Kit, remote: Endpoint) -> tuple[Hop, ...]:
    """Who says that a SYN died, by its time to live."""
    ground = kit.ground
    inside = [ground.reserve() for _ in range(_HOPS)]
    syns = [kit.syn(endpoint, remote, ttl=ttl) for ttl, endpoint in enumerate(inside, 1)]

    def found() -> list[Hop]:
        return [
            Hop(ttl, seen.packet.source, seen.number)
            for ttl, endpoint in enumerate(inside, 1)
            for seen in ground.seen(Place.INSIDE, endpoint)
            if isinstance(seen.packet, IcmpError) and seen.packet.type == 11
        ]

    def known() -> bool:
        return all(kit.arrived(syn) is not None or any(hop.ttl == ttl for hop in found()) for ttl, syn in enumerate(syns, 1))

    for _ in range(2):
        for syn in syns:
            await ground.send(syn)
        if await ground.until(known, ground.now() + kit.patience_ns):
            break
    for syn in syns:
        await kit.reset(syn.source, syn.destination, add(syn.seq, 1))
    by_ttl = {hop.ttl: hop for hop in reversed(found())}
    ground.release(*inside)
    return tuple(by_ttl[ttl] for ttl in sorted(by_ttl))
