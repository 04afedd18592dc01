"""Linux namespaces by system call: make them, enter them, and tie a process's life to its parent's.

Namespaces are held by file descriptors of one process, the keeper, and never have a name in the file system: when that
process ends, in whatever way, the kernel takes them down. Python has no `os.setns` before 3.12, hence ctypes.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

from rawpunch.errors import MachineCannot

CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
CLONE_NEWPID: Final = 0x2000_0000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces (unshare(2)).

    Raises:
        OSError: the kernel refuses.
    """
    _checked(_libc.unshare(flags), "unshare")


def enter(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace behind a file descriptor (setns(2)).

    Raises:
        OSError: the kernel refuses.
    """
    _checked(_libc.setns(fd, kind), "setns")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, kill -9 included.

    Args:
        parent: the parent's pid, to notice that it ended before this call took effect.
    """
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def call_yourself(name: str) -> None:
    """Give this process a name of up to 15 octets in lists of processes (prctl(2))."""
    _checked(_libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl")


def outlive_parent() -> None:
    """Undo `die_with_parent`: a standing lab outlives the command that made it."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0), "prctl")


def become_root_inside() -> None:
    """Enter a new user namespace in which this process's user is root, with power over what it makes there and nothing else.

    Raises:
        MachineCannot: the system does not let this user make user namespaces.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    except OSError as error:
        raise MachineCannot("this user cannot make a user namespace", why=str(error), todo="rawpunch doctor") from error


def new_network() -> int:
    """Move into a new network namespace and return a file descriptor that holds it.

    Raises:
        OSError: the kernel refuses.
    """
    unshare(CLONE_NEWNET)
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
