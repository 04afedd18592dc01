"""Port allocation: many fresh inside ports, and the external port that each gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rawpunch.probe import facts
from rawpunch.probe.facts import Opening, Sample
from rawpunch.probe.kit import Kit
from rawpunch.probe.plan_contact import prove_all
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment
from rawpunch.wire.seq import add

_ALONE: Final = 48
_MORE: Final = 128
_CROSSED: Final = 40
_LAST: Final = 6
"""Where as many of the last ones do not come through, the table seems to be full, and more would say nothing."""
_AGAIN: Final = 12
_GAP_NS: Final = 2 * MS
"""Between one SYN and the next."""


def _parities() -> Iterator[int]:
    """Runs of one parity and then turns, so that steps between equal and between different parities are both seen."""
    while True:
        yield from (0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0)


async def sample_alone(kit: Kit, remote: Endpoint) -> tuple[Sample, ...]:
    """Sample the first inside host's ports, more of them if they are not simply kept.

    Raises:
        PartialData: the observer is gone.
    """
    samples = await _sampled(kit, remote, [0] * _ALONE, facts.SAMPLING_ALONE)
    missing = sum(sample.mapped is None for sample in samples)
    if missing and await _unseen(kit, remote, min(_AGAIN, 2 * missing)):
        await prove_all(kit)
        samples = await _sampled(kit, remote, [0] * _ALONE, facts.SAMPLING_ALONE)
    kept = sum(sample.mapped is not None and sample.mapped.port == sample.inside.port for sample in samples)
    if 2 * kept < len(samples) and any(sample.mapped is not None for sample in samples[-_LAST:]):
        samples += await _sampled(kit, remote, [0] * _MORE, facts.SAMPLING_MORE)
    return samples


async def _unseen(kit: Kit, remote: Endpoint, count: int) -> bool:
    """Whether SYNs are not seen however often they are sent: they come from an address that the observer does not know."""
    again: list[Opening | None] = await kit.ground.together(*(kit.open(remote) for _ in range(count)))
    await kit.close(*again)
    return any(opening is None for opening in again)


async def sample_crossed(kit: Kit, remote: Endpoint) -> tuple[Sample, ...]:
    """Sample while the second inside host opens a connection between any two of the first.

    Raises:
        PartialData: the observer is gone.
    """
    if len(kit.ground.insiders) == 1:
        return ()
    return await _sampled(kit, remote, [0, 1] * (_CROSSED // 2), facts.SAMPLING_CROSSED)


async def _sampled(kit: Kit, remote: Endpoint, insiders: Sequence[int], phase: str) -> tuple[Sample, ...]:
    """One SYN each, in this order, and a RST at once, so that hardly any of them is open together with another."""
    ground = kit.ground
    parities = _parities()
    sent: list[tuple[int, Segment, int]] = []
    for insider in insiders:
        syn = kit.syn(ground.reserve(insider, parity=next(parities)), remote)
        sent.append((insider, syn, (await ground.send(syn)).number))
        await ground.sleep(_GAP_NS)
        await kit.reset(syn.source, remote, add(syn.seq, 1))
    syns = [syn for _, syn, _ in sent]
    last = syns[-1]
    await ground.until(lambda: kit.arrived(last, sent[-1][2]) is not None, ground.now() + kit.patience_ns)
    await ground.settle()
    arrived = [kit.arrived(syn, number) for _, syn, number in sent]
    kit.control(len(syns), sum(seen is not None for seen in arrived))
    samples: list[Sample] = []
    for (insider, syn, number), seen in zip(sent, arrived, strict=True):
        packet = seen.packet if seen is not None else None
        mapped = packet.source if isinstance(packet, Segment) else None
        samples.append(Sample(phase, insider, syn.source, mapped, (number,) if seen is None else (number, seen.number)))
    ground.release(*(syn.source for syn in syns))
    return tuple(samples)
