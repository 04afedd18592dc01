"""One side of a punch, from nothing to a socket whose other end has proved to be the peer.

With a rendezvous server (`punch`) both are introduced, make one plan from what is known of their NATs, and carry out its tries
one after the other at instants that both know. Without one (`punch_at`) they know each other's endpoint, and begin at an instant
of their clocks, or simply try again and again. Either way nothing of it stays but the socket.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, MachineCannot, PartialData, UsageError
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.rights import lacks, why_not_raw
from rawpunch.live.sockets import begin_stream, family_of, route_to
from rawpunch.units import MS, SECOND, format_duration
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from rawpunch.live.connecting import Method
    from rawpunch.live.meeting import Met
    from rawpunch.live.punch_try import Won
    from rawpunch.punch.plan import Plan
    from rawpunch.punch.rendezvous import Finding
    from rawpunch.punch.slots import Slot

_FARTHEST_NS: Final = 86_400 * SECOND
_LOADING_NS: Final = 20 * MS
"""How long the plans take to load, about. A server's answer may be the word to begin, and who is late then has his host reset the
other one's SYN: only where the answer takes as long, they are loaded while it is on its way."""


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


@dataclass(frozen=True, slots=True)
class Begun:
    """The first step: a SYN has left for the server, from the port that will punch."""

    server: Endpoint
    method: Method
    local: Endpoint
    log: PunchLog
    began_ns: int
    sock: socket.socket
    """It does not block. `punch` closes it; whoever does not get so far has to."""


def begin(server: Endpoint, *, local_port: int = 0, method: Method = "auto", log: PunchLog | None = None) -> Begun:
    """Ask the server for a connection before anything else is loaded: `punch` goes on with it.

    Args:
        server: where `rawpunch rendezvous` runs.
        local_port: to punch from; 0 for any.
        method: see `rawpunch.connect`.
        log: takes notes, and packets if it may.

    Raises:
        UsageError: the port is not free, or there is no way to the server.
        MachineCannot: `raw` was asked for and is not possible here.
    """
    log = log or PunchLog()
    began_ns = now_ns()
    check_method(method, server, log)
    local = own_endpoint(server, local_port)
    log.watch(local.port)
    return Begun(server, method, local, log, began_ns, begin_stream(server, local))


def _load_plans() -> None:
    from rawpunch.live import meeting, punch_tries  # noqa: F401, PLC0415  see `_LOADING_NS`


async def punch(
    begun: Begun,
    token: str,
    *,
    findings: Mapping[str, Finding] | None = None,
    wait_s: float = 60.0,
    accept_spray: int = 0,
    policy: Path | None = None,
    planned: Callable[[Met], None] = lambda _: None,
) -> Punched:
    """Meet the peer at a server and connect with it directly.

    Args:
        begun: the first step (`begin`).
        token: what both know and nobody else.
        findings: of a probe of our NAT, by axis.
        wait_s: how long to wait for the other one.
        accept_spray: SYNs that the other one may send to our public address in a spray, repeated ones counted; see `allowance`.
        policy: the policy file, which has to name the other one's address if we are to spray it; None for the default one.
        planned: told of the plan before it is carried out.

    Raises:
        PartialData: the server does not answer, goes, or says what cannot be.
        NoConnection: no try led to the peer; the reason is the likeliest cause.
        PolicyRefused: the only way would have been a spray, and the peer or our own policy file do not allow it.
        RawpunchError: nobody came.
        MachineCannot: `raw` was asked for and is not possible here.
    """
    server, local, log = begun.server, begun.local, begun.log
    with begun.sock:
        import asyncio  # noqa: PLC0415  all of this while the SYN is on its way

        from rawpunch.live import registering  # noqa: PLC0415
        from rawpunch.live.rendezvous_client import RendezvousClient  # noqa: PLC0415

        if begun.method != "kernel":
            from rawpunch.live import raw_opening  # noqa: F401, PLC0415

        known = findings or {}
        consent = await registering.agree(server, local, token, accept_spray) if accept_spray else None
        seen = await registering.samples(server, local, known)
        client = await RendezvousClient.connect(server, begun=begun.sock)
        log.note(f"connected to the rendezvous server {server} from {local}, {format_duration(client.rtt_ns)} away")
        async with client:  # its connection keeps our mapping open meanwhile; that the server is there is not needed any more
            me = registering.Me(token, local, known, wait_s, consent, seen)
            if client.rtt_ns < _LOADING_NS:
                _load_plans()
            answer = asyncio.create_task(registering.register(client, me))
            await asyncio.sleep(0)  # it leaves now
            from rawpunch.live import meeting, punch_tries  # noqa: PLC0415  see `_LOADING_NS`

            met = await meeting.meet(client, me, await answer, log)
            planned(met)
            check_peer(met.peer)
            won, slot = await punch_tries.by_plan(met, local, token, begun.method, log, policy)
    timing = Timing(begun.began_ns, met.registered_ns, met.introduced_ns, met.start_ns, won.opened_ns, won.proved_ns)
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
        NoConnection: no try led to the peer.
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
    from rawpunch.live import punch_tries  # noqa: PLC0415  as `punch` does

    won, slot = await punch_tries.blind(
        peer, local, token, method, log, tries=tries, start_ns=start_ns, aligned=at_ns is not None
    )
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
        with socket.socket(family_of(towards), socket.SOCK_STREAM) as sock:
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
