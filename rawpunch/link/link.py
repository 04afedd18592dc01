"""One direction of a link as a machine: what comes in goes out later, or never, or twice, or out of order.

The items are opaque: the simulator's packets, or kernel packets held in a queue. All chance comes from an injected source of
integers, drawn in the order in which the items arrive, so that the same seed and the same arrivals always give the same releases.
Chances are integers in parts per million, times are integer nanoseconds; there is no float in here.

Order is kept (jitter alone never lets one item overtake another) except for an item that is drawn to be held back: it is
released later than its turn, and those behind it overtake it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from rawpunch.errors import BadParameter
from rawpunch.machine import Woke

PPM: Final = 1_000_000
"""Chances are parts of this: 250_000 is one in four."""

Item = TypeVar("Item")


class Dice(Protocol):
    """Where chance comes from; `random.Random` is one."""

    def randrange(self, stop: int, /) -> int:
        """An integer in 0 .. stop - 1, each as likely as the other."""


@dataclass(frozen=True, slots=True)
class Entered(Generic[Item]):
    """Stimulus: an item came in at the near end."""

    item: Item


@dataclass(frozen=True, slots=True)
class Left(Generic[Item]):
    """Effect: an item goes out at the far end."""

    item: Item
    due_ns: int
    """The instant it was due; earlier than `now` by as much as the driver was late."""
    copy: bool = False
    """Whether it is the second one of an item that was duplicated."""


@dataclass(frozen=True, slots=True)
class Lost(Generic[Item]):
    """Effect: an item will never go out."""

    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What a link does to what it carries."""

    delay_ns: int = 0
    """One-way delay."""
    jitter_ns: int = 0
    """Added to the delay: uniform in 0 .. jitter_ns."""
    loss_ppm: int = 0
    """Chance that an item is lost."""
    duplication_ppm: int = 0
    """Chance that an item that is not lost goes out twice; the copy draws a jitter of its own."""
    reordering_ppm: int = 0
    """Chance that an item is held back."""
    held_back_ns: int = 1_000_000
    """How much longer a held-back item takes at the most: uniform in 1 .. held_back_ns."""

    def __post_init__(self) -> None:
        for name, value in (("delay", self.delay_ns), ("jitter", self.jitter_ns)):
            if value < 0:
                raise BadParameter(f"a link's {name} of {value} ns is negative")
        for name, value in (("loss", self.loss_ppm), ("duplication", self.duplication_ppm), ("reordering", self.reordering_ppm)):
            if not 0 <= value <= PPM:
                raise BadParameter(f"a link's {name} of {value} ppm is not in 0..{PPM}")
        if self.reordering_ppm and self.held_back_ns < 1:
            raise BadParameter("a link that reorders must hold items back by at least 1 ns")

    @property
    def uncertain(self) -> bool:
        """Whether chance has any part in it."""
        return bool(self.jitter_ns or self.loss_ppm or self.duplication_ppm or self.reordering_ppm)


class Link(Generic[Item]):
    """One direction of a link.

    Drivers that only want what is to be released use `arrive` and `wake`; `step` is the same as a machine, and also tells what
    was lost.

    Args:
        delay_ns: one-way delay of a link without chance.
        path: what it does to the items, instead of `delay_ns`.
        dice: source of chance, needed where the path has any.

    Raises:
        BadParameter: a value makes no sense, both are given, or the dice are missing.
    """

    __slots__ = ("_count", "_dice", "_free_at", "_heap", "_queue", "duplicated", "lost", "path", "reordered")

    def __init__(self, *, delay_ns: int | None = None, path: Path | None = None, dice: Dice | None = None) -> None:
        if delay_ns is not None and path is not None:
            raise BadParameter("a link has a delay or a path, not both")
        self.path = path or Path(delay_ns=delay_ns or 0)
        if self.path.uncertain and dice is None:
            raise BadParameter("a link with jitter, loss, duplication or reordering needs a source of chance")
        self._dice = dice
        self._queue: deque[Left[Item]] = deque()
        self._heap: list[tuple[int, int, Left[Item]]] = []
        self._count = 0
        self._free_at = -1
        self.lost = 0
        """Items lost so far."""
        self.duplicated = 0
        """Items sent out twice so far."""
        self.reordered = 0
        """Items held back so far."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._heap)

    @property
    def deadline(self) -> int | None:
        """When the next item is due, in ns; None when the link is empty."""
        if not self._heap:
            return self._queue[0].due_ns if self._queue else None
        first = self._heap[0][0]
        return min(first, self._queue[0].due_ns) if self._queue else first

    def step(self, stimulus: Entered[Item] | Woke, *, now: int) -> list[Left[Item] | Lost[Item]]:
        """Take an item, or say what is due at instant `now` (ns)."""
        effects: list[Left[Item] | Lost[Item]] = []
        if isinstance(stimulus, Entered) and not self._accept(stimulus.item, now):
            effects.append(Lost(stimulus.item))
        effects += self._due(now)
        return effects

    def arrive(self, item: Item, *, now: int) -> list[Item]:
        """Take an item and say which items are to be released at once."""
        self._accept(item, now)
        return [left.item for left in self._due(now)]

    def wake(self, *, now: int) -> list[Item]:
        """The items that are due, in the order of their release."""
        return [left.item for left in self._due(now)]

    def _accept(self, item: Item, now: int) -> bool:
        """Plan an item's release; False when it is lost."""
        path = self.path
        if not path.uncertain:
            self._in_turn(item, now + path.delay_ns)
            return True
        if self._happens(path.loss_ppm):
            self.lost += 1
            return False
        for copy in (False, True) if self._happens(path.duplication_ppm) else (False,):
            self.duplicated += copy
            due_ns = now + path.delay_ns + self._drawn(path.jitter_ns + 1)
            if self._happens(path.reordering_ppm):
                self.reordered += 1
                self._count += 1
                due_ns = max(due_ns, self._free_at) + 1 + self._drawn(path.held_back_ns)
                heapq.heappush(self._heap, (due_ns, self._count, Left(item, due_ns, copy)))
            else:
                self._in_turn(item, due_ns, copy=copy)
        return True

    def _in_turn(self, item: Item, due_ns: int, *, copy: bool = False) -> None:
        self._free_at = max(self._free_at, due_ns)
        self._queue.append(Left(item, self._free_at, copy))

    def _happens(self, chance_ppm: int) -> bool:
        return chance_ppm > 0 and self._drawn(PPM) < chance_ppm

    def _drawn(self, stop: int) -> int:
        return self._dice.randrange(stop) if self._dice is not None and stop > 1 else 0

    def _due(self, now: int) -> list[Left[Item]]:
        due: list[Left[Item]] = []
        while self._queue and self._queue[0].due_ns <= now:
            due.append(self._queue.popleft())
        if self._heap and self._heap[0][0] <= now:
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap)[2])
            due.sort(key=lambda left: left.due_ns)
        return due
