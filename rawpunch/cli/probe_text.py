"""A probe's report in words: axis by axis, the way out, RFC 5382 requirement by requirement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from rawpunch.units import format_duration

if TYPE_CHECKING:
    from rawpunch.probe.finding import Finding
    from rawpunch.probe.report import Report

_LABELS: Final = {
    "terminates_tcp": "a proxy terminates TCP",
    "unsolicited_syn": "answer to an unsolicited SYN",
    "rst_in_syn_sent": "mapping after a RST in SYN-SENT",
    "rst_wrong_ack": "mapping after a RST, wrong ack",
    "icmp_in_syn_sent": "mapping after an ICMP error",
    "icmp_translated": "ICMP errors",
    "syn_ack_out": "SYN-ACK going out",
    "crossing_syn": "crossing SYN",
    "syn_headers": "headers of a SYN",
    "overloading": "one port for two hosts",
    "table": "session table",
}
"""Axes whose name does not say it."""
_YES_NO: Final = {"true": "yes", "false": "no"}
_BROKEN_OFF: Final = "the probe was broken off"
"""What follows it is told once, above."""
_SHOWN: Final = 3
"""Packet numbers in a row; the JSON has them all."""


def label(axis: str) -> str:
    """What a reader calls an axis."""
    return _LABELS.get(axis, axis.replace("_", " "))


def in_words(klass: str) -> str:
    """A class as words."""
    return _YES_NO.get(klass, klass.replace("_", " "))


def heading(report: Report) -> list[str]:
    """What was probed, and under which circumstances."""
    seen = ", ".join(report.addresses) or "no address that the observer could see"
    hosts = "1 inside host" if report.inside_hosts == 1 else f"{report.inside_hosts} inside hosts"
    addresses = "1 address" if report.observer_addresses == 1 else f"{report.observer_addresses} addresses"
    raw = "" if report.observer_raw else " and no raw sockets"
    path = f"round trip {format_duration(report.rtt_ns)}; at most {report.loss_at_most:.1%} of the packets lost"
    lines = [f"seen from outside as {seen}", f"{hosts}; an observer with {addresses}{raw}; {path}"]
    if report.broken_off:
        lines.append(f"broken off: {report.broken_off}; what it had not come to is not determined")
    return lines


COLUMNS: Final = ("axis", "found", "n", "sure", "remark")


def rows(report: Report, *, with_packets: bool) -> Iterator[Sequence[object]]:
    """A row of `COLUMNS` for each axis, with packet numbers before the remark where there is a capture to look into."""
    for axis, finding in report.findings.items():
        packets = [_packets(finding.evidence)] if with_packets else []
        why = _BROKEN_OFF if finding.why.startswith(_BROKEN_OFF) else finding.why
        yield label(axis), _found(axis, finding), finding.n or "", _sure(finding), *packets, why


def _found(axis: str, finding: Finding) -> str:
    if finding.klass is None:
        return f"({finding.status.value.replace('_', ' ')})"
    more = [text for text in _details(axis, finding.detail) if text]
    return f"{in_words(finding.klass)}{' ' if more else ''}{', '.join(more)}"


def _details(axis: str, detail: dict[str, Any]) -> Iterator[str]:
    """What belongs to a class."""
    if axis == "port_allocation":
        stride, band = detail.get("stride"), detail.get("band")
        yield f"{stride:+d}" if stride else ""
        yield f"{band[0]}..{band[1]}" if band else ""
    if axis == "unsolicited_syn" and detail.get("delay_ns") is not None:
        yield f"after {format_duration(int(detail['delay_ns']))}"
    if axis.endswith("_timer") and detail.get("at_least_ns") is not None:
        at_most = detail.get("at_most_ns")
        yield f"at least {format_duration(int(detail['at_least_ns']))}"
        yield f"at most {format_duration(int(at_most))}" if at_most is not None else ""
    if axis == "hairpin" and detail.get("source"):
        yield f"({in_words(str(detail['source']))})"


def _sure(finding: Finding) -> str:
    return "" if finding.confidence is None else f"{finding.confidence:.4f}"


def _packets(numbers: Sequence[int]) -> str:
    shown = ",".join(map(str, numbers[:_SHOWN]))
    return f"#{shown}{',...' if len(numbers) > _SHOWN else ''}" if numbers else ""


def way_out(report: Report) -> list[str]:
    """The routers that showed, and whether there seem to be two NATs."""
    steps = [f"{step.ttl} {step.address}{' (private)' if step.private else ''}" for step in report.path.steps]
    likely = {
        True: "a second NAT is likely",
        False: "no sign of a second NAT",
        None: "whether there is a second NAT is not known",
    }
    return [f"way out: {', '.join(steps) or 'nothing showed'}; {likely[report.path.second_nat_likely]}: {report.path.why}"]


REQUIREMENT_COLUMNS: Final = ("RFC 5382", "verdict", "why")


def requirement_rows(report: Report) -> Iterator[Sequence[object]]:
    """A row of `REQUIREMENT_COLUMNS` for each requirement."""
    for requirement in report.rfc5382:
        yield requirement.req, requirement.verdict.value.replace("_", " "), requirement.why
