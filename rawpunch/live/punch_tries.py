"""The tries of a punch, carried out one after the other, and if none led to the peer, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rawpunch.clock import now_ns
from rawpunch.errors import NoConnection, PolicyRefused, RawpunchError
from rawpunch.live.allowance import Allowance
from rawpunch.live.connecting import Method
from rawpunch.live.meeting import Met
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.punch_try import Ground, Try, Won
from rawpunch.nat.oracle import Strategy
from rawpunch.punch.plan import Certainty, Deed, Move, Step
from rawpunch.punch.proof import Role, key_of
from rawpunch.punch.slots import Slot, slots_of
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

_BLIND_GIVE_UP_NS: Final = 2_500 * MS
_BLIND: Final = Step(
    Strategy.SIMULTANEOUS, Certainty.POSSIBLE, Move(Deed.OPEN), Move(Deed.OPEN), "both were told each other's endpoint"
)
_BLIND_PROOF_NS: Final = 500 * MS


async def by_plan(met: Met, local: Endpoint, token: str, method: Method, log: PunchLog, policy: Path | None) -> tuple[Won, Slot]:
    """The connection that a plan led to, and the try that did it.

    Args:
        met: the peer, and the plan with it.
        local: our endpoint, from which the server was asked.
        token: what both know and nobody else.
        method: see `rawpunch.connect`.
        log: where it is told.
        policy: the policy file; None for the default one.

    Raises:
        NoConnection: there is none; the reason is the likeliest cause.
        PolicyRefused: the only way would have been a spray, and that is not allowed.
        MachineCannot: `raw` was asked for and is not possible here.
    """
    drawn = met.other.usual.ports if met.other.usual is not None else None
    key = key_of(token)
    ground = Ground(
        local,
        met.peer,
        method,
        met.side,
        Role.A if met.side == "a" else Role.B,
        key,
        log,
        Allowance(met.peer.address, key, met.consent, policy),
        met.challenge,
        *((drawn.low, drawn.high) if drawn is not None else ()),
    )
    slots = slots_of(met.plan, inside=met.inside is not None)
    found = await _carried_out(slots, ground, met.start_ns, met.inside)
    if found is None:
        raise _failure(met, ground)
    return found


async def blind(
    peer: Endpoint, local: Endpoint, token: str, method: Method, log: PunchLog, *, tries: int, start_ns: int, aligned: bool
) -> tuple[Won, Slot]:
    """The same for two who only know each other's endpoint.

    Args:
        peer: its public endpoint.
        local: ours.
        token: what both know and nobody else.
        method: see `rawpunch.connect`.
        log: where it is told.
        tries: how many.
        start_ns: when the first begins, by our clock.
        aligned: whether the peer begins at that instant too.

    Raises:
        NoConnection: there is none.
        MachineCannot: `raw` was asked for and is not possible here.
    """
    ground = Ground(local, peer, method, "a", Role.NONE, key_of(token), log, Allowance(peer.address))
    found = await _carried_out(_blind(tries, aligned=aligned), ground, start_ns, None)
    if found is None:
        raise _blind_failure(ground, aligned=aligned)
    return found


async def _carried_out(slots: Iterator[Slot], ground: Ground, start_ns: int, inside: Endpoint | None) -> tuple[Won, Slot] | None:
    for slot in slots:
        here = replace(ground, remote=inside) if slot.inside and inside is not None else ground
        strategy = slot.step.strategy.replace("_", " ")
        if start_ns + slot.ends_ns < now_ns():
            ground.log.note(f"too late for try {slot.number} of {strategy}")
            continue
        where = f"{'inside ' if slot.inside else ''}{here.remote}"
        ground.log.note(f"{strategy}, try {slot.number} of {slot.step.tries}, {where}")
        try:
            won = await Try(here, slot, start_ns).run()
        except PolicyRefused as error:
            ground.refusals.append(error)
            ground.log.note(f"{error.what}: {error.why}")
            continue
        if won is not None:
            won.sock.setblocking(True)
            return won, slot
    return None


def _blind(tries: int, *, aligned: bool) -> Iterator[Slot]:
    """Tries of two who cannot agree on more than a beginning: those of an aligned start stand apart, as a plan's do."""
    step = replace(_BLIND, tries=tries)
    pause_ns = SECOND if aligned else 0
    for number in range(tries):
        begins = number * (_BLIND_GIVE_UP_NS + _BLIND_PROOF_NS + pause_ns)
        opened_by = begins + _BLIND_GIVE_UP_NS
        yield Slot(step, number + 1, begins, opened_by, opened_by + _BLIND_PROOF_NS)


# --- why not ---


def _failure(met: Met, ground: Ground) -> RawpunchError:
    outcomes = ground.outcomes
    if ground.refusals and not outcomes.total():
        return ground.refusals[0]
    what = f"no direct connection with the peer at {met.peer}"
    relay = "use a relay, or a port forwarded by one of the NATs"
    tried = [step for step in met.plan.steps if step.strategy is not Strategy.RELAY]
    if not tried:
        why = met.plan.steps[-1].why if not met.plan.notes else "; ".join(met.plan.notes)
        if met.plan.predicted.strategy is not Strategy.RELAY or met.plan.notes:
            return NoConnection(what, why=f"{why}; nothing else can work between these NATs", todo=relay)
        why = f"by what is known of both NATs nothing but a relay works: {met.plan.predicted.why}"
        return NoConnection(what, why=why, todo=relay)
    why = _seen(outcomes, str(met.peer))
    odds = [step for step in tried if step.overall is not None and step.overall < 1]
    if odds:
        why += f"; by the plan it had odds of {100 * max(step.overall or 0 for step in odds):.3g} %"
    if ground.refusals:
        why += f"; and {ground.refusals[0].what}: {ground.refusals[0].why}"
    if met.plan.doubts:
        return NoConnection(
            what, why=why, todo="let both sides `rawpunch probe` first and give --findings, so that the plan knows the NATs"
        )
    return NoConnection(what, why=why, todo=relay)


def _blind_failure(ground: Ground, *, aligned: bool) -> NoConnection:
    todo = "check both endpoints; "
    todo += "are both clocks right (to well under a second)?" if aligned else "both sides have to try at the same time"
    return NoConnection(f"no connection with {ground.remote}", why=_seen(ground.outcomes, str(ground.remote)), todo=todo)


def _seen(outcomes: Counter[str], peer: str) -> str:
    """What the outcomes of all openings say together: the most telling first."""
    if outcomes["stranger"]:
        return (
            f"somebody answered at {peer} ({outcomes['stranger']} times) and did not prove to be the peer: "
            "another token, another program, or something on the way that terminates TCP"
        )
    if outcomes["refused"]:
        return f"{outcomes['refused']} SYNs were answered by a RST: nobody has {peer} open, or its NAT refuses"
    if outcomes["unreachable"]:
        return f"{peer} cannot be reached"
    if outcomes["unusable"]:
        return "the local port could not be used again"
    return f"nothing came from {peer}: its NAT gave it another port towards us, or drops what we send"
