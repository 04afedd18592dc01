"""A probe's own machine: ports that its kernel is silent about, packets out of them and to them."""

from __future__ import annotations

import asyncio
import itertools
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Protocol

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, MachineCannot, Malformed, PolicyRefused, UsageError
from rawpunch.live.guard import Guard
from rawpunch.live.probe_log import ProbeLog, concerned
from rawpunch.probe.ground import Dice, Place, Seen
from rawpunch.units import SECOND
from rawpunch.wire.codec import PROTO_ICMP, PROTO_TCP, decode, encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

PORTS: Final = range(32_768, 61_000)
"""Where ports are drawn from: those that Linux itself uses for clients."""
PACKETS_PER_S: Final = 2_000
"""More are not sent, on average; a short burst of a fifth of that may be."""
_BURST_NS: Final = SECOND // 5
_AT_ONCE: Final = 512
"""Packets taken from the tap before others have their turn."""
_FILES: Final = 8_192
_TRIES: Final = 400


class Tap(Protocol):
    """Whole IPv4 packets in and out; `live.sockets.RawPort` is one."""

    def fileno(self) -> int:
        """What to wait at."""

    def send(self, packet: bytes, address: str) -> None:
        """Put a packet on the wire."""

    def receive(self) -> Iterator[bytes]:
        """The packets that have come."""

    def stamp_ns(self) -> int | None:
        """When the last of them came."""

    @property
    def lost(self) -> int:
        """How many could not be taken."""

    def close(self) -> None:
        """Give it back."""


class Inside:
    """One machine with one or two addresses.

    Args:
        addresses: its own ones, each an inside host to a NAT.
        tap: raw sockets.
        log: where packets are noted.
        dice: where ports are drawn from.
        allowed: whether packets may go to an address; all others are refused.

    Raises:
        BadParameter: an address is not this machine's.
    """

    def __init__(self, addresses: tuple[str, ...], tap: Tap, log: ProbeLog, dice: Dice, allowed: Callable[[str], bool]) -> None:
        self.addresses = addresses
        for address in addresses:
            _check_own(address)
        self.unsent = 0
        """Packets that the kernel had no way for."""
        self._tap = tap
        self._log = log
        self._dice = dice
        self._allowed = allowed
        self._guards: dict[Endpoint, Guard] = {}
        self._used: set[Endpoint] = set()
        self._ports: dict[int, int] = {}
        """Port -> how many guards have it; spares reading what is none of ours."""
        self._free_at = 0
        self._lost: int | None = None
        _allow_many_files()
        tap.stamp_ns()  # from now on the kernel notes them
        asyncio.get_running_loop().add_reader(tap.fileno(), self._receive)

    @property
    def lost(self) -> int:
        """Packets that came while the tap was full."""
        return self._tap.lost if self._lost is None else self._lost

    def close(self) -> None:
        """Give everything back."""
        asyncio.get_running_loop().remove_reader(self._tap.fileno())
        self._lost = self._tap.lost
        self.release(*self._guards)
        self._tap.close()

    def reserve(self, insider: int = 0, *, port: int = 0, parity: int | None = None) -> Endpoint:
        """See `probe.ground.Ground.reserve`."""
        address = self.addresses[insider]
        if port:
            endpoint = Endpoint(address, port)
            if endpoint in self._used:
                raise BadParameter(f"{endpoint} has been reserved before", todo="take another port")
            return self._guard(endpoint)
        for _ in range(_TRIES):
            endpoint = self.fresh(insider, parity)
            with suppress(BadParameter):
                return self._guard(endpoint)
        raise MachineCannot(f"no port of {address} is free", why=f"{_TRIES} were tried", todo="close some connections")

    def fresh(self, insider: int, parity: int | None = None) -> Endpoint:
        """An endpoint that was not used before in this probe; it is noted as used, and not reserved.

        Raises:
            MachineCannot: there is none left.
        """
        for _ in range(_TRIES):
            port = self._dice.randrange(PORTS.start, PORTS.stop)
            if parity is not None:
                port += (parity - port) % 2
            endpoint = Endpoint(self.addresses[insider], port)
            if endpoint not in self._used:
                self._used.add(endpoint)
                return endpoint
        raise MachineCannot(f"this probe has used up the ports of {self.addresses[insider]}", why=f"{len(self._used)} were used")

    def _guard(self, endpoint: Endpoint) -> Endpoint:
        try:
            self._guards[endpoint] = Guard(endpoint)
        except UsageError as error:
            raise BadParameter(f"{endpoint} is not to be had", why=error.why, todo="take another port") from error
        self._used.add(endpoint)
        self._ports[endpoint.port] = self._ports.get(endpoint.port, 0) + 1
        return endpoint

    def release(self, *endpoints: Endpoint) -> None:
        """See `probe.ground.Ground.release`."""
        for endpoint in endpoints:
            guard = self._guards.pop(endpoint, None)
            if guard is not None:
                guard.close()
                self._ports[endpoint.port] -= 1

    async def send(self, segment: Segment) -> Seen:
        """See `probe.ground.Ground.send`.

        Raises:
            BadParameter: the source is not reserved.
            PolicyRefused: it would go to somebody who has nothing to do with this probe.
        """
        if segment.source not in self._guards:
            raise BadParameter(f"{segment.source} is not reserved", todo="reserve it first")
        if not self._allowed(segment.destination.address):
            raise PolicyRefused(
                f"no packet of a probe goes to {segment.destination.address}",
                why="it is neither an address at which the observer answered nor one of ours",
            )
        octets = encode(segment)
        while (wait_ns := self._free_at - now_ns() - _BURST_NS) > 0:  # noqa: ASYNC110  time alone makes room
            await asyncio.sleep(wait_ns / SECOND)
        self._free_at = max(self._free_at, now_ns()) + SECOND // PACKETS_PER_S
        seen = self._log.sent(Place.INSIDE, now_ns(), octets, segment)
        try:
            self._tap.send(octets, segment.destination.address)
        except OSError:
            self.unsent += 1  # no route, no room, a local firewall: to whoever waits for an answer it is lost
        return seen

    def _receive(self) -> None:
        for octets in itertools.islice(self._tap.receive(), _AT_ONCE):
            if not self._may_be_ours(octets):
                continue
            try:
                packet = decode(octets)
            except Malformed:
                continue  # other traffic of this machine
            if concerned(packet) in self._guards:
                self._log.came(Place.INSIDE, self._tap.stamp_ns() or now_ns(), octets, packet)

    def _may_be_ours(self, octets: bytes) -> bool:
        """A look at protocol and port, for a machine that has other things to do than to be probed."""
        if len(octets) < 24:
            return False
        at = (octets[0] & 15) * 4
        return octets[9] == PROTO_ICMP or (
            octets[9] == PROTO_TCP and self._ports.get(int.from_bytes(octets[at + 2 : at + 4], "big"), 0) > 0
        )


def _check_own(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            raise BadParameter(
                f"{address} is not an address of this machine", why=str(error), todo="ip -4 address shows those that there are"
            ) from error


def _allow_many_files() -> None:
    """Every reserved port is an open file; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
