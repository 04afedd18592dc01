"""The schema is the row types: same columns, same order, nothing lost on the way to Parquet and back."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.dataset.reader import to_frame
from rawpunch.dataset.schema import column_dictionary, columns_of, completed, factor_types, schema_of, table_of
from rawpunch.errors import BadParameter
from rawpunch.record.rows import ROW_TYPES, AttemptRow, SegmentRow
from rawpunch.record.words import Outcome
from tests.dataset.dataset_rows import CELLS, FIRST, attempt, segment, transition


@pytest.mark.parametrize("table", ROW_TYPES)
def test_columns_are_the_fields(table: str) -> None:
    """Every field is a column, in order, with its sentence and unit, and empty only where the field may be None."""
    schema = schema_of(table)
    fields = dataclasses.fields(ROW_TYPES[table])
    assert schema.names == [field.name for field in fields]
    for field in fields:
        column = schema.field(field.name)
        assert column.metadata[b"doc"].decode() == field.metadata["doc"]
        assert column.metadata[b"unit"].decode() == field.metadata["unit"]
        assert column.nullable == ("None" in str(field.type))
        assert ("int" in str(field.type)) == (column.type == pa.int64())


def test_types_that_no_column_has_are_refused() -> None:
    """A row type with a list in it is a mistake that is seen at once."""

    @dataclasses.dataclass
    class Odd:
        options: list[int] = dataclasses.field(metadata={"doc": "", "unit": ""})

    with pytest.raises(BadParameter, match="options"):
        columns_of(Odd)


def test_a_factor_may_not_hide_a_column() -> None:
    """`outcome` as a factor would be two columns of one name."""
    with pytest.raises(BadParameter, match="outcome"):
        columns_of(AttemptRow, {"outcome": str})


@pytest.mark.parametrize(
    ("levels", "kind"),
    [((1, 2), int), ((1, 2.5), float), ((True, False), bool), (("drop", "rst"), str)],
)
def test_factor_types(levels: tuple[Any, ...], kind: type) -> None:
    """A factor's column has its levels' type; int beside float is float."""
    assert factor_types({"x": levels}) == {"x": kind}


@pytest.mark.parametrize("levels", [(), (1, "1"), (True, 1)])
def test_levels_of_several_types_are_refused(levels: tuple[Any, ...]) -> None:
    """No level, or words among numbers, cannot be one column."""
    with pytest.raises(BadParameter, match="factor 'x'"):
        factor_types({"x": levels})


def test_factors_follow_the_fields() -> None:
    """Each attempt carries its cell's levels, after the columns of the row type."""
    table = table_of("attempts", [attempt("a")], {"ends": str, "owd_ns": int}, CELLS)
    assert table.schema.names[-2:] == ["ends", "owd_ns"]
    assert table.to_pylist()[0]["owd_ns"] == CELLS[FIRST]["owd_ns"]
    assert table.schema.field("owd_ns").metadata[b"unit"] == b"ns"


def test_rows_that_do_not_fit_are_refused() -> None:
    """Another table's row, an empty required column, text in a number column, a cell without levels: each is named."""
    with pytest.raises(BadParameter, match="TransitionRow"):
        table_of("segments", [transition("a")])
    with pytest.raises(BadParameter, match=r"segments\.number"):
        table_of("segments", [segment("a", number=None)])  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match=r"segments\.number"):
        table_of("segments", [segment("a", number="3")])  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match=r"attempts\.syn_a"):
        table_of("attempts", [attempt("a", syn_a=2**63)])
    with pytest.raises(BadParameter, match="factor 'ends'"):
        table_of("attempts", [attempt("a", "another")], {"ends": str}, CELLS)


def test_words_are_written_as_plain_text() -> None:
    """An enum member and its value are the same in the file."""
    rows = [attempt("a", outcome=Outcome.REFUSED), attempt("b", outcome="refused")]
    assert table_of("attempts", rows).column("outcome").to_pylist() == ["refused", "refused"]


text = st.text(st.characters(codec="utf-8"), max_size=8)
number = st.integers(-(2**63), 2**63 - 1)
rows_of_segments = st.builds(
    SegmentRow,
    attempt=text,
    capture=st.none() | text,
    number=number,
    vantage=text,
    time_ns=number,
    direction=text,
    source_address=text,
    source_port=number,
    destination_address=text,
    destination_port=number,
    kind=text,
    flags=st.none() | number,
    seq=st.none() | number,
    ack=st.none() | number,
    options=st.none() | text,
)


@given(st.lists(rows_of_segments, max_size=5))
def test_rows_survive_parquet_and_pandas(rows: list[SegmentRow]) -> None:
    """Any rows come back as they went, to the last nanosecond, empty cells empty."""
    buffer = io.BytesIO()
    pq.write_table(table_of("segments", rows), buffer)
    back = pq.read_table(buffer)
    assert [SegmentRow(**row) for row in back.to_pylist()] == rows
    frame = to_frame(back)
    assert str(frame["time_ns"].dtype) == "int64"
    assert str(frame["seq"].dtype) == "Int64"
    assert frame["time_ns"].tolist() == [row.time_ns for row in rows]
    assert [None if value is None else int(value) for value in frame["seq"].astype(object).where(frame["seq"].notna(), None)] == [
        row.seq for row in rows
    ]


def test_the_dictionary_on_disk_is_the_generated_one() -> None:
    """data/README.md is never edited by hand: python -m rawpunch.dataset.schema > data/README.md."""
    path = Path(__file__).parents[2] / "data" / "README.md"
    assert path.read_text() == column_dictionary()


def test_the_dictionary_names_everything() -> None:
    """Every column of every table, and every outcome word with its sentence."""
    written = column_dictionary()
    for row_type in ROW_TYPES.values():
        for column in columns_of(row_type):
            assert f"| `{column.name}` |" in written
    for word in Outcome:
        assert f"| `{word.value}` | {word.sentence} |" in written


def test_a_table_of_an_earlier_version_is_completed() -> None:
    """A column that may be empty and was added since is empty in it; one that every row needs is missed, and others stay."""
    schema = schema_of("attempts", {"ends": str, "owd_ns": int})
    today = table_of("attempts", [attempt("a")], {"ends": str, "owd_ns": int}, CELLS)
    earlier = today.drop_columns(["tries_a", "server_octets", "rst"])
    again = completed(earlier, schema)
    assert again.schema.equals(schema)
    assert again.drop_columns(["tries_a", "server_octets", "rst"]).equals(earlier)
    assert again.column("tries_a").null_count == 1
    assert "outcome" not in completed(today.drop_columns(["outcome"]), schema).schema.names
    assert not completed(today.rename_columns(["odd", *schema.names[1:]]), schema).schema.equals(schema)
