"""Meet the peer at a rendezvous server: from the port that will punch, to an instant that both begin at.

It takes two round trips to the server from the second one's connect to the word to begin: connect and register; the server then
introduces the two so that both hear it at once. Where the plan wants starts that are closer together, clocks are compared, and
another word agrees on an instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import Malformed, PartialData, RawpunchError
from rawpunch.live.planning import Plans, known_of
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.registering import Me, rtt_finding
from rawpunch.live.rendezvous_client import RendezvousClient
from rawpunch.punch.consent import Consent
from rawpunch.punch.known import Known
from rawpunch.punch.plan import Plan, Side
from rawpunch.punch.proof import Challenge, Role
from rawpunch.punch.rendezvous import Go, Introduced, Joined, Left, Over, Registered, Start
from rawpunch.units import SECOND, format_duration
from rawpunch.wire.endpoint import Endpoint

_KEEP_ALIVE_S: Final = 30.0
_START_WITHIN_S: Final = 35.0
_FARTHEST_NS: Final = 10 * SECOND
"""A start that is farther ahead is a mistake of a clock, or a lie."""


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
    challenge: Challenge | None
    """What each has to prove; None if the peer told no nonce."""
    start_ns: int
    """By our clock."""
    registered_ns: int
    introduced_ns: int


async def meet(client: RendezvousClient, me: Me, registered: Registered, log: PunchLog) -> Met:
    """Wait for the other one, make the plan and hear when to begin.

    Args:
        client: connected from `me.local`, and registered.
        me: what we bring.
        registered: what the server said to that.
        log: where it is told.

    Raises:
        PartialData: the server is gone, refuses, or says what cannot be; or the other one left.
        RawpunchError: nobody comes.
    """
    registered_ns = now_ns()
    log.note(f"registered; our public endpoint is {registered.you}")
    if me.consent is not None and me.consent.address != registered.you.address:
        log.note(f"our NAT has several addresses: the consent to spray {me.consent.address} will not hold")
    plans = Plans(known_of(me.findings, [registered.you.port, *me.seen]), rtt_finding(client), me.consent)
    if not registered.peers:
        log.note("the other one is not there yet")
    elif len(registered.peers) > 1:
        log.note(f"{len(registered.peers)} others are in the room; the one who came last it is")
    there = {peer.number for peer in registered.peers}
    introduced, introduced_ns = await _introduced(client, me.wait_s, plans, there)
    peer = introduced.peer
    plan, theirs = plans.of(peer, introduced.side)
    log.note(f"introduced to {peer.endpoint}; our side is {introduced.side.upper()}")
    start_ns = introduced_ns
    if plan.first.window_ns is not None:
        offset = await client.measure_clock()
        way = "behind" if offset.offset_ns < 0 else "ahead"
        apart = format_duration(abs(offset.offset_ns))
        log.note(f"the server's clock is {apart} {way}, +- {format_duration(offset.error_ns)}")
        await client.ready(introduced.pair, plan.first.window_ns)
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
        _challenge(client, me, introduced),
        start_ns,
        registered_ns,
        introduced_ns,
    )


def _challenge(client: RendezvousClient, me: Me, introduced: Introduced) -> Challenge | None:
    if not introduced.peer.nonce:
        return None
    role = Role.A if introduced.side == "a" else Role.B
    try:
        return Challenge.between(role, me.nonce, bytes.fromhex(introduced.peer.nonce))
    except Malformed as error:
        raise PartialData(f"the rendezvous server {client.server} makes no sense", why=error.what) from error


async def _introduced(client: RendezvousClient, wait_s: float, plans: Plans, there: set[int]) -> tuple[Introduced, int]:
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
            there.add(news.peer.number)
            plans.of(news.peer, "b")  # who comes later is introduced to us
        elif isinstance(news, Left):
            there.discard(news.number)
        else:
            raise PartialData(f"the rendezvous server {client.server} makes no sense", why=f"it said {news.tag!r} unasked")
    if there:
        why = f"somebody is there, and {wait_s:g} s went by"
        raise PartialData(f"the rendezvous server {client.server} never introduced us", why=why, todo="try again")
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
