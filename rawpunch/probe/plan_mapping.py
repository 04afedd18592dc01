"""Mapping: does one inside endpoint keep its external one when it goes to another port, another address, or there again?"""

from __future__ import annotations

from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.probe.conversation import Conversation
from rawpunch.probe.facts import Clash, Mapped, Reconnection, Round, Shared
from rawpunch.probe.kit import Kit
from rawpunch.probe.remotes import Remotes
from rawpunch.wire.endpoint import Endpoint

_ROUNDS: Final = 4
_PAIRS: Final = 4
_PORT_TRIES: Final = 8


async def mapping(kit: Kit, remotes: Remotes) -> Mapped:
    """Send from a few inside ports to several remote endpoints; look closer where the first answer has two meanings.

    A NAT that keeps the inside port shows the same external endpoint towards everybody, whatever its rule. The rule shows when
    the port is taken: by a second inside host that uses the same one.

    Raises:
        PartialData: the observer is gone.
    """
    rounds = await kit.several(_ROUNDS, lambda: _round(kit, remotes, kit.ground.reserve()))
    shown = [(here, there) for row in rounds for here in row.openings for there in row.openings]
    if any(here.mapped != there.mapped for here, there in shown):
        again = await kit.several(_ROUNDS, lambda: reconnect(kit, remotes, kit.ground.reserve()))
        return Mapped(rounds, again)
    kept = all(opening.mapped.port == opening.inside.port for row in rounds for opening in row.openings)
    translated = any(opening.mapped != opening.inside for row in rounds for opening in row.openings)
    if not kept or not translated or len(kit.ground.insiders) == 1:
        return Mapped(rounds)
    clashes = await kit.several(_PAIRS, lambda: _clash(kit, remotes))
    return Mapped(rounds, (), clashes)


async def sharing(kit: Kit, remotes: Remotes) -> tuple[Shared, ...]:
    """Two inside hosts, one inside port, two remote endpoints: do they get one external port at once?

    Raises:
        PartialData: the observer is gone.
    """
    if len(kit.ground.insiders) == 1:
        return ()
    return await kit.several(_PAIRS, lambda: _share(kit, remotes))


async def _round(kit: Kit, remotes: Remotes, inside: Endpoint, *, leave_open: bool = False) -> Round:
    first = await kit.open(remotes.first, inside=inside)
    other_port = await kit.open(remotes.other_port, inside=inside)
    other_address = None
    if remotes.other_address is not None:
        other_address = await kit.open(remotes.other_address, inside=inside)
    found = Round(first, other_port, other_address, remotes.other_address is not None)
    if not leave_open:
        await close_round(kit, found)
        kit.ground.release(inside)
    return found


async def close_round(kit: Kit, found: Round) -> None:
    """End all sessions of a round."""
    for opening in found.openings:
        await kit.reset(opening.inside, opening.remote, opening.next_seq)


async def reconnect(kit: Kit, remotes: Remotes, inside: Endpoint) -> Reconnection | None:
    """Connect to a port that listens, close from both sides, and connect again; None if that did not come about."""
    first = Conversation(kit, inside, remotes.listening)
    if not await _connected(kit, first) or not await first.close():
        return None
    second = Conversation(kit, inside, remotes.listening)
    if not await _connected(kit, second):
        return None
    await second.abort()
    if first.mapped is None or second.mapped is None:
        return None
    return Reconnection(first.mapped, second.mapped, (*first.evidence, *second.evidence))


async def _connected(kit: Kit, talk: Conversation) -> bool:
    """Connect, and come to know the external endpoint."""
    if not await talk.connect():
        return False
    if talk.mapped is None and not kit.ground.outside.raw:
        await talk.where()
    return True


def _both(kit: Kit) -> tuple[Endpoint, Endpoint] | None:
    """One port on both inside hosts; None if none is free on both."""
    for _ in range(_PORT_TRIES):
        first = kit.ground.reserve(0)
        try:
            return first, kit.ground.reserve(1, port=first.port)
        except BadParameter:
            continue
    return None


async def _clash(kit: Kit, remotes: Remotes) -> Clash | None:
    both = _both(kit)
    if both is None:
        return None
    one, two = both
    holder = await _round(kit, remotes, one, leave_open=True)
    listening = Conversation(kit, one, remotes.listening)
    await listening.connect()
    second = await _round(kit, remotes, two, leave_open=True)
    reconnection, control = None, None
    if not second.openings:
        control = await kit.open(remotes.control, inside=one)
    elif any(opening.mapped != second.openings[0].mapped for opening in second.openings):
        reconnection = await reconnect(kit, remotes, two)
    await close_round(kit, second)
    await listening.abort()
    await close_round(kit, holder)
    await kit.close(control)
    kit.ground.release(one, two)
    return Clash(holder, second, reconnection, refused=control is not None)


async def _share(kit: Kit, remotes: Remotes) -> Shared | None:
    both = _both(kit)
    first = await kit.open(remotes.first, inside=both[0]) if both is not None else None
    if both is None or first is None:
        return None
    target = remotes.other_address or remotes.other_port
    tries = kit.repeats
    second = await kit.open(target, inside=both[1], tries=tries)
    await kit.close(first, second)
    kit.ground.release(*both)
    return Shared(first, second, tries)
