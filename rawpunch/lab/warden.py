"""Runs a program of the user's so that it, its children and their children end with the lab, whatever ends the lab.

The kernel kills a process when its parent dies, but not that process's own children. So there are three: the warden, which dies
with the keeper; below it the first process of a new process namespace, which dies with the warden; and the program, which dies
with that namespace, as all its descendants do.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from contextlib import suppress
from typing import Final

from rawpunch.lab.namespaces import CLONE_NEWPID, die_with_parent, unshare

_PR_SET_PDEATHSIG: Final = 1
_BY_SIGNAL: Final = 128
"""What a shell adds to a signal's number to make an exit status of it."""
NOT_STARTED: Final = 127


def run(parent: int, command: str, environment: dict[str, str]) -> int:
    """Be the warden of one program; for a process that has just been forked.

    Args:
        parent: the keeper's pid.
        command: for the shell.
        environment: the program's whole one.

    Returns:
        The program's exit status, 128 more than the signal's number if one ended it.
    """
    die_with_parent(parent)
    with suppress(OSError):  # without a namespace only the program itself is sure to end, as its parent does
        unshare(CLONE_NEWPID)
    mine, theirs = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(theirs)
        os._exit(_first(mine, command, environment))
    os.close(mine)
    return _status(os.waitpid(first, 0)[1])


def _first(alive: int, command: str, environment: dict[str, str]) -> int:
    """Be the first process of the namespace: start the program, and stay as long as anything of it runs.

    Args:
        alive: a pipe that the warden holds the other end of.
        command: for the shell.
        environment: the program's whole one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([alive], [], [], 0)[0]:
        return 1  # the warden has died before that took effect
    program = os.fork()
    if program == 0:
        try:
            os.execve("/bin/sh", ["/bin/sh", "-c", command], environment)  # noqa: S606  the user's own program
        finally:
            os._exit(NOT_STARTED)
    ended = None
    while ended in (None, 0):
        try:
            pid, status = os.wait()
        except ChildProcessError:  # nothing of it runs any more
            break
        if pid == program:
            ended = _status(status)  # one that set something up, or goes on in the background, ends with 0
    return ended or 0


def _status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _BY_SIGNAL - code


def ending_of(status: int) -> str:
    """How a program ended, in words.

    Args:
        status: its exit status, as `run` returns it.
    """
    if status > _BY_SIGNAL:
        with suppress(ValueError):
            return f"by {signal.Signals(status - _BY_SIGNAL).name}"
    return f"with status {status}"
