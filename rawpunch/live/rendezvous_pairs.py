"""Introductions that are under way: who with whom, who is ready, and the word to begin."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rawpunch.live.limits import RendezvousLimits
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.starting import AtInstant, OnReceipt, Readiness, agree, together
from rawpunch.units import SECOND

if TYPE_CHECKING:
    from rawpunch.live.rendezvous_server import Connection


@dataclass(slots=True, eq=False)
class Pair:
    """Two peers of a room, who know of each other."""

    number: int
    a: Connection
    b: Connection
    until_ns: int
    ready: dict[messages.Side, Readiness] = field(default_factory=dict)


class Pairs:
    """All of a server."""

    def __init__(self, limits: RendezvousLimits) -> None:
        self.limits = limits
        self.all: dict[int, Pair] = {}
        self._of: dict[Connection, dict[Connection, Pair]] = {}
        self._numbers = itertools.count(1)

    def introduce(self, a: Connection, b: Connection, now: int) -> tuple[Pair | None, bool]:
        """The pair of two peers, and whether it is a new one; None if one of them has too many."""
        known = self._of.get(a, {}).get(b)
        if known is not None:
            return known, False
        if max(len(self._of.get(a, ())), len(self._of.get(b, ()))) >= self.limits.pairs_per_peer:
            return None, False
        pair = Pair(next(self._numbers), a, b, now + round(self.limits.pair_s * SECOND))
        self.all[pair.number] = pair
        self._of.setdefault(a, {})[b] = pair
        self._of.setdefault(b, {})[a] = pair
        return pair, True

    def tell(self, pair: Pair, known_a: messages.Peer, known_b: messages.Peer) -> None:
        """Introduce the two of a pair, so that both hear it at one instant."""
        to_a = messages.Introduced(pair=pair.number, side="a", peer=known_b)
        to_b = messages.Introduced(pair=pair.number, side="b", peer=known_a)
        _say(pair, to_a, to_b, together(pair.a.rtt_ns, pair.b.rtt_ns))

    def of(self, connection: Connection, number: int) -> Pair | None:
        """A pair by its number, if it is one of this peer's."""
        pair = self.all.get(number)
        return pair if pair is not None and connection in (pair.a, pair.b) else None

    def ready(self, pair: Pair, connection: Connection, readiness: Readiness, now: int) -> bool:
        """One is ready. If both are, they are told when to begin, and the introduction is done: whether it is."""
        pair.ready["a" if connection is pair.a else "b"] = readiness
        if len(pair.ready) < 2:
            return False
        self._end(pair)
        start = agree(now, pair.ready["a"], pair.ready["b"])
        if isinstance(start, AtInstant):
            for one in (pair.a, pair.b):
                one.say(messages.Start(pair=pair.number, at_ns=start.at_ns, error_ns=start.error_ns))
            return True
        word = messages.Go(pair=pair.number, error_ns=start.error_ns)
        _say(pair, word, word, start)
        return True

    def leave(self, connection: Connection) -> None:
        """A peer has gone: those who waited for it are told."""
        for other, pair in list(self._of.get(connection, {}).items()):
            self._end(pair)
            other.say(messages.Over(pair=pair.number, why="the other peer has gone"))

    def expire(self, now: int) -> None:
        """End what has waited too long."""
        for pair in [pair for pair in self.all.values() if pair.until_ns <= now]:
            self._end(pair)
            for one in (pair.a, pair.b):
                one.say(messages.Over(pair=pair.number, why=f"not both were ready within {self.limits.pair_s:g} s"))

    def _end(self, pair: Pair) -> None:
        del self.all[pair.number]
        for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
            del self._of[one][other]
            if not self._of[one]:
                del self._of[one]


def _say(pair: Pair, to_a: messages.Answer, to_b: messages.Answer, when: OnReceipt) -> None:
    """Say something to both, to the nearer one later."""
    loop = asyncio.get_running_loop()
    for one, word, delay_ns in ((pair.a, to_a, when.delay_a_ns), (pair.b, to_b, when.delay_b_ns)):
        if delay_ns:
            loop.call_later(delay_ns / SECOND, one.say, word)
        else:
            one.say(word)
