"""Who reaches whom: filtering, the answer to an unsolicited SYN, hairpinning, overloading."""

from __future__ import annotations

from rawpunch.probe import inference_ports
from rawpunch.probe.facts import Facts
from rawpunch.probe.finding import (
    SUREST,
    Finding,
    found,
    missing,
    passes,
    silence,
    undetermined,
    untested,
    untranslated,
)
from rawpunch.probe.inference_mapping import mapping
from rawpunch.probe.inference_sessions import crossing, icmp, rst
from rawpunch.probe.plan_inbound import LATE_NS


def filtering(known: Facts) -> Finding:
    """RFC 4787, section 5."""
    facts = known.filtered
    if facts is None:
        return missing(known, "filtering")
    by_port = passes(facts.other_port, facts.control, known.loss)
    evidence = [*facts.other_port.evidence, *facts.control.evidence[:4]]
    n = facts.other_port.sent
    if by_port is None:
        return undetermined("SYNs from another port did not come, and it may be chance", n, evidence)
    if not by_port:
        if facts.other_address is not None and facts.other_address.came:
            return undetermined("another address may, another port may not come in", n, evidence)
        return found("address_and_port_dependent", n, silence(facts.other_port, known.loss), evidence)
    if facts.other_address is None:
        why = "endpoint_independent or address_dependent: the observer has one address"
        return undetermined(why, n, evidence, candidates=["endpoint_independent", "address_dependent"])
    evidence += facts.other_address.evidence
    by_address = passes(facts.other_address, facts.control, known.loss)
    if by_address is None:
        return undetermined("SYNs from another address did not come, and it may be chance", n, evidence)
    if by_address:
        return found("endpoint_independent", n, SUREST, evidence)
    return found("address_dependent", n, silence(facts.other_address, known.loss), evidence)


def unsolicited(known: Facts) -> Finding:
    """What is answered to a SYN for no mapping, and when (RFC 5382, REQ-4)."""
    tries = known.unsolicited
    if tries is None:
        return missing(known, "an unsolicited SYN")
    if untranslated(known):
        return untested("there is no NAT: a SYN from outside goes to the host itself")
    answers = [one for one in tries if one.answer is not None]
    evidence = [number for one in tries for number in one.evidence]
    if not answers:
        confidence = 1 - (2 * known.loss - known.loss**2) ** len(tries)
        return found("drop", len(tries), confidence, evidence, "nothing came back within 6.5 s", held=False)
    kinds = {str(one.answer) for one in answers}
    if len(kinds) > 1 or not kinds <= {"rst", "icmp"}:
        return undetermined(f"answers: {', '.join(sorted(kinds))}", len(tries), evidence)
    delays = sorted(one.delay_ns for one in answers)
    delay_ns = delays[len(delays) // 2]
    codes = sorted({one.code for one in answers if one.code is not None})
    detail = {"delay_ns": delay_ns, "held": delay_ns >= LATE_NS, "icmp_codes": codes, "answered": len(answers)}
    return found(kinds.pop(), len(tries), SUREST, evidence, "", **detail)


def hairpin(known: Facts) -> Finding:
    """RFC 5382, REQ-8."""
    if untranslated(known):
        return untested("there is no NAT")
    turned = known.hairpinned
    if turned is None:
        return missing(known, "hairpinning")
    came = turned.by_syn + turned.by_ack
    if came.came:
        internal = sum(source == inside for source, inside, _ in turned.sources)
        source = "internal_source" if internal == len(turned.sources) else "external_source" if internal == 0 else "mixed"
        return found("true", came.sent, SUREST, came.evidence, source=source)
    evidence = [*came.evidence, *turned.refused.evidence]
    if turned.refused.came and unsolicited(known).klass == "drop":
        return found("false", came.sent, SUREST, evidence, "the box itself answers by RST", refused=True)
    hidden = _hidden(known, ports_kept=turned.ports_kept)
    if hidden:
        return untested(hidden, refused=turned.refused.came > 0)
    return found("false", came.sent, silence(came, known.loss), evidence, refused=turned.refused.came > 0)


def _hidden(known: Facts, *, ports_kept: bool) -> str:
    """Why silence would say nothing of hairpinning; "" if a hairpinned packet would have come in."""
    klass = filtering(known).klass
    if klass == "endpoint_independent":
        return ""
    foreseen = ports_kept and inference_ports.pooling(known).klass == "paired"
    if klass is None or (mapping(known).klass != "endpoint_independent" and not foreseen):
        return "the filter would hide it: each inside endpoint's port towards the other is not known beforehand"
    answer = unsolicited(known)
    silent = answer.klass == "drop"
    if silent and known.sessions is not None and known.sessions.bare_ack.came:
        return ""
    survival = {"rst": rst(known).klass, "icmp": icmp(known).klass}
    if not silent and not answer.detail.get("held") and survival.get(answer.klass or "") != "survives":
        return "the filter would hide it: its answer to the first packet ends the session that lets the second one in"
    return "" if crossing(known).klass == "passes" else "a NAT that lets no SYNs cross would hide it"


def overloading(known: Facts) -> Finding:
    """Whether two inside hosts get one external port at once (RFC 5382, REQ-7)."""
    if untranslated(known):
        return untested("there is no NAT")
    if known.shared is None:
        return missing(known, "port overloading")
    if not known.shared:
        return untested("there is one inside host only")
    if inference_ports.allocation(known).klass != "preserving":
        return untested("ports are not kept: two hosts would share one only where ports run short")
    evidence = [number for one in known.shared for opening in (one.first, one.second) if opening for number in opening.evidence]
    pairs = [(one.first.mapped, one.second.mapped if one.second else None) for one in known.shared]
    if any(second is not None and first.address != second.address for first, second in pairs):
        return untested("the two inside hosts have different external addresses")
    n = len(pairs)
    both = [first == second for first, second in pairs if second is not None]
    if len(both) >= 2 and all(both):
        return found("true", n, SUREST, evidence)
    if len(both) >= 2 and not any(both):
        return found("false", n, SUREST, evidence)
    if n >= 2 and not both:
        sure = 1 - max(known.loss**one.tries for one in known.shared)
        return found("false", n, sure, evidence, "the second host's connection is refused instead")
    return undetermined("trials disagree", n, evidence)
