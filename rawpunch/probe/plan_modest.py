"""What can be asked of an observer without raw sockets: where connections come from, and connections back.

Sessions are opened as whole connections, and the observer tells where each comes from. It cannot shoot packets into them, so what
sessions survive stays untested.
"""

from __future__ import annotations

from typing import Final

from rawpunch.probe import facts
from rawpunch.probe.facts import Contact, Filtered, Sample, Tally, Unsolicited
from rawpunch.probe.ground import Place, Seen
from rawpunch.probe.kit import Kit
from rawpunch.probe.messages import Connected, Outcome
from rawpunch.probe.plan_contact import hops
from rawpunch.probe.plan_inbound import HOLD_NS, unused
from rawpunch.probe.remotes import Remotes
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.seq import add

_FIRST: Final = 4
_ALONE: Final = 40
_CROSSED: Final = 24
_GAP_NS: Final = 4 * MS
_BACK_NS: Final = 1_300 * MS
"""How long a connection back may take: its SYN is sent twice in that time."""
_BACKS: Final = 4
_SYNS_EACH: Final = 2
_UNSOLICITED: Final = 4
_CLOSED: Final = range(20_000, 60_000)


def listening(kit: Kit) -> Remotes | None:
    """The ports that listen, as remote endpoints; None where there are too few."""
    addresses, ports = kit.ground.outside.addresses, kit.ground.outside.ports
    if len(ports) < 2:
        return None
    first, other_port = (Endpoint(addresses[0], port) for port in ports[:2])
    other_address = Endpoint(addresses[1], ports[0]) if len(addresses) > 1 else None
    last = Endpoint(addresses[-1], ports[1])
    return Remotes(first, other_port, other_address, first, last, other_port, other_address, ())


async def first_contact(kit: Kit, remotes: Remotes) -> Contact:
    """Measure the round trip; see whether ports are answered on which nobody listens.

    Raises:
        PartialData: the observer is gone.
    """
    ground = kit.ground
    began = ground.now()
    first = await kit.open(remotes.first)
    if first is not None and first.tries == 1:
        kit.rtt_ns = max(1, (ground.now() - began) // 2)
    found = [first] if first is not None else []
    found += await kit.several(_FIRST - 1, lambda: kit.open(remotes.first))
    for opening in found:
        kit.control(opening.tries, 1)
    await kit.close(*found)
    closed = [Endpoint(remotes.first.address, ground.dice.randrange(_CLOSED.start, _CLOSED.stop)) for _ in range(_FIRST)]
    syns = [kit.syn(ground.reserve(), remote) for remote in closed if remote.port not in ground.outside.ports]
    answers: list[Seen] = []
    for syn in syns * 2:
        await ground.send(syn)
    await ground.sleep(kit.patience_ns)
    for syn in syns:
        came = ground.seen(Place.INSIDE, syn.source)
        answers += [seen for seen in came if isinstance(seen.packet, Segment) and seen.packet.kind == "SYN-ACK"]
        await kit.reset(syn.source, syn.destination, add(syn.seq, 1))
        ground.release(syn.source)
    false = Tally(len(syns), len(answers), tuple(seen.number for seen in answers))
    return Contact(tuple(found), await hops(kit, remotes.first), false, tuple(dict.fromkeys(one.mapped.address for one in found)))


async def samples(kit: Kit, remotes: Remotes) -> tuple[Sample, ...]:
    """Mapped ports, each from a whole connection; the order is that of the SYNs.

    Raises:
        PartialData: the observer is gone.
    """
    rows: list[Sample] = []
    plan = [(facts.SAMPLING_ALONE, [0] * _ALONE)]
    if len(kit.ground.insiders) > 1:
        plan.append((facts.SAMPLING_CROSSED, [0, 1] * (_CROSSED // 2)))
    for phase, insiders in plan:
        rows += await kit.ground.together(*(_sample(kit, remotes, phase, place, host) for place, host in enumerate(insiders)))
    return tuple(rows)


async def _sample(kit: Kit, remotes: Remotes, phase: str, place: int, insider: int) -> Sample:
    inside = kit.ground.reserve(insider, parity=place // 2 % 2)
    await kit.ground.sleep(place * _GAP_NS)
    opening = await kit.open(remotes.first, inside=inside)
    kit.control(opening.tries if opening else 1, 1)
    await kit.close(opening)
    if opening is None:
        return Sample(phase, insider, inside, None, ())
    return Sample(phase, insider, inside, opening.mapped if opening.tries == 1 else None, opening.evidence)


async def filtering(kit: Kit, remotes: Remotes) -> Filtered | None:
    """Let the observer's kernel connect back to a mapping; whether its SYN comes in is seen inside.

    Raises:
        PartialData: the observer is gone.
    """
    opening = await kit.open(remotes.first)
    if opening is None:
        return None
    wanted = [(0, 0)] * _BACKS + ([(1, 0)] * _BACKS if len(kit.ground.outside.addresses) > 1 else [])
    done: list[Connected] = await kit.ground.together(
        *(kit.ground.connect_back(opening.mapped, address=address, port=port, wait_ns=_BACK_NS) for address, port in wanted)
    )
    sources = {one.source: address for one, (address, _) in zip(done, wanted, strict=True)}
    came: dict[int, list[int]] = {0: [], 1: []}
    for seen in kit.ground.seen(Place.INSIDE, opening.inside):
        packet = seen.packet
        if isinstance(packet, Segment) and packet.kind == "SYN" and packet.source in sources:
            came[sources[packet.source]].append(seen.number)
            await kit.ground.send(Segment(opening.inside, packet.source, Flags.RST | Flags.ACK, 0, add(packet.seq, 1), window=0))
    control = Tally(1, 1, opening.evidence)
    await kit.close(opening)
    tallies = [Tally(_BACKS * _SYNS_EACH, len(came[address]), tuple(came[address])) for address in (0, 1)]
    return Filtered(tallies[0], tallies[1] if len(kit.ground.outside.addresses) > 1 else None, control)


async def unsolicited(kit: Kit, to: str, used: frozenset[int]) -> tuple[Unsolicited, ...]:
    """Let the observer's kernel connect to ports that should have no mapping.

    Raises:
        PartialData: the observer is gone.
    """
    targets = unused(kit, to, used, _UNSOLICITED)
    done: list[Connected] = await kit.ground.together(
        *(kit.ground.connect_back(target, address=len(kit.ground.outside.addresses) - 1, wait_ns=HOLD_NS) for target in targets)
    )
    words = {Outcome.REFUSED: "rst", Outcome.UNREACHABLE: "icmp", Outcome.SILENT: None, Outcome.CONNECTED: "SYN-ACK"}
    return tuple(Unsolicited(words[one.outcome], one.took_ns, None, ()) for one in done)
