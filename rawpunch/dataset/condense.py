"""A finished run made small enough to be kept with the source: the same rows, one file a table, and the captures that tell most.

A run is written part by part, so that a kill loses little; a table in seventy files has seventy headers. And most of a run's
octets are captures, of which one of each wire pattern and outcome shows what they look like: what the packets were is in the
segments table, which is kept whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rawpunch.dataset.files import copy_atomically, make_folder, sha256_of, write_with
from rawpunch.dataset.layout import CAPTURES, TABLES
from rawpunch.dataset.manifest import FileEntry, Manifest, Part
from rawpunch.dataset.reader import read_table
from rawpunch.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PART: Final = "part-00000"
_LEVEL: Final = 19
"""Of zstd: slow to write, no slower to read."""


def condense(source: Path, target: Path) -> Manifest:
    """Write a small copy of a run.

    Rows whose capture is not kept have none in their `capture` column. The manifest's policy says how many were kept.

    Args:
        source: the folder of a complete run.
        target: the folder of the copy, which must not exist.

    Raises:
        UsageError: the target exists, or the run is not complete.
        Unreadable: the source holds no run, or a broken one.
    """
    manifest = Manifest.read(source)
    if manifest.status != "complete":
        raise UsageError(f"{source} is not complete", why=f"its status is {manifest.status}", todo="let it end first")
    if target.exists():
        raise UsageError(f"{target} exists already")
    tables = {name: read_table(source, manifest, name) for name in TABLES}
    sizes = {entry.path: entry.size for entry in manifest.files() if entry.path.startswith(f"{CAPTURES}/")}
    kept = telling(tables["attempts"].select(["outcome", "pattern", "disturbed", "capture"]).to_pandas(), sizes)
    make_folder(target)
    entries = []
    for name in kept:
        make_folder(target / CAPTURES)
        copy_atomically(source / name, target / name)
        entries.append(_entry(target, name, None))
    for name, table in tables.items():
        if table.num_rows:
            make_folder(target / name)
            path = f"{name}/{PART}.parquet"
            frame = _without(table, kept) if "capture" in table.schema.names else table
            write_with(target / path, lambda temporary, frame=frame: _write(temporary, frame))  # type: ignore[misc]
            entries.append(_entry(target, path, frame.num_rows))
    cells = tuple(dict.fromkeys(cell for part in manifest.parts for cell in part.cells))
    small = manifest.model_copy(
        update={
            "parts": (Part(name=PART, cells=cells, attempts=manifest.attempts, files=tuple(entries)),),
            "policy": {**manifest.policy, "captures_made": len(sizes), "captures_kept": len(kept)},
        }
    )
    small.write(target)
    return small


def telling(attempts: pd.DataFrame, sizes: dict[str, int]) -> list[str]:
    """Few and small captures that together hold each wire pattern with each outcome that an undisturbed attempt had.

    Args:
        attempts: the attempts table's `outcome`, `pattern`, `disturbed` and `capture`.
        sizes: capture -> octets.
    """
    good = attempts[~attempts["disturbed"] & attempts["capture"].isin(sizes)]
    shown = {
        str(capture): set(zip(group["pattern"], group["outcome"], strict=True))
        for capture, group in good.groupby("capture", observed=True)
    }
    wanted = set[Any]().union(*shown.values())
    kept = []
    while wanted:
        best = max(sorted(shown), key=lambda name: len(shown[name] & wanted) / sizes[name])
        kept.append(best)
        wanted -= shown[best]
    return sorted(kept)


def _without(table: Any, kept: list[str]) -> Any:
    """A table whose `capture` column names only what is kept."""
    import pyarrow as pa  # noqa: PLC0415  see schema
    import pyarrow.compute as pc  # noqa: PLC0415  see schema

    place = table.schema.get_field_index("capture")
    column = table.column(place)
    known = pc.is_in(column, value_set=pa.array(kept, pa.string()))
    return table.set_column(place, table.schema.field(place), pc.if_else(known, column, pa.scalar(None, pa.string())))


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415  see schema

    pq.write_table(table, path, compression="zstd", compression_level=_LEVEL)


def _entry(folder: Path, name: str, rows: int | None) -> FileEntry:
    path = folder / name
    return FileEntry(path=name, sha256=sha256_of(path), size=path.stat().st_size, rows=rows)
