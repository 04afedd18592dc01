"""What is known of a side's NAT, and what that leaves open.

A probe may leave an axis undetermined. Then a plan has to stand for every value that it may have, and three stand for all of
them: the usual value, the one that is worst for connecting, and the one that is best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from rawpunch.errors import BadParameter
from rawpunch.nat.behavior import (
    CLOSABLE,
    Allocation,
    Behavior,
    CrossingSyn,
    Filtering,
    Pooling,
    Ports,
    SynAckOut,
    UnsolicitedAnswer,
    WhenFull,
)
from rawpunch.nat.behavior import Mapping as Sharing
from rawpunch.punch.ports import Mapped
from rawpunch.units import SECOND

_HELD_NS: Final = 6 * SECOND
Document = Mapping[str, Any]
"""A finding as a report's JSON has it: class, detail, status, why."""


@dataclass(frozen=True, slots=True)
class Known:
    """One side."""

    usual: Behavior | None
    """Its NAT, what is open being as usual; None for none."""
    worst: Behavior | None
    best: Behavior | None
    doubts: tuple[str, ...] = ()
    """Axes that were not determined."""
    proxied: bool = False
    """Whether a proxy terminates TCP on the way, so that nothing can be punched."""
    seen: tuple[Mapped, ...] = field(default=())
    """Mappings that an observer saw, in their order, for prediction."""

    @classmethod
    def of_behavior(cls, behavior: Behavior | None, seen: tuple[Mapped, ...] = ()) -> Self:
        """All is known."""
        return cls(behavior, behavior, behavior, seen=seen)

    @classmethod
    def of_findings(cls, findings: Mapping[str, Document], seen: tuple[Mapped, ...] = ()) -> Self:
        """What a probe's report says, axis by axis.

        Args:
            findings: axis -> finding, as in a report's JSON.
            seen: mappings that an observer saw.

        Raises:
            BadParameter: the findings contradict each other, or name what does not exist.
        """
        said = {axis: finding for axis, finding in findings.items() if finding.get("class") is not None}
        proxied = _class(said, "terminates_tcp") == "true"
        if _class(said, "mapping") == "none":
            return cls(None, None, None, proxied=proxied, seen=seen)
        try:
            usual, worst, best = (_filled(findings, said, place) for place in range(3))
        except (ValueError, TypeError, AttributeError) as error:
            raise BadParameter("these findings are none of a probe's", why=str(error), todo="probe again") from error
        doubts = tuple(axis for axis in _AXES if axis in _DECIDING and axis not in said)
        return cls(usual, worst, best, doubts=doubts, proxied=proxied, seen=seen)

    @property
    def variants(self) -> tuple[Behavior | None, ...]:
        """The different NATs that it may be, the usual one first."""
        return tuple(dict.fromkeys((self.usual, self.worst, self.best)))


def _filled(findings: Mapping[str, Document], said: Mapping[str, Document], place: int) -> Behavior:
    """The NAT with what is open as usual (0), at its worst (1) or at its best (2)."""
    nat = replace(Behavior(ports=Ports()), **(_USUAL, _WORST, _BEST)[place])
    for axis, apply in _AXES.items():
        if axis in said:
            nat = apply(nat, str(said[axis]["class"]), said[axis].get("detail") or {})
        elif candidates := _candidates(findings.get(axis)):
            nat = apply(nat, candidates[place], {})
    return nat


def _class(findings: Mapping[str, Document], axis: str) -> str | None:
    return findings[axis]["class"] if axis in findings else None


def _candidates(finding: Document | None) -> tuple[str, str, str] | None:
    """The classes that a finding without one leaves open: the usual, the worst, the best; the best one is named first."""
    named = ((finding or {}).get("detail") or {}).get("candidates")
    return (named[0], named[-1], named[0]) if named else None


def nat_hops(path: Document) -> int:
    """Routers up to the outermost NAT, from the way out as a probe's report has it (``path``); 1 where nothing else is known.

    A NAT answers with the address of its own inside; so the last router with a private one is the outermost NAT.
    """
    try:
        private = [int(step["ttl"]) for step in path.get("steps") or () if step["private"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadParameter("this is no path of a probe's", why=str(error), todo="probe again") from error
    return max([1, *private])


_USUAL: Final[dict[str, Any]] = {}
"""`Behavior` as it is: what most NATs do."""
_WORST: Final[dict[str, Any]] = {
    "mapping": Sharing.PER_CONNECTION,
    "filtering": Filtering.ADDRESS_AND_PORT_DEPENDENT,
    "ports": Ports(allocation=Allocation.RANDOM),
    "pooling": Pooling.ARBITRARY,
    "external_addresses": 2,
    "unsolicited": UnsolicitedAnswer.RST,
    "crossing_syn": CrossingSyn.POISONS,
    "syn_ack_out": SynAckOut.NEVER,
    "icmp_closes": CLOSABLE,
}
_BEST: Final[dict[str, Any]] = {
    "mapping": Sharing.ENDPOINT_INDEPENDENT,
    "filtering": Filtering.ENDPOINT_INDEPENDENT,
    "unsolicited": UnsolicitedAnswer.DROP,
    "crossing_syn": CrossingSyn.PASSES,
    "syn_ack_out": SynAckOut.ALWAYS,
    "icmp_closes": (),
}

# --- from an axis to a behaviour ---


def _mapping(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, mapping=Sharing(klass))


def _filtering(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, filtering=Filtering(klass), ports=replace(nat.ports, overloading=False))


def _allocation(nat: Behavior, klass: str, detail: Document) -> Behavior:
    """A block is a band to its one host, and ports that count up in it are sequential within it."""
    stride, band = int(detail.get("stride") or 0), detail.get("band")
    low, high = band or (1024, 65_535)
    whole = (low, high) == (1024, 65_535)
    if klass == Allocation.PRESERVING:
        return replace(nat, ports=Ports())
    if stride:
        return replace(nat, ports=Ports(allocation=Allocation.SEQUENTIAL, stride=stride, low=low, high=high))
    if klass == Allocation.RANDOM or whole:
        return replace(nat, ports=Ports(allocation=Allocation.RANDOM))
    return replace(nat, ports=Ports(allocation=Allocation.BANDED, low=low, high=high))


def _parity(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, ports=replace(nat.ports, keeps_parity=klass == "kept"))


def _pooling(nat: Behavior, klass: str, detail: Document) -> Behavior:
    if klass != Pooling.ARBITRARY:
        return replace(nat, pooling=Pooling(klass), external_addresses=1)
    return replace(nat, pooling=Pooling.ARBITRARY, external_addresses=max(2, len(detail.get("addresses") or ())))


def _unsolicited(nat: Behavior, klass: str, detail: Document) -> Behavior:
    if klass not in {"rst", "icmp"}:
        return replace(nat, unsolicited=UnsolicitedAnswer.DROP)
    return replace(nat, unsolicited=UnsolicitedAnswer(klass), unsolicited_hold_ns=_HELD_NS if detail.get("held") else 0)


def _icmp(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, icmp_closes=CLOSABLE if klass == "closed" else ())


def _icmp_translated(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, icmp_translated=klass == "translated")


def _crossing(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, crossing_syn=CrossingSyn(klass))


def _syn_ack_out(nat: Behavior, klass: str, _: Document) -> Behavior:
    return replace(nat, syn_ack_out=SynAckOut(klass))


def _table(nat: Behavior, klass: str, detail: Document) -> Behavior:
    if klass != "small":
        return nat
    when_full = WhenFull.REFUSE if detail.get("refused") else WhenFull.EVICT_OLDEST
    return replace(nat, capacity=max(1, int(detail.get("lived") or 1)), when_full=when_full)


_AXES: Final[dict[str, Callable[[Behavior, str, Document], Behavior]]] = {
    "mapping": _mapping,
    "filtering": _filtering,
    "port_allocation": _allocation,
    "port_parity": _parity,
    "pooling": _pooling,
    "unsolicited_syn": _unsolicited,
    "icmp_in_syn_sent": _icmp,
    "icmp_translated": _icmp_translated,
    "crossing_syn": _crossing,
    "syn_ack_out": _syn_ack_out,
    "table": _table,
}
_DECIDING: Final = frozenset(_AXES) - {"port_parity", "icmp_translated", "table"}
"""Axes without which a plan is in doubt."""
