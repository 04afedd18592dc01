"""From facts to findings, axis by axis. Pure: the same facts always give the same findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rawpunch.probe import inference_ports
from rawpunch.probe.facts import Facts, Outgoing, Reconnection, Round, Trial
from rawpunch.probe.finding import SUREST, Finding, agreed, found, passes, silence, undetermined, untested
from rawpunch.probe.plan_inbound import LATE_NS
from rawpunch.wire.segment import Segment

MAPPING: Final = "mapping"
TERMINATES: Final = "terminates_tcp"


def conclude(known: Facts) -> dict[str, Finding]:
    """All findings, in the order of a report."""
    proxied = terminates(known)
    findings = {TERMINATES: proxied} | {axis: infer(known) for axis, infer in AXES.items()}
    if proxied.klass != "true":
        return findings
    why = "a proxy terminates TCP: what was seen is the proxy's doing"
    return {axis: finding if axis in _OF_A_PROXY else undetermined(why, finding.n) for axis, finding in findings.items()}


def _missing(known: Facts, what: str) -> Finding:
    if known.broken_off:
        return undetermined(f"the probe was broken off: {known.broken_off}")
    if not known.observer_raw:
        return untested(f"{what} needs an observer with raw sockets")
    return untested(f"{what} did not come about")


def terminates(known: Facts) -> Finding:
    """Whether something on the way answers SYNs in the observer's place."""
    contact = known.contact
    if contact is None or contact.false_answers.sent == 0:
        return _missing(known, "a SYN to a silent port")
    false = contact.false_answers
    if false.came:
        return found("true", false.sent, SUREST, false.evidence, "SYN-ACKs came from ports of the observer that send none")
    evidence = [number for opening in contact.openings for number in opening.evidence]
    return found("false", false.sent, max(silence(false, known.loss), 0.0), evidence)


# --- mapping ---


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


def mapping(known: Facts) -> Finding:
    """RFC 4787, section 4.1."""
    mapped = known.mapped
    if mapped is None or not mapped.rounds:
        return _missing(known, "mapping")
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


# --- what comes in ---


def filtering(known: Facts) -> Finding:
    """RFC 4787, section 5."""
    facts = known.filtered
    if facts is None:
        return _missing(known, "filtering")
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
        return _missing(known, "an unsolicited SYN")
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


def untranslated(known: Facts) -> bool:
    """Whether there is no NAT."""
    contact = known.contact
    return contact is not None and bool(contact.openings) and all(one.mapped == one.inside for one in contact.openings)


# --- sessions ---


def _lives(trial: Trial, loss: float) -> bool | None:
    """Whether a session lived after what was done to it; only if that can be known to have reached the NAT."""
    return passes(trial.alive, trial.control, loss)


def _survival(known: Facts, trials: Sequence[Trial], what: str) -> Finding:
    if known.sessions is None:
        return _missing(known, what)
    evidence = [number for trial in trials for tally in (trial.passed, trial.alive, trial.control) for number in tally.evidence]
    lives = agreed([_lives(trial, known.loss) for trial in trials])
    if lives is None:
        return undetermined(f"{what}: trials disagree, or too few say something", len(trials), evidence)
    reached = min((silence(trial.passed, known.loss) for trial in trials), default=0.0)
    gone = min((silence(trial.alive, known.loss) for trial in trials), default=0.0)
    came = sum(trial.passed.came > 0 for trial in trials)
    return found("survives" if lives else "closed", len(trials), reached if lives else gone, evidence, passed_inside=came)


def rst(known: Facts) -> Finding:
    """What a RST that acknowledges the SYN does to the mapping."""
    return _survival(known, known.sessions.rst if known.sessions else (), "a RST in SYN-SENT")


def rst_wrong(known: Facts) -> Finding:
    """What a RST that acknowledges something else does."""
    return _survival(known, known.sessions.rst_wrong if known.sessions else (), "a RST with a wrong acknowledgement")


def icmp(known: Facts) -> Finding:
    """What an ICMP error does to the mapping (RFC 5382, REQ-10)."""
    return _survival(known, known.sessions.icmp if known.sessions else (), "an ICMP error in SYN-SENT")


def icmp_passed(known: Facts) -> Finding:
    """Whether an ICMP error comes in, translated (RFC 5382, REQ-9)."""
    if known.sessions is None:
        return _missing(known, "an ICMP error")
    trials = known.sessions.icmp
    evidence = [number for trial in trials for number in trial.passed.evidence]
    came = agreed([passes(trial.passed, trial.control, known.loss) for trial in trials])
    if came is None:
        return undetermined("trials disagree, or too few say something", len(trials), evidence)
    if not came:
        return found("dropped", len(trials), min(silence(trial.passed, known.loss) for trial in trials), evidence)
    strange = [number for trial in trials for number in trial.strange]
    if strange:
        return found("untranslated", len(trials), SUREST, strange, "what it quotes is not the packet that was sent")
    return found("translated", len(trials), SUREST, evidence)


def crossing(known: Facts) -> Finding:
    """What becomes of a SYN from where a SYN went (RFC 5382, REQ-2)."""
    if known.sessions is None:
        return _missing(known, "a crossing SYN")
    trials = known.sessions.crossing
    evidence = [number for trial in trials for tally in (trial.passed, trial.alive, trial.control) for number in tally.evidence]
    came = agreed([passes(trial.passed, trial.control, known.loss) for trial in trials])
    if came is None:
        return undetermined("trials disagree, or too few say something", len(trials), evidence)
    if came:
        return found("passes", len(trials), SUREST, evidence)
    lives = agreed([_lives(trial, known.loss) for trial in trials])
    if lives is None:
        why = "a crossing SYN is dropped; whether a SYN-ACK may come afterwards is not clear"
        return undetermined(why, len(trials), evidence, candidates=["blocked", "poisons"])
    sure = min(silence(trial.passed, known.loss) for trial in trials)
    return found("blocked" if lives else "poisons", len(trials), sure, evidence)


def syn_ack_out(known: Facts) -> Finding:
    """When an inside host that sent a SYN may send a SYN-ACK (RFC 5382, REQ-2)."""
    if known.sessions is None:
        return _missing(known, "a SYN-ACK from inside")
    crossed, early = known.sessions.syn_ack_crossed, known.sessions.syn_ack_early
    evidence = [number for one in (*crossed, *early) for tally in (one.passed, one.control) for number in tally.evidence]

    def said(rows: Sequence[Outgoing]) -> bool | None:
        return agreed([passes(one.passed, one.control, known.loss) for one in rows])

    unasked, asked = said(early), said(crossed)
    if unasked:
        return found("always", len(early), SUREST, evidence)
    if asked:
        if unasked is None:
            return undetermined("whether one passes without a SYN from outside is not clear", len(early), evidence)
        return found("after_syn", len(crossed), min(silence(one.passed, known.loss) for one in early), evidence)
    if asked is False and unasked is False:
        return found("never", len(crossed), min(silence(one.passed, known.loss) for one in crossed), evidence)
    if not crossed:
        return untested("no SYN comes in on the session, so none can be answered")
    return undetermined("trials disagree, or too few say something", len(crossed), evidence)


# --- inside ---


def hairpin(known: Facts) -> Finding:
    """RFC 5382, REQ-8."""
    if untranslated(known):
        return untested("there is no NAT")
    turned = known.hairpinned
    if turned is None:
        return _missing(known, "hairpinning")
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
        return _missing(known, "port overloading")
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


# --- what is changed on the way ---


def sequence_numbers(known: Facts) -> Finding:
    """Whether initial sequence numbers are changed."""
    openings = [one for one in known.openings if one.came is not None]
    if not openings:
        return _missing(known, "a SYN seen outside")
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
        return _missing(known, "a SYN seen outside")
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


def syn_timer(known: Facts) -> Finding:
    """How long a session in SYN-SENT lives without any packet (RFC 5382, REQ-5), as far as was waited."""
    return _timer(known, "SYN_SENT")


def established_timer(known: Facts) -> Finding:
    """How long an idle established session lives; only with long timers."""
    if known.aged and not any(one.state == "ESTABLISHED" for one in known.aged):
        return untested("long timers were not asked for")
    return _timer(known, "ESTABLISHED")


def _timer(known: Facts, state: str) -> Finding:
    rows = [one for one in known.aged if one.state == state]
    if known.table is not None and known.table.short and not rows:
        return untested("few sessions fit into the table; they make room for each other")
    if not rows:
        return _missing(known, "a timer")
    lives = {one.age_ns: passes(one.alive, one.control, known.loss) for one in rows}
    evidence = [number for one in rows for number in one.alive.evidence]
    lived = [age for age, alive in lives.items() if alive]
    died = [age for age, alive in lives.items() if alive is False]
    if not lived and not died:
        return undetermined("no session could be asked", len(lives), evidence)
    at_least, at_most = max(lived, default=0), min(died, default=None)
    if at_most is not None and at_most < at_least:
        return undetermined("older sessions lived and younger ones did not", len(lives), evidence)
    klass = "expires" if at_most is not None else "lasts"
    return found(klass, len(lives), SUREST, evidence, at_least_ns=at_least, at_most_ns=at_most)


def table(known: Facts) -> Finding:
    """Whether few sessions fit into the NAT's table."""
    seen = known.table
    if seen is None:
        return _missing(known, "the table's size")
    evidence = [number for tally in seen.alive for number in tally.evidence]
    lived = sum(tally.came > 0 for tally in seen.alive)
    if not seen.short:
        return found("roomy", seen.opened, SUREST, evidence, at_least=seen.opened)
    if seen.came < seen.opened:
        why = f"{seen.opened - seen.came} of {seen.opened} connections were refused; older ones of this probe may fill the table"
        return undetermined(why, seen.opened, evidence)
    if min((silence(tally, known.loss) for tally in seen.alive if not tally.came), default=SUREST) < SUREST - 0.001:
        return undetermined("sessions seem to be missing, but packets were lost", seen.opened, evidence)
    if 2 * lived > seen.opened:
        return undetermined("some sessions were gone, and not all that were older", seen.opened, evidence, lived=lived)
    return found("small", seen.opened, SUREST, evidence, lived=lived, refused=seen.opened - seen.came)


AXES: Final[dict[str, Callable[[Facts], Finding]]] = {
    MAPPING: mapping,
    "pooling": inference_ports.pooling,
    "port_allocation": inference_ports.allocation,
    "port_parity": inference_ports.parity,
    "filtering": filtering,
    "unsolicited_syn": unsolicited,
    "rst_in_syn_sent": rst,
    "rst_wrong_ack": rst_wrong,
    "icmp_in_syn_sent": icmp,
    "icmp_translated": icmp_passed,
    "crossing_syn": crossing,
    "syn_ack_out": syn_ack_out,
    "hairpin": hairpin,
    "overloading": overloading,
    "sequence_numbers": sequence_numbers,
    "syn_headers": headers,
    "syn_timer": syn_timer,
    "established_timer": established_timer,
    "table": table,
}
"""Every axis and what it is concluded by."""

_OF_A_PROXY: Final = frozenset({TERMINATES, "sequence_numbers", "syn_headers"})
