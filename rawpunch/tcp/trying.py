"""A handshake that tries harder than a stack does: what somebody who punches holes does to get through.

Three habits, each off by default, all of them free of spoofing:

* its first SYN has a time to live too low to arrive: it opens the hole in its own NAT and dies before the other's (STUNT #2);
* it is told of the peer's SYN by a third party, though that never came, and goes on as if it had: it answers SYN-ACK, as in any
  simultaneous open (NATBLASTER; the peer's initial sequence number is all it needs);
* when a RST or an ICMP error has ended its opening, it opens again a little later, from the same port. In between it is deaf: a
  closed port would answer the peer's SYN by RST.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from rawpunch.ending import Ending
from rawpunch.machine import Abort, Arrived, Concluded, Effect, Open, Send, Stimulus, Woke
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import Profile
from rawpunch.tcp.state import Offer
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Segment
from rawpunch.wire.seq import add
from rawpunch.wire.ttl import DEFAULT_TTL

_TIME_EXCEEDED: Final = (11, 3)
"""ICMP, ICMPv6."""
_FURTHER: Final = 1 << 24
"""From one try's initial sequence number to the next one's: a new connection, not a repetition."""
_RETRIED: Final = (Ending.REFUSED, Ending.RESET, Ending.UNREACHABLE)
"""Endings after which another try makes sense."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What it does beyond what a stack does."""

    first_ttl: int = DEFAULT_TTL
    """Time to live of its first SYN; with another than usual it does not mind if that dies on the way."""
    retry_ns: int = 0
    """How long after a failure it opens again; 0 for never."""
    until_ns: int = 0
    """Instant after which it does not any more."""
    told_ns: int = 0
    """Instant at which it is told of the peer's SYN; 0 for never."""
    peer_iss: int = 0
    """The initial sequence number that it is told."""

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return self.first_ttl != DEFAULT_TTL or self.retry_ns > 0 or self.told_ns > 0


class Trying(Handshake):
    """One TCP endpoint with such habits, as a machine.

    Args:
        local: its own endpoint.
        remote: the other endpoint.
        iss: initial sequence number of its first try.
        profile: the stack that it plays besides.
        habits: what it does beyond.
        offer: what its SYN offers; None for the profile's own.
    """

    def __init__(
        self,
        local: Endpoint,
        remote: Endpoint,
        *,
        iss: int,
        profile: Profile,
        habits: Habits,
        offer: Offer | None = None,
    ) -> None:
        super().__init__(local, remote, iss=iss, profile=profile, offer=offer)
        self.habits = habits
        self._offer = offer
        self._first = True
        self._told = not habits.told_ns
        self._again_ns: int | None = None

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`, in ns; None for never."""
        if self._again_ns is not None:
            return self._again_ns
        own, told = super().deadline, None if self._told or self._first else self.habits.told_ns
        return min((at for at in (own, told) if at is not None), default=None)

    def prepare_syn(self, at: int) -> Segment:
        """The SYN that `step(Open(), now=at)` will send."""
        syn = super().prepare_syn(at)
        return replace(syn, ttl=self.habits.first_ttl) if self._first else syn

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Take one stimulus at instant `now` (ns); see `Handshake`."""
        if self._again_ns is not None:
            if isinstance(stimulus, Abort):
                self._again_ns = None
            if not isinstance(stimulus, Woke) or self._again_ns is None or now < self._again_ns:
                return []
            self._open_anew()
            stimulus = Open()
        match stimulus:
            case Arrived(IcmpError(type=kind)) if kind in _TIME_EXCEEDED and self.habits.first_ttl != DEFAULT_TTL:
                return []
            case Woke() if not self._told and now >= self.habits.told_ns and self.remote is not None:
                self._told = True
                stimulus = Arrived(Segment(self.remote, self.local, Flags.SYN, self.habits.peer_iss))
        return list(self._changed(super().step(stimulus, now=now), now))

    def _open_anew(self) -> None:
        self._again_ns = None
        super().__init__(self.local, self.remote, iss=add(self.iss, _FURTHER), profile=self.profile, offer=self._offer)

    def _changed(self, effects: Iterable[Effect], now: int) -> Iterator[Effect]:
        """The effects with the first SYN's time to live, and without an ending that is not the last word."""
        for effect in effects:
            match effect:
                case Send(Segment(flags=Flags.SYN) as syn) if self._first:
                    self._first = False
                    yield Send(replace(syn, ttl=self.habits.first_ttl))
                case Concluded(ending) if ending in _RETRIED and 0 < self.habits.retry_ns < self.habits.until_ns - now:
                    self._again_ns = now + self.habits.retry_ns
                case _:
                    yield effect
