"""Capture files as tables and DataFrames: every TCP segment, and every ICMP error about one, a row.

The columns are those of `SegmentRow` as far as a capture knows them; `rawpunch.capture.decode.COLUMNS` has their types.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from rawpunch.capture.decode import COLUMNS, NULLABLE, Decoded, Decoder
from rawpunch.capture.records import File

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "iter_captures", "read_capture", "read_table"]


def read_table(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> pa.Table:
    """All TCP segments and ICMP errors about TCP in a pcap or pcapng file.

    Args:
        path: the file, plain or packed with gzip or zstd.
        columns: those wanted, in this order; all of `COLUMNS` by default.

    Returns:
        The table; its schema's metadata has ``packets``, ``skipped`` and ``noted`` (JSON), as `read_capture` explains them.

    Raises:
        Unreadable: the file cannot be opened or is no capture; a damaged one gives what lies before the damage.
        BadParameter: there is no such column.
    """
    decoder = Decoder(path, columns)
    return to_table(decoder, list(decoder.pieces()))


def read_head(path: str | os.PathLike[str], rows: int) -> tuple[pa.Table, File]:
    """The first rows of a capture as a table, and what was read and skipped for their sake: little more than they need.

    Raises:
        Unreadable: the file cannot be opened or is no capture.
    """
    decoder = Decoder(path)
    pieces: list[Decoded] = []
    for piece in decoder.pieces():
        pieces.append(piece)
        if sum(len(piece.filled["number"]) for piece in pieces) >= rows:
            break
    table = to_table(decoder, pieces)
    return table.slice(0, rows), File.of(path, decoder.findings, table.num_rows)


def read_capture(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The same as a DataFrame: words categorical, nullable numbers as pandas' masked types, options as Arrow binary.

    `frame.attrs` has ``packets`` (how many there were in all), ``skipped`` (why packets are no rows -> how many) and ``noted``
    (what is odd about packets that are rows -> how many).

    Raises:
        Unreadable: the file cannot be opened or is no capture; a damaged one gives what lies before the damage.
        BadParameter: there is no such column.
    """
    decoder = Decoder(path, columns)
    return to_frame(decoder, list(decoder.pieces()))


def iter_captures(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, columns: Sequence[str] | None = None
) -> Iterator[pd.DataFrame]:
    """The same for files of any size: one frame for each piece of some megabytes, file after file.

    `frame.attrs` has ``path`` besides, and its counts are those of the file so far: the last frame of a file has them all. A file
    without packets gives one empty frame.

    Raises:
        Unreadable: a file cannot be opened or is no capture; a damaged one gives what lies before the damage.
        BadParameter: there is no such column.
    """
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        decoder = Decoder(path, columns)
        held: list[Decoded] = []
        for piece in decoder.pieces():
            if held:
                yield _part(decoder, held, path)
            held = [piece]
        yield _part(decoder, held, path)


def _part(decoder: Decoder, pieces: list[Decoded], path: str | os.PathLike[str]) -> pd.DataFrame:
    frame = to_frame(decoder, pieces)
    frame.attrs["path"] = os.fspath(path)
    return frame


def _gathered(pieces: Sequence[Decoded], name: str) -> tuple[Any, Any]:
    """A column's values over all pieces, and its mask of nulls (None without nulls)."""
    if not pieces:
        dtype = COLUMNS[name].index_type if pa.types.is_dictionary(COLUMNS[name]) else COLUMNS[name]
        dtype = pa.int64() if name.endswith("_address") else dtype
        return np.zeros(0, dtype.to_pandas_dtype()), None
    values = [piece.filled[name] for piece in pieces]
    masks = [piece.nulls.get(name) for piece in pieces]
    joined = values[0] if len(values) == 1 else np.concatenate(values)
    if all(mask is None for mask in masks):
        return joined, None
    full = [np.zeros(len(value), np.bool_) if mask is None else mask for value, mask in zip(values, masks, strict=True)]
    return joined, full[0] if len(full) == 1 else np.concatenate(full)


def _options(pieces: Sequence[Decoded]) -> Any:
    return pa.chunked_array([piece.options for piece in pieces], pa.binary())


def _addresses(decoder: Decoder, pieces: Sequence[Decoded]) -> tuple[dict[str, Any], Any]:
    """The wanted address columns as codes (-1 is null), and their common texts."""
    wanted = {name: _gathered(pieces, name) for name in decoder.columns if name.endswith("_address")}
    empty = [name for name, (values, mask) in wanted.items() if mask is not None and mask.all()]
    names = [name for name in wanted if name not in empty]
    codes, texts = decoder.addresses.coded([wanted[name][0] for name in names])
    coded = dict(zip(names, codes, strict=True))
    coded |= {name: np.full(len(wanted[name][0]), -1, np.int32) for name in empty}
    for name in names:
        mask = wanted[name][1]
        if mask is not None:
            coded[name] = np.where(mask, np.int32(-1), coded[name])
    return coded, texts


def to_table(decoder: Decoder, pieces: Sequence[Decoded]) -> pa.Table:
    """An Arrow table of decoded pieces of one file."""
    words = {name: pa.array(texts, pa.string()) for name, texts in decoder.words.items()}
    addresses, texts = _addresses(decoder, pieces)
    arrays = []
    for name in decoder.columns:
        kind = COLUMNS[name]
        if name == "options":
            arrays.append(_options(pieces))
        elif name in addresses:
            codes = addresses[name]
            missing = codes < 0 if name in NULLABLE else None
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=missing), texts))
        elif name in words:
            values, _ = _gathered(pieces, name)
            mask = values < 0
            codes = pa.array(values, kind.index_type, mask=mask if mask.any() else None)
            arrays.append(pa.DictionaryArray.from_arrays(codes, words[name]))
        else:
            values, mask = _gathered(pieces, name)
            arrays.append(pa.array(values, kind, mask=mask))
    found = decoder.findings
    metadata = {"packets": str(found.packets), "skipped": json.dumps(found.skipped), "noted": json.dumps(found.noted)}
    fields = [pa.field(name, COLUMNS[name]) for name in decoder.columns]
    return pa.table(arrays, pa.schema(fields, metadata))


def to_frame(decoder: Decoder, pieces: Sequence[Decoded]) -> pd.DataFrame:
    """A DataFrame of decoded pieces of one file."""
    import pandas as pd  # noqa: PLC0415 - takes longer to import than a small capture to decode

    words = {name: pd.CategoricalDtype(pd.Index(texts, dtype="str")) for name, texts in decoder.words.items()}
    addresses, texts = _addresses(decoder, pieces)
    address = pd.CategoricalDtype(pd.Index(pd.array(texts, dtype="str")))
    columns: dict[str, Any] = {}
    for name in decoder.columns:
        if name == "options":
            columns[name] = pd.arrays.ArrowExtensionArray(_options(pieces))
        elif name in addresses:
            columns[name] = pd.Categorical.from_codes(addresses[name], dtype=address, validate=False)
        elif name in words:
            columns[name] = pd.Categorical.from_codes(_gathered(pieces, name)[0], dtype=words[name], validate=False)
        elif name in NULLABLE:
            values, mask = _gathered(pieces, name)
            columns[name] = pd.arrays.IntegerArray(values, np.zeros(len(values), np.bool_) if mask is None else mask)
        else:
            columns[name] = _gathered(pieces, name)[0]
    frame = pd.DataFrame(columns, copy=False)
    found = decoder.findings
    frame.attrs.update(packets=found.packets, skipped=dict(found.skipped), noted=dict(found.noted))
    return frame
