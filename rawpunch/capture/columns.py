"""Capture files as tables and DataFrames: every TCP segment, and every ICMP error about one, a row.

The columns are those of `SegmentRow` as far as a capture knows them; `rawpunch.capture.decode.COLUMNS` has their types.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from rawpunch.capture.decode import COLUMNS, NULLABLE, Decoded, Decoder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "read_capture", "read_table"]


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


def _gathered(pieces: Sequence[Decoded], name: str) -> tuple[Any, Any]:
    """A column's values over all pieces, and its mask of nulls (None without nulls)."""
    if not pieces:
        dtype = COLUMNS[name].index_type if pa.types.is_dictionary(COLUMNS[name]) else COLUMNS[name]
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


def to_table(decoder: Decoder, pieces: Sequence[Decoded]) -> pa.Table:
    """An Arrow table of decoded pieces of one file."""
    words = decoder.words
    arrays = []
    for name in decoder.columns:
        kind = COLUMNS[name]
        if name == "options":
            arrays.append(_options(pieces))
            continue
        values, mask = _gathered(pieces, name)
        if name in words:
            codes = pa.array(values, kind.index_type, mask=values < 0)
            arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(words[name], pa.string())))
        else:
            arrays.append(pa.array(values, kind, mask=mask))
    walk = decoder.walk
    metadata = {"packets": str(walk.packets), "skipped": json.dumps(walk.skipped), "noted": json.dumps(walk.noted)}
    fields = [pa.field(name, COLUMNS[name]) for name in decoder.columns]
    return pa.table(arrays, pa.schema(fields, metadata))


def to_frame(decoder: Decoder, pieces: Sequence[Decoded]) -> pd.DataFrame:
    """A DataFrame of decoded pieces of one file."""
    import pandas as pd  # noqa: PLC0415 - takes longer to import than a small capture to decode

    words = decoder.words
    columns: dict[str, Any] = {}
    for name in decoder.columns:
        if name == "options":
            columns[name] = pd.arrays.ArrowExtensionArray(_options(pieces))
            continue
        values, mask = _gathered(pieces, name)
        if name in words:
            dtype = pd.CategoricalDtype(pd.Index(words[name], dtype="str"))
            columns[name] = pd.Categorical.from_codes(values, dtype=dtype, validate=False)
        elif name in NULLABLE:
            mask = np.zeros(len(values), np.bool_) if mask is None else mask
            columns[name] = pd.arrays.IntegerArray(values, mask)
        else:
            columns[name] = values
    frame = pd.DataFrame(columns, copy=False)
    walk = decoder.walk
    frame.attrs.update(packets=walk.packets, skipped=dict(walk.skipped), noted=dict(walk.noted))
    return frame
