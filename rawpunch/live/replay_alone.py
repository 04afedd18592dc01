"""One side of a flow played from this network namespace against a live target, without a lab round it.

What is replayed goes to the loopback, within a lab to its own addresses, or, by the safety policy, to those who consented.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from rawpunch.clock import SPIN_NS, be_punctual, now_ns, spin_until
from rawpunch.errors import BadParameter, MachineCannot, Malformed, PolicyRefused
from rawpunch.live.confines import is_free
from rawpunch.live.end import Order
from rawpunch.live.policy import CappedPort, Entry, check_consent, check_rate, default_path, entry_for, read_policy
from rawpunch.live.replay_end import ReplayEnd
from rawpunch.live.sockets import RawPort
from rawpunch.replay.part import Part
from rawpunch.replay.player import Player
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

_LEAD_NS: Final = 5 * MS


def check_target(target: Endpoint, policy: Path | None = None) -> Entry | None:
    """Refuse a target that is neither the loopback nor the lab, unless the policy file has an entry for it.

    Args:
        target: whom to play against.
        policy: the policy file; None for the one at its usual place, if there is one.

    Returns:
        The entry that allows it; None where none is needed.

    Raises:
        PolicyRefused: it may be somebody else's host.
        BadParameter: it is an IPv6 address; raw sockets here speak IPv4. Or it has no port.
        Unreadable: the policy file is none.
    """
    if target.is_ipv6:
        raise BadParameter(f"{target} is an IPv6 endpoint", why="replays go out over IPv4", todo="give an IPv4 address")
    if not target.port:
        raise BadParameter(f"{target} names no port", todo="give ADDRESS:PORT with a port in 1..65535")
    if is_free(target):
        return None
    path = policy or default_path()
    if policy is None and not path.exists():
        raise PolicyRefused(
            f"{target} is neither the loopback nor in the lab",
            why=f"a real target needs its owner's consent, by an entry in the safety policy's file, and there is no {path}",
            todo="replay in the lab (without --target), or against 127.0.0.1; or see `rawpunch replay --help` on --policy",
        )
    return entry_for(target, read_policy(path), at=datetime.now(UTC))


def play_alone(part: Part, target: Endpoint, *, local_port: int, iss: int, policy: Path | None = None) -> tuple[Player, str]:
    """Play one side against a target and wait until it is through.

    Args:
        part: what to play.
        target: whom to play it against.
        local_port: a port of this host that is free.
        iss: the side's first initial sequence number.
        policy: the policy file; None for the one at its usual place.

    Returns:
        The player, with all that it sent and got, and why it gave up ("" if it did not).

    Raises:
        PolicyRefused: the target is not allowed, does not cooperate, or would get more packets than allowed.
        MachineCannot: no right to open raw sockets, or no route to the target.
        UsageError: the local port is in use.
    """
    entry = check_target(target, policy)
    port_for: Callable[[], RawPort] = RawPort
    if entry is not None:
        check_rate(entry, part)
        check_consent(entry)
        port_for = partial(CappedPort, target, entry.packets_per_s)
    be_punctual()
    port = port_for()
    try:
        start_ns = now_ns() + _LEAD_NS
        order = Order(
            attempt="replay",
            kind="replay",
            local=Endpoint(address_towards(target), local_port),
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


def address_towards(target: Endpoint) -> str:
    """The address that this host has towards a target.

    Raises:
        MachineCannot: there is no route.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target.address, target.port or 9))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise MachineCannot(f"there is no route to {target}", why=str(error.strerror or error)) from error
