"""A report against the truth, for NATs whose behaviour is known: the rows of a confusion table."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rawpunch.nat.behavior import Allocation, Behavior, Hairpinning, NumberCheck, SessionState, UnsolicitedAnswer
from rawpunch.probe.finding import Finding, Status
from rawpunch.probe.report import Report
from rawpunch.units import MS, SECOND

_SMALL: Final = 16
"""A table is called small when so many sessions do not fit."""


class Match(enum.StrEnum):
    """How a finding compares to the truth."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_DETERMINED = "not_determined"
    NOT_TESTED = "not_tested"


@dataclass(frozen=True, slots=True)
class Row:
    """One axis of one NAT."""

    axis: str
    truth: str
    found: str
    match: Match


def compare(report: Report, behavior: Behavior) -> list[Row]:
    """Every axis of a report beside what the NAT does."""
    rows = [_row(axis, tell(behavior), report.findings[axis]) for axis, tell in _TRUTHS.items()]
    rows += _ports(report, behavior)
    answer = report.findings["unsolicited_syn"]
    if answer.status is Status.FOUND:
        rows.append(_said("unsolicited_hold", str(behavior.unsolicited_hold_ns >= SECOND), str(answer.detail["held"])))
    hairpin = report.findings["hairpin"]
    if hairpin.klass == "true":
        rows.append(_said("hairpin_source", behavior.hairpinning.value, str(hairpin.detail["source"])))
    timers = behavior.timers
    rows.append(_timer("syn_timer", report, timers.syn_sent_ns))
    rows.append(_timer("established_timer", report, timers.established_ns))
    return rows


def _row(axis: str, truth: str, finding: Finding) -> Row:
    if finding.status is Status.NOT_DETERMINED:
        return Row(axis, truth, "not determined", Match.NOT_DETERMINED)
    if finding.status is Status.NOT_TESTED:
        return Row(axis, truth, "not tested", Match.NOT_TESTED)
    return _said(axis, truth, str(finding.klass))


def _said(axis: str, truth: str, found: str) -> Row:
    return Row(axis, truth, found, Match.RIGHT if truth == found else Match.WRONG)


def _ports(report: Report, behavior: Behavior) -> list[Row]:
    """Stride and band, where the class is right."""
    ports, finding = behavior.ports, report.findings["port_allocation"]
    if finding.klass != ports.allocation.value:
        return []
    if ports.allocation is Allocation.SEQUENTIAL:
        return [_said("stride", str(ports.stride), str(finding.detail.get("stride")))]
    if ports.allocation is Allocation.BANDED:
        spread = finding.detail["spread"]
        inside = ports.low <= spread["low"] and spread["high"] <= ports.high
        wide = spread["band"][1] - spread["band"][0] >= 0.8 * (ports.high - ports.low)
        truth, found = f"{ports.low}..{ports.high}", f"{spread['band'][0]}..{spread['band'][1]}"
        return [Row("band", truth, found, Match.RIGHT if inside and wide else Match.WRONG)]
    return []


def _timer(axis: str, report: Report, truth_ns: int) -> Row:
    finding = report.findings[axis]
    if finding.status is not Status.FOUND:
        return _row(axis, str(truth_ns), finding)
    slack_ns = 200 * MS
    at_least, at_most = int(finding.detail["at_least_ns"]), finding.detail["at_most_ns"]
    right = at_least - slack_ns <= truth_ns and (at_most is None or truth_ns <= int(at_most) + slack_ns)
    found = f"{at_least}..{'' if at_most is None else at_most}"
    return Row(axis, str(truth_ns), found, Match.RIGHT if right else Match.WRONG)


def _unsolicited(behavior: Behavior) -> str:
    return "rst" if behavior.unsolicited is UnsolicitedAnswer.STACK else behavior.unsolicited.value


def _rst(behavior: Behavior) -> str:
    return "closed" if SessionState.SYN_SENT in behavior.rst_closes else "survives"


def _rst_wrong(behavior: Behavior) -> str:
    return _rst(behavior) if behavior.number_check is NumberCheck.NONE else "survives"


_TRUTHS: Final[dict[str, Callable[[Behavior], str]]] = {
    "terminates_tcp": lambda _: "false",
    "mapping": lambda behavior: behavior.mapping.value,
    "pooling": lambda behavior: behavior.pooling.value,
    "port_allocation": lambda behavior: behavior.ports.allocation.value,
    "port_parity": lambda behavior: "kept" if behavior.ports.keeps_parity else "not_kept",
    "filtering": lambda behavior: behavior.filtering.value,
    "unsolicited_syn": _unsolicited,
    "rst_in_syn_sent": _rst,
    "rst_wrong_ack": _rst_wrong,
    "icmp_in_syn_sent": lambda behavior: "closed" if SessionState.SYN_SENT in behavior.icmp_closes else "survives",
    "icmp_translated": lambda behavior: "translated" if behavior.icmp_translated else "dropped",
    "crossing_syn": lambda behavior: behavior.crossing_syn.value,
    "syn_ack_out": lambda behavior: behavior.syn_ack_out.value,
    "hairpin": lambda behavior: str(behavior.hairpinning not in {Hairpinning.NONE, Hairpinning.REFUSED}).lower(),
    "overloading": lambda behavior: str(behavior.ports.overloading).lower(),
    "sequence_numbers": lambda behavior: "rewritten" if behavior.rewrites_sequence else "kept",
    "table": lambda behavior: "small" if behavior.capacity < _SMALL else "roomy",
}
