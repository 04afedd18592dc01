"""What comes in: SYNs from outside to a mapping, and to ports that have none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rawpunch.probe.facts import Filtered, Tally, Unsolicited
from rawpunch.probe.ground import Place, Seen
from rawpunch.probe.kit import Kit
from rawpunch.probe.messages import Craft, SendPacket
from rawpunch.probe.remotes import Remotes
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError

UNSOLICITED: Final = 6
"""Ports without a mapping that a SYN is sent to."""
HOLD_NS: Final = 6_500_000_000
"""How long an answer to a SYN may take: RFC 5382, REQ-4 wants silence for 6 s."""
_SESSIONS: Final = 2
_LOW, _HIGH = 2_000, 30_000
"""Unmapped ports are drawn from here, away from those that we send from."""


async def filtering(kit: Kit, remotes: Remotes) -> Filtered | None:
    """Let SYNs come to a mapping from where nothing was sent to: another port, another address. None without a mapping.

    The control is what any NAT must let in: a SYN-ACK from where the SYN went.

    Raises:
        PartialData: the observer is gone.
    """
    found = await kit.several(_SESSIONS, lambda: _filtered(kit, remotes))
    if not found:
        return None
    one_address = remotes.stranger_address is None
    return Filtered(
        _sum(one.other_port for one in found),
        None if one_address else _sum(one.other_address for one in found if one.other_address is not None),
        _sum(one.control for one in found),
    )


def _sum(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, start=Tally())


async def _filtered(kit: Kit, remotes: Remotes) -> Filtered | None:
    opening = await kit.open(remotes.first)
    if opening is None:
        return None
    shots = [kit.answer(opening), kit.shot(Craft.SYN, opening, source=remotes.stranger_port, seq=kit.fresh_iss())]
    if remotes.stranger_address is not None:
        shots.append(kit.shot(Craft.SYN, opening, source=remotes.stranger_address, seq=kit.fresh_iss()))
    control, other_port, *other_address = await kit.shoot(shots, kit.repeats)
    kit.control(control.sent, control.came)
    await kit.close(opening)
    return Filtered(other_port, other_address[0] if other_address else None, control)


def unused(kit: Kit, address: str, used: frozenset[int], count: int) -> list[Endpoint]:
    """External endpoints that should have no mapping."""
    ports: list[int] = []
    while len(ports) < count:
        port = kit.ground.dice.randrange(_LOW, _HIGH)
        if port not in used and port not in ports:
            ports.append(port)
    return [Endpoint(address, port) for port in ports]


async def unsolicited(kit: Kit, remotes: Remotes, to: str, used: frozenset[int]) -> tuple[Unsolicited, ...]:
    """Send SYNs to ports that should have no mapping, and wait for answers as long as one may be held back.

    Args:
        kit: the probe's tools.
        remotes: where they come from.
        to: an external address of ours.
        used: external ports that were seen in use.

    Raises:
        PartialData: the observer is gone.
    """
    ground = kit.ground
    targets = unused(kit, to, used, len(remotes.unsolicited))
    wishes = [
        SendPacket(kind=Craft.SYN, source=source, to=target, seq=kit.fresh_iss())
        for source, target in zip(remotes.unsolicited, targets, strict=True)
    ]
    sent: list[Seen] = await ground.together(*(ground.craft(wish) for wish in wishes))
    pairs = list(zip(remotes.unsolicited, targets, strict=True))

    await ground.until(lambda: all(_answer(kit, *pair) for pair in pairs), ground.now() + HOLD_NS + kit.patience_ns)
    await ground.settle()
    return tuple(_read(record, _answer(kit, *pair)) for record, pair in zip(sent, pairs, strict=True))


def _answer(kit: Kit, source: Endpoint, target: Endpoint) -> Seen | None:
    """The first packet that came back."""
    for seen in kit.ground.seen(Place.OBSERVER, source):
        packet = seen.packet
        if (packet.quoted.destination if isinstance(packet, IcmpError) else packet.source) == target:
            return seen
    return None


def _read(sent: Seen, answer: Seen | None) -> Unsolicited:
    if answer is None:
        return Unsolicited(None, 0, None, (sent.number,))
    packet = answer.packet
    kind = "icmp" if isinstance(packet, IcmpError) else "rst" if packet.rst else packet.kind
    code = packet.code if isinstance(packet, IcmpError) else None
    return Unsolicited(kind, answer.at_ns - sent.at_ns, code, (sent.number, answer.number))


LATE_NS: Final = SECOND
"""An answer that took longer was held back."""
