"""RFC 5382 by requirement: what the findings say of each, and why."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from rawpunch.probe.finding import Finding, Status
from rawpunch.units import SECOND, format_duration

_HOLD_NS: Final = 6 * SECOND
_TRANSITORY_NS: Final = 240 * SECOND
_ESTABLISHED_NS: Final = 7_440 * SECOND
_PORT_UNREACHABLE: Final = 3


class Verdict(enum.StrEnum):
    """Whether a requirement is met."""

    PASS = "pass"  # noqa: S105  a verdict
    FAIL = "fail"
    NOT_TESTED = "not_tested"


class Requirement(BaseModel):
    """One requirement and what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    req: str
    verdict: Verdict
    why: str


Findings = Mapping[str, Finding]
_Told = tuple[Verdict, str]


def judge(findings: Findings) -> list[Requirement]:
    """All ten requirements; without a NAT there is nothing to require."""
    if findings["mapping"].klass == "none":
        return [Requirement(req=req, verdict=Verdict.NOT_TESTED, why="there is no NAT") for req in _JUDGES]
    return [
        Requirement(req=req, verdict=told[0], why=told[1])
        for req, told in ((req, tell(findings)) for req, tell in _JUDGES.items())
    ]


def _open(finding: Finding) -> _Told | None:
    """The verdict where a finding has no class."""
    if finding.status is Status.FOUND:
        return None
    return Verdict.NOT_TESTED, finding.why or finding.status.value.replace("_", " ")


def _verdict(right: bool) -> Verdict:
    return Verdict.PASS if right else Verdict.FAIL


def _mapping(findings: Findings) -> _Told:
    finding = findings["mapping"]
    if (told := _open(finding)) is not None:
        return told
    return _verdict(finding.klass == "endpoint_independent"), f"mapping is {_words(finding.klass)}"


def _sequences(findings: Findings) -> _Told:
    crossing, answer = findings["crossing_syn"], findings["syn_ack_out"]
    if crossing.klass in {"blocked", "poisons"}:
        return Verdict.FAIL, "a SYN that crosses ours does not come in, so no simultaneous open passes"
    if answer.klass == "never":
        return Verdict.FAIL, "a SYN-ACK from inside does not go out after a SYN, so no simultaneous open passes"
    if (told := _open(crossing) or _open(answer)) is not None:
        return told
    return Verdict.PASS, "a crossing SYN comes in and its SYN-ACK goes out, as in an ordinary handshake and a simultaneous open"


def _filtering(findings: Findings) -> _Told:
    finding = findings["filtering"]
    if (told := _open(finding)) is not None:
        return told
    why = f"filtering is {_words(finding.klass)}; recommended is endpoint independent, or address dependent for stringency"
    return _verdict(finding.klass != "address_and_port_dependent"), why


def _unsolicited(findings: Findings) -> _Told:
    finding = findings["unsolicited_syn"]
    if (told := _open(finding)) is not None:
        return told
    if finding.klass == "drop":
        return Verdict.PASS, "an unsolicited SYN is dropped silently, as REQ-4a allows"
    delay_ns = int(finding.detail["delay_ns"])
    if delay_ns < _HOLD_NS:
        return (
            Verdict.FAIL,
            f"an unsolicited SYN is answered by {_words(finding.klass)} after {format_duration(delay_ns)}, not 6 s",
        )
    if finding.klass != "icmp" or finding.detail.get("icmp_codes") != [_PORT_UNREACHABLE]:
        return Verdict.FAIL, "an unsolicited SYN is answered after 6 s, but not by ICMP port unreachable"
    return Verdict.PASS, f"an unsolicited SYN is answered by ICMP port unreachable after {format_duration(delay_ns)}"


def _timers(findings: Findings) -> _Told:
    finding = findings["syn_timer"]
    at_most = finding.detail.get("at_most_ns")
    if finding.klass == "expires" and at_most is not None and at_most < _TRANSITORY_NS:
        return Verdict.FAIL, f"a session in SYN-SENT is forgotten within {format_duration(int(at_most))}, not 4 min"
    established = findings.get("established_timer")
    if established is not None and established.klass == "expires":
        at_most = int(established.detail["at_most_ns"])
        if at_most < _ESTABLISHED_NS:
            return Verdict.FAIL, f"an established session is forgotten within {format_duration(at_most)}, not 2 h 4 min"
    lasts = [one for one in (finding, established) if one is not None and one.status is Status.FOUND]
    enough = (_TRANSITORY_NS, _ESTABLISHED_NS)
    if len(lasts) == 2 and all(int(one.detail["at_least_ns"]) >= limit for one, limit in zip(lasts, enough, strict=True)):
        return Verdict.PASS, "sessions lived for 4 min in SYN-SENT and for 2 h 4 min established"
    return Verdict.NOT_TESTED, "nobody waited for 4 min and for 2 h 4 min"


def _gateways(_: Findings) -> _Told:
    return Verdict.NOT_TESTED, "application gateways are not looked for"


def _overloading(findings: Findings) -> _Told:
    finding = findings["overloading"]
    if (told := _open(finding)) is not None:
        return told
    right = finding.klass == "false"
    return _verdict(right), "two inside hosts " + ("never had" if right else "had") + " one external port at once"


def _hairpin(findings: Findings) -> _Told:
    finding = findings["hairpin"]
    if (told := _open(finding)) is not None:
        return told
    if finding.klass == "false":
        return Verdict.FAIL, "an inside host is not reached by its external endpoint from inside"
    if finding.detail.get("source") != "external_source":
        return Verdict.FAIL, "it is reached, but sees the sender's inside endpoint as the source, against REQ-8a"
    return Verdict.PASS, "an inside host is reached by its external endpoint, and sees the sender's external one"


def _icmp_translated(findings: Findings) -> _Told:
    finding = findings["icmp_translated"]
    if (told := _open(finding)) is not None:
        return told
    return _verdict(finding.klass == "translated"), f"an ICMP error about a SYN is {_words(finding.klass)}"


def _icmp_kept(findings: Findings) -> _Told:
    finding = findings["icmp_in_syn_sent"]
    if (told := _open(finding)) is not None:
        return told
    right = finding.klass == "survives"
    return _verdict(right), "a mapping in SYN-SENT " + ("survives" if right else "is closed by") + " an ICMP error"


def _words(klass: str | None) -> str:
    return {"rst": "RST", "icmp": "ICMP"}.get(klass or "", (klass or "").replace("_", " "))


_JUDGES: Final[dict[str, Callable[[Findings], _Told]]] = {
    "REQ-1": _mapping,
    "REQ-2": _sequences,
    "REQ-3": _filtering,
    "REQ-4": _unsolicited,
    "REQ-5": _timers,
    "REQ-6": _gateways,
    "REQ-7": _overloading,
    "REQ-8": _hairpin,
    "REQ-9": _icmp_translated,
    "REQ-10": _icmp_kept,
}
