"""Which port a NAT's next mapping will get, from those that it gave before: a ranked list of ports with stated odds.

Every rule that a NAT may follow is weighed by how likely it makes the ports that were seen (Bayes), and what they say of the next
port is added up. So the odds are honest about two things at once: which rule it is, and what the rule leaves to chance.

- *Same*: the mapping is used again for every remote endpoint (RFC 4787, section 4.1).
- *Kept*: the inside port is seen outside.
- *Steps*: last port plus a stride, round and round in a range; between two of ours, others take a number of ports that is Poisson
  or (bursts) negative binomial, of an unknown rate, in proportion to the time between. Where parity is kept (RFC 4787, REQ-4),
  a step goes on until it fits.
- *Drawn*: any port of a range, of an aligned block, or of a band that is known from the ports alone (`band`).

An observation is a new mapping each; time, if it is given, is the observer's or one's own, alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rawpunch.errors import BadParameter
from rawpunch.punch.ports import Guess, Kind, Mapped
from rawpunch.wire.endpoint import MAX_PORT

_Floats = NDArray[np.float64]

_PORTS: Final = MAX_PORT + 1
_MEANS: Final[_Floats] = np.array([2 ** (half / 2) for half in range(-8, 17)])
_SHAPES: Final = (1.0, 4.0)
_RATES: Final[_Floats] = np.concatenate([[0.0], _MEANS, *([_MEANS] * len(_SHAPES))])
"""Mappings of others between two of ours, on average: the first is a quiet NAT; then Poisson, and then bursts."""
_BURSTS: Final = slice(1 + len(_MEANS), None)
"""Where the number is negative binomial: of the same average, and now and then many at once."""
_SHAPE: Final[_Floats] = np.repeat(_SHAPES, len(_MEANS))
"""Its shape r, by rate: the variance is m + m^2 / r; 1 is geometric."""
_RATE_PRIOR: Final[_Floats] = np.array([0.4, *[0.6 / (len(_RATES) - 1)] * (len(_RATES) - 1)])
_HORIZON: Final = 1024
"""Steps that are looked ahead."""
_RANGES: Final = {
    (1024, MAX_PORT): 0.5,
    (32_768, 60_999): 0.15,
    (49_152, MAX_PORT): 0.1,
    (32_768, MAX_PORT): 0.05,
    (1, MAX_PORT): 0.05,
}
"""Ranges that NATs give ports from, and how usual they are; the rest are aligned blocks and any other ones."""
_BLOCKS: Final = 0.1
_OTHER_RANGE: Final = 0.05
_BLOCK_BITS: Final = range(6, 16)
_STRIDES: Final = {1: 0.5, 2: 0.15, -1: 0.1, 4: 0.05, 8: 0.02, 16: 0.02, 256: 0.02, 3: 0.02, -2: 0.02}
_OTHER_STRIDE: Final = 0.01
_SLIP: Final = 0.02
"""How often a port is not kept, or a mapping not used again, where that is the rule."""
_KEEPS_PARITY: Final = 0.1
_NARROWEST: Final = 64
"""No band is narrower."""
_NEGLIGIBLE: Final = 1e-9


_PRIOR: Final = {Kind.SAME: 0.15, Kind.KEPT: 0.15, Kind.STEPS: 0.35, Kind.DRAWN: 0.35}


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is known of the next port."""

    kind: Kind
    """The likeliest rule."""
    certainty: float
    """How likely that is the rule."""
    why: str
    """The likeliest rule in words."""
    by_port: _Floats
    """Port -> odds, 65,536 of them."""
    order: NDArray[np.intp]
    """Ports by odds, the likeliest first."""

    def ranked(self, count: int) -> tuple[Guess, ...]:
        """The likeliest ports; fewer if no others have any odds."""
        return tuple(Guess(int(port), float(self.by_port[port])) for port in self.order[:count] if self.by_port[port] > 0)

    def odds(self, count: int) -> float:
        """How likely the next port is one of that many likeliest ones."""
        return float(self.by_port[self.order[:count]].sum())

    def needed(self, share: float) -> int | None:
        """How many of the likeliest ports have those odds together; None if all that are known of have not."""
        enough = int(np.searchsorted(np.cumsum(self.by_port[self.order]), share)) + 1
        return enough if enough <= np.count_nonzero(self.by_port) else None


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule that was weighed: how likely with what was seen (log), its words, and the next port's odds under it."""

    kind: Kind
    log_weight: float
    why: str
    ports: NDArray[np.intp]
    odds: _Floats
    """Of each of these ports; of all of them where there is one number."""


def forecast(
    seen: Sequence[Mapped], *, inside_port: int | None = None, after_ns: int | None = None, held: bool = False
) -> Forecast:
    """The next mapping's port.

    Args:
        seen: mappings of ours in the order in which they were made.
        inside_port: the port that the next one will be made from; the last one's if it is not given.
        after_ns: how long after the last one it will be made; as long as they lay apart on the average if it is not given.
        held: whether all of these mappings still live, and are for different connections, so that none is given out again.

    Raises:
        BadParameter: nothing was seen.
    """
    if not seen:
        raise BadParameter("nothing can be told of a NAT's ports that nobody has seen", todo="ask an observer at least once")
    inside_port = seen[-1].inside_port if inside_port is None else inside_port
    gaps = _gaps(seen, after_ns)
    rules = [*_same(seen), *_kept(seen, inside_port), *_steps(seen, inside_port, gaps), *_drawn(seen, inside_port)]
    top = max(rule.log_weight for rule in rules)
    weights = [math.exp(rule.log_weight - top) for rule in rules]
    total = math.fsum(weights)
    by_port, by_kind, words = np.zeros(_PORTS), dict.fromkeys(Kind, 0.0), dict[str, float]()
    for rule, weight in zip(rules, weights, strict=True):
        share = weight / total
        by_kind[rule.kind] += share
        words[rule.why] = words.get(rule.why, 0.0) + share
        if share > _NEGLIGIBLE:
            by_port[rule.ports] += share * rule.odds  # no rule names a port twice
    if held and by_kind[Kind.SAME] + by_kind[Kind.KEPT] < 0.5:
        by_port[[mapped.port for mapped in seen]] = 0.0
    kind = max(by_kind, key=by_kind.__getitem__)
    why = max((words[rule.why], rule.why) for rule in rules if rule.kind is kind)[1]
    return Forecast(kind, by_kind[kind], why, by_port, np.argsort(-by_port, kind="stable"))


def _gaps(seen: Sequence[Mapped], after_ns: int | None) -> list[float]:
    """How long it took from each mapping to the next one and to the one to come, in mean gaps."""
    times = [mapped.at_ns for mapped in seen if mapped.at_ns is not None]
    if len(times) < len(seen) or len(times) < 2 or times != sorted(times) or times[0] == times[-1]:
        return [1.0] * len(seen)
    mean = (times[-1] - times[0]) / (len(times) - 1)
    return [(later - earlier) / mean for earlier, later in pairwise(times)] + [1.0 if after_ns is None else after_ns / mean]


# --- the rules ---


def _same(seen: Sequence[Mapped]) -> Iterator[_Rule]:
    changes = sum(a.port != b.port for a, b in pairwise(seen))
    weight = math.log(_PRIOR[Kind.SAME] / _PORTS) + _slips(changes, len(seen) - 1)
    yield _Rule(Kind.SAME, weight, "the mapping is used again", np.array([seen[-1].port]), np.array([1 - _SLIP]))


def _kept(seen: Sequence[Mapped], inside_port: int | None) -> Iterator[_Rule]:
    if inside_port is None or any(mapped.inside_port is None for mapped in seen):
        return
    weight = math.log(_PRIOR[Kind.KEPT]) + _slips(sum(m.port != m.inside_port for m in seen), len(seen))
    yield _Rule(Kind.KEPT, weight, "the inside port is kept", np.array([inside_port]), np.array([1 - _SLIP]))


def _slips(slips: int, of: int) -> float:
    """Log-likelihood of so many slips, each to any port."""
    return slips * math.log(_SLIP / _PORTS) + (of - slips) * math.log1p(-_SLIP)


def _drawn(seen: Sequence[Mapped], inside_port: int | None) -> Iterator[_Rule]:
    ports = [mapped.port for mapped in seen]
    for parity, log_prior in _parities(seen, inside_port, Kind.DRAWN):
        each = 1 if parity is None else 2
        for low, high, prior in _ranges(ports):
            fitting = _fitting(low, high, parity)
            weight = log_prior + math.log(prior) - len(ports) * math.log(len(fitting))
            yield _Rule(Kind.DRAWN, weight, f"drawn from {low}..{high}", fitting, np.array([1 / len(fitting)]))
        if len(ports) > 1:
            yield _somewhere(ports, log_prior + len(ports) * math.log(each), parity)


def _somewhere(ports: list[int], log_prior: float, parity: int | None) -> _Rule:
    """Drawn from a band that nothing else is known of: all bands with the ports in it, each width W as likely as 1/W.

    The odds of a port fall off beyond those that were seen as (R / (R + distance))^n: see `band`.
    """
    n, low, high = len(ports), min(ports), max(ports)
    spare = max(0, _NARROWEST - (high - low + 1))
    low, high = max(1, low - spare // 2), min(MAX_PORT, high + spare - spare // 2)
    width = high - low + 1
    all_bands = _PORTS * (math.log(_PORTS / _NARROWEST) - 1)
    weight = log_prior + math.log(_OTHER_RANGE / all_bands) + (1 - n) * math.log(width) - math.log(n * (n - 1))
    fitting = _fitting(1, MAX_PORT, parity)
    beyond = np.maximum(np.maximum(low - fitting, fitting - high), 0)
    odds = (width / (width + beyond)) ** n
    inside = (n - 1) / (n + 1)
    near = beyond == 0
    odds[near] *= inside / max(1, int(np.count_nonzero(near)))
    if not near.all():
        odds[~near] *= (1 - inside) / float(odds[~near].sum())
    return _Rule(Kind.DRAWN, weight, f"drawn from about {low}..{high}", fitting, odds)


def _fitting(low: int, high: int, parity: int | None) -> NDArray[np.intp]:
    return np.arange(low, high + 1) if parity is None else np.arange(low + ((low ^ parity) & 1), high + 1, 2)


def _parities(seen: Sequence[Mapped], inside_port: int | None, kind: Kind) -> Iterator[tuple[int | None, float]]:
    """No parity to keep, and if it may be that it is kept, the next port's: each with its prior (log)."""
    prior = _PRIOR[kind]
    if inside_port is None or any(m.inside_port is None or (m.port ^ m.inside_port) & 1 for m in seen):
        yield None, math.log(prior)
        return
    yield None, math.log(prior * (1 - _KEEPS_PARITY))
    yield inside_port & 1, math.log(prior * _KEEPS_PARITY)


def _ranges(ports: list[int]) -> Iterator[tuple[int, int, float]]:
    """Ranges that all of these lie in, with their priors."""
    low, high = min(ports), max(ports)
    for (first, last), prior in _RANGES.items():
        if first <= low and high <= last:
            yield first, last, prior
    for bits in _BLOCK_BITS:
        if low >> bits == high >> bits:
            first = low >> bits << bits
            yield max(first, 1), first + (1 << bits) - 1, _BLOCKS / len(_BLOCK_BITS) / (_PORTS >> bits)


# --- steps ---


def _steps(seen: Sequence[Mapped], inside_port: int | None, gaps: list[float]) -> Iterator[_Rule]:
    ports = [mapped.port for mapped in seen]
    ranges = list(_ranges(ports))
    if any(a > b for a, b in pairwise(ports)) and any(a < b for a, b in pairwise(ports)):  # perhaps it went round
        ranges.append((min(ports), max(ports), 2 * _OTHER_RANGE / _PORTS**2))
    for parity, log_prior in _parities(seen, inside_port, Kind.STEPS):
        paces: dict[tuple[int, ...], _Pace | None] = {}
        for (stride, prior), (low, high, range_prior) in product(_strides(ports), ranges):
            width = high - low + 1
            if abs(stride) >= width or (parity is not None and abs(stride) != 1):
                continue  # an even stride keeps parity by itself
            walked = _walked(ports, stride, width)
            if walked is None:
                continue
            if walked not in paces:
                paces[walked] = _pace(walked, gaps, None if parity is None else (ports[-1] ^ parity) & 1)
            pace = paces[walked]
            if pace is None:
                continue
            steps = np.arange(1, min(_HORIZON, width // abs(stride)) + 1)
            where = low + (ports[-1] + stride * steps - low) % width
            weight = log_prior + math.log(prior * range_prior / width) + pace.log_weight
            yield _Rule(Kind.STEPS, weight, f"{stride:+d} each within {low}..{high}, {pace.why}", where, pace.odds[: len(steps)])


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast others take ports, told from numbers of steps."""

    log_weight: float
    odds: _Floats
    """That ours is 1, 2, 3 ... steps on."""
    why: str


def _walked(ports: list[int], stride: int, width: int) -> tuple[int, ...] | None:
    """How many steps lie between ports; None where that is no whole number."""
    found = []
    for before, after in pairwise(ports):
        distance = (after - before if stride > 0 else before - after) % width
        if distance == 0 or distance % abs(stride):
            return None
        found.append(distance // abs(stride))
    return tuple(found)


def _pace(walked: tuple[int, ...], gaps: list[float], odd: int | None) -> _Pace | None:
    """The pace that makes such steps likely; None if none does.

    Args:
        walked: steps from port to port.
        gaps: how long each took, and the one to come takes.
        odd: where parity is kept, whether an odd step fits (1) or an even one (0).
    """
    found = np.log(_RATE_PRIOR)
    for steps, gap in zip(walked, gaps, strict=False):
        found = found + (_log_taken(steps - 1, gap) if odd is None else _log_fitting(steps))
    if not np.isfinite(found).any():
        return None
    top = float(found.max())
    rates = np.exp(found - top)
    total = float(rates.sum())
    rates /= total
    odds = rates @ _taken(gaps[-1]) if odd is None else _next_fitting(rates @ _taken_fitting(), odd)
    return _Pace(math.log(total) + top, odds, _busy(float(rates @ _RATES)))


def _busy(rate: float) -> str:
    return f"about {rate:.1f} of others between two of ours" if rate >= 0.05 else "others hardly between"


def _strides(ports: list[int]) -> Iterator[tuple[int, float]]:
    yield from _STRIDES.items()
    steps = [b - a for a, b in pairwise(ports) if a != b]
    sizes = {math.gcd(*steps), min(abs(step) for step in steps)} if steps else set[int]()
    likely = {sign * size for size in sizes for sign in (1, -1)}
    others = sorted(likely - set(_STRIDES))
    for stride in others:
        yield stride, _OTHER_STRIDE / len(others) / (1 + abs(stride))


def _log_taken(count: int, gap: float) -> _Floats:
    """That others took `count` ports in a gap (log), by rate."""
    mean = _RATES * gap
    with np.errstate(divide="ignore"):
        found = np.asarray((count * np.log(mean) if count else 0.0) - mean - math.lgamma(count + 1))
    bursts = mean[_BURSTS]
    ways = np.repeat([math.lgamma(count + shape) - math.lgamma(shape) for shape in _SHAPES], len(_MEANS))
    found[_BURSTS] = _log_burst(count, bursts, _SHAPE) + ways - math.lgamma(count + 1)
    return found


def _log_burst(counts: int | NDArray[np.int64], means: _Floats, shapes: _Floats) -> _Floats:
    """The part of a negative binomial's logarithm that depends on the mean."""
    return np.asarray(counts * np.log(means / (shapes + means)) - shapes * np.log1p(means / shapes))


def _log_fitting(steps: int) -> _Floats:
    """The same where a port of ours must fit its parity: `steps` ports on, which is one or two beyond the others' last."""
    if steps > _HORIZON:
        return np.full(len(_RATES), -np.inf)
    taken = _taken_fitting()
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(taken[:, steps - 1] + (taken[:, steps - 2] if steps > 1 else 0.0)))


@lru_cache(maxsize=4)
def _taken(gap: float) -> _Floats:
    """How likely others take 0, 1, 2 ... ports in a gap: a row for each rate."""
    mean, counts = _RATES[:, None] * gap, np.arange(_HORIZON)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.exp(counts * np.log(mean) - mean - _log_factorials())
    found[_BURSTS] = np.exp(_log_burst(counts, mean[_BURSTS], _SHAPE[:, None]) + _burst_ways())
    found[0] = counts == 0
    return found


@cache
def _log_factorials() -> _Floats:
    return np.array([math.lgamma(count + 1) for count in range(_HORIZON)])


@cache
def _burst_ways() -> _Floats:
    """Log of Gamma(n + r) / Gamma(r) / n! for each rate of bursts and n."""
    rows = [[math.lgamma(count + shape) - math.lgamma(shape) for count in range(_HORIZON)] for shape in _SHAPES]
    return np.repeat(np.array(rows), len(_MEANS), axis=0) - _log_factorials()


@cache
def _taken_fitting() -> _Floats:
    """The same where theirs have to fit too, and step over a port half of the time (Panjer's recursion for one or two each).

    All gaps count as equal here, and nothing as a burst.
    """
    half = _RATES / 2
    found = np.zeros((len(_RATES), _HORIZON))
    found[:, 0] = np.exp(-2 * half)
    for ports in range(1, _HORIZON):
        found[:, ports] = half / ports * (found[:, ports - 1] + (2 * found[:, ports - 2] if ports > 1 else 0.0))
    found[_BURSTS] = 0.0
    return found


def _next_fitting(taken: _Floats, odd: int) -> _Floats:
    """How likely ours is 1, 2, 3 ... steps on: the next one that fits beyond what others took; `odd` if an odd step fits."""
    steps = taken + np.concatenate(([0.0], taken[:-1]))
    steps[np.arange(1, len(steps) + 1) % 2 != odd] = 0.0
    return steps
