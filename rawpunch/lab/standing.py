"""A standing lab: it outlives the command that made it, one at a time per user, until `down`.

Its only trace outside the keeper process is one small state file; when the keeper is gone, however that came, the file is
stale and the next command that looks removes it.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from rawpunch.errors import LabBroken, UnknownName, UsageError
from rawpunch.lab.lab import Lab
from rawpunch.lab.namespaces import CLONE_NEWNET, CLONE_NEWUSER, enter

_FILE: Final = "lab.json"
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A standing lab, as its state file describes it."""

    pid: int
    """The keeper's."""
    started: int
    """The keeper's start time, in clock ticks since boot: tells it from a later process with the same pid."""
    rootless: bool
    nodes: dict[str, int]
    """Node -> descriptor of its network namespace in the keeper."""
    scene: dict[str, Any]

    @property
    def alive(self) -> bool:
        """Whether the keeper still runs."""
        return _started(self.pid) == self.started


def state_folder() -> Path:
    """Where the state file is: the user's runtime folder, or one below the temporary folder."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "rawpunch" if runtime else Path(tempfile.gettempdir()) / f"rawpunch-{os.getuid()}"


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def current() -> Standing | None:
    """The standing lab, or None; a stale state file is removed."""
    path = state_folder() / _FILE
    try:
        if path.stat().st_uid != os.getuid():
            raise UsageError(f"{path} belongs to another user", todo="remove it, or set XDG_RUNTIME_DIR")
        standing = Standing(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise LabBroken(f"{path} is not a lab's state", why=str(error), todo="rawpunch clean") from error
    if standing.alive:
        return standing
    path.unlink(missing_ok=True)
    return None


def required() -> Standing:
    """The standing lab.

    Raises:
        UsageError: there is none.
    """
    standing = current()
    if standing is None:
        raise UsageError("no lab is up", todo="rawpunch lab up")
    return standing


def up(lab: Lab) -> Standing:
    """Let a lab that has been built stand, and write its state file.

    Raises:
        UsageError: one is up already.
    """
    if current() is not None:
        raise UsageError("a lab is up already", todo="rawpunch lab down")
    answer = lab.stand()
    standing = Standing(
        pid=answer["pid"],
        started=_started(answer["pid"]) or 0,
        rootless=lab.rootless,
        nodes=answer["nodes"],
        scene=lab.scene.model_dump(mode="json"),
    )
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f"{_FILE}.tmp"
    temporary.write_text(json.dumps(asdict(standing)), encoding="utf-8")
    temporary.rename(folder / _FILE)
    return standing


def down() -> bool:
    """Take the standing lab down and wait until it is gone; False if there was none."""
    standing = current()
    if standing is None:
        return False
    os.kill(standing.pid, signal.SIGTERM)
    end = time.monotonic() + _PATIENCE_S
    while standing.alive:
        if time.monotonic() > end:
            os.kill(standing.pid, signal.SIGKILL)
        time.sleep(0.01)
    (state_folder() / _FILE).unlink(missing_ok=True)
    return True


def clean() -> list[str]:
    """Remove whatever a lab of this user could have left; says what was removed."""
    removed = []
    path = state_folder() / _FILE
    try:
        if down():
            removed.append("the standing lab")
    except LabBroken:
        path.unlink()
        removed.append(f"the unreadable state file {path}")
    for temporary in state_folder().glob("*.tmp"):
        temporary.unlink()
        removed.append(str(temporary))
    return removed


def _is_ours(pid: int) -> bool:
    """Whether a process has this one's user namespace, as from a shell inside the lab: who is in it cannot enter it."""
    return Path(f"/proc/{pid}/ns/user").stat().st_ino == Path("/proc/self/ns/user").stat().st_ino


def execute(standing: Standing, node: str, command: list[str]) -> NoReturn:
    """Become a command inside a node of the standing lab.

    Raises:
        UnknownName: the lab has no such node.
        LabBroken: its namespace cannot be entered.
        UsageError: there is no such command.
    """
    if node not in standing.nodes:
        raise UnknownName(f"the lab has no host {node!r}", todo=f"one of {', '.join(standing.nodes)}")
    try:
        network = os.open(f"/proc/{standing.pid}/fd/{standing.nodes[node]}", os.O_RDONLY | os.O_CLOEXEC)
        if standing.rootless and not _is_ours(standing.pid):
            enter(os.open(f"/proc/{standing.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWUSER)
        enter(network, CLONE_NEWNET)
    except OSError as error:
        raise LabBroken(f"cannot enter {node}", why=str(error), todo="rawpunch lab down, then lab up") from error
    environment = os.environ | {"RAWPUNCH_NODE": node, "debian_chroot": node}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606  a shell in a namespace is what was asked for
    except OSError as error:
        raise UsageError(f"cannot run {command[0]!r} in {node}", why=str(error.strerror)) from error
