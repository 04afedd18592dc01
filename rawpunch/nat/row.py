"""Two NATs one behind the other as one machine: what one sends towards the other is stepped through at once."""

from __future__ import annotations

from rawpunch.machine import Arrived, Effect, Send, Stimulus
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox


class Row:
    """A machine with the two ports of a NAT.

    Args:
        inner: the NAT at the inside port.
        outer: the NAT at the outside port; it takes the other's external addresses for inside hosts.
    """

    def __init__(self, inner: NatBox, outer: NatBox) -> None:
        self.inner = inner
        self.outer = outer

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`, in ns; None for never."""
        return min((at for at in (self.inner.deadline, self.outer.deadline) if at is not None), default=None)

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Take a packet at one of the ports, or look at what is due, at instant `now` (ns).

        Raises:
            BadParameter: the stimulus is for an endpoint, or the port is neither "inside" nor "outside".
        """
        boxes = [self.inner, self.outer]
        if isinstance(stimulus, Arrived):
            boxes = [self.outer if stimulus.port == OUTSIDE else self.inner]
        due: list[tuple[NatBox, Stimulus]] = [(box, stimulus) for box in boxes]
        effects: list[Effect] = []
        while due:
            box, told = due.pop(0)
            for effect in box.step(told, now=now):
                between = isinstance(effect, Send) and (effect.port == OUTSIDE) == (box is self.inner)
                if isinstance(effect, Send) and between:
                    other, port = (self.outer, INSIDE) if box is self.inner else (self.inner, OUTSIDE)
                    due.append((other, Arrived(effect.packet, port)))
                else:
                    effects.append(effect)
        return effects
