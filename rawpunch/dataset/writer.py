"""Writing a run so that a crash at any instant loses only the part in hand.

A part is what was finished at once: the rows of some attempts and their captures. Its files get their names only when they are
on the disk, and the manifest lists them only after that; what the manifest does not list does not exist, and is swept away at
resume.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from rawpunch.dataset.files import copy_atomically, make_folder, sha256_of, told_in_words, write_atomically, write_with
from rawpunch.dataset.layout import CAPTURES, TABLES, run_folder
from rawpunch.dataset.lock import FolderLock
from rawpunch.dataset.manifest import FILE_NAME, FileEntry, Manifest, Part
from rawpunch.dataset.schema import Row, Scalar, factor_types, table_of
from rawpunch.errors import BadParameter, UsageError
from rawpunch.record.rows import AttemptRow


class RunWriter:
    """A run's folder, locked for this process. Made by `create` or `resume`; a context manager, or closed by `finish` or `close`.

    Attributes:
        path: the run's folder.
        manifest: what is on the disk.
    """

    def __init__(self, path: Path, manifest: Manifest, lock: FolderLock) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = lock
        self._factors = factor_types(manifest.grid)
        self._attempts = _attempts_in(path, manifest)
        self._open = True

    @classmethod
    def create(cls, manifest: Manifest, *, root: str | os.PathLike[str] | None = None) -> Self:
        """Make the folder of a new run and write its manifest.

        Raises:
            UsageError: a run of that name exists, or the folder may not be written.
            BadParameter: the grid's levels cannot be columns.
        """
        path = run_folder(manifest.experiment, manifest.run_id, root)
        factor_types(manifest.grid)
        make_folder(path)
        lock = FolderLock(path)
        try:
            if (path / FILE_NAME).exists():
                raise UsageError(  # noqa: TRY301  the lock must go first
                    f"{path} holds a run already", todo=f"--resume {path}, or another run_id"
                )
            for name in (*TABLES, CAPTURES):
                make_folder(path / name)
            manifest.write(path)
            return cls(path, manifest, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(cls, path: Path, wanted: Manifest) -> Self:
        """Take up a stopped run: keep its finished parts, sweep away the rest.

        Args:
            path: the run's folder.
            wanted: the manifest that a new run would have; its repeats, policy and scenes replace the old ones.

        Raises:
            Unreadable: the folder holds no run.
            UsageError: another process is writing it.
            BadParameter: experiment, driver, grid, seed or kernel differ, so that the two halves would not be one run.
        """
        before = Manifest.read(path)
        for name, old, new in (
            ("experiment", before.experiment, wanted.experiment),
            ("driver", before.driver, wanted.driver),
            ("grid", before.grid, wanted.grid),
            ("seed", before.seed, wanted.seed),
            ("kernel", before.machine.kernel, wanted.machine.kernel),
        ):
            if old != new:
                raise BadParameter(
                    f"{path} cannot be resumed with another {name}",
                    why=f"it was {old!r} and would be {new!r}",
                    todo="start a new run, or give the same settings",
                )
        lock = FolderLock(path)
        try:
            before = Manifest.read(path)  # again, now that nobody else can change it
            for name in (*TABLES, CAPTURES):
                make_folder(path / name)
            _sweep(path, before)
            manifest = before.model_copy(
                update={
                    "status": "running",
                    "ended": None,
                    "resumed": (*before.resumed, datetime.now(UTC)),
                    "repeats": wanted.repeats,
                    "policy": wanted.policy,
                    "scenes": {**before.scenes, **wanted.scenes},
                    "verdicts": (),
                }
            )
            manifest.write(path)
            return cls(path, manifest, lock)
        except BaseException:
            lock.release()
            raise

    def finished_attempts(self) -> frozenset[str]:
        """Names of the attempts that finished parts hold."""
        return frozenset(self._attempts)

    def next_part(self) -> str:
        """A name for the next part: ``part-00000`` and so on."""
        return f"part-{len(self.manifest.parts):05d}"

    @staticmethod
    def capture_name(part: str) -> str:
        """What the `capture` columns of a part's rows say: its capture file, relative to the run's folder."""
        return f"{CAPTURES}/{part}.pcapng"

    def write_part(
        self,
        name: str,
        tables: Mapping[str, Sequence[Row]],
        *,
        levels: Mapping[str, Mapping[str, Scalar]] | None = None,
        captures: Mapping[str, Path | bytes] | None = None,
        capture_drops: Mapping[str, int] | None = None,
    ) -> Part:
        """Write one part: all of it is on the disk and in the manifest when this returns, or none of it.

        Args:
            name: the part's name, not used before.
            tables: table -> rows; "attempts" must be there.
            levels: cell -> factor -> level, for every cell of the attempts.
            captures: name relative to the run's folder (see `capture_name`) -> a file to copy, or its bytes.
            capture_drops: vantage point -> packets lost since the part before.

        Raises:
            BadParameter: a name is taken or unknown, or a row does not fit its table.
            PartialData: the disk is full; the parts before are kept.
            UsageError: the folder may not be written.
        """
        attempts = cast("Sequence[AttemptRow]", tables.get("attempts", ()))
        self._check_new(name, tables, attempts, captures or {})
        frames = {
            table: table_of(table, rows, self._factors if table == "attempts" else None, levels)
            for table, rows in tables.items()
            if rows
        }
        entries = []
        for capture, source in (captures or {}).items():
            path = self.path / capture
            if isinstance(source, bytes):
                write_atomically(path, source)
            else:
                copy_atomically(source, path)
            entries.append(self._entry(path, None))
        for table, frame in frames.items():
            path = self.path / table / f"{name}.parquet"
            write_with(path, lambda temporary, frame=frame: _write_parquet(temporary, frame))  # type: ignore[misc]
            entries.append(self._entry(path, frame.num_rows))
        cells = tuple(dict.fromkeys(row.cell for row in attempts))
        part = Part(name=name, cells=cells, attempts=len(attempts), files=tuple(entries))
        drops = dict(self.manifest.capture_drops)
        for vantage, count in (capture_drops or {}).items():
            drops[vantage] = drops.get(vantage, 0) + count
        self.update(parts=(*self.manifest.parts, part), capture_drops=drops)
        self._attempts.update(row.attempt for row in attempts)
        return part

    def _check_new(
        self, name: str, tables: Mapping[str, object], attempts: Sequence[AttemptRow], captures: Mapping[str, object]
    ) -> None:
        if any(part.name == name for part in self.manifest.parts):
            raise BadParameter(f"part {name!r} is written already")
        unknown = set(tables) - set(TABLES)
        if unknown:
            raise BadParameter(f"there is no table {', '.join(sorted(unknown))}", todo=f"one of {', '.join(TABLES)}")
        counts = Counter(row.attempt for row in attempts)
        twice = [attempt for attempt, count in counts.items() if count > 1 or attempt in self._attempts]
        if twice:
            raise BadParameter(f"attempt {min(twice)!r} is there twice", why="an attempt's name is unique in its run")
        known = {entry.path for entry in self.manifest.files()}
        for capture in captures:
            parts = Path(capture).parts
            if len(parts) != 2 or parts[0] != CAPTURES or parts[1] in ("", ".", ".."):
                raise BadParameter(f"{capture!r} is no capture of the run", todo=f"name it {CAPTURES}/NAME.pcapng")
            if capture in known:
                raise BadParameter(f"capture {capture!r} is written already")

    def _entry(self, path: Path, rows: int | None) -> FileEntry:
        return FileEntry(path=path.relative_to(self.path).as_posix(), sha256=sha256_of(path), size=path.stat().st_size, rows=rows)

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest (scenes, sysctls, policy, verdicts ...), on the disk too.

        Raises:
            pydantic.ValidationError: a field or its value does not exist.
            PartialData: the disk is full.
        """
        fields = {name: getattr(self.manifest, name) for name in Manifest.model_fields}
        manifest = Manifest.model_validate(fields | changes)
        manifest.write(self.path)
        self.manifest = manifest

    def finish(self, verdicts: Sequence[Mapping[str, Any]] = (), *, status: Literal["complete", "partial"] = "complete") -> None:
        """Write the verdicts and the end of the run, and let go of the folder."""
        self.update(status=status, ended=datetime.now(UTC), verdicts=tuple(map(dict, verdicts)))
        self._let_go()

    def close(self) -> None:
        """Let go of the folder; a run that was not finished is marked partial. A second call does nothing."""
        if self._open:
            try:
                self.update(status="partial", ended=datetime.now(UTC))
            finally:
                self._let_go()

    def _let_go(self) -> None:
        self._open = False
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415  see schema

    pq.write_table(table, path, compression="zstd")


def _attempts_in(path: Path, manifest: Manifest) -> set[str]:
    import pyarrow.parquet as pq  # noqa: PLC0415  see schema

    names: set[str] = set()
    for entry in manifest.files():
        if entry.path.startswith("attempts/"):
            names.update(pq.read_table(path / entry.path, columns=["attempt"]).column(0).to_pylist())
    return names


def _sweep(path: Path, manifest: Manifest) -> None:
    """Remove what a killed run left unfinished: every file that the manifest does not list."""
    listed = {entry.path for entry in manifest.files()}
    (path / f"{FILE_NAME}.tmp").unlink(missing_ok=True)
    for name in (*TABLES, CAPTURES):
        for file in (path / name).iterdir():
            if file.is_file() and file.relative_to(path).as_posix() not in listed:
                with told_in_words(file):
                    file.unlink()
