"""The plans with those who may be the peer, each made as soon as he is heard of, while something else is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.punch.consent import Consent, agreed_budget
from rawpunch.punch.known import Known
from rawpunch.punch.plan import Path, Plan, Side, make_plan
from rawpunch.punch.ports import Mapped
from rawpunch.punch.rendezvous import RTT_AXIS, Finding, Peer
from rawpunch.units import MS

_START_ERROR_NS: Final = 2 * MS
"""By how much the server's word may reach the two apart, beyond what their ways differ."""
_USUAL_RTT_US: Final = 40_000
_MOST_RTT_US: Final = 2_000_000


class Plans:
    """The plans of one side.

    Args:
        mine: what is known of our NAT.
        rtt: our finding of the way to the server.
        consent: ours, to be sprayed.
    """

    def __init__(self, mine: Known, rtt: Finding, consent: Consent | None) -> None:
        self._mine = mine
        self._rtt = rtt
        self._consent = consent
        self._made: list[tuple[Peer, Side, Plan, Known]] = []

    def of(self, peer: Peer, side: Side) -> tuple[Plan, Known]:
        """The plan, if we are that side, and what is known of the other one."""
        for known, place, plan, theirs in self._made:
            if (known, place) == (peer, side):
                return plan, theirs
        theirs = known_of(peer.findings, [peer.endpoint.port, *peer.seen])
        sides = (self._mine, theirs) if side == "a" else (theirs, self._mine)
        budget = agreed_budget(self._consent, peer.consent)
        plan = make_plan(*sides, _path(self._rtt, peer.findings.get(RTT_AXIS)), budget=budget)
        self._made.append((peer, side, plan, theirs))
        return plan, theirs


def known_of(findings: Mapping[str, Finding], ports: list[int]) -> Known:
    """What is known of a side by its findings and the external ports that were seen, the last one last."""
    seen = tuple(Mapped(port) for port in ports) if len(ports) > 1 else ()
    documents = {axis: finding.document() for axis, finding in findings.items() if axis != RTT_AXIS}
    try:
        return Known.of_findings(documents, seen)
    except BadParameter:  # a peer's nonsense: nothing is known of it then, as the other side finds too
        return Known.of_findings({}, seen)


def _path(mine: Finding, theirs: Finding | None) -> Path:
    rtts = [_rtt_us(mine), _rtt_us(theirs)]
    return Path((sum(rtts) * 500, sum(rtts) * 500), _START_ERROR_NS)


def _rtt_us(finding: Finding | None) -> int:
    told = finding.detail.get("rtt_us") if finding is not None else None
    return told if isinstance(told, int) and 0 < told <= _MOST_RTT_US else _USUAL_RTT_US
