"""One writer per run folder: a flock that the kernel releases with the process, kill -9 included."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from rawpunch.dataset.files import give_to_user, told_in_words
from rawpunch.errors import UsageError

LOCK_NAME: Final = ".lock"


class FolderLock:
    """The right to write a folder, held from construction until `release`.

    Raises:
        UsageError: another process holds it, or the folder may not be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor = self._take()

    def _take(self) -> int:
        while True:
            with told_in_words(self._path):
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                raise UsageError(
                    f"{self._path.parent} is being written by another process",
                    why="two writers in one run's folder would spoil it",
                    todo="wait for the other run to end, or start a new one without --resume",
                ) from error
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(descriptor).st_ino:
                    give_to_user(self._path)
                    return descriptor
            os.close(descriptor)  # the last holder removed the file between our open and our lock

    def release(self) -> None:
        """Remove the lock file and let go; a second call does nothing."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def is_locked(folder: Path) -> bool:
    """Whether some process holds a folder's lock right now."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
