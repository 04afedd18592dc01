"""A head start for `rawpunch punch`: what its line asks for begins before Typer is loaded, which takes as long as a SYN far away.

Only a line gets one that has nothing but options known here, spelt in full, on a machine without settings for them. Typer reads
the same line afterwards and has the last word: the command takes the punch that is under way if that is what it was told to do
(`under_way`); any other is given up, and nothing of it stays.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rawpunch.cli import output
from rawpunch.cli.setting_files import ENVIRONMENT, files

if TYPE_CHECKING:
    import asyncio

    from rawpunch.live.connecting import Method
    from rawpunch.live.punch_log import PunchLog
    from rawpunch.live.punching import Begun, Punched
    from rawpunch.wire.endpoint import Endpoint

PORT: Final = 7800
"""Where a rendezvous server listens, if nothing else is said."""
_METHODS: Final[dict[str, Method]] = {"--raw": "raw", "--kernel": "kernel", "--auto": "auto"}
_USES: Final = ("--chat", "--pipe")
_LOUDNESS: Final = ("-q", "--quiet", "-v", "--verbose")
_TURN_S: Final = 0.0005
"""How long a thread that loads modules keeps another one waiting; Python's own 5 ms are an eighth of a round trip."""
_AHEAD_S: Final = 0.25
"""How long loading Typer waits for the peer to be there, so that it falls into the time in which the SYNs cross."""
_BEGINNING_S: Final = 0.01
"""From the plan to the SYN."""
_GIVING_UP_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """What a line asks for; all else is as usual."""

    rendezvous: str
    room: str
    method: Method


def read(words: Sequence[str]) -> Line | None:
    """What a command line asks for, if it is a usual one."""
    rest = itertools.dropwhile(lambda word: word in _LOUDNESS, words)
    if next(rest, "") != "punch" or _has_settings():
        return None
    values: dict[str, str] = {}
    methods: list[Method] = []
    uses = 0
    for word in rest:
        name, has_value, value = word.partition("=")
        if name in ("--rendezvous", "--room") and name not in values:
            values[name] = value if has_value else next(rest, "")
        elif word in _METHODS:
            methods.append(_METHODS[word])
        elif word in _USES:
            uses += 1
        elif word not in _LOUDNESS:
            return None
    if not values.get("--rendezvous") or not values.get("--room") or len(methods) > 1 or uses > 1:
        return None
    return Line(values["--rendezvous"], values["--room"], *methods or ["auto"])


def _has_settings() -> bool:
    return any(name.startswith(f"{ENVIRONMENT}_PUNCH_") for name in os.environ) or any(os.path.exists(path) for path in files())  # noqa: PTH110  as there


class HeadStart:
    """A punch that is under way in a thread of its own.

    Args:
        line: what it is about.
    """

    def __init__(self, line: Line) -> None:
        from rawpunch.live.punch_log import PunchLog  # noqa: PLC0415  no other command needs it

        self.line = line
        self.log: PunchLog = PunchLog(self._tell, packets=True)
        self.far: Endpoint | None = None
        """The server, once it is known."""
        self.begins = threading.Event()
        """Set when the SYN to the peer has left, or nothing comes of it."""
        self._held: list[str] | None = []
        self._holding = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Punched] | None = None
        self._outcome: Punched | BaseException | None = None
        self._given_up = False
        self._usual_s = sys.getswitchinterval()
        sys.setswitchinterval(_TURN_S)
        self._thread = threading.Thread(target=self._run, name="head start", daemon=True)
        self._thread.start()

    def _tell(self, text: str) -> None:
        """Keep what is noted until it is known how loud to be."""
        with self._holding:
            if self._held is not None:
                self._held.append(text)
                return
        output.say(text)

    def _run(self) -> None:
        from rawpunch.cli.hosts import resolved  # noqa: PLC0415  as above
        from rawpunch.live.punching import begin  # noqa: PLC0415  as above

        try:
            self.far = resolved(self.line.rendezvous, PORT)[0]
            begun = begin(self.far, method=self.line.method, log=self.log)
            import asyncio  # noqa: PLC0415  while the SYN is on its way

            self._outcome = asyncio.run(self._punched(begun))
        except BaseException as error:  # noqa: BLE001  it is raised where it is taken
            self._outcome = error
        finally:
            self.begins.set()

    async def _punched(self, begun: Begun) -> Punched:
        import asyncio  # noqa: PLC0415  as above

        from rawpunch.live.punching import punch  # noqa: PLC0415  as above

        loop = self._loop = asyncio.get_running_loop()

        def planned(_: object) -> None:
            loop.call_later(_BEGINNING_S, self.begins.set)

        self._task = asyncio.create_task(punch(begun, self.line.room, planned=planned))
        if self._given_up:
            self._task.cancel()
        return await self._task

    def take(self) -> Punched:
        """The connection, when there is one; what is noted is told from now on.

        Raises:
            RawpunchError: as `punching.punch` does.
        """
        with self._holding:
            held, self._held = self._held or [], None
        for text in held:
            output.say(text)
        self._thread.join()
        sys.setswitchinterval(self._usual_s)
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            raise AssertionError("it was taken before")
        return outcome

    def give_up(self) -> None:
        """End it, unless it was taken; nothing of it stays."""
        self._given_up = True
        if self._thread.is_alive() and self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_GIVING_UP_S)
        sys.setswitchinterval(self._usual_s)
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not isinstance(outcome, BaseException):
            outcome.won.sock.close()


_under_way: list[HeadStart] = []


def under_way(line: Line) -> HeadStart | None:
    """The head start of a line, if it got one."""
    return next((start for start in _under_way if start.line == line), None)


@contextmanager
def head_start(words: Sequence[str]) -> Iterator[None]:
    """Begin what a line asks for, if it is a usual one of `punch`, and see that nothing of it stays."""
    line = read(words)
    if line is None:
        yield
        return
    start = HeadStart(line)
    with start.log:
        try:
            start.begins.wait(_AHEAD_S)
            _under_way.append(start)
            yield
        finally:
            _under_way.clear()
            start.give_up()
