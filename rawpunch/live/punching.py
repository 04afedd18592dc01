"""One side of a punch, from nothing to a socket whose other end has proved to be the peer.

With a rendezvous server (`punch`) both are introduced, make one plan from what is known of their NATs, and carry out its tries
one after the other at instants that both know. Without one (`punch_at`) they know each other's endpoint, and begin at an instant
of their clocks, or simply try again and again. Either way nothing of it stays but the socket.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, MachineCannot, PartialData, PolicyRefused, RawpunchError, UsageError
from rawpunch.live.allowance import Allowance
from rawpunch.live.connecting import Method
from rawpunch.live.meeting import Me, Met, agree, connect_to, meet, samples
from rawpunch.live.offering import route_to
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.punch_try import Ground, Try, Won
from rawpunch.live.rights import lacks, why_not_raw
from rawpunch.nat.oracle import Strategy
from rawpunch.punch.plan import Certainty, Deed, Move, Plan, Step
from rawpunch.punch.proof import Role, key_of
from rawpunch.punch.rendezvous import Finding
from rawpunch.punch.slots import Slot, slots_of
from rawpunch.units import MS, SECOND, format_duration
from rawpunch.wire.endpoint import Endpoint

_BLIND_GIVE_UP_NS: Final = 2_500 * MS
_BLIND: Final = Step(
    Strategy.SIMULTANEOUS, Certainty.POSSIBLE, Move(Deed.OPEN), Move(Deed.OPEN), "both were told each other's endpoint"
)
_BLIND_PROOF_NS: Final = 500 * MS
_FARTHEST_NS: Final = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Timing:
    """When what happened, by our clock in ns; what did not, or not here, is None."""

    began_ns: int
    """Before the first packet."""
    registered_ns: int | None
    introduced_ns: int | None
    start_ns: int
    opened_ns: int
    proved_ns: int
    """From here on the socket is the user's."""


@dataclass(frozen=True, slots=True)
class Punched:
    """A connection with the peer."""

    won: Won
    slot: Slot
    timing: Timing
    you: Endpoint | None
    """Our public endpoint, as the server said."""
    plan: Plan | None


class Failed(RawpunchError):
    """No connection came about; the log has what was seen."""


async def punch(
    server: Endpoint,
    token: str,
    *,
    method: Method = "auto",
    local_port: int = 0,
    findings: Mapping[str, Finding] | None = None,
    wait_s: float = 60.0,
    accept_spray: int = 0,
    policy: Path | None = None,
    log: PunchLog | None = None,
    planned: Callable[[Met], None] = lambda _: None,
) -> Punched:
    """Meet the peer at a server and connect with it directly.

    Args:
        server: where `rawpunch rendezvous` runs.
        token: what both know and nobody else.
        method: see `rawpunch.connect`.
        local_port: to punch from; 0 for any.
        findings: of a probe of our NAT, by axis.
        wait_s: how long to wait for the other one.
        accept_spray: SYNs that the other one may send to our public address in a spray, repeated ones counted; see `allowance`.
        policy: the policy file, which has to name the other one's address if we are to spray it; None for the default one.
        log: takes notes, and packets if it may.
        planned: told of the plan before it is carried out.

    Raises:
        PartialData: the server does not answer, goes, or says what cannot be.
        Failed: no try led to the peer; the reason is the likeliest cause.
        PolicyRefused: the only way would have been a spray, and the peer or our own policy file do not allow it.
        RawpunchError: nobody came.
        MachineCannot: `raw` was asked for and is not possible here.
    """
    log = log or PunchLog()
    began_ns = now_ns()
    check_method(method, server, log)
    local = own_endpoint(server, local_port)
    consent = await agree(server, local, token, accept_spray) if accept_spray else None
    me = Me(token, local, findings or {}, wait_s, consent)
    log.watch(local.port)
    seen = await samples(server, me)
    client, rtt_ns = await connect_to(server, local)
    log.note(f"connected to the rendezvous server {server} from {local}, {format_duration(rtt_ns)} away")
    async with client:  # its connection keeps our mapping open meanwhile; that the server is there is not needed any more
        met = await meet(client, me, rtt_ns, seen, log)
        planned(met)
        check_peer(met.peer)
        drawn = met.other.usual.ports if met.other.usual is not None else None
        ground = Ground(
            local,
            met.peer,
            method,
            met.side,
            Role.A if met.side == "a" else Role.B,
            key_of(token),
            log,
            Allowance(met.peer.address, key_of(token), met.consent, policy),
            *((drawn.low, drawn.high) if drawn is not None else ()),
        )
        slots = slots_of(met.plan, inside=met.inside is not None)
        found = await _tried(slots, ground, met.start_ns, met.inside)
    if found is None:
        raise _failure(met, ground)
    won, slot = found
    timing = Timing(began_ns, met.registered_ns, met.introduced_ns, met.start_ns, won.opened_ns, won.proved_ns)
    return Punched(won, slot, timing, met.you, met.plan)


async def punch_at(
    peer: Endpoint,
    token: str,
    *,
    local_port: int,
    tries: int,
    at_ns: int | None = None,
    method: Method = "auto",
    log: PunchLog | None = None,
) -> Punched:
    """Connect with a peer whose endpoint is known, without a server.

    Args:
        peer: its public endpoint.
        token: what both know and nobody else.
        local_port: the one that the peer was told, as far as our NAT keeps it.
        tries: how many of some seconds each.
        at_ns: instant of the first, by our clock; None for now.
        method: see `rawpunch.connect`.
        log: takes notes, and packets if it may.

    Raises:
        Failed: no try led to the peer.
        BadParameter: the endpoint or the instant makes no sense.
        MachineCannot: `raw` was asked for and is not possible here.
    """
    check_peer(peer)
    start_ns = now_ns() if at_ns is None else at_ns
    if not -SECOND <= start_ns - now_ns() <= _FARTHEST_NS:
        raise BadParameter("the instant to begin is not within a day from now", todo="give --at HH:MM:SS")
    log = log or PunchLog()
    began_ns = now_ns()
    check_method(method, peer, log)
    local = own_endpoint(peer, local_port)
    log.watch(local.port)
    log.note(f"from {local} to {peer}, {tries} tries at most" + (", at the agreed instant" if at_ns is not None else ""))
    ground = Ground(local, peer, method, "a", Role.NONE, key_of(token), log, Allowance(peer.address))
    found = await _tried(_blind(tries, aligned=at_ns is not None), ground, start_ns, None)
    if found is None:
        raise _blind_failure(ground, aligned=at_ns is not None)
    won, slot = found
    return Punched(won, slot, Timing(began_ns, None, None, start_ns, won.opened_ns, won.proved_ns), None, None)


def check_method(method: Method, towards: Endpoint, log: PunchLog) -> None:
    """Say early what is not possible, and what is done instead.

    Raises:
        MachineCannot: `raw` was asked for and is not possible here.
    """
    why = "" if method == "kernel" else why_not_raw(towards) or next(iter(lacks()), "")
    if why and method == "raw":
        raise MachineCannot("cannot punch by raw packets", why=why, todo="use --auto or --kernel; rawpunch doctor")
    if why:
        log.note(f"raw packets are not possible here ({why}): the kernel opens")


def own_endpoint(towards: Endpoint, port: int) -> Endpoint:
    """Our endpoint on the way to somebody, with a free port if none is given.

    Raises:
        UsageError: the port is not free, or there is no way.
    """
    try:
        source, _ = route_to(towards)
        with socket.socket(socket.AF_INET6 if towards.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((source, port))
            return Endpoint(source, sock.getsockname()[1])
    except OSError as error:
        what = f"cannot use local port {port}" if port else f"there is no way to {towards}"
        raise UsageError(what, why=error.strerror or str(error), todo="choose another one, or check the network") from error


def check_peer(peer: Endpoint) -> None:
    """A peer is one host.

    Raises:
        PartialData: this is none.
    """
    address = ipaddress.ip_address(peer.address)
    if not peer.port or address.is_multicast or address.is_unspecified or peer.address == "255.255.255.255":
        raise PartialData(f"{peer} is no endpoint of a peer", why="whoever told it is wrong, or lies")


async def _tried(slots: Iterator[Slot], ground: Ground, start_ns: int, inside: Endpoint | None) -> tuple[Won, Slot] | None:
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
            return Failed(what, why=f"{why}; nothing else can work between these NATs", todo=relay)
        return Failed(what, why=f"by what is known of both NATs nothing but a relay works: {met.plan.predicted.why}", todo=relay)
    why = _seen(outcomes, str(met.peer))
    odds = [step for step in tried if step.overall is not None and step.overall < 1]
    if odds:
        why += f"; by the plan it had odds of {100 * max(step.overall or 0 for step in odds):.3g} %"
    if ground.refusals:
        why += f"; and {ground.refusals[0].what}: {ground.refusals[0].why}"
    if met.plan.doubts:
        return Failed(
            what, why=why, todo="let both sides `rawpunch probe` first and give --findings, so that the plan knows the NATs"
        )
    return Failed(what, why=why, todo=relay)


def _blind_failure(ground: Ground, *, aligned: bool) -> Failed:
    todo = "check both endpoints; "
    todo += "are both clocks right (to well under a second)?" if aligned else "both sides have to try at the same time"
    return Failed(f"no connection with {ground.remote}", why=_seen(ground.outcomes, str(ground.remote)), todo=todo)


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
