"""Mapping: when two connections of one inside endpoint share an external one (RFC 4787, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rawpunch.probe import inference_ports
from rawpunch.probe.facts import Facts, Reconnection, Round
from rawpunch.probe.finding import SUREST, Finding, found, missing, undetermined


def mapping(known: Facts) -> Finding:
    """RFC 4787, section 4.1."""
    mapped = known.mapped
    if mapped is None or not mapped.rounds:
        return missing(known, "mapping")
    rounds: Sequence[Round] = mapped.rounds
    evidence = [number for row in rounds for opening in row.openings for number in opening.evidence]
    if not any(row.openings for row in rounds):
        return undetermined("no SYN came through", len(rounds))
    if all(opening.mapped == opening.inside for row in rounds for opening in row.openings):
        return found("none", len(rounds), SUREST, evidence, "the observer sees the inside endpoint itself")
    reconnections: Sequence[Reconnection] = mapped.reconnections
    kept = all(opening.mapped.port == opening.inside.port for row in rounds for opening in row.openings)
    by = "reuse"
    if kept and mapped.clashes:
        clashing = [clash for clash in mapped.clashes if _clashes(clash.holder, clash.second)]
        if len(clashing) >= 2:
            rounds = [clash.second for clash in clashing]
            reconnections = [clash.reconnection for clash in clashing if clash.reconnection is not None]
            evidence = [number for row in rounds for opening in row.openings for number in opening.evidence]
            by = "reuse_under_clash"
        else:
            refused = sum(clash.refused for clash in mapped.clashes)
            why = "the inside port is kept, so a mapping for each destination would look like one for all"
            why += f"; a second host that uses the same one is refused ({refused} of {len(mapped.clashes)})" if refused else ""
            return undetermined(why, len(rounds), evidence)
    elif kept and known.insiders > 1:
        return undetermined("the inside port was kept, and two hosts that use one told no more", len(rounds), evidence)
    elif kept:
        by = "port_kept"
    return _mapped(known, rounds, reconnections, evidence, by)


def _votes(rounds: Sequence[Round], other: Callable[[Round], object]) -> tuple[int, int]:
    """In how many rounds two external endpoints were the same, and in how many they differed."""
    same = differ = 0
    for row in rounds:
        second = other(row)
        if row.first is None or second is None:
            continue
        if row.first.mapped == getattr(second, "mapped", None):
            same += 1
        else:
            differ += 1
    return same, differ


def _decided(same: int, differ: int) -> bool | None:
    """Whether two endpoints are one; None if rounds disagree or are too few. A port may be equal once by chance."""
    if same >= 2 and differ == 0:
        return True
    if differ >= 2 and same <= differ // 3:
        return False
    return None


def _clashes(holder: Round, second: Round) -> bool:
    """Whether the second host was given another port because the first one held its own."""
    return holder.first is not None and second.first is not None and second.first.mapped.port != second.first.inside.port


def _mapped(
    known: Facts, rounds: Sequence[Round], reconnections: Sequence[Reconnection], evidence: list[int], by: str
) -> Finding:
    port_same = _decided(*_votes(rounds, lambda row: row.other_port))
    address_same = _decided(*_votes(rounds, lambda row: row.other_address))
    n, width = len(rounds), _width(known)
    chance = 1.0 if width == 1 else (1 / width) ** n
    why = ""
    if by == "port_kept":
        chance = 0.0
        why = "the inside port was kept each time; whether one mapping is shared shows only where the port is taken"
    if port_same is None:
        return undetermined(
            "external endpoints towards two ports of one address agree in some rounds and not in others", n, evidence
        )
    if port_same:
        if address_same is None:
            missing = "the observer has one address" if known.observer_addresses < 2 else "rounds disagree"
            why = f"endpoint_independent or address_dependent: {missing}"
            return undetermined(why, n, evidence, candidates=["endpoint_independent", "address_dependent"])
        klass = "endpoint_independent" if address_same else "address_dependent"
        return found(klass, n, 1 - chance, evidence, why, by=by)
    evidence = [*evidence, *(number for one in reconnections for number in one.evidence)]
    again = _decided(sum(one.before == one.after for one in reconnections), sum(one.before != one.after for one in reconnections))
    if again is None:
        why = "another port gives another mapping, but connecting again to the same one did not show whether that does too"
        candidates = ["address_and_port_dependent", "per_connection"]
        return undetermined(why, n, evidence, candidates=candidates)
    if again and _crowded(known):
        why = "connecting again gave the same port, but the probe's own connections may have left no other one"
        return undetermined(why, n, evidence, candidates=["address_and_port_dependent", "per_connection"])
    klass = "address_and_port_dependent" if again else "per_connection"
    chance = (1 / max(2, width)) ** len(reconnections) if again else 0.0
    return found(klass, n, 1 - chance, evidence, by=by)


def _crowded(known: Facts) -> bool:
    """Whether the probe took so many of the ports there are that a free one may be the one it had."""
    if inference_ports.allocation(known).klass == "sequential":
        return False  # a counter goes on
    ports = {seat.port for seat in inference_ports.seats(known.samples) if seat.sample.insider == 0}
    return len(ports) > 1 and 2 * len(ports) > max(ports) - min(ports)


def _width(known: Facts) -> int:
    """How many ports a new mapping may get, at the least: 1 over the chance of a coincidence."""
    ports = {seat.port for seat in inference_ports.seats(known.samples)}
    return max(1, max(ports) - min(ports)) if len(ports) > 1 else 64_512
