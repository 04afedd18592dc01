"""One side of a flow played from this network namespace against a live target, without a lab round it.

The safety policy is kept here: what is replayed goes to the loopback, or to addresses that no real host has (the lab's: RFC 5737
and RFC 2544), and nowhere else.
"""

from __future__ import annotations

import select
import socket
from ipaddress import ip_address, ip_network
from typing import Final

from rawpunch.clock import SPIN_NS, be_punctual, now_ns, spin_until
from rawpunch.errors import BadParameter, MachineCannot, Malformed, PolicyRefused
from rawpunch.live.end import Order
from rawpunch.live.replay_end import ReplayEnd
from rawpunch.live.sockets import RawPort
from rawpunch.replay.part import Part
from rawpunch.replay.player import Player
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

_ALLOWED: Final = tuple(
    ip_network(prefix) for prefix in ("127.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")
)
_LEAD_NS: Final = 5 * MS


def check_target(target: Endpoint) -> None:
    """Refuse a target that is neither the loopback nor the lab.

    Raises:
        PolicyRefused: it may be somebody else's host.
        BadParameter: it is an IPv6 address; raw sockets here speak IPv4.
    """
    if target.is_ipv6:
        raise BadParameter(f"{target} is an IPv6 endpoint", why="replays go out over IPv4", todo="give an IPv4 address")
    if not any(ip_address(target.address) in network for network in _ALLOWED):
        raise PolicyRefused(
            f"{target} is neither the loopback nor in the lab",
            why="a real target needs an entry in the safety policy's file, and this version knows no such file",
            todo="replay in the lab (without --target), or against 127.0.0.1",
        )


def play_alone(part: Part, target: Endpoint, *, local_port: int, iss: int) -> tuple[Player, str]:
    """Play one side against a target and wait until it is through.

    Args:
        part: what to play.
        target: whom to play it against.
        local_port: a port of this host that is free.
        iss: the side's first initial sequence number.

    Returns:
        The player, with all that it sent and got, and why it gave up ("" if it did not).

    Raises:
        PolicyRefused: the target is not allowed.
        MachineCannot: no right to open raw sockets, or no route to the target.
        UsageError: the local port is in use.
    """
    check_target(target)
    be_punctual()
    port = RawPort()
    try:
        start_ns = now_ns() + _LEAD_NS
        order = Order(
            attempt="replay",
            kind="replay",
            local=Endpoint(_address_towards(target), local_port),
            remote=target,
            at_ns=start_ns,
            give_up_ns=start_ns + round(part.track.duration_ns / part.speed) + part.patience_ns + SECOND,
            iss=iss,
            profile="",
        )
        end = ReplayEnd(order, part, port)
        try:
            _run(end, port)
        finally:
            end.release()
    finally:
        port.close()
    return end.player, end.report.cause


def _run(end: ReplayEnd, port: RawPort) -> None:
    launched = False
    while end.undecided:
        if not launched and end.order.at_ns - now_ns() <= SPIN_NS:
            spin_until(end.order.at_ns)
            end.launch(end.order.at_ns)
            launched = True
            continue
        due_ns = end.deadline if launched else end.order.at_ns - SPIN_NS
        rest_ns = max((due_ns or now_ns()) - now_ns(), 0)
        if select.select([port.fileno()], [], [], rest_ns / SECOND)[0]:
            _receive(end, port)
        if launched and (due := end.deadline) is not None and due <= now_ns():
            end.wake(now_ns())


def _receive(end: ReplayEnd, port: RawPort) -> None:
    for data in port.receive():
        try:
            packet = decode(data)
        except Malformed:
            continue  # other traffic of the host
        local = packet.destination if isinstance(packet, Segment) else packet.quoted.source
        if local == end.order.local:
            end.arrived(packet, now_ns())


def _address_towards(target: Endpoint) -> str:
    """The address that this host has towards a target."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target.address, target.port or 9))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise MachineCannot(f"there is no route to {target}", why=str(error.strerror or error)) from error
