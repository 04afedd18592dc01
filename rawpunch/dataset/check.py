"""Proving that a run's folder is what its manifest says. A check reports all it finds and repairs nothing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

from rawpunch.dataset.files import TEMPORARY_SUFFIX, sha256_of
from rawpunch.dataset.layout import CAPTURES, TABLES
from rawpunch.dataset.lock import is_locked
from rawpunch.dataset.manifest import Manifest
from rawpunch.dataset.reader import read_table
from rawpunch.dataset.schema import completed, factor_types, schema_of
from rawpunch.errors import Unreadable
from rawpunch.record.words import Driver, EndKind, Outcome, Pattern

DECIDER: Final = re.compile(r"(?P<vantage>.*\S)\s*#\s*(?P<number>\d+)")
"""How `decided_by` is written: vantage point, #, packet number."""

_WORDS: Final[dict[str, set[str]]] = {
    "driver": {word.value for word in Driver},
    "end_a": {word.value for word in EndKind},
    "end_b": {word.value for word in EndKind},
    "outcome": {word.value for word in Outcome},
    "pattern": {word.value for word in Pattern},
    "pattern_a": {word.value for word in Pattern},
    "pattern_b": {word.value for word in Pattern},
}


def verify(path: Path) -> list[str]:
    """Check a run's folder; an empty list means that it is sound.

    Checked: the manifest; every listed file with its hash, size, schema and rows; files that no part lists; that attempts are
    unique and counted right; that their words are of the closed lists; that every capture exists; that every other row belongs to
    an attempt; and that `decided_by` names a packet of the segments table.
    """
    try:
        manifest = Manifest.read(path)
    except Unreadable as error:
        return [" ".join(str(error).splitlines())]
    problems = _check_files(path, manifest)
    if not problems:  # rows of broken files say nothing
        problems = _check_rows(path, manifest)
    if manifest.status == "running" and not is_locked(path):
        problems.append("the run was stopped and never ended: take it up again with --resume")
    return problems


def _check_files(path: Path, manifest: Manifest) -> list[str]:
    import pyarrow as pa  # noqa: PLC0415  see schema
    import pyarrow.parquet as pq  # noqa: PLC0415  see schema

    problems = []
    factors = factor_types(manifest.grid)
    schemas = {table: schema_of(table, factors if table == "attempts" else None) for table in TABLES}
    for entry in manifest.files():
        file = path / entry.path
        if not file.is_file():
            problems.append(f"{entry.path} is missing")
            continue
        if file.stat().st_size != entry.size or sha256_of(file) != entry.sha256:
            problems.append(f"{entry.path} is not the file that was written: its hash or size differs")
            continue
        table = Path(entry.path).parts[0]
        if table in schemas:
            try:
                parquet = pq.ParquetFile(file)
            except (OSError, pa.ArrowException) as error:
                problems.append(f"{entry.path} is no Parquet file: {error}")
                continue
            if not completed(parquet.schema_arrow.empty_table(), schemas[table]).schema.equals(schemas[table]):
                problems.append(f"{entry.path} has another schema than this version writes")
            if parquet.metadata.num_rows != entry.rows:
                problems.append(f"{entry.path} has {parquet.metadata.num_rows} rows, the manifest says {entry.rows}")
    listed = {entry.path for entry in manifest.files()}
    running = is_locked(path)
    for folder in (*TABLES, CAPTURES):
        for file in sorted((path / folder).glob("*")):
            name = file.relative_to(path).as_posix()
            if name not in listed and not running:
                what = "an unfinished file" if file.suffix == TEMPORARY_SUFFIX else "a file"
                problems.append(f"{name} is {what} that no part lists")
    return problems


def _check_rows(path: Path, manifest: Manifest) -> list[str]:
    attempts: list[dict[str, Any]] = read_table(path, manifest, "attempts").to_pylist()
    segments = read_table(path, manifest, "segments").select(["attempt", "vantage", "number"]).to_pydict()
    problems = []
    if len(attempts) != manifest.attempts:
        problems.append(f"there are {len(attempts)} attempts, the manifest counts {manifest.attempts}")
    counts = Counter(row["attempt"] for row in attempts)
    problems += [f"attempt {name} is there {count} times" for name, count in counts.items() if count > 1]
    seen = set(zip(segments["attempt"], segments["vantage"], segments["number"], strict=True))
    for row in attempts:
        problems += [f"attempt {row['attempt']}: {problem}" for problem in _check_attempt(path, row, seen)]
    for table in TABLES[1:]:
        owners = set(read_table(path, manifest, table).column("attempt").to_pylist()) - set(counts)
        problems += [f"{table} has rows of {owner}, which is no attempt of the run" for owner in sorted(owners)]
    return problems


def _check_attempt(path: Path, row: dict[str, Any], seen: set[tuple[str, str, int]]) -> list[str]:
    problems = [
        f"{column} says {row[column]!r}, which is no word of its list"
        for column, words in _WORDS.items()
        if row[column] is not None and row[column] not in words
    ]
    if row["capture"] is not None and not (path / row["capture"]).is_file():
        problems.append(f"its capture {row['capture']} is missing")
    if row["decided_by"] is not None:
        found = DECIDER.fullmatch(row["decided_by"])
        if found is None:
            problems.append(f"decided_by {row['decided_by']!r} is not written as vantage point # packet number")
        elif (row["attempt"], found["vantage"], int(found["number"])) not in seen:
            problems.append(f"decided by {row['decided_by']}, which the segments table does not have")
    return problems
