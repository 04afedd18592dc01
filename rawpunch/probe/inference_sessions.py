"""What sessions in SYN-SENT survive, what passes through them, and how long they live."""

from __future__ import annotations

from collections.abc import Sequence

from rawpunch.probe.facts import Facts, Outgoing, Trial
from rawpunch.probe.finding import SUREST, Finding, agreed, found, missing, passes, silence, undetermined, untested


def _lives(trial: Trial, loss: float) -> bool | None:
    """Whether a session lived after what was done to it; only if that can be known to have reached the NAT."""
    return passes(trial.alive, trial.control, loss)


def _survival(known: Facts, trials: Sequence[Trial], what: str) -> Finding:
    if known.sessions is None:
        return missing(known, what)
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
        return missing(known, "an ICMP error")
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
        return missing(known, "a crossing SYN")
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
        return missing(known, "a SYN-ACK from inside")
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
        return missing(known, "a timer")
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
        return missing(known, "the table's size")
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
