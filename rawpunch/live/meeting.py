"""Meet the peer at a rendezvous server: from the port that will punch, to an instant that both begin at.

It takes three round trips to the server from the second one's connect to the word to begin: connect, register, be introduced and
say ready; the server says "go" so that both hear it at once. Where the plan wants starts that are close together, the clocks are
compared before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, Malformed, PartialData, RawpunchError
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.rendezvous_client import RendezvousClient
from rawpunch.live.stun_client import binding
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.consent import Consent, agreed_budget
from rawpunch.punch.known import Known
from rawpunch.punch.plan import Path, Plan, Side, make_plan
from rawpunch.punch.ports import Mapped
from rawpunch.punch.proof import key_of
from rawpunch.punch.rendezvous import Finding, Go, Introduced, Joined, Over, Register, Registered, Start, room_name
from rawpunch.units import MS, SECOND, format_duration
from rawpunch.wire.endpoint import Endpoint

RTT_AXIS: Final = "rendezvous_rtt"
"""Where each tells the other how far away the server is; no axis of a NAT."""
_START_ERROR_NS: Final = 2 * MS
"""By how much "go" may reach the two apart, beyond what their ways differ."""
_USUAL_RTT_US: Final = 40_000
_MOST_RTT_US: Final = 2_000_000
_KEEP_ALIVE_S: Final = 30.0
_START_WITHIN_S: Final = 35.0
_FARTHEST_NS: Final = 10 * SECOND
"""A start that is farther ahead is a mistake of a clock, or a lie."""
_SAMPLES: Final = 6
"""Mappings that are looked at before, where the next one is to be foretold."""
_KEPT_DETAILS: Final = ("candidates", "stride", "band", "addresses", "held", "refused", "lived")
_UNFORETOLD: Final = {"random", "preserving"}


@dataclass(frozen=True, slots=True)
class Me:
    """What a peer brings."""

    token: str
    local: Endpoint
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """Of a probe of its NAT, by axis."""
    wait_s: float = 60.0
    """How long to wait for the other one."""
    consent: Consent | None = None
    """To be sprayed, if the plan has that."""


@dataclass(frozen=True, slots=True)
class Met:
    """Two peers who are to begin."""

    side: Side
    you: Endpoint
    """Our public endpoint, as the server says."""
    peer: Endpoint
    inside: Endpoint | None
    """The peer's own endpoint, if it seems to be behind the same NAT as we."""
    plan: Plan
    other: Known
    consent: Consent | None
    """The peer's, to be sprayed."""
    start_ns: int
    """By our clock."""
    registered_ns: int
    introduced_ns: int


def finding_of(document: Mapping[str, Any]) -> Finding:
    """What a plan needs of a finding in a probe's report.

    Raises:
        BadParameter: it is none.
    """
    try:
        detail = {key: value for key, value in (document.get("detail") or {}).items() if key in _KEPT_DETAILS}
        return Finding.of_document({"class": document.get("class"), "detail": detail, "status": document.get("status")})
    except (Malformed, AttributeError) as error:
        why = error.why if isinstance(error, Malformed) else str(error)
        raise BadParameter("that is no finding of a probe", why=why, todo="probe again") from error


async def meet(client: RendezvousClient, me: Me, rtt_ns: int, seen: list[int], log: PunchLog) -> Met:
    """Register, wait for the other one, make the plan and hear when to begin.

    Args:
        client: connected from `me.local`.
        me: what we bring.
        rtt_ns: to the server.
        seen: external ports that our NAT allocated before this connection's.
        log: where it is told.

    Raises:
        PartialData: the server is gone, refuses, or says what cannot be; or the other one left.
        RawpunchError: nobody comes.
    """
    rtt = Finding(detail={"rtt_us": rtt_ns // 1_000})
    findings = {**me.findings, RTT_AXIS: rtt}
    register = Register(room=room_name(me.token), inside=me.local, findings=findings, seen=seen, consent=me.consent)
    registered = await client.ask(register, Registered)
    registered_ns = now_ns()
    log.note(f"registered; our public endpoint is {registered.you}")
    if me.consent is not None and me.consent.address != registered.you.address:
        log.note(f"our NAT has several addresses: the consent to spray {me.consent.address} will not hold")
    plans = _Plans(_known(findings, [*seen, registered.you.port]), rtt, me.consent)
    if registered.peers:
        if len(registered.peers) > 1:
            log.note(f"{len(registered.peers)} others are in the room; the one who came last it is")
        asked = asyncio.create_task(client.ask(messages.Introduce(to=registered.peers[-1].number), messages.Introducing))
        await asyncio.sleep(0)  # it leaves now, and the plan is made while it is on its way
        plans.of(registered.peers[-1], "a")
        await asked
    else:
        log.note("the other one is not there yet")
    introduced, introduced_ns = await _introduced(client, me.wait_s, plans)
    peer = introduced.peer
    plan, theirs = plans.of(peer, introduced.side)
    log.note(f"introduced to {peer.endpoint}; our side is {introduced.side.upper()}")
    if plan.first.window_ns is not None:
        offset = await client.measure_clock()
        way = "behind" if offset.offset_ns < 0 else "ahead"
        apart = format_duration(abs(offset.offset_ns))
        log.note(f"the server's clock is {apart} {way}, +- {format_duration(offset.error_ns)}")
    await client.ready(introduced.pair, plan.first.window_ns or 0)
    start_ns = await _start(client, introduced.pair)
    same = peer.inside is not None and peer.endpoint.address == registered.you.address
    return Met(
        introduced.side,
        registered.you,
        peer.endpoint,
        peer.inside if same else None,
        plan,
        theirs,
        peer.consent,
        start_ns,
        registered_ns,
        introduced_ns,
    )


class _Plans:
    """The plans with those who may be the peer, each made when he is first heard of."""

    def __init__(self, mine: Known, rtt: Finding, consent: Consent | None) -> None:
        self._mine = mine
        self._rtt = rtt
        self._consent = consent
        self._made: list[tuple[messages.Peer, Side, Plan, Known]] = []

    def of(self, peer: messages.Peer, side: Side) -> tuple[Plan, Known]:
        """The plan, if we are that side, and what is known of the other one."""
        for known, place, plan, theirs in self._made:
            if (known, place) == (peer, side):
                return plan, theirs
        theirs = _known(peer.findings, [*peer.seen, peer.endpoint.port])
        sides = (self._mine, theirs) if side == "a" else (theirs, self._mine)
        budget = agreed_budget(self._consent, peer.consent)
        plan = make_plan(*sides, _path(self._rtt, peer.findings.get(RTT_AXIS)), budget=budget)
        self._made.append((peer, side, plan, theirs))
        return plan, theirs


async def _introduced(client: RendezvousClient, wait_s: float, plans: _Plans) -> tuple[Introduced, int]:
    until_ns = now_ns() + round(wait_s * SECOND)
    while (rest_s := (until_ns - now_ns()) / SECOND) > 0:
        try:
            news, at_ns = await client.news(min(rest_s, _KEEP_ALIVE_S))
        except TimeoutError:
            await client.measure_clock(1)  # who is silent for long is forgotten
            continue
        if isinstance(news, Introduced):
            return news, at_ns
        if isinstance(news, Joined):
            plans.of(news.peer, "b")  # who comes later asks to be introduced
        elif not isinstance(news, messages.Left):
            raise PartialData(f"the rendezvous server {client.server} makes no sense", why=f"it said {news.tag!r} unasked")
    raise RawpunchError(
        f"nobody came within {wait_s:g} s",
        why="no other peer registered with this token at this server",
        todo="start the other side with the same --room and --rendezvous; --wait waits longer",
    )


async def _start(client: RendezvousClient, pair: int) -> int:
    """The instant to begin, by our clock."""
    while True:
        try:
            news, at_ns = await client.news(_START_WITHIN_S)
        except TimeoutError as error:
            raise PartialData(f"the rendezvous server {client.server} never said when to begin") from error
        if isinstance(news, Over) and news.pair == pair:
            raise PartialData("the other one was there, but did not get ready", why=news.why, todo="try again")
        if isinstance(news, Go) and news.pair == pair:
            return at_ns
        if isinstance(news, Start) and news.pair == pair and client.offset is not None:
            start_ns = client.offset.to_own(news.at_ns)
            if abs(start_ns - now_ns()) > _FARTHEST_NS:
                raise PartialData(
                    f"the rendezvous server {client.server} names an impossible start",
                    why=f"it is {format_duration(start_ns - now_ns())} from now: a clock was set meanwhile, or it lies",
                    todo="try again",
                )
            return start_ns


async def samples(server: Endpoint, me: Me) -> list[int]:
    """External ports of a few new mappings, where our NAT gives each destination another one that may be foretold."""
    mapping, ports = (me.findings.get(axis) for axis in ("mapping", "port_allocation"))
    if mapping is None or mapping.klass in (None, "none", "endpoint_independent"):
        return []
    if ports is None or ports.klass is None or ports.klass in _UNFORETOLD:
        return []
    found = []
    for _ in range(_SAMPLES):
        answer = await binding(server, local=Endpoint(me.local.address, 0))
        if answer.mapped is not None:
            found.append(answer.mapped.port)
    return found


async def agree(server: Endpoint, local: Endpoint, token: str, packets: int) -> Consent:
    """Our consent to be sprayed at the address that a server sees us at.

    Raises:
        PartialData: the server does not answer.
    """
    answer = await binding(server, local=Endpoint(local.address, 0))
    if answer.mapped is None:
        raise PartialData(f"the rendezvous server {server} does not say which address is ours", todo="try without --accept-spray")
    return Consent.give(key_of(token), answer.mapped.address, packets, now_ns() // SECOND)


def _known(findings: Mapping[str, Finding], ports: list[int]) -> Known:
    seen = tuple(Mapped(port) for port in ports) if len(ports) > 1 else ()
    documents = {axis: finding.document() for axis, finding in findings.items() if axis != RTT_AXIS}
    try:
        return Known.of_findings(documents, seen)
    except BadParameter:  # a peer's nonsense: nothing is known of it then, as the other side finds too
        return Known.of_findings({}, seen)


def _path(mine: Finding, theirs: Finding | None) -> Path:
    rtts = [_rtt_us(mine), _rtt_us(theirs)]
    return Path((sum(rtts) * 500, sum(rtts) * 500), _START_ERROR_NS)


def _rtt_us(finding: Finding | None) -> int:
    told = finding.detail.get("rtt_us") if finding is not None else None
    return told if isinstance(told, int) and 0 < told <= _MOST_RTT_US else _USUAL_RTT_US


async def connect_to(server: Endpoint, local: Endpoint) -> tuple[RendezvousClient, int]:
    """A connection to the server from our port, and the round trip's time in ns.

    Raises:
        PartialData: it does not answer.
    """
    began_ns = now_ns()
    client = await RendezvousClient.connect(server, local=local)
    return client, max(now_ns() - began_ns, 1_000)
