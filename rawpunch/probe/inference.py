"""From facts to findings, axis by axis. Pure: the same facts always give the same findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rawpunch.probe import inference_mapping, inference_ports, inference_reach, inference_sessions
from rawpunch.probe.facts import Facts
from rawpunch.probe.finding import SUREST, Finding, found, missing, silence, undetermined
from rawpunch.wire.segment import Segment

TERMINATES: Final = "terminates_tcp"


def conclude(known: Facts) -> dict[str, Finding]:
    """All findings, in the order of a report."""
    proxied = terminates(known)
    findings = {TERMINATES: proxied} | {axis: infer(known) for axis, infer in AXES.items()}
    if proxied.klass != "true":
        return findings
    why = "a proxy terminates TCP: what was seen is the proxy's doing"
    return {axis: finding if axis in _OF_A_PROXY else undetermined(why, finding.n) for axis, finding in findings.items()}


def terminates(known: Facts) -> Finding:
    """Whether something on the way answers SYNs in the observer's place."""
    contact = known.contact
    if contact is None or contact.false_answers.sent == 0:
        return missing(known, "a SYN to a silent port")
    false = contact.false_answers
    if false.came:
        return found("true", false.sent, SUREST, false.evidence, "SYN-ACKs came from ports of the observer that send none")
    evidence = [number for opening in contact.openings for number in opening.evidence]
    return found("false", false.sent, max(silence(false, known.loss), 0.0), evidence)


def sequence_numbers(known: Facts) -> Finding:
    """Whether initial sequence numbers are changed."""
    openings = [one for one in known.openings if one.came is not None]
    if not openings:
        return missing(known, "a SYN seen outside")
    changed = [one for one in openings if one.syn.seq != one.iss]
    evidence = [number for one in (changed or openings) for number in one.evidence]
    if not changed:
        return found("kept", len(openings), SUREST, evidence)
    if len(changed) == len(openings):
        return found("rewritten", len(openings), SUREST, evidence)
    return undetermined(f"changed in {len(changed)} of {len(openings)} SYNs", len(openings), evidence)


def headers(known: Facts) -> Finding:
    """Whether options and window of SYNs are changed."""
    openings = [one for one in known.openings if one.came is not None]
    if not openings:
        return missing(known, "a SYN seen outside")
    changed: dict[str, int] = {}
    numbers: list[int] = []
    for one in openings:
        sent = one.sent.packet
        if not isinstance(sent, Segment):
            continue
        for what, same in (("options", sent.options == one.syn.options), ("window", sent.window == one.syn.window)):
            if not same:
                changed[what] = changed.get(what, 0) + 1
                numbers += one.evidence
    ttls = sorted({one.syn.ttl for one in openings})
    evidence = numbers or [number for one in openings for number in one.evidence]
    return found("changed" if changed else "kept", len(openings), SUREST, evidence, changed=changed, ttl_left=ttls)


AXES: Final[dict[str, Callable[[Facts], Finding]]] = {
    "mapping": inference_mapping.mapping,
    "pooling": inference_ports.pooling,
    "port_allocation": inference_ports.allocation,
    "port_parity": inference_ports.parity,
    "filtering": inference_reach.filtering,
    "unsolicited_syn": inference_reach.unsolicited,
    "rst_in_syn_sent": inference_sessions.rst,
    "rst_wrong_ack": inference_sessions.rst_wrong,
    "icmp_in_syn_sent": inference_sessions.icmp,
    "icmp_translated": inference_sessions.icmp_passed,
    "crossing_syn": inference_sessions.crossing,
    "syn_ack_out": inference_sessions.syn_ack_out,
    "hairpin": inference_reach.hairpin,
    "overloading": inference_reach.overloading,
    "sequence_numbers": sequence_numbers,
    "syn_headers": headers,
    "syn_timer": inference_sessions.syn_timer,
    "established_timer": inference_sessions.established_timer,
    "table": inference_sessions.table,
}
"""Every axis and what it is concluded by."""

_OF_A_PROXY: Final = frozenset({TERMINATES, "sequence_numbers", "syn_headers"})
