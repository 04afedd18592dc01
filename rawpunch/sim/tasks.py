"""Coroutines in virtual time: what asyncio is to the live driver, for plans that run in a simulated world."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from rawpunch.sim.world import World

_T = TypeVar("_T")
Plan = Coroutine[Any, Any, Any]


class _Pause:
    """What a coroutine waits for: a condition, or an instant, whichever is first."""

    __slots__ = ("condition", "deadline_ns", "over")

    def __init__(self, condition: Callable[[], bool] | None, deadline_ns: int | None) -> None:
        self.condition = condition
        self.deadline_ns = deadline_ns
        self.over = False

    def __await__(self) -> Generator[_Pause, bool, bool]:
        return (yield self)


class Task:
    """A coroutine under way."""

    __slots__ = ("error", "over", "pause", "plan", "result", "then")

    def __init__(self, plan: Plan, then: Callable[[], None]) -> None:
        self.plan = plan
        self.then = then
        """Called when it is over."""
        self.over = False
        self.result: Any = None
        self.error: Exception | None = None
        self.pause: _Pause | None = None


class Tasks:
    """All coroutines of one world; they go on when time or a packet has come for them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[Task, _Pause] = {}
        self._looking = False

    def run(self, plan: Coroutine[Any, Any, _T]) -> _T:
        """Run one to its end, with all that it starts.

        Raises:
            RuntimeError: nothing is left to happen and it still waits.
            Exception: what it raises.
        """
        task = self.start(plan)
        self._world.run(until=lambda: task.over)
        if not task.over:
            raise RuntimeError("a plan waits for what can never happen")
        if task.error is not None:
            raise task.error
        result: _T = task.result
        return result

    def start(self, plan: Plan, then: Callable[[], None] = lambda: None) -> Task:
        """Begin one; it runs until it first waits."""
        task = Task(plan, then)
        self._go_on(task, None)
        return task

    async def until(self, condition: Callable[[], bool], deadline_ns: int) -> bool:
        """Wait until something is so, or an instant."""
        return condition() or await _Pause(condition, deadline_ns)

    async def sleep_until(self, instant_ns: int) -> None:
        """Wait until an instant."""
        await _Pause(None, instant_ns)

    async def together(self, *plans: Plan) -> list[Any]:
        """Run several at once; if one raises, the others end and that is raised."""
        tasks = [self.start(plan, self.news) for plan in plans]
        await self.forever_until(lambda: all(task.over for task in tasks) or any(task.error for task in tasks))
        for task in tasks:
            if not task.over:
                self._waiting.pop(task, None)
                task.over = True
                task.plan.close()
        for task in tasks:
            if task.error is not None:
                raise task.error
        return [task.result for task in tasks]

    async def forever_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, however long that takes."""
        if not condition():
            await _Pause(condition, None)

    def news(self) -> None:
        """Something has happened: look, as soon as what happens now is over, whose condition is met."""
        if not self._looking:
            self._looking = True
            self._world.at(self._world.now, self._look, None)

    def _look(self, _: None) -> None:
        self._looking = False
        for task, pause in list(self._waiting.items()):
            if not pause.over and pause.condition is not None and pause.condition():
                self._end(task, pause, met=True)

    def _late(self, what: tuple[Task, _Pause]) -> None:
        task, pause = what
        if not pause.over:
            self._end(task, pause, met=pause.condition is not None and pause.condition())

    def _end(self, task: Task, pause: _Pause, *, met: bool) -> None:
        pause.over = True
        if self._waiting.pop(task, None) is not None:
            self._go_on(task, met)

    def _go_on(self, task: Task, met: bool | None) -> None:
        try:
            pause: _Pause = task.plan.send(met)
        except StopIteration as stop:
            task.over, task.result = True, stop.value
            task.then()
            return
        except Exception as error:  # noqa: BLE001  whoever waits for the task gets it
            task.over, task.error = True, error
            task.then()
            return
        self._waiting[task] = pause
        if pause.deadline_ns is not None:
            self._world.at(max(pause.deadline_ns, self._world.now), self._late, (task, pause))
