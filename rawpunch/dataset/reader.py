"""A run as data frames. Nothing is concluded here: columns come as they were written, nanoseconds as integers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rawpunch.dataset.layout import find_run
from rawpunch.dataset.manifest import Manifest
from rawpunch.dataset.schema import completed, factor_types, schema_of
from rawpunch.errors import Unreadable

if TYPE_CHECKING:
    import pandas as pd


class Dataset:
    """One run, read-only. A frame is read when it is first asked for; each access gives a fresh copy, so the truth stays.

    Attributes:
        path: the run's folder.
        manifest: what the run was.

    Raises:
        Unreadable: the folder holds no run of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest.read(path)
        self._frames: dict[str, pd.DataFrame] = {}

    @property
    def attempts(self) -> pd.DataFrame:
        """One row per attempt, factors last."""
        return self._table("attempts")

    @property
    def segments(self) -> pd.DataFrame:
        """One row per packet per vantage point."""
        return self._table("segments")

    @property
    def transitions(self) -> pd.DataFrame:
        """One row per state change."""
        return self._table("transitions")

    @property
    def mappings(self) -> pd.DataFrame:
        """One row per NAT mapping."""
        return self._table("mappings")

    def capture(self, name: str) -> Path:
        """The file that a `capture` column names."""
        return self.path / name

    def _table(self, table: str) -> pd.DataFrame:
        if table not in self._frames:
            self._frames[table] = to_frame(read_table(self.path, self.manifest, table))
        return self._frames[table].copy()

    def __repr__(self) -> str:
        run = self.manifest
        return f"<Dataset {run.experiment}/{run.run_id}: {run.attempts} attempts, {run.driver}, {run.status}>"


def load(what: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a run.

    Args:
        what: an experiment's name (its newest run), ``experiment/run_id``, a run_id, or a run's folder.
        root: the folder that holds runs; RAWPUNCH_DATA or ./data if not given.

    Raises:
        UnknownName: nothing is called that.
        Unreadable: its manifest is not one of this version.
    """
    return Dataset(find_run(what, root))


def read_table(path: Path, manifest: Manifest, table: str) -> Any:
    """All finished parts of a table as one pyarrow table, in the order they were written; empty if there are none.

    Raises:
        Unreadable: a file is missing, broken, or not of this schema.
    """
    import pyarrow as pa  # noqa: PLC0415  see schema
    import pyarrow.parquet as pq  # noqa: PLC0415  see schema

    schema = schema_of(table, factor_types(manifest.grid) if table == "attempts" else None)
    parts = []
    for entry in manifest.files():
        if entry.path.startswith(f"{table}/"):
            try:
                parts.append(completed(pq.ParquetFile(path / entry.path).read(), schema).cast(schema))
            except (OSError, ValueError, pa.ArrowException) as error:
                raise Unreadable(
                    f"{path / entry.path} cannot be read", why=str(error).partition("\n")[0], todo="rawpunch runs verify"
                ) from error
    return pa.concat_tables(parts) if parts else schema.empty_table()


def to_frame(table: Any) -> pd.DataFrame:
    """A pyarrow table as a data frame: integers that may be empty as Int64, others as int64."""
    import pandas as pd  # noqa: PLC0415  nearly a second, that `rawpunch --help` shall not pay
    import pyarrow as pa  # noqa: PLC0415  see schema

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    columns = {
        field.name: column.to_pandas(types_mapper=nullable.get if field.nullable else None)
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    return pd.DataFrame(columns)
