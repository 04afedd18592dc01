"""What a session in SYN-SENT survives, and what passes through it: RST, ICMP error, crossing SYN, SYN-ACK from inside.

Whether a session lives is asked by a SYN-ACK that answers its SYN: any NAT lets it in as long as it knows of the SYN, whatever
its filter. An older session to which nothing is done shows that SYN-ACKs come in and that the table was not full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rawpunch.probe.facts import Opening, Outgoing, Sessions, Tally, Trial
from rawpunch.probe.ground import Place
from rawpunch.probe.kit import Kit, Shot
from rawpunch.probe.messages import Craft
from rawpunch.probe.remotes import Remotes
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Segment
from rawpunch.wire.seq import add

_TRIALS: Final = 3
_FAR: Final = 1 << 29
"""How far a wrong acknowledgement is off."""

Disturb = Callable[[Opening], Shot]


async def sessions(kit: Kit, remotes: Remotes) -> Sessions:
    """Try everything.

    Raises:
        PartialData: the observer is gone.
    """
    return Sessions(
        rst=await _trials(kit, remotes, lambda opening: kit.shot(Craft.RST_ACK, opening, ack=add(opening.syn.seq, 1))),
        rst_wrong=await _trials(kit, remotes, lambda opening: kit.shot(Craft.RST_ACK, opening, ack=add(opening.syn.seq, _FAR))),
        icmp=await _trials(kit, remotes, lambda opening: kit.shot(Craft.ICMP, opening, seq=opening.syn.seq)),
        crossing=await _trials(kit, remotes, lambda opening: kit.shot(Craft.SYN, opening, seq=opening.peer_iss)),
        syn_ack_crossed=await kit.several(_TRIALS, lambda: _syn_ack_out(kit, remotes, crossed=True)),
        syn_ack_early=await kit.several(_TRIALS, lambda: _syn_ack_out(kit, remotes, crossed=False)),
        bare_ack=await _bare_ack(kit, remotes),
    )


async def _trials(kit: Kit, remotes: Remotes, disturb: Disturb) -> tuple[Trial, ...]:
    return await kit.several(_TRIALS, lambda: _trial(kit, remotes, disturb))


async def _trial(kit: Kit, remotes: Remotes, disturb: Disturb) -> Trial | None:
    """Open two sessions, do something to the younger one, and see whether both live; None if they do not open."""
    control = await kit.open(remotes.control)
    opening = await kit.open(remotes.first)
    if control is None or opening is None:
        await kit.close(control, opening)
        return None
    (passed,) = await kit.shoot([disturb(opening)], kit.repeats)
    strange = tuple(
        seen.number
        for seen in kit.ground.seen(Place.INSIDE, opening.inside)
        if isinstance(seen.packet, IcmpError) and not _quotes(seen.packet, opening)
    )
    alive, living = await kit.shoot([kit.answer(opening), kit.answer(control)], kit.repeats)
    kit.control(living.sent, living.came)
    await kit.close(opening, control)
    return Trial(passed, alive, living, strange)


def _quotes(error: IcmpError, opening: Opening) -> bool:
    """Whether an error quotes the SYN as it was sent, so that a host would know what it is about."""
    return (
        error.quoted.destination == opening.remote and error.quoted.source == opening.inside and error.quoted_seq == opening.iss
    )


async def _syn_ack_out(kit: Kit, remotes: Remotes, *, crossed: bool) -> Outgoing | None:
    """Send a SYN-ACK from inside, after a SYN came in or without; the SYN sent again is the control."""
    opening = await kit.open(remotes.first)
    if opening is None:
        return None
    if crossed:
        (syn,) = await kit.shoot([kit.shot(Craft.SYN, opening, seq=opening.peer_iss)], kit.repeats)
        if syn.came == 0:
            await kit.close(opening)
            return None
    answer = Segment(opening.inside, opening.remote, Flags.SYN | Flags.ACK, opening.iss, add(opening.peer_iss, 1))
    sent = opening.sent.packet
    if not isinstance(sent, Segment):
        return None
    rows: list[tuple[Segment, Endpoint | None]] = [(answer, opening.mapped), (sent, opening.mapped)]
    passed, control = await kit.emit(rows, kit.repeats)
    kit.control(control.sent, control.came)
    await kit.close(opening)
    return Outgoing(passed, control)


async def _bare_ack(kit: Kit, remotes: Remotes) -> Tally:
    """Send ACKs that belong to nothing from fresh ports: a NAT that picks up takes them for a connection it has forgotten."""
    inside = kit.ground.reserve()
    ack = Segment(inside, remotes.first, Flags.ACK, kit.fresh_iss(), kit.fresh_iss(), 10_000 + inside.port % 9_000)
    (tally,) = await kit.emit([(ack, None)], kit.repeats)
    await kit.ground.send(Segment(inside, remotes.first, Flags.RST, ack.seq, window=0))
    kit.ground.release(inside)
    return tally
