"""Attempts overlap, and no launch has another planned event near it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rawpunch.study.schedule import QUIET_NS, Schedule
from rawpunch.units import MS


@given(
    one_way=st.tuples(st.integers(0, 60 * MS), st.integers(0, 60 * MS)),
    offsets=st.lists(st.integers(-200 * MS, 200 * MS), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_launches_are_quiet(one_way: tuple[int, int], offsets: list[int], seed: int) -> None:
    """Between a launch and any launch or arrival of another attempt lies at least the quiet time, and the offset is exact."""
    schedule = Schedule(((one_way[0],), (one_way[1],)), 12 * MS, random.Random(seed))
    slots = [(schedule.take(offset), offset) for offset in offsets]
    for index, (slot, offset) in enumerate(slots):
        assert slot.b_ns - slot.a_ns == offset
        assert min(slot.a_ns, slot.b_ns) >= 0
        for other, _ in slots[:index]:
            for mine in (slot.a_ns, slot.b_ns):
                events = (
                    other.a_ns,
                    other.b_ns,
                    other.a_ns + one_way[0],
                    other.b_ns + one_way[1],
                    other.a_ns + sum(one_way),
                    other.b_ns + sum(one_way),
                )
                assert all(abs(mine - event) > QUIET_NS for event in events)


def test_launches_are_quiet_at_every_stop() -> None:
    """Where hosts are away from their NATs, a SYN is due at both NATs too."""
    stops = ((30 * MS, 50 * MS, 80 * MS), (7 * MS, 27 * MS, 57 * MS))
    schedule = Schedule(stops, 12 * MS, random.Random(3))
    slots = [schedule.take(offset) for offset in (0, 5 * MS, -20 * MS) * 10]
    for index, slot in enumerate(slots):
        for other in slots[:index]:
            due = [other.a_ns + stop for stop in stops[0]] + [other.b_ns + stop for stop in stops[1]]
            assert all(abs(mine - event) > QUIET_NS for mine in (slot.a_ns, slot.b_ns) for event in due)


def test_the_same_seed_gives_the_same_slots() -> None:
    """A schedule is determined by its dice."""

    def slots() -> list[object]:
        schedule = Schedule(((20 * MS,), (20 * MS,)), 20 * MS, random.Random(5))
        return [schedule.take(offset) for offset in (0, 10 * MS, 40 * MS) * 5]

    assert slots() == slots()


def test_attempts_overlap() -> None:
    """A hundred attempts of 100 ms each take less than half of what they would take one after the other."""
    schedule = Schedule(((20 * MS,), (20 * MS,)), 20 * MS, random.Random(1))
    last = [schedule.take(0) for _ in range(100)][-1]
    assert last.a_ns < 5_000 * MS
