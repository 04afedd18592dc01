"""What may stand in a NAT's place: two NATs in a row, and a proxy that answers connections itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rawpunch.machine import Arrived, Effect, Send, Stimulus, Woke
from rawpunch.nat.behavior import Behavior
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.mappings import Dice
from rawpunch.wire.options import Mss
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.seq import add
from rawpunch.wire.ttl import DEFAULT_TTL


class TwoNats:
    """An inner NAT behind an outer one: a home behind a carrier.

    Args:
        inner: what the inner one does.
        outer: what the outer one does.
        external: the outer one's external addresses.
        dice: source of all chance.
        inside: the inner one's address inside.
        between: prefix of the network between them, of three numbers.
    """

    def __init__(
        self,
        inner: Behavior,
        outer: Behavior,
        external: Sequence[str],
        *,
        dice: Dice,
        inside: str = "10.1.0.1",
        between: str = "100.64.7",
    ) -> None:
        self.inner = NatBox(inner, [f"{between}.2"], dice=dice, inside=inside)
        self.outer = NatBox(outer, external, dice=dice, inside=f"{between}.1")

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`."""
        return min((box.deadline for box in (self.inner, self.outer) if box.deadline is not None), default=None)

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Hand packets from one to the other until they leave."""
        if isinstance(stimulus, Woke):
            return [
                *self._from_inner(self.inner.step(stimulus, now=now), now),
                *self._from_outer(self.outer.step(stimulus, now=now), now),
            ]
        if isinstance(stimulus, Arrived) and stimulus.port == OUTSIDE:
            return self._from_outer(self.outer.step(stimulus, now=now), now)
        return self._from_inner(self.inner.step(stimulus, now=now), now)

    def _from_inner(self, effects: Sequence[Effect], now: int) -> list[Effect]:
        left: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send) and effect.port == OUTSIDE:
                left += self._from_outer(self.outer.step(Arrived(effect.packet, INSIDE), now=now), now)
            else:
                left.append(effect)
        return left

    def _from_outer(self, effects: Sequence[Effect], now: int) -> list[Effect]:
        left: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send) and effect.port == INSIDE:
                left += self._from_inner(self.inner.step(Arrived(effect.packet, OUTSIDE), now=now), now)
            else:
                left.append(effect)
        return left


class Proxy:
    """A NAT that accepts each connection from inside itself, and opens one of its own outwards.

    Args:
        behavior: what the NAT does.
        external: its external addresses.
        dice: source of all chance.
        inside: its address inside.
    """

    def __init__(self, behavior: Behavior, external: Sequence[str], *, dice: Dice, inside: str = "10.1.0.1") -> None:
        self._box = NatBox(behavior, external, dice=dice, inside=inside)
        self._dice = dice

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`."""
        return self._box.deadline

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Answer a SYN from inside at once; send one of its own out; keep answers to that from going in."""
        packet = stimulus.packet if isinstance(stimulus, Arrived) else None
        if isinstance(stimulus, Arrived) and isinstance(packet, Segment):
            if stimulus.port == INSIDE and packet.kind == "SYN":
                answer = Segment(
                    packet.destination,
                    packet.source,
                    Flags.SYN | Flags.ACK,
                    self._dice.randrange(1 << 28, 1 << 32),
                    add(packet.seq, 1),
                )
                own = replace(
                    packet, seq=self._dice.randrange(1 << 28, 1 << 32), window=14_600, options=(Mss(1400),), ttl=DEFAULT_TTL
                )
                return [Send(answer, INSIDE), *self._box.step(Arrived(own, INSIDE), now=now)]
            if stimulus.port == OUTSIDE and packet.kind == "SYN-ACK":
                return [effect for effect in self._box.step(stimulus, now=now) if not isinstance(effect, Send)]
        return list(self._box.step(stimulus, now=now))
