"""The safety policy of replays and sprays: to whom packets may go beyond ordinary connection attempts, and how many.

The loopback is free, and within a lab so are its addresses (RFC 5737, RFC 2544). Everybody else has to have said yes, twice:
in writing, by an entry in the policy file, and in deed: before a replay by an observer that runs at the target's address and
answers a nonce, before a spray by the peer itself (`punch.consent`).

    [[target]]
    address = "203.0.113.9"
    ports = [443, "8000-8100"]
    consent = "Jane Doe, who runs it, by letter of 2026-03-01"
    expires = 2026-12-31
    packets_per_s = 50      # at most, in any second; 50 if it is left out
    observer = 3478         # where `rawpunch observe` listens at that address
"""

from __future__ import annotations

import asyncio
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rawpunch.clock import now_ns
from rawpunch.errors import Malformed, PartialData, PolicyRefused, Unreadable
from rawpunch.live.limits import Rates
from rawpunch.live.observer_client import ObserverClient
from rawpunch.live.sockets import RawPort
from rawpunch.live.stun_client import binding
from rawpunch.replay.part import Part
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint, canonical

MOST_PER_S: Final = 1_000
"""No entry allows more packets in a second."""
_WITHIN_S: Final = 5.0
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def _port_range(given: object) -> tuple[int, int]:
    """``443`` or ``"8000-8100"`` as the first and last port."""
    first, last = 0, 0
    if isinstance(given, int) and not isinstance(given, bool):
        first = last = given
    elif isinstance(given, str) and (found := _RANGE.fullmatch(given)):
        first, last = int(found[1]), int(found[2] or found[1])
    if not 0 < first <= last <= 0xFFFF:
        raise ValueError(f"{given!r} is neither a port in 1..65535 nor a range of them like '8000-8100'")
    return first, last


def _canonical(given: object) -> object:
    try:
        return canonical(given) if isinstance(given, str) else given
    except Malformed as error:
        raise ValueError(error.what) from None


def _end_of_day(given: object) -> object:
    """A day is meant whole; a time without a zone is UTC."""
    if isinstance(given, datetime):
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    return datetime.combine(given + timedelta(days=1), time(), UTC) if isinstance(given, date) else given


class Entry(BaseModel):
    """One target that may be replayed against, and sprayed if the peer there agrees too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    address: Annotated[str, BeforeValidator(_canonical)]
    ports: tuple[Annotated[tuple[int, int], BeforeValidator(_port_range)], ...] = Field(min_length=1, strict=False)
    consent: str = Field(min_length=8)
    """Who the owner is, and when and how he agreed."""
    expires: Annotated[AwareDatetime, BeforeValidator(_end_of_day)]
    """From this instant on it does not hold any more; a day is meant whole, in UTC."""
    packets_per_s: int = Field(default=50, ge=1, le=MOST_PER_S)
    observer: int = Field(default=3478, ge=1, le=0xFFFF)
    """The port of the cooperating observer at the same address."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    target: tuple[Entry, ...] = Field(default=(), strict=False)


def default_path() -> Path:
    """Where the policy file is looked for (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "rawpunch" / "policy.toml"


def read_policy(path: Path) -> tuple[Entry, ...]:
    """The entries of a policy file.

    Raises:
        Unreadable: it is not there, or is not one.
    """
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).target
    except OSError as error:
        raise Unreadable(f"the policy file {path} cannot be read", why=str(error.strerror or error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Unreadable(f"{path} is no policy file", why=f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise Unreadable(f"{path} is no policy file", why=str(error)) from error


def entry_for(target: Endpoint, entries: Sequence[Entry], *, at: datetime) -> Entry:
    """The entry that allows a target.

    Args:
        target: whom packets are to go to.
        entries: those of the policy file.
        at: now.

    Raises:
        PolicyRefused: there is none, it does not name the port, or it has expired.
    """
    todo = "ask its owner, write an entry into the policy file (--policy), and run `rawpunch observe` there"
    known = [entry for entry in entries if entry.address == target.address]
    if not known:
        raise PolicyRefused(
            f"{target} is neither the loopback nor in the lab", why="the policy file has no entry for its address", todo=todo
        )
    fitting = [entry for entry in known if any(first <= target.port <= last for first, last in entry.ports)]
    if not fitting:
        ports = ", ".join(_spelt(known))
        raise PolicyRefused(
            f"{target} may not be replayed against",
            why=f"the policy file allows its ports {ports} only",
            todo="take one of these, or ask its owner for another",
        )
    entry = max(fitting, key=lambda entry: entry.expires)
    if entry.expires <= at:
        raise PolicyRefused(
            f"{target} may not be replayed against any more",
            why=f"its entry in the policy file expired at {entry.expires.isoformat()}",
            todo="ask its owner again",
        )
    return entry


def _spelt(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        for first, last in entry.ports:
            yield str(first) if first == last else f"{first}-{last}"


def check_rate(entry: Entry, part: Part) -> None:
    """Refuse a script that has too many packets in a second.

    Raises:
        PolicyRefused: it has.
    """
    times = sorted(round(line.at_ns / part.speed) for line in part.track.lines if line.sent)
    crowd = max((sum(start <= at < start + SECOND for at in times) for start in times), default=0)
    if crowd > entry.packets_per_s:
        raise PolicyRefused(
            f"this side sends {crowd} packets in a second",
            why=f"the policy file's entry for {entry.address} allows {entry.packets_per_s}",
            todo="play it slower: --speed",
        )


def check_consent(entry: Entry) -> None:
    """Ask the observer at the target's address whether it is there: it has to answer our nonce, and to take its own back.

    Raises:
        PolicyRefused: it does not.
    """
    observer = Endpoint(entry.address, entry.observer)
    try:
        asyncio.run(_ask(observer))
    except PartialData as error:
        raise PolicyRefused(
            f"nobody at {observer} consents",
            why=f"the policy wants a cooperating observer at the target's address: {error.what}"
            + (f" ({error.why})" if error.why else ""),
            todo=f"run there: rawpunch observe --address {entry.address} --port {entry.observer}",
        ) from error


async def _ask(observer: Endpoint) -> None:
    await binding(observer, within_s=_WITHIN_S)  # it echoes the 96 random bits of a transaction (RFC 8489 section 5)
    async with await ObserverClient.connect(observer, within_s=_WITHIN_S) as client:
        await client.begin()  # and is no mere STUN server


class CappedPort(RawPort):
    """Raw sockets that send to one target no faster than allowed.

    Args:
        target: the only address that packets may go to.
        per_s: packets in a second, after a burst of as many.

    Raises:
        MachineCannot: no right to open raw sockets.
    """

    def __init__(self, target: Endpoint, per_s: int) -> None:
        super().__init__()
        self._target = target.address
        self._rates = Rates(per_s, per_s)
        self._per_s = per_s

    def send(self, packet: bytes, address: str) -> None:
        """Put the ready bytes of an IP packet on the wire.

        Raises:
            PolicyRefused: that is too many, or for somebody else.
            OSError: the kernel has no route, or refuses.
        """
        if address != self._target:
            raise PolicyRefused(f"a packet was to go to {address}", why=f"consent is {self._target}'s alone")
        if self._rates.take(address, now_ns()):
            raise PolicyRefused(
                f"the replay was stopped: it would send {address} more than {self._per_s} packets a second",
                why="the policy file's entry allows no more",
                todo="play it slower: --speed",
            )
        super().send(packet, address)
