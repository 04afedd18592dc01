"""The live driver of a probe: raw packets here, an observer out there, one capture of both.

    async with LiveGround(observer, seed=7) as ground:
        ...                                    # whatever plans there are, see `probe.ground.Ground`
    ground.write(path)

Its packets go to the addresses at which the observer answered with a nonce, and to our own external ones, and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

from rawpunch.capture.pcapng import Statistics
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import BadParameter, MachineCannot, PartialData
from rawpunch.live.probe_inside import Inside, Tap
from rawpunch.live.probe_log import ProbeLog
from rawpunch.live.probe_outside import ObserverLink
from rawpunch.live.sockets import RawPort
from rawpunch.probe import messages
from rawpunch.probe.crafting import crafted
from rawpunch.probe.ground import Dice, NotOffered, Outside, Place, Seen
from rawpunch.probe.messages import Connected, Craft, Refusal, SendPacket
from rawpunch.rng import stream
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment


class LiveGround:
    """What plans stand on, on this machine. Keeps `probe.ground.Ground`.

    Args:
        observer: an endpoint of the observer.
        insiders: addresses of this machine, the one that is probed from first; () for the one towards the observer.
        seed: source of all chance.
        tap: raw sockets; None to open them.
    """

    def __init__(self, observer: Endpoint, *, insiders: tuple[str, ...] = (), seed: int = 0, tap: Tap | None = None) -> None:
        self._observer = observer
        self._insiders = insiders
        self._dice = stream(seed, "probe")
        self._given_tap = tap
        self._log = ProbeLog()
        self._inside: Inside | None = None
        self._link: ObserverLink | None = None

    async def __aenter__(self) -> Self:
        """Open raw sockets and begin a session with the observer.

        Raises:
            MachineCannot: no right to open raw sockets, no route to the observer, or one that is behind a NAT of its own.
            BadParameter: an inside address is not this machine's, or the observer is an IPv6 one.
            PartialData: the observer does not answer, or refuses.
        """
        if self._observer.is_ipv6:
            raise BadParameter(
                f"{self._observer} is an IPv6 endpoint", why="probes go out over IPv4", todo="give an IPv4 address"
            )
        be_punctual()
        tap = self._given_tap or RawPort()
        try:
            insiders = self._insiders or (address_towards(self._observer),)
            self._inside = Inside(insiders, tap, self._log, self._dice, self._allowed)
        except BaseException:
            tap.close()
            raise
        self._link = ObserverLink(self._observer, insiders[0], self._log)
        try:
            await self._link.connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._link is not None:
            await self._link.close()
        if self._inside is not None:
            self._inside.close()

    @property
    def _here(self) -> Inside:
        if self._inside is None:
            raise BadParameter("this ground is not open", todo="use it as a context manager")
        return self._inside

    @property
    def _there(self) -> ObserverLink:
        if self._link is None:
            raise BadParameter("this ground is not open", todo="use it as a context manager")
        return self._link

    def _allowed(self, address: str) -> bool:
        return address in self.outside.addresses or address in self.proved

    # --- what there is ---

    @property
    def insiders(self) -> tuple[str, ...]:
        """Our own addresses, the one that is probed from first."""
        return self._here.addresses

    @property
    def outside(self) -> Outside:
        """What the observer has; only addresses at which it answered."""
        return self._there.outside

    @property
    def proved(self) -> tuple[str, ...]:
        """Our addresses as the observer knows them."""
        return self._there.proved

    @property
    def dice(self) -> Dice:
        """Chance, from the seed."""
        return self._dice

    @property
    def packets(self) -> int:
        """How many packets have a number."""
        return len(self._log)

    def give_up(self, error: PartialData) -> None:
        """End all plans, which then conclude from what they have."""
        self._there.give_up(error)

    @property
    def lost(self) -> dict[str, int]:
        """Packets that nobody can say anything of: what -> how many."""
        return {
            "not taken here": self._here.lost,
            "not taken at the observer": self._there.lost,
            "not sent": self._here.unsent,
        }

    # --- time ---

    def now(self) -> int:
        """The time here, in ns."""
        return now_ns()

    async def sleep(self, ns: int) -> None:
        """Let time pass.

        Raises:
            PartialData: the observer is gone, so that there is nothing to wait for.
        """
        await self._there.pause(ns / SECOND)

    async def until(self, condition: Callable[[], bool], deadline_ns: int) -> bool:
        """Wait until something is so, or an instant.

        Raises:
            PartialData: the observer is gone, so that nothing can be concluded from waiting in vain.
        """
        while not condition():
            if self._there.gone is not None:
                raise self._there.gone
            rest_ns = deadline_ns - now_ns()
            if rest_ns <= 0:
                return False
            await self._log.news(rest_ns / SECOND)
        return True

    async def together(self, *plans: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines at once; if one raises, the others are cancelled and that is raised."""
        tasks = [asyncio.ensure_future(plan) for plan in plans]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    # --- inside ---

    def reserve(self, insider: int = 0, *, port: int = 0, parity: int | None = None) -> Endpoint:
        """A TCP port that the kernel is silent about.

        Raises:
            BadParameter: the wanted port is in use, or was reserved before.
            MachineCannot: no port is free.
        """
        return self._here.reserve(insider, port=port, parity=parity)

    def release(self, *endpoints: Endpoint) -> None:
        """Give reserved ports back to the kernel."""
        self._here.release(*endpoints)

    async def send(self, segment: Segment) -> Seen:
        """Send a segment from a reserved endpoint as it is.

        Raises:
            BadParameter: its source is not reserved.
            PolicyRefused: its destination has nothing to do with this probe.
        """
        return await self._here.send(segment)

    def seen(self, place: Place, at: Endpoint, after: int = 0) -> tuple[Seen, ...]:
        """What has come to an endpoint at a place, as far as known here, oldest first."""
        return self._log.seen(place, at, after)

    # --- observer ---

    async def settle(self) -> None:
        """Come to know all that had come to the observer by now.

        Raises:
            PartialData: the observer is gone.
        """
        await self._there.settle()

    async def prove(self, insider: int = 0) -> Endpoint | None:
        """Connect to the observer anew from a fresh port, prove that address too, and end the connection by a RST.

        Raises:
            PartialData: the observer is gone.
        """
        return await self._there.prove(self._here.fresh(insider))

    async def renew(self) -> None:
        """Make the connection to the observer anew, and reset the old one; where no new one comes about, the old one stays."""
        await self._there.renew()

    async def hold(self, address: int = 0, *, port: int = 0, answer: Craft | None = None, ttl: int = 64) -> Endpoint:
        """Take a port of the observer.

        Raises:
            NotOffered: it refuses.
            PartialData: it is gone.
        """
        wish = messages.Hold(address=self._there.index(address), port=port, answer=answer, ttl=ttl)
        return (await self._there.want(wish, messages.Held)).endpoint

    async def unhold(self, endpoint: Endpoint) -> None:
        """Give a held port back."""
        try:
            await self._there.want(messages.Release(endpoint=endpoint), messages.Released)
        except NotOffered as error:
            if error.word is not Refusal.NOT_YOURS:
                raise

    async def craft(self, wish: SendPacket) -> Seen:
        """Let the observer send one packet.

        Raises:
            NotOffered: the target is not proved, or the source not held.
            PartialData: it is gone.
        """
        octets = crafted(wish)
        number = self._log.expected(Place.OBSERVER, now_ns())
        sent = await self._there.want(wish, messages.Sent)
        return self._log.left(number, Place.OBSERVER, sent.at_ns, octets, decode(octets))

    async def connect_back(self, to: Endpoint, *, address: int = 0, port: int = 0, wait_ns: int) -> Connected:
        """Let the observer's kernel open a connection.

        Raises:
            NotOffered: the target is not proved, or the source is not to be had.
            PartialData: it is gone.
        """
        wait_ms = min(max(-(-wait_ns // MS), 1), messages.MAX_WAIT_MS)
        wish = messages.Connect(address=self._there.index(address), port=port, to=to, wait_ms=wait_ms)
        return await self._there.want(wish, Connected)

    # --- the record ---

    def write(self, path: str | os.PathLike[str], comment: str = "") -> Path:
        """Write all packets as one capture; their numbers are those of the `Seen`.

        Raises:
            PartialData: it cannot be written.
        """
        return self._log.write(
            path,
            comment,
            {
                Place.INSIDE: Statistics(dropped=self._here.lost),
                Place.OBSERVER: Statistics(dropped=self._there.lost),
            },
        )


def address_towards(target: Endpoint) -> str:
    """The address that this machine has towards a target.

    Raises:
        MachineCannot: there is no route.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((target.address, target.port or 9))
            return str(sock.getsockname()[0])
    except OSError as error:
        raise MachineCannot(f"there is no route to {target}", why=str(error.strerror or error)) from error
