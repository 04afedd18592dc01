"""Parquet schemas and the column dictionary, generated from the row types of `rawpunch.record.rows`.

A row type is the one truth: `str`, `int`, `bool` and `float` fields become string, int64, bool and float64 columns, `X | None` a
nullable one, and a field's sentence and unit its metadata. The attempts table also has one column per factor of the experiment.

    python -m rawpunch.dataset.schema > data/README.md
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from rawpunch.errors import BadParameter
from rawpunch.record import words
from rawpunch.record.rows import ROW_TYPES, AttemptRow, MappingRow, SegmentRow, TransitionRow

SCHEMA_VERSION: Final = 1
"""Raised when a column changes its meaning or goes away; new columns do not raise it."""

Scalar = bool | int | float | str
"""What a factor's level may be."""
Row = AttemptRow | SegmentRow | TransitionRow | MappingRow

_TYPE_NAMES: Final[dict[type, str]] = {str: "string", int: "int64", bool: "bool", float: "float64"}


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    type: type
    """str, int, bool or float."""
    nullable: bool
    doc: str
    unit: str = ""


def columns_of(row_type: type, factors: Mapping[str, type] | None = None) -> tuple[Column, ...]:
    """The columns of a row type, and one more per factor.

    Raises:
        BadParameter: a field or factor has a type that no column has, or a factor is called like a field.
    """
    hints = typing.get_type_hints(row_type)
    columns = [
        Column(field.name, *_plain(field.name, hints[field.name]), str(field.metadata["doc"]), str(field.metadata["unit"]))
        for field in dataclasses.fields(row_type)
    ]
    names = {column.name for column in columns}
    for name, kind in (factors or {}).items():
        if name in names:
            raise BadParameter(f"a factor cannot be called {name!r}", why="the attempts table has a column of that name")
        columns.append(Column(name, *_plain(name, kind), "factor of the experiment", "ns" if name.endswith("_ns") else ""))
    return tuple(columns)


def _plain(name: str, hint: Any) -> tuple[type, bool]:
    """The plain type behind a hint, and whether it may be None."""
    members = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    nullable = type(None) in members
    members.discard(type(None))
    kind = members.pop()
    if members or kind not in _TYPE_NAMES:
        raise BadParameter(
            f"column {name!r} cannot hold {hint}", why="a column is str, int, bool or float, or one of them or None"
        )
    return kind, nullable


def factor_types(grid: Mapping[str, Sequence[Scalar]]) -> dict[str, type]:
    """The type of each factor's column, told from its levels.

    Raises:
        BadParameter: a factor has no levels, or levels of several types (int beside float is float).
    """
    kinds: dict[str, type] = {}
    for name, levels in grid.items():
        found = {next(kind for kind in (bool, int, float, str) if isinstance(level, kind)) for level in levels}
        if found == {int, float}:
            found = {float}
        if len(found) != 1:
            raise BadParameter(f"the levels of factor {name!r} are not of one type", why=f"they are {list(levels)}")
        kinds[name] = found.pop()
    return kinds


def schema_of(table: str, factors: Mapping[str, type] | None = None) -> Any:
    """The pyarrow schema of a table ("attempts", "segments" ...); units and sentences are field metadata."""
    import pyarrow as pa  # noqa: PLC0415  a third of a second, that `rawpunch --help` shall not pay

    arrow = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    return pa.schema(
        [
            pa.field(column.name, arrow[column.type], column.nullable, {"doc": column.doc, "unit": column.unit})
            for column in columns_of(ROW_TYPES[table], factors)
        ],
        metadata={"rawpunch.table": table, "rawpunch.schema_version": str(SCHEMA_VERSION)},
    )


def completed(table: Any, schema: Any) -> Any:
    """A pyarrow table as an earlier version wrote it, with the columns that were added since: empty, where they may be.

    Columns that it has and the schema has not, or of which every row needs a value, are left for whoever compares the two.
    """
    import pyarrow as pa  # noqa: PLC0415  as above

    for place, field in enumerate(schema):
        if field.name not in table.schema.names and field.nullable:
            table = table.add_column(min(place, table.num_columns), field, pa.nulls(table.num_rows, field.type))
    return table


def table_of(
    table: str,
    rows: Sequence[Row],
    factors: Mapping[str, type] | None = None,
    levels: Mapping[str, Mapping[str, Scalar]] | None = None,
) -> Any:
    """Rows as a pyarrow table.

    Args:
        table: the table's name.
        rows: rows of its type.
        factors: name and type of each factor (attempts only).
        levels: cell -> factor -> level (attempts only).

    Raises:
        BadParameter: a row is of another table's type, lacks a required value or holds one of the wrong type, or its cell has no
            levels.
    """
    import pyarrow as pa  # noqa: PLC0415  as above

    row_type = ROW_TYPES[table]
    strangers = {type(row).__name__ for row in rows if not isinstance(row, row_type)}
    if strangers:
        raise BadParameter(f"table {table!r} does not take {', '.join(sorted(strangers))}")
    schema = schema_of(table, factors)
    arrays = []
    for field in schema:
        values = _levels(rows, field.name, levels or {}) if field.name in (factors or {}) else map(attrgetter(field.name), rows)
        try:
            array = pa.array(list(values), field.type)
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise BadParameter(f"column {table}.{field.name} does not take a value", why=str(error)) from error
        if array.null_count and not field.nullable:
            raise BadParameter(f"column {table}.{field.name} has no value in {array.null_count} rows", why="every row needs one")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def _levels(rows: Iterable[Any], factor: str, levels: Mapping[str, Mapping[str, Scalar]]) -> list[Scalar]:
    try:
        return [levels[row.cell][factor] for row in rows]
    except KeyError as missing:
        raise BadParameter(f"factor {factor!r} has no level for an attempt", why=f"{missing} was not given") from missing


_INTRODUCTION: Final = """\
# Column dictionary

This file is generated from the row types: `python -m rawpunch.dataset.schema > data/README.md`. A test compares the two.

```
data/runs/<experiment>/<run_id>/   data/sample/<experiment>/<run_id>/
    manifest.json            what was run, on what, with which seed; sha256 of every file
    attempts/*.parquet       one row per attempt
    segments/*.parquet       one row per packet per vantage point
    transitions/*.parquet    one row per state change
    mappings/*.parquet       one row per NAT mapping
    captures/*.pcapng        the packets themselves; `capture` columns name them relative to the run's folder
```

```python
import rawpunch

run = rawpunch.load("raw-vs-kernel")   # the newest run of an experiment, or a run's folder
run.attempts, run.segments, run.transitions, run.mappings, run.manifest
```

Times are integer nanoseconds since the Unix epoch (virtual time in the simulator); durations are integer nanoseconds. An empty
value means "not seen" or "does not apply", never zero. In pandas integers that may be empty are `Int64`, others `int64`.
"""


def column_dictionary() -> str:
    """All tables, columns, types, units and meanings, and the closed word lists, as Markdown."""
    parts = [_INTRODUCTION]
    for table, row_type in ROW_TYPES.items():
        parts.append(f"## {table}\n\n{_first_paragraph(row_type)}\n")
        lines = ["| column | type | unit | may be empty | meaning |", "|---|---|---|---|---|"]
        lines += [_line(column) for column in columns_of(row_type)]
        if row_type is AttemptRow:
            lines.append(
                "| *factor* | its levels' | ns where its name ends in `_ns` | | one column per factor of the experiment |"
            )
        parts.append("\n".join(lines) + "\n")
    parts.append("## Words\n\nThe closed lists that rows are written in.\n")
    for word_list in (kind for kind in words.Word.__subclasses__() if kind.__module__ == words.__name__):
        lines = [f"### {word_list.__name__}\n\n{_first_paragraph(word_list)}\n", "| word | meaning |", "|---|---|"]
        lines += [f"| `{word.value}` | {_cell(word.sentence)} |" for word in word_list]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(column: Column) -> str:
    empty = "yes" if column.nullable else ""
    return f"| `{column.name}` | {_TYPE_NAMES[column.type]} | {column.unit} | {empty} | {_cell(column.doc)} |"


def _first_paragraph(documented: type) -> str:
    return " ".join((documented.__doc__ or "").partition("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(column_dictionary(), end="")  # noqa: T201  stdout is what it is for
