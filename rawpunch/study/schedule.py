"""When each attempt of a part starts, so that attempts overlap without disturbing each other.

An attempt takes a few one-way delays, most of it waiting. Several are therefore under way at once, but at the instant at which a
SYN is to leave a host, nothing else is to happen anywhere: no other launch, and no packet that a delay line is due to release.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rawpunch.units import MS

QUIET_NS: Final = 1_200_000
"""Between a launch and any other planned event."""
_STEP_NS: Final = 300_000


@dataclass(frozen=True, slots=True)
class Slot:
    """Planned instants of an attempt's first SYNs, relative to the part's start."""

    a_ns: int
    b_ns: int


class Schedule:
    """Hands out slots, each as early as it disturbs no earlier one.

    Args:
        stops_ns: how long after its start a packet from A, and one from B, is due anywhere; last at the other host (see
            `Scene.stops_ns`).
        pause_ns: least time between the first launches of two attempts.
        dice: where the jitter comes from that keeps attempts out of step with anything periodic.
    """

    def __init__(self, stops_ns: tuple[Sequence[int], Sequence[int]], pause_ns: int, dice: random.Random) -> None:
        self._stops_ns = stops_ns
        self._pause_ns = pause_ns
        self._dice = dice
        self._next_ns = 0
        self._launches: list[int] = []
        self._events: list[int] = []

    def take(self, offset_ns: int) -> Slot:
        """The slot of the next attempt, B starting `offset_ns` after A."""
        at = self._next_ns + self._dice.randrange(2 * MS)
        while True:
            a_ns = at - min(offset_ns, 0)
            b_ns = a_ns + offset_ns
            launches, events = {a_ns, b_ns}, self._expected(a_ns, b_ns)
            if all(_quiet(self._launches, event) for event in events) and all(_quiet(self._events, at) for at in launches):
                break
            at += _STEP_NS
        for instant in launches:
            insort(self._launches, instant)
        for instant in events:
            insort(self._events, instant)
        self._next_ns = at + self._pause_ns
        return Slot(a_ns, b_ns)

    def _expected(self, a_ns: int, b_ns: int) -> set[int]:
        """Launches, when their SYNs are due on their way, and when the answers to them reach a host."""
        from_a, from_b = self._stops_ns
        there_and_back = from_a[-1] + from_b[-1]
        due = {a_ns + stop for stop in from_a} | {b_ns + stop for stop in from_b}
        return {a_ns, b_ns, a_ns + there_and_back, b_ns + there_and_back} | due


def _quiet(instants: list[int], instant: int) -> bool:
    """Whether nothing of the sorted list is near an instant; the two launches of one attempt are not yet in it."""
    at = bisect_left(instants, instant - QUIET_NS)
    return at == len(instants) or instants[at] > instant + QUIET_NS
