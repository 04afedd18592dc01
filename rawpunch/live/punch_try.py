"""One try of a plan, carried out: connections are opened as a move says, and the first whose other end proves itself is taken."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import PolicyRefused, UsageError
from rawpunch.live.allowance import Allowance
from rawpunch.live.connecting import Method, open_connection_async
from rawpunch.live.proving import Prover, Stranger, reset
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.sockets import bound, family_of
from rawpunch.punch.plan import Deed, Move, Side
from rawpunch.punch.proof import Challenge, Role
from rawpunch.punch.slots import Slot
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.ttl import DEFAULT_TTL

_AGAIN_NS: Final = 250 * MS
"""How long after a RST the same port tries again."""
_STRANGERS: Final = 32
"""Connections that may be busy proving themselves; further ones are reset."""
_BACKLOG: Final = 16


@dataclass(frozen=True, slots=True)
class Ground:
    """What both sides of an attempt stand on."""

    local: Endpoint
    remote: Endpoint
    method: Method
    side: Side
    role: Role
    key: bytes
    log: PunchLog
    allowance: Allowance
    challenge: Challenge | None = None
    """What each has to prove, where it is known before."""
    low: int = 1024
    high: int = 65_535
    """Ports among which the other's NAT draws, for a spray."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How the openings ended, in words, and how often."""
    refusals: list[PolicyRefused] = field(default_factory=list)
    """What was not tried, as it is not allowed."""


@dataclass(frozen=True, slots=True)
class Won:
    """A connection whose other end is the peer."""

    sock: socket.socket
    """Connected, non-blocking; not an octet of the user's has been read."""
    local: Endpoint
    remote: Endpoint
    method: str
    """raw or kernel."""
    why: str
    """Why it is not raw, where that was wished for if possible."""
    opened_ns: int
    proved_ns: int


class Try:
    """One slot, by one side.

    Args:
        ground: what is known.
        slot: what to do; its times count from `start_ns`.
        start_ns: the instant agreed on, by our clock.
    """

    def __init__(self, ground: Ground, slot: Slot, start_ns: int) -> None:
        self._ground = ground
        self._slot = slot
        self._begins_ns = start_ns + slot.begins_ns
        self._opened_by_ns = start_ns + slot.opened_by_ns
        self._ends_ns = start_ns + slot.ends_ns
        self._prover = Prover(ground.key, ground.role, slot.several, ground.challenge)
        self._won: asyncio.Future[Won] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[bool]] = set()
        self._told: set[str] = set()

    async def run(self) -> Won | None:
        """The connection, or None when the slot is over.

        Raises:
            MachineCannot: what was asked for is not possible here.
            PolicyRefused: it is not allowed towards this peer.
        """
        opening = asyncio.create_task(self._carry_out(self._slot.step.move(self._ground.side)))
        opening.add_done_callback(self._failed)
        try:
            async with asyncio.timeout(max(self._ends_ns - now_ns(), 0) / SECOND):
                return await asyncio.shield(self._won)
        except TimeoutError:
            return self._won.result() if self._won.done() else None
        finally:
            self._won.cancel()
            for task in (opening, *self._tasks):
                task.cancel()
            await asyncio.gather(opening, *self._tasks, return_exceptions=True)

    def _failed(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled() and (error := opening.exception()) is not None and not self._won.done():
            self._won.set_exception(error)

    # --- what a side does ---

    async def _carry_out(self, move: Move) -> None:
        ground = self._ground
        begins_ns = self._begins_ns + move.begins_ns
        match move.deed:
            case Deed.OPEN if not move.ports:
                await self._open(begins_ns, move.first_ttl)
            case Deed.OPEN:
                ports = [guess.port for guess in move.ports]
                await self._fan([(ground.local, Endpoint(ground.remote.address, port)) for port in ports], move)
            case Deed.LISTEN | Deed.POKE:
                await self._listen(begins_ns, move)
            case Deed.HOLD:
                await self._fan([(Endpoint(ground.local.address, 0), ground.remote)] * move.syns, move)
            case Deed.TRY:
                from random import SystemRandom  # noqa: PLC0415  as with `_fan`

                drawn = SystemRandom().sample(range(ground.low, ground.high + 1), min(move.syns, ground.high + 1 - ground.low))
                await self._fan([(ground.local, Endpoint(ground.remote.address, port)) for port in drawn], move)
            case Deed.CONNECT:
                return

    async def _open(self, at_ns: int, first_ttl: int) -> None:
        """Open to the one endpoint, and again when that was refused, as long as there is time."""
        ground = self._ground
        while (rest_ns := self._opened_by_ns - max(at_ns, now_ns())) > 0:
            try:
                opened = await open_connection_async(
                    ground.remote,
                    local=ground.local,
                    method=ground.method,
                    timeout=rest_ns / SECOND,
                    at=at_ns,
                    first_ttl=first_ttl,
                )
            except TimeoutError:
                ground.outcomes["silent"] += 1
                ground.log.note(f"nothing came from {ground.remote}")
                return
            except OSError as error:
                refused = isinstance(error, ConnectionRefusedError | ConnectionResetError)
                word = "refused" if refused else "unreachable"
                ground.outcomes[word] += 1
                self._tell_once(f"{ground.remote}: {error.strerror or error}; trying again while there is time")
            except UsageError as error:
                ground.outcomes["unusable"] += 1
                ground.log.note(f"{error.what}: {error.why}")
            else:
                ground.log.note(f"opened to {opened.remote}, {opened.method}; now each proves who it is")
                if await self._prove(opened.sock, opened.remote, opened.method, opened.why):
                    return
            at_ns, first_ttl = now_ns() + _AGAIN_NS, DEFAULT_TTL

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._ground.log.note(text)

    async def _listen(self, at_ns: int, move: Move) -> None:
        """Take who comes, after a SYN of ours has opened our NAT, if that is the move."""
        ground = self._ground
        if move.deed is Deed.POKE:
            await _until(at_ns)
            poke(ground.local, ground.remote, move.first_ttl)
        loop = asyncio.get_running_loop()
        with socket.socket(family_of(ground.local), socket.SOCK_STREAM) as listener:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((ground.local.address, ground.local.port))
                listener.listen(_BACKLOG)
            except OSError as error:
                raise UsageError(
                    f"cannot listen on {ground.local}", why=str(error), todo="choose another --local-port"
                ) from error
            while True:
                with suppress(ConnectionError):
                    sock, address = await loop.sock_accept(listener)
                    ground.log.note(f"{address[0]}:{address[1]} connected; now each proves who it is")
                    self._take(sock, Endpoint(*address[:2]))

    async def _fan(self, pairs: list[tuple[Endpoint, Endpoint]], move: Move) -> None:
        from rawpunch.live.fan import fan_out  # noqa: PLC0415  few punches need it, and all want to begin soon

        ground = self._ground
        per_s = ground.allowance.take([remote for _, remote in pairs])
        await _until(self._begins_ns + move.begins_ns)
        ground.log.note(f"{len(pairs)} SYNs begin, by the kernel")
        begun = await fan_out(
            pairs,
            opened=self._take,
            until_ns=self._opened_by_ns,
            per_s=per_s,
            first_ttl=move.first_ttl,
        )
        ground.outcomes["silent"] += 1
        ground.log.note(f"none of {begun} SYNs led to the peer")

    # --- who is it? ---

    def _take(self, sock: socket.socket, remote: Endpoint) -> None:
        if len(self._tasks) >= _STRANGERS:
            reset(sock)
            return
        sock.setblocking(False)
        task = asyncio.create_task(self._prove(sock, remote, "kernel", ""))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prove(self, sock: socket.socket, remote: Endpoint, method: str, why: str) -> bool:
        opened_ns = now_ns()
        try:
            await self._prover.prove(sock, self._ends_ns)
        except Stranger as error:
            reset(sock)
            self._ground.outcomes["stranger"] += 1
            self._ground.log.note(f"{remote}: {error.what}" + (f" ({error.why})" if error.why else ""))
            return False
        except BaseException:
            reset(sock)
            self._ground.outcomes["stranger"] += 1  # the slot ended before its proof
            raise
        if self._won.done():  # the time was over in that very moment
            reset(sock)
            return False
        local = Endpoint(*sock.getsockname()[:2])
        self._won.set_result(Won(sock, local, remote, method, why, opened_ns, now_ns()))
        return True


def poke(local: Endpoint, remote: Endpoint, ttl: int) -> None:
    """Send one SYN of the kernel's that lives that long, and forget it: a close in SYN-SENT says nothing.

    Raises:
        UsageError: the port cannot be bound.
    """
    with bound(local, socket.SOCK_STREAM, socket.SO_REUSEADDR) as sock:
        level, option = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if remote.is_ipv6 else (socket.IPPROTO_IP, socket.IP_TTL)
        sock.setsockopt(level, option, ttl)
        sock.connect_ex((remote.address, remote.port))


async def _until(at_ns: int) -> None:
    await asyncio.sleep(max(at_ns - now_ns(), 0) / SECOND)
