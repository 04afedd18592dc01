"""Port allocation, parity and pooling, from sampled ports.

One inside host's ports tell what a NAT does with fresh connections: keep the port, step, or draw. Where it draws, the range tells
*random* from *banded*, and a second inside host tells a band that all share from a block of its own. A band that leaves out less
than a fourteenth of all ports cannot be told from none, and is called random.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rawpunch.probe import facts
from rawpunch.probe.facts import Facts, Sample
from rawpunch.probe.finding import SUREST, Finding, found, undetermined, untested
from rawpunch.probe.statistics import PORTS, Steps, drawn_p, odds, spread, steps, wrapped

_FEWEST: Final = 12
_FEW: Final = 4
_UNIFORM_P: Final = 1e-6
"""Below this, ports were not evenly drawn."""
_MOSTLY: Final = 0.9
_MODE: Final = 0.6
_SIGN_P: Final = 1e-6
_WHOLE_P: Final = 1e-4
_ALL: Final = 0.93
"""Share of all ports that a sample's range must cover to be called random."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A sample that was seen outside."""

    place: int
    """Its number in its phase."""
    sample: Sample
    address: str
    port: int


def seats(samples: Sequence[Sample]) -> list[Seat]:
    """The samples that were seen, numbered by phase in the order in which they were sent."""
    counts: defaultdict[str, int] = defaultdict(int)
    found_seats = []
    for sample in samples:
        counts[sample.phase] += 1
        if sample.mapped is not None:
            found_seats.append(Seat(counts[sample.phase], sample, sample.mapped.address, sample.mapped.port))
    return found_seats


def allocation(known: Facts) -> Finding:
    """The class of the port allocation, with stride, band, odds and what others' connections do to it."""
    here = seats(known.samples)
    alone = [seat for seat in here if seat.sample.phase != facts.SAMPLING_CROSSED]
    evidence = [number for seat in alone for number in seat.sample.evidence]
    if len(alone) < _FEWEST:
        return undetermined(f"only {len(alone)} mapped ports were seen", len(alone), evidence)
    if all(seat.sample.mapped == seat.sample.inside for seat in alone):
        return untested("nothing is translated", n=len(alone))
    kept = sum(seat.port == seat.sample.inside.port for seat in alone)
    if kept >= _MOSTLY * len(alone):
        crossed = [seat for seat in here if seat.sample.phase == facts.SAMPLING_CROSSED and seat.sample.insider == 0]
        theirs = asdict(odds(sum(seat.port == seat.sample.inside.port for seat in crossed), len(crossed)))
        chances = {"odds": asdict(odds(kept, len(alone))), "odds_with_cross_traffic": theirs}
        return found("preserving", len(alone), SUREST, evidence, "", **chances)
    if kept > (1 - _MOSTLY) * len(alone):
        return undetermined(f"{kept} of {len(alone)} ports were kept, the others not", len(alone), evidence)
    return _stepping(here, alone, evidence) or _drawing(here, alone, evidence)


def _pairs(row: Sequence[Seat]) -> list[tuple[Seat, Seat]]:
    """Neighbours in one phase and at one external address, none lost between them."""
    return [
        (one, two)
        for one, two in itertools.pairwise(row)
        if one.sample.phase == two.sample.phase and two.place == one.place + 1 and one.address == two.address
    ]


def _stride(row: Sequence[Seat]) -> tuple[int, Steps] | None:
    """The stride of a counter, if it is one; None if there is none to be seen.

    A counter that keeps parity takes two steps where an even one leads to a port of the wrong parity; so steps between inside
    ports of equal and of different parity are looked at apart.
    """
    pairs = _pairs(row)
    if len(pairs) < _FEWEST // 2:
        return None
    differences = [wrapped(two.port - one.port) for one, two in pairs]
    every = steps(differences)
    equal = steps([wrapped(two.port - one.port) for one, two in pairs if not _turns(one, two)])
    turned = steps([wrapped(two.port - one.port) for one, two in pairs if _turns(one, two)])
    if turned.mode and equal.mode == 2 * turned.mode and min(equal.share, turned.share) >= _MODE:
        return turned.mode, every
    if every.mode and every.share >= _MODE:
        return every.mode, every
    if equal.mode and turned.mode and min(equal.share, turned.share) >= _MODE:
        return equal.mode, every
    moved = [difference for difference in differences if difference]
    ups = every.ups / max(1, len(moved))
    if every.sign_p < _SIGN_P and (ups >= _MOSTLY or ups <= 1 - _MOSTLY):
        forward = [difference for difference in moved if (difference > 0) == (ups > 0.5)]
        return math.gcd(*forward) * (1 if ups > 0.5 else -1), every
    return None


def _turns(one: Seat, two: Seat) -> bool:
    return (one.sample.inside.port ^ two.sample.inside.port) & 1 == 1


def _stepping(here: Sequence[Seat], alone: Sequence[Seat], evidence: list[int]) -> Finding | None:
    """Sequential, if it is; a block in which ports are given out in order looks the same until a second host comes."""
    by_address: defaultdict[str, list[Seat]] = defaultdict(list)
    for seat in alone:
        by_address[seat.address].append(seat)
    strides = [stride for stride in map(_stride_across, by_address.values()) if stride is not None]
    if not strides:
        return None
    stride, every = max(strides, key=lambda one: one[1].n)
    pairs = [pair for row in by_address.values() for pair in _pairs(row)]
    hits = sum(wrapped(two.port - one.port) == stride for one, two in pairs)
    detail: dict[str, Any] = {
        "stride": stride,
        "steps": asdict(every),
        "odds": asdict(odds(hits, len(pairs))),
    }
    crossed = [seat for seat in here if seat.sample.phase == facts.SAMPLING_CROSSED]
    detail |= _crossing(crossed)
    confidence = 1 - (1 - every.share + 1e-9) ** every.n if every.share >= _MODE else 1 - every.sign_p
    blocks = _own_blocks(crossed, abs(stride))
    if blocks:
        return _block(here, alone, evidence, detail)
    if blocks is None and {seat.sample.insider for seat in here} != {0}:
        why = "ports are counted up, and the second inside host did not show whether it has a counter of its own"
        return undetermined(why, len(alone), evidence, **detail)
    caveat = "a block of this host, given out in order, would look the same; a second inside address would tell"
    return found("sequential", len(alone), confidence, evidence, caveat if blocks is None else "", **detail)


def _own_blocks(crossed: Sequence[Seat], stride: int) -> bool | None:
    """Whether two hosts that take ports in turn get them from ranges apart; None if they met at no external address."""
    apart: list[bool] = []
    for address in {seat.address for seat in crossed}:
        ours, theirs = ([seat for seat in crossed if seat.address == address and seat.sample.insider == host] for host in (0, 1))
        if min(len(ours), len(theirs)) >= _FEW:
            apart.append(_apart(ours, theirs, stride))
    return apart[0] if apart and len(set(apart)) == 1 else None


def _stride_across(row: Sequence[Seat]) -> tuple[int, Steps] | None:
    """The stride of one external address; where others come between, steps are looked at without gaps."""
    found_stride = _stride(row)
    if found_stride is None and len(row) >= _FEWEST and len(_pairs(row)) < len(row) // 2:
        renumbered = [Seat(place, seat.sample, seat.address, seat.port) for place, seat in enumerate(row)]
        found_stride = _stride(renumbered)
    return found_stride


def _apart(ours: Sequence[Seat], theirs: Sequence[Seat], stride: int) -> bool:
    """Whether two hosts' ports, taken in turn, lie in ranges that have nothing in common."""
    mine, other = [seat.port for seat in ours], [seat.port for seat in theirs]
    gap = max(min(other) - max(mine), min(mine) - max(other))
    return gap > 2 * stride


def _crossing(crossed: Sequence[Seat]) -> dict[str, Any]:
    """What the second host's connections do to the first one's steps."""
    ours = [seat for seat in crossed if seat.sample.insider == 0]
    differences = [
        wrapped(two.port - one.port)
        for one, two in itertools.pairwise(ours)
        if two.place == one.place + 2 and one.address == two.address
    ]
    return {"steps_with_cross_traffic": asdict(steps(differences))} if differences else {}


def _drawing(here: Sequence[Seat], alone: Sequence[Seat], evidence: list[int]) -> Finding:
    """Random, banded or a block."""
    ports = [seat.port for seat in alone]
    every = spread(ports)
    detail: dict[str, Any] = {"spread": asdict(every), "odds": {"theory": 1 / (every.band[1] - every.band[0] + 1)}}
    groups: defaultdict[tuple[int, str], list[Seat]] = defaultdict(list)
    for seat in here:
        groups[seat.sample.insider, seat.address].append(seat)
    wide = [group for group in groups.values() if len(group) >= _FEWEST]
    narrow = [group for group in wide if spread([seat.port for seat in group]).whole_p < _WHOLE_P]
    if len(narrow) == len(wide) >= 2 and any(_apart(one, two, 0) for one, two in itertools.combinations(wide, 2)):
        return _block(here, alone, evidence, detail)
    between = [wrapped(two.port - one.port) for one, two in _pairs(alone)]
    if drawn_p(ports, between, every.high - every.low + 1) < _UNIFORM_P or (
        every.uniform_p < _UNIFORM_P and every.high - every.low >= every.n
    ):
        return undetermined("ports are neither kept nor counted up nor evenly drawn", len(alone), evidence, **detail)
    if every.whole_p >= _WHOLE_P:
        if (every.high - every.low + 1) / PORTS >= _ALL:
            return found("random", len(alone), SUREST, evidence, **detail)
        return undetermined("ports are drawn from most of the range or all of it", len(alone), evidence, **detail)
    too_wide = 2 * (every.high - every.low) > PORTS  # for a block: there would be room for one host
    if len(wide) < 2 and not too_wide:
        why = f"ports lie in {every.low}..{every.high}: a band of all or a block of this host; a second inside address would tell"
        return undetermined(why, len(alone), evidence, **detail)
    hosts = {insider for insider, _ in groups}
    shared = len({address for _, address in groups}) < len(groups)
    chance = (every.high - every.low + 1) / PORTS
    confidence = 1 - every.whole_p if too_wide or (shared and len(hosts) > 1) else 1 - chance
    return found("banded", len(alone), confidence, evidence, band=list(every.band), **detail)


def _block(here: Sequence[Seat], alone: Sequence[Seat], evidence: list[int], detail: dict[str, Any]) -> Finding:
    """A block of its own for each host: where ours is, and how large blocks may be."""
    mine = max((seat.address for seat in alone), key=lambda address: sum(seat.address == address for seat in alone))
    ranges: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for seat in here:
        ranges[seat.sample.insider, seat.address].append(seat.port)
    ports = ranges[0, mine]
    size = 1
    while any(min(row) // size != max(row) // size for row in ranges.values()):
        size *= 2
    first = min(ports) // size * size
    others = [number for seat in here if seat.sample.insider for number in seat.sample.evidence]
    return found(
        "block",
        len(alone),
        SUREST,
        [*evidence[:40], *others[:20]],
        **(detail | {"band": [first, first + size - 1], "aligned_size": size}),
    )


def parity(known: Facts) -> Finding:
    """Whether even ports stay even and odd ones odd (RFC 4787, REQ-4)."""
    here = seats(known.samples)
    evidence = [number for seat in here for number in seat.sample.evidence]
    if len(here) < _FEWEST:
        return undetermined(f"only {len(here)} mapped ports were seen", len(here), evidence)
    kept = sum(seat.port == seat.sample.inside.port for seat in here)
    if kept > (1 - _MOSTLY) * len(here):
        return untested("the port itself is kept")
    same = sum((seat.port ^ seat.sample.inside.port) & 1 == 0 for seat in here)
    if same == len(here):
        return found("kept", len(here), 1 - 0.5 ** len(here), evidence)
    return found("not_kept", len(here), SUREST, evidence, same=same)


def pooling(known: Facts) -> Finding:
    """Whether one inside host has one external address (RFC 4787, REQ-2)."""
    mine = [seat for seat in seats(known.samples) if seat.sample.insider == 0]
    evidence = [number for seat in mine for number in seat.sample.evidence]
    if len(mine) < _FEWEST:
        return undetermined(f"only {len(mine)} mapped ports were seen", len(mine), evidence)
    addresses = list(dict.fromkeys([*(seat.address for seat in mine), *(known.contact.addresses if known.contact else ())]))
    klass = "paired" if len(addresses) == 1 else "arbitrary"
    return found(klass, len(mine), 1 - 0.5 ** (len(mine) - 1), evidence, addresses=addresses)
