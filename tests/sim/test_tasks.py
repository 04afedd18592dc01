"""Coroutines in virtual time: waiting, at once, failing, ending."""

from __future__ import annotations

import pytest

from rawpunch.scene import Scene
from rawpunch.sim.tasks import Tasks
from rawpunch.sim.world import World
from rawpunch.units import SECOND


@pytest.fixture
def tasks() -> Tasks:
    """Those of a world in which nothing happens."""
    return Tasks(World(Scene(), seed=1, record=False))


def now(tasks: Tasks) -> int:
    """The world's time."""
    return tasks._world.now


def test_time_passes_only_in_waiting(tasks: Tasks) -> None:
    """Two sleeps at once take as long as the longer one."""

    async def nap(until_ns: int) -> int:
        await tasks.sleep_until(until_ns)
        return now(tasks)

    async def both() -> list[int]:
        return await tasks.together(nap(3 * SECOND), nap(SECOND))

    assert tasks.run(both()) == [3 * SECOND, SECOND]
    assert now(tasks) == 3 * SECOND


def test_a_condition_ends_a_wait_when_there_is_news(tasks: Tasks) -> None:
    """Not before, and at its deadline if there is none."""
    heard: list[int] = []

    async def speak() -> None:
        await tasks.sleep_until(SECOND)
        heard.append(1)
        tasks.news()

    async def listen(count: int) -> tuple[bool, int]:
        return await tasks.until(lambda: len(heard) >= count, 5 * SECOND), now(tasks)

    async def all_of_it() -> list[object]:
        return await tasks.together(speak(), listen(1), listen(2), listen(0))

    assert tasks.run(all_of_it())[1:] == [(True, SECOND), (False, 5 * SECOND), (True, 0)]


def test_one_that_raises_ends_the_others(tasks: Tasks) -> None:
    """Their cleaning up is done, and the error is whoever's waited for them."""
    ended: list[str] = []

    async def fails() -> None:
        await tasks.sleep_until(SECOND)
        raise LookupError("gone")

    async def waits() -> None:
        try:
            await tasks.sleep_until(9 * SECOND)
        finally:
            ended.append("waits")

    async def both() -> None:
        await tasks.together(waits(), fails())

    with pytest.raises(LookupError, match="gone"):
        tasks.run(both())
    assert ended == ["waits"]
    assert now(tasks) == SECOND


def test_waiting_for_what_never_comes_is_a_fault_of_the_plan(tasks: Tasks) -> None:
    """A wait without a deadline in a world without events would hang; it says so instead."""
    with pytest.raises(RuntimeError, match="never happen"):
        tasks.run(tasks.forever_until(lambda: False))
