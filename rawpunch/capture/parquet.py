"""A capture as a Parquet file: one row group for each piece of some megabytes, so that the capture's size does not matter."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rawpunch.capture.columns import to_table
from rawpunch.capture.decode import COLUMNS, Decoded, Decoder
from rawpunch.capture.records import File, Progress
from rawpunch.errors import PartialData

_GROUP_ROWS: Final = 1 << 18
"""Pieces are written together until they have so many rows."""


def write_parquet(capture: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Progress | None = None) -> File:
    """Write the TCP segments of a capture, and the ICMP errors about them, with all columns of `COLUMNS`.

    The file appears whole or not at all. Its metadata have ``packets``, ``skipped`` and ``noted`` (JSON), as `read_table`'s have.

    Args:
        capture: a pcap or pcapng file, plain or packed.
        target: the Parquet file; its folder exists.
        progress: called with the number of the capture's octets read since the last call.

    Returns:
        What was read, and what was skipped.

    Raises:
        Unreadable: the capture cannot be opened or is none; a damaged one gives what lies before the damage.
        PartialData: the target could not be written; nothing is left behind.
    """
    decoder = Decoder(capture)
    pieces = decoder.pieces()
    first = next(pieces, None)  # what is no capture is told before a file is made
    with _appearing(Path(target)) as temporary, pq.ParquetWriter(temporary, _schema(), compression="zstd") as writer:
        rows = taken = 0
        held: list[Decoded] = []
        while first is not None or held:
            if first is not None:
                held.append(first)
                first = next(pieces, None)
            size = sum(len(piece.filled["number"]) for piece in held)
            if first is None or size >= _GROUP_ROWS:
                writer.write_table(to_table(decoder, held).replace_schema_metadata(None))
                rows += size
                held.clear()
            if progress:
                progress(decoder.findings.read_bytes - taken)
                taken = decoder.findings.read_bytes
        file = File.of(capture, decoder.findings, rows)
        counts = {"packets": str(file.packets), "skipped": json.dumps(file.skipped), "noted": json.dumps(file.noted)}
        writer.add_key_value_metadata(counts)
    return file


def _schema() -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in COLUMNS.items()])


@contextmanager
def _appearing(target: Path) -> Iterator[Any]:
    """A temporary name in the target's folder, renamed to it when all went well."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise PartialData(f"{target} could not be written", why=str(error.strerror or error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
