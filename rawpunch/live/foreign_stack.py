"""Another stack as an end of attempts: a program that is told when to open, and says how that ended (see `stack_program`)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.errors import BadParameter, LabBroken, UsageError
from rawpunch.live.end import Order, Report
from rawpunch.live.guard import Guard
from rawpunch.live.stack_program import CLOSE, FAILED, OPEN, READY, SOCKETS
from rawpunch.units import SECOND

STARTING_S: Final = 20.0
"""How long a program has to say that it is ready."""
_ENDING_S: Final = 1.0
"""How long it has to end when its input does."""
_OCTETS: Final = 65_536
_LONGEST: Final = 4_096
"""Octets of a line at most."""
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)
_ENDINGS: Final = frozenset({Ending.ESTABLISHED, Ending.REFUSED, Ending.RESET, Ending.UNREACHABLE, Ending.TIMED_OUT})


class ForeignStack:
    """A program that is a stack, started in the calling thread's network namespace; it ends with this object and its thread.

    Args:
        command: for the shell.
        environment: put over this process's own.

    Raises:
        BadParameter: it ended at once, or did not say that it is ready.
    """

    def __init__(self, command: str, environment: Mapping[str, str] | None = None) -> None:
        self.command = command
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
            preexec_fn=_as_an_ordinary_child,  # noqa: PLW1509  it takes no lock
        )
        if self._process.stdin is None or self._process.stdout is None:  # never, as both were asked for
            raise LabBroken("a program without standard input and output")
        self._in, self._out = self._process.stdin, self._process.stdout
        self.is_over = False
        """Whether it says no more."""
        self._rest = b""
        self._numbers: dict[str, StackEnd] = {}
        self._next = 1
        try:
            self.makes_packets = self._ready() != SOCKETS
        except BaseException:
            self.close()
            raise

    def _ready(self) -> str:
        end_ns = now_ns() + int(STARTING_S * SECOND)
        while (words := self._words()) is None:
            if self.is_over:
                raise self._wrong(self._ending(), "look at its messages above")
            left_ns = end_ns - now_ns()
            if left_ns <= 0:
                raise self._wrong(f"it was not ready within {STARTING_S:g} s", f"it has to say `{READY}` first of all")
            if select.select([self.fileno()], [], [], left_ns / SECOND)[0]:
                self._read()
        if words[:1] != [READY] or words[1:] not in ([], [SOCKETS]):
            said = " ".join(words)
            raise self._wrong(f"its first line is {said[:80]!r}", f"it has to be `{READY}` or `{READY} {SOCKETS}`")
        return "".join(words[1:])

    def _ending(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f"it ended with status {self._process.wait(_ENDING_S)}"
        return "it closed its standard output, or wrote a line without end"

    def _wrong(self, why: str, todo: str) -> BadParameter:
        return BadParameter(
            f"{self.command!r} is no program that is a stack", why=why, todo=f"{todo} (rawpunch.live.stack_program)"
        )

    def fileno(self) -> int:
        """What it writes to."""
        return self._out.fileno()

    def _read(self) -> None:
        data = os.read(self.fileno(), _OCTETS)
        self._rest += data
        self.is_over = not data or (len(self._rest) > _LONGEST and b"\n" not in self._rest)

    def _words(self) -> list[str] | None:
        """The words of the next whole line that is no comment; None if there is none yet."""
        while b"\n" in self._rest:
            line, _, self._rest = self._rest.partition(b"\n")
            words = line.decode(errors="replace").split()
            if words and not words[0].startswith("#"):
                return words
        return None

    def receive(self) -> Iterator[tuple[StackEnd, str, str]]:
        """What it has said since the last call: end, word, and the rest of the line; of all that are open, once it is over."""
        self._read()
        while (words := self._words()) is not None:
            end = self._numbers.get(words[0])
            if end is not None:
                yield end, "".join(words[1:2]), " ".join(words[2:])
        if self.is_over:
            for end in list(self._numbers.values()):
                yield end, FAILED, f"the program {self.command!r} ended"

    def open(self, end: StackEnd) -> str:
        """Have it open for an end; returns the opening's number.

        Raises:
            LabBroken: it is gone.
        """
        number = str(self._next)
        self._next += 1
        self._numbers[number] = end
        self._tell(f"{OPEN} {number} {end.order.local} {end.order.remote}")
        return number

    def forget(self, number: str) -> None:
        """Have it close an opening."""
        if self._numbers.pop(number, None) is not None:
            with suppress(LabBroken):
                self._tell(f"{CLOSE} {number}")

    def _tell(self, line: str) -> None:
        gone = LabBroken("the stack's program is gone", why=f"it was {self.command!r}", todo="look at its messages")
        if self.is_over:
            raise gone
        try:
            self._in.write(line.encode() + b"\n")
            self._in.flush()
        except OSError as error:
            raise gone from error

    def close(self) -> None:
        """End it, and what it has started."""
        process = self._process
        for pipe in (self._in, self._out):
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _as_an_ordinary_child() -> None:
    """Die with the parent, and share neither its priority nor its one processor."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


class StackEnd:
    """One opening by such a program.

    Args:
        order: what to do.
        stack: the program.

    Raises:
        UsageError: the local port is in use.
    """

    def __init__(self, order: Order, stack: ForeignStack) -> None:
        self.order = order
        self.report = Report(order.attempt)
        self._stack = stack
        self._number = ""
        self._guard = _guard(order) if stack.makes_packets else None

    @property
    def undecided(self) -> bool:
        """Whether its program still has to say how it ended."""
        return not self.report.ending

    @property
    def deadline(self) -> int | None:
        """When to give up."""
        return self.order.give_up_ns if self.undecided else None

    def launch(self, at_ns: int) -> None:  # noqa: ARG002  how quickly a program obeys is its own affair
        """Have it send its SYN.

        Raises:
            LabBroken: the program is gone.
        """
        self._number = self._stack.open(self)

    def told(self, word: str, rest: str, now: int) -> None:
        """Its program has said something of it.

        Raises:
            UsageError: it could not begin.
            BadParameter: it is no word that a program may say.
        """
        if word == FAILED:
            raise UsageError("the stack's program could not open", why=rest)
        if word not in _ENDINGS:
            raise BadParameter(f"the stack's program said {word!r} of an opening", todo=f"one of {', '.join(_ENDINGS)}, {FAILED}")
        self.report.conclude(Ending(word), now, rest)

    def wake(self, now: int) -> None:
        """Give up."""
        self.report.conclude(Ending.TIMED_OUT, now, "no answer before the attempt was given up")
        self.finish(now)

    def finish(self, now: int) -> None:  # noqa: ARG002  the program closes by its own clock
        """Have it close."""
        self._stack.forget(self._number)

    def release(self) -> None:
        """Let the kernel answer again, and have the program forget."""
        self._stack.forget(self._number)
        if self._guard is not None:
            self._guard.close()


def _guard(order: Order) -> Guard | None:
    """The silence of this host's kernel; None where the endpoint is not this host's, whose kernel then says nothing anyway."""
    try:
        return Guard(order.local)
    except UsageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRNOTAVAIL:
            return None
        raise
