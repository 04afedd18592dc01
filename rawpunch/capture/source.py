"""A capture file, plain or packed, behind a window that slides forward."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from rawpunch.capture.records import UNREADABLE, Bytes, Findings
from rawpunch.errors import Unreadable

PIECE_BYTES: Final = 8 << 20
"""How much of a file is worked on at a time."""
PAD: Final = 128
"""Octets behind the window's end that may be looked at; they are zero."""
_UNPACK_BYTES: Final = 4096
"""How much is unpacked in one call: so much can be lost where packed data are damaged."""
_PACKED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}


class Source:
    """The window: `data[used:length]` is what is there and not yet used."""

    def __init__(self, stream: Any, findings: Findings, file: Any = None) -> None:
        self.stream = stream
        self._file = file or stream
        self.findings = findings
        self.data: Bytes = np.zeros(PIECE_BYTES + PAD, np.uint8)
        self.length = 0
        self.used = 0
        self.ended = False

    def fill(self, least: int) -> int:
        """Drop what is used and read on; a window that nothing of was used grows.

        Returns:
            The octets there, or 0 when nothing changed or there are less than `least`.
        """
        rest = self.length - self.used
        progress = self.used
        if rest and progress:
            self.data[:rest] = self.data[self.used : self.length].copy()
        self.length, self.used = rest, 0
        if rest + PAD >= len(self.data) and not progress:
            grown = np.zeros(2 * len(self.data), np.uint8)
            grown[:rest] = self.data[:rest]
            self.data = grown
        room = len(self.data) - PAD
        most = room if isinstance(self.stream, io.RawIOBase) else _UNPACK_BYTES
        while self.length < room and not self.ended:
            got = self._read(self.data.data[self.length : min(room, self.length + most)])
            self.ended = got == 0
            self.length += got
            progress += got
        self.data[self.length : self.length + PAD] = 0
        self.findings.read_bytes = self._file.tell()
        return self.length if progress and self.length >= least else 0

    def _read(self, into: memoryview) -> int:
        try:
            return int(self.stream.readinto(into) or 0)
        except (OSError, EOFError):
            self.findings.skipped[UNREADABLE] += 1
            return 0


@contextmanager
def open_capture(path: Path, findings: Findings) -> Iterator[Source]:
    """The window on a file, plain or packed.

    Raises:
        Unreadable: it cannot be opened.
    """
    try:
        with path.open("rb") as beginning:
            codec = _PACKED.get(beginning.read(2))
        file = pa.OSFile(os.fspath(path)) if codec else path.open("rb", buffering=0)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read", why=str(error.strerror or error)) from error
    with file:
        if codec is None:
            yield Source(file, findings)
            return
        with pa.CompressedInputStream(file, codec) as stream:
            yield Source(stream, findings, file)
