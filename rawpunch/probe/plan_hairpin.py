"""Hairpinning: can one inside endpoint be reached from inside by its external endpoint?

Both sides send, as a punch would, so that a filter by endpoint lets the second one in. A NAT that lets no SYNs cross would hide
the answer; bare ACKs show it where the NAT takes them for connections it has forgotten.
"""

from __future__ import annotations

from rawpunch.probe.facts import Hairpinned, Opening, Tally
from rawpunch.probe.ground import Place, Seen
from rawpunch.probe.kit import Kit
from rawpunch.probe.remotes import Remotes
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment


async def hairpin(kit: Kit, remotes: Remotes) -> Hairpinned | None:
    """Let two inside endpoints send to each other's external one; None if they have none.

    Raises:
        PartialData: the observer is gone.
    """
    by_syn, syn_sources, syn_refused, kept = await _one(kit, remotes, Flags.SYN)
    by_ack, ack_sources, ack_refused, also = await _one(kit, remotes, Flags.ACK)
    if by_syn.sent == by_ack.sent == 0:
        return None
    return Hairpinned(by_syn, by_ack, (*syn_sources, *ack_sources), syn_refused + ack_refused, kept and also)


async def _one(
    kit: Kit, remotes: Remotes, flags: Flags
) -> tuple[Tally, tuple[tuple[Endpoint, Endpoint, Endpoint], ...], Tally, bool]:
    ground = kit.ground
    one = await kit.open(remotes.first)
    two = await kit.open(remotes.first, insider=len(ground.insiders) - 1)
    if one is None or two is None:
        await kit.close(one, two)
        return Tally(), (), Tally(), False
    numbers: list[int] = []
    seqs = {one.inside: kit.fresh_iss(), two.inside: kit.fresh_iss()}
    for _ in range(kit.repeats):
        for here, there in ((one, two), (two, one)):
            segment = Segment(here.inside, there.mapped, flags, seqs[here.inside], 1 if flags & Flags.ACK else 0)
            numbers.append((await ground.send(segment)).number)
        await ground.sleep(kit.slack_ns // 8)
    await ground.until(lambda: bool(_turned(kit, one, two, flags)), ground.now() + kit.slack_ns)
    came = _turned(kit, one, two, flags)
    resets = _resets(kit, one, two)
    for here, there in ((one, two), (two, one)):
        await ground.send(Segment(here.inside, there.mapped, Flags.RST, (seqs[here.inside] + 1) % (1 << 32), window=0))
    await kit.close(one, two)
    sources = []
    for seen in came:
        sender = one if seen in ground.seen(Place.INSIDE, two.inside) else two
        if isinstance(seen.packet, Segment):
            sources.append((seen.packet.source, sender.inside, sender.mapped))
    tally = Tally(len(numbers), min(len(came), len(numbers)), (*numbers, *(seen.number for seen in came)))
    refused = Tally(len(numbers), len(resets), tuple(seen.number for seen in resets))
    kept = all(opening.mapped.port == opening.inside.port for opening in (one, two))
    return tally, tuple(sources), refused, kept


def _turned(kit: Kit, one: Opening, two: Opening, flags: Flags) -> list[Seen]:
    """What came to one of them and was sent by the other."""
    return [
        seen
        for opening in (one, two)
        for seen in kit.ground.seen(Place.INSIDE, opening.inside)
        if isinstance(seen.packet, Segment)
        and seen.packet.flags == flags
        and seen.packet.source.address != opening.remote.address
    ]


def _resets(kit: Kit, one: Opening, two: Opening) -> list[Seen]:
    """RSTs in answer to what they sent."""
    return [
        seen
        for here, there in ((one, two), (two, one))
        for seen in kit.ground.seen(Place.INSIDE, here.inside)
        if isinstance(seen.packet, Segment) and seen.packet.rst and seen.packet.source == there.mapped
    ]
