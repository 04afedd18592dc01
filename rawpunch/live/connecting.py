"""Connect to a peer who connects to us at the same time: a simultaneous open, and an ordinary socket at its end.

Both sides call `connect` with each other's endpoint, each from the port that the other one names; neither listens. By method
`raw` our own handshake opens the connection with raw packets and hands it over to the kernel (see `handover`); by `kernel` the
kernel's `connect()` does it all. Until the first SYN has left, the kernel is kept silent where this process may do that
(CAP_NET_ADMIN), so that a peer who is early is not reset.

This is an attempt at a connection as any program may make: to the one peer that is named, from an address and port of our own,
its SYN repeated when the kernel would repeat it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from rawpunch.clock import SPIN_NS, now_ns, sleep_until, spin_until
from rawpunch.errors import BadParameter, MachineCannot
from rawpunch.live.end import Order
from rawpunch.live.opening import KernelOpening, Opened
from rawpunch.live.rights import why_not_raw
from rawpunch.live.sockets import family_of, route_to
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.ttl import DEFAULT_TTL

if TYPE_CHECKING:
    from rawpunch.live.raw_opening import RawOpening

Method = Literal["raw", "kernel", "auto"]
Place = Endpoint | str | tuple[str, int]
"""An endpoint, as text ``192.0.2.1:4000``, or as an (address, port)."""

DEFAULT_TIMEOUT_S: Final = 60.0
_LONGEST_S: Final = 1e9
_LEAST_ISS: Final = 1 << 28
"""Far from zero: near it, some NATs take a RST with sequence number 0 for one in the window."""
_log: Final = logging.getLogger("rawpunch.connect")


def connect(
    peer: Place,
    *,
    local: Place | int | None = None,
    method: Method = "auto",
    timeout: float = DEFAULT_TIMEOUT_S,
    at: int | None = None,
) -> socket.socket:
    """Open a TCP connection to a peer who does the same towards us, and return an ordinary, blocking socket.

    Which method it was is logged (logger ``rawpunch.connect``), and said by `open_connection`.

    Args:
        peer: where its packets come from, as we see it: behind a NAT, the endpoint that the NAT gave it.
        local: our own endpoint, or only its port; None for a free port, which then somebody has to tell the peer.
        method: `raw` (Linux, CAP_NET_RAW and CAP_NET_ADMIN), `kernel` (no privilege), or `auto`: raw if it is possible.
        timeout: how long to try, in seconds, from the first SYN.
        at: instant of the first SYN in ns since the Unix epoch; None for now. By method `raw`, a SYN of the peer's that comes
            before is answered then, as if it had crossed ours.

    Raises:
        ConnectionRefusedError: a RST answered our SYN.
        ConnectionResetError: a RST came later.
        TimeoutError: nothing that decides came in time.
        OSError: an ICMP error came (EHOSTUNREACH), or there is no way to the peer.
        UsageError: the local endpoint is in use, or the endpoints make no sense.
        MachineCannot: `raw` was asked for and is not possible here; the message says what is missing.
    """
    return open_connection(peer, local=local, method=method, timeout=timeout, at=at).sock


async def connect_async(
    peer: Place,
    *,
    local: Place | int | None = None,
    method: Method = "auto",
    timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109  as `connect` has it; it ends the attempt by the same rules
    at: int | None = None,
) -> socket.socket:
    """The same for asyncio: it returns a non-blocking socket, to be given to `asyncio.open_connection(sock=...)`.

    If it is cancelled, the attempt is aborted, and nothing is left of it. It raises what `connect` raises.
    """
    return (await open_connection_async(peer, local=local, method=method, timeout=timeout, at=at)).sock


def open_connection(
    peer: Place,
    *,
    local: Place | int | None = None,
    method: Method = "auto",
    timeout: float = DEFAULT_TIMEOUT_S,
    at: int | None = None,
) -> Opened:
    """Do what `connect` does, and say how it was done."""
    with _opening(peer, local, method, timeout, at) as opening:
        sleep_until(opening.order.at_ns)
        opening.launch()
        poll = select.poll()
        poll.register(opening.fileno(), opening.events)
        while opening.undecided:
            poll.poll(-(-opening.rest_ns() // 1_000_000))
            opening.attend()
        return _told(opening.opened(blocking=True))


async def open_connection_async(
    peer: Place,
    *,
    local: Place | int | None = None,
    method: Method = "auto",
    timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109  as above
    at: int | None = None,
    first_ttl: int = DEFAULT_TTL,
) -> Opened:
    """Do what `connect_async` does, and say how it was done; the first SYN may have a time to live of its own, to die early."""
    loop = asyncio.get_running_loop()
    with _opening(peer, local, method, timeout, at, first_ttl) as opening:
        rest_ns = opening.order.at_ns - SPIN_NS - now_ns()
        if rest_ns > 0:
            await asyncio.sleep(rest_ns / SECOND)
        spin_until(opening.order.at_ns)
        opening.launch()
        ready = asyncio.Event()
        descriptor = opening.fileno()
        (loop.add_writer if opening.events == select.POLLOUT else loop.add_reader)(descriptor, ready.set)
        try:
            while opening.undecided:
                timer = loop.call_later(opening.rest_ns() / SECOND, ready.set)
                await ready.wait()
                timer.cancel()
                ready.clear()
                opening.attend()
        finally:
            (loop.remove_writer if opening.events == select.POLLOUT else loop.remove_reader)(descriptor)
        return _told(opening.opened(blocking=False))


def _told(opened: Opened) -> Opened:
    how = f"opened {opened.method}" + (f", as raw is not possible: {opened.why}" if opened.why else "")
    _log.info("connected from %s to %s, %s", opened.local, opened.remote, how)
    return opened


# --- one attempt ---


@contextmanager
def _opening(
    peer: Place,
    local: Place | int | None,
    method: Method,
    timeout_s: float,
    at: int | None,
    first_ttl: int = DEFAULT_TTL,
) -> Iterator[RawOpening | KernelOpening]:
    """One attempt, ready to be launched; whatever happens, nothing of it stays but a socket that was taken."""
    if method not in ("raw", "kernel", "auto"):
        raise BadParameter(f"there is no method {method!r}", todo="use raw, kernel or auto")
    if not 0 < timeout_s < _LONGEST_S:
        raise BadParameter(f"a timeout of {timeout_s} s is none", todo="give seconds, more than 0")
    remote = _endpoint(peer)
    _check_peer(remote)
    source, mtu = route_to(remote)
    own = _own_endpoint(local, source)
    if own == remote:
        raise BadParameter(f"{own} cannot connect to itself", todo="give the peer's endpoint")
    at_ns = now_ns() if at is None else at
    order = Order(
        attempt="connect",
        kind=method,
        local=own,
        remote=remote,
        at_ns=at_ns,
        give_up_ns=max(at_ns, now_ns()) + round(timeout_s * SECOND),
        iss=_LEAST_ISS + int.from_bytes(os.urandom(8), "big") % ((1 << 32) - _LEAST_ISS),
        profile="linux",
        first_ttl=first_ttl,
    )
    opening = KernelOpening(order, "") if method == "kernel" else _raw_or_not(order, mtu)
    try:
        yield opening
    finally:
        opening.close()


def _raw_or_not(order: Order, mtu: int) -> RawOpening | KernelOpening:
    """By raw packets; by the kernel, if they are not possible and nobody insists on them. Nothing has been sent yet."""
    why = why_not_raw(order.remote)
    if not why:
        from rawpunch.live.raw_opening import RawOpening  # noqa: PLC0415  the kernel needs no handshake of ours

        try:
            return RawOpening(order, mtu)
        except MachineCannot as error:
            why = error.why
    if order.kind == "raw":
        todo = "use method kernel or auto; rawpunch doctor"
        raise MachineCannot(f"cannot open a connection to {order.remote} raw", why=why, todo=todo)
    return KernelOpening(order, why)


def _endpoint(place: Place) -> Endpoint:
    if isinstance(place, Endpoint):
        return place
    return Endpoint.parse(place) if isinstance(place, str) else Endpoint(*place)


def _own_endpoint(local: Place | int | None, source: str) -> Endpoint:
    """The local endpoint: what is not given is what the kernel would choose."""
    if local is None or isinstance(local, int):
        own = Endpoint(source, local or 0)
    else:
        own = _endpoint(local)
        own = Endpoint(source, own.port) if ipaddress.ip_address(own.address).is_unspecified else own
    if own.port:
        return own
    with socket.socket(family_of(own), socket.SOCK_STREAM) as sock:
        sock.bind((own.address, 0))
        return Endpoint(own.address, sock.getsockname()[1])


def _check_peer(remote: Endpoint) -> None:
    """A connection has one peer.

    Raises:
        BadParameter: this is none.
    """
    address = ipaddress.ip_address(remote.address)
    if not remote.port or address.is_multicast or address.is_unspecified or remote.address == "255.255.255.255":
        raise BadParameter(f"{remote} is no endpoint of a peer", todo="give one host's address and a port")
