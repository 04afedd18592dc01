"""The report of a probe as values, which are also its JSON."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from rawpunch.probe.facts import Facts
from rawpunch.probe.finding import Finding, untranslated
from rawpunch.probe.inference import conclude
from rawpunch.probe.path import Path, path_of
from rawpunch.probe.rfc5382 import Requirement, judge

SCHEMA: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Classed(_Part):
    """An axis in short; the finding of the same name has the rest."""

    klass: str | None = Field(serialization_alias="class")
    confidence: float | None
    n: int


class PortAllocation(Classed):
    """The same with what goes with it."""

    stride: int | None = None
    """Of a sequential NAT."""
    band: tuple[int, int] | None = None
    """Of a banded one, or our block."""


class UnsolicitedSyn(_Part):
    """What is answered to a SYN for no mapping."""

    answer: str | None
    delay_ns: int | None = None


class RstInSynSent(_Part):
    """What a RST does to the mapping of a SYN."""

    mapping: str | None


class Report(_Part):
    """What NAT is there. A null stands for "not determined" or "not tested"; `findings` say which, and why."""

    schema_version: int = SCHEMA
    mapping: Classed
    port_allocation: PortAllocation
    filtering: Classed
    unsolicited_syn: UnsolicitedSyn
    rst_in_syn_sent: RstInSynSent
    crossing_syn: str | None
    hairpin: bool | None
    overloading: bool | None
    terminates_tcp: bool | None
    rfc5382: list[Requirement]
    findings: dict[str, Finding]
    path: Path
    addresses: list[str]
    """External addresses of the inside host that was probed from."""
    inside_hosts: int
    observer_addresses: int
    observer_raw: bool
    rtt_ns: int
    loss_at_most: float
    """Upper estimate of the share of packets that got lost."""
    broken_off: str = ""
    """Why the probe ended early; "" if it did not."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return self.model_dump(mode="json", by_alias=True)


def report_of(known: Facts) -> Report:
    """Conclude, and put it together."""
    findings = conclude(known)
    ports = findings["port_allocation"]
    crossing = findings["crossing_syn"].klass
    answer = findings["unsolicited_syn"]
    return Report(
        mapping=_short(findings["mapping"]),
        port_allocation=PortAllocation(
            **_short(ports).model_dump(),
            stride=ports.detail.get("stride"),
            band=ports.detail.get("band") if ports.klass else None,
        ),
        filtering=_short(findings["filtering"]),
        unsolicited_syn=UnsolicitedSyn(answer=answer.klass, delay_ns=answer.detail.get("delay_ns") if answer.klass else None),
        rst_in_syn_sent=RstInSynSent(mapping=findings["rst_in_syn_sent"].klass),
        crossing_syn="blocked" if crossing == "poisons" else crossing,
        hairpin=_truth(findings["hairpin"]),
        overloading=_truth(findings["overloading"]),
        terminates_tcp=_truth(findings["terminates_tcp"]),
        rfc5382=judge(findings),
        findings=findings,
        path=path_of(known.contact, translated=not untranslated(known)),
        addresses=list(known.contact.addresses) if known.contact is not None else [],
        inside_hosts=known.insiders,
        observer_addresses=known.observer_addresses,
        observer_raw=known.observer_raw,
        rtt_ns=known.rtt_ns,
        loss_at_most=known.loss,
        broken_off=known.broken_off,
    )


def _short(finding: Finding) -> Classed:
    return Classed(klass=finding.klass, confidence=finding.confidence, n=finding.n)


def _truth(finding: Finding) -> bool | None:
    return {"true": True, "false": False}.get(finding.klass or "")
