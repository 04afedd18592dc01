"""Files that survive a crash: temporary name, fsync, rename; owned by the user behind sudo; full disks told in words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rawpunch.errors import PartialData, RawpunchError, UsageError

TEMPORARY_SUFFIX: Final = ".tmp"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def told_in_words(path: Path) -> Iterator[None]:
    """Turn an OSError on a path into an error of the tree.

    Raises:
        PartialData: the disk is full; what was finished before is kept.
        UsageError: the path may not be written, or something else is wrong with it.
    """
    try:
        yield
    except OSError as error:
        raise _worded(error, path) from error


def _worded(error: OSError, path: Path) -> RawpunchError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return PartialData(
            f"the disk is full at {path}", why=reason, todo="make room, then --resume the run: its finished parts are kept"
        )
    if error.errno in _FORBIDDEN:
        return UsageError(f"{path} may not be written", why=reason, todo="choose another place with RAWPUNCH_DATA=FOLDER")
    return UsageError(f"{path} cannot be written", why=reason)


def give_to_user(path: Path) -> None:
    """Under sudo, give a file to the user who called it (SUDO_UID, SUDO_GID); do nothing otherwise."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and user.isdecimal() and group.isdecimal():
        with contextlib.suppress(OSError):  # a user namespace may not know that user
            os.chown(path, int(user), int(group))


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each given to the user.

    Raises:
        UsageError: it may not be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with told_in_words(path):
        path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        give_to_user(folder)


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, and give it its name when it is on the disk.

    Raises:
        PartialData: the disk is full.
        UsageError: the path may not be written.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with told_in_words(path):
        try:
            write(temporary)
            sync(temporary)
            give_to_user(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes so that a crash leaves the old file or the new one, whole (raises as `write_with`)."""
    write_with(path, lambda temporary: _write_bytes(temporary, content))


def copy_atomically(source: Path, path: Path) -> None:
    """Copy a file so that a crash leaves all of it or nothing (raises as `write_with`)."""
    write_with(path, lambda temporary: _copy(source, temporary))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
