"""Where runs live, and how one is found by name.

ROOT/runs/<experiment>/<run_id>/      what this machine measured
ROOT/sample/<experiment>/<run_id>/    small runs that are kept with the source
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rawpunch.dataset.files import told_in_words
from rawpunch.dataset.lock import is_locked
from rawpunch.dataset.manifest import FILE_NAME, Manifest
from rawpunch.errors import UnknownName, Unreadable, UsageError

TABLES: Final = ("attempts", "segments", "transitions", "mappings")
CAPTURES: Final = "captures"
_SHELVES: Final = ("runs", "sample")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run that was found, and what its manifest says."""

    path: Path
    manifest: Manifest


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds runs: the argument, else RAWPUNCH_DATA, else ./data."""
    return Path(root or os.environ.get("RAWPUNCH_DATA") or "data")


def run_folder(experiment: str, run_id: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Where a new run of an experiment is written."""
    return data_root(root) / "runs" / experiment / run_id


def new_run_id(now: datetime | None = None) -> str:
    """A name for a run that sorts by time and does not clash: ``20260131-142530-7f3a`` (UTC)."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def list_runs(root: str | os.PathLike[str] | None = None, experiment: str | None = None) -> list[RunInfo]:
    """All runs, newest first; those of data/runs before those of data/sample. A folder without a readable manifest is none."""
    runs: list[RunInfo] = []
    for shelf in _SHELVES:
        found = [run for run in _on_shelf(data_root(root) / shelf) if experiment in (None, run.manifest.experiment)]
        runs += sorted(found, key=lambda run: (run.manifest.created, run.manifest.run_id), reverse=True)
    return runs


def _on_shelf(shelf: Path) -> Iterator[RunInfo]:
    for path in sorted(shelf.glob(f"*/*/{FILE_NAME}")):
        try:
            yield RunInfo(path.parent, Manifest.read(path.parent))
        except Unreadable:
            continue


def find_run(what: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a run.

    Args:
        what: an experiment's name, hyphens or underscores alike (its newest run; data/runs before data/sample),
            ``experiment/run_id``, a run_id, or a run's folder.
        root: see `data_root`.

    Raises:
        UnknownName: nothing is called that.
    """
    path = Path(what)
    if (path / FILE_NAME).is_file():
        return path
    wanted = _spelt(os.fspath(what))
    for run in list_runs(root):
        experiment, run_id = _spelt(run.manifest.experiment), _spelt(run.manifest.run_id)
        if wanted in (experiment, f"{experiment}/{run_id}", run_id):
            return run.path
    known = sorted({run.manifest.experiment for run in list_runs(root)})
    raise UnknownName(
        f"no run is called {os.fspath(what)!r} in {data_root(root)}",
        why=f"there are runs of {', '.join(known)}" if known else "there are no runs yet",
        todo="rawpunch runs ls" if known else "rawpunch demo",
    )


def _spelt(name: str) -> str:
    return name.strip("/").replace("-", "_")


def remove(path: Path) -> None:
    """Delete a run's folder, and its experiment's folder when that was the last.

    Raises:
        Unreadable: it is no run's folder.
        UsageError: a process is writing it, or it may not be deleted.
    """
    Manifest.read(path)
    if is_locked(path):
        raise UsageError(f"{path} is being written", why="another process holds its lock", todo="let the run end, or stop it")
    with told_in_words(path):
        shutil.rmtree(path)
    if path.parent.name and not any(path.parent.iterdir()):
        path.parent.rmdir()
