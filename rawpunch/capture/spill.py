"""Packets that wait in files, so that a capture may have more of them than memory should hold.

They are dealt out by their 4-tuples, so that all packets of a flow lie in one file. Flows that a NAT may have made of each other
have an initial sequence number (ISN) in common; flows of which any other flow has an ISN are laid into one further file. So no
attempt has packets in two files.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.attempts import is_syn
from rawpunch.capture.packets import ARRAYS, ICMP
from rawpunch.capture.records import Ints
from rawpunch.errors import MachineCannot

_ROW: Final = np.dtype(list(ARRAYS.items()))
_ISN: Final = np.dtype([("isn", np.uint32), ("narrow", np.uint64), ("flow", np.uint64)])
"""An ISN, the same mixed with its destination, and the flow that has it."""
_ISN_FILES: Final = 16
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))

Array = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]


def _mixed(one: Array, other: Array) -> Hashes:
    mixed: Hashes = one.astype(np.uint64) * _MIX[0]
    mixed ^= mixed >> np.uint64(31)
    mixed = (mixed + other.astype(np.uint64)) * _MIX[1]
    mixed ^= mixed >> np.uint64(29)
    return mixed


def _flow(source: Ints, destination: Ints) -> Hashes:
    return _mixed(np.minimum(source, destination), np.maximum(source, destination))


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineCannot(
            "a large capture's packets need room for temporary files",
            why=f"{tempfile.gettempdir()}: {error.strerror or error}",
            todo="make room there, or set TMPDIR to a folder that has half the capture's size",
        ) from error


class Spill:
    """The files; they have no names, so that they go with this object, and with the process however it ends.

    Args:
        parts: how many.

    Raises:
        MachineCannot: there is no room for them.
    """

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._linked: Hashes = np.zeros(0, np.uint64)
        """Hashes of the flows in the further file, sorted."""
        self.segments = 0
        with ExitStack() as stack, _room():
            self._packets = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(parts + 1)]
            self._isns = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(min(parts, _ISN_FILES))]
            weakref.finalize(self, stack.pop_all().close)

    def __len__(self) -> int:
        return self._parts + 1

    def add(self, columns: dict[str, Array]) -> None:
        """Put packets into the files.

        Args:
            columns: as `Packets` has them.

        Raises:
            MachineCannot: there is no room.
        """
        rows = np.empty(len(columns["number"]), _ROW)
        for name, column in columns.items():
            rows[name] = column
        self.segments += int((rows["flags"] & np.int16(ICMP) == 0).sum())
        flow = _flow(rows["source"], rows["destination"])
        syn = is_syn(rows["flags"])
        isns = np.empty(int(syn.sum()), _ISN)
        isns["isn"], isns["flow"] = rows["seq"][syn], flow[syn]
        isns["narrow"] = _mixed(rows["destination"][syn], rows["seq"][syn])
        with _room():
            _deal(rows, flow, self._packets[: self._parts])
            _deal(isns, isns["isn"].astype(np.uint64) * _MIX[0] >> np.uint64(32), self._isns)

    def finish(self, *, several: bool) -> None:
        """All packets are in: find the flows that belong to others.

        Args:
            several: whether there are several vantage points; one sees both sides of a NAT with the same destination only.

        Raises:
            MachineCannot: there is no room.
        """
        found = []
        with _room():
            for file in self._isns:
                isns = _all(file, _ISN)
                file.close()
                found.append(_shared(isns["isn"] if several else isns["narrow"], isns["flow"]))
            self._linked = np.unique(np.concatenate(found))
            for file in self._packets[: self._parts]:
                rows = _all(file, _ROW)
                self._packets[self._parts].write(rows[self._is_linked(rows)].data)

    def _is_linked(self, rows: Array) -> npt.NDArray[np.bool_]:
        return np.isin(_flow(rows["source"], rows["destination"]), self._linked)

    def part(self, part: int) -> dict[str, list[Array]]:
        """The packets of a file, in the order in which they were added, as columns in one piece."""
        with _room():
            rows = _all(self._packets[part], _ROW)
        if part < self._parts and len(self._linked):
            rows = rows[~self._is_linked(rows)]
        return {name: [np.ascontiguousarray(rows[name])] for name in ARRAYS}


def _deal(rows: Array, by: Hashes, files: Sequence[IO[bytes]]) -> None:
    """Append each row to the file that its number chooses."""
    part = (by % np.uint64(len(files))).astype(np.int64)
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=len(files)))
    rows, start = rows[order], 0
    for file, end in zip(files, ends.tolist(), strict=True):
        if end > start:
            file.write(rows[start:end].data)
        start = end


def _all(file: IO[bytes], row: np.dtype[Any]) -> Array:
    """All rows of a file."""
    file.seek(0)
    return np.fromfile(file, row)


def _shared(keys: Array, flows: Hashes) -> Hashes:
    """The flows that have a key in common with another flow."""
    order = np.lexsort((flows, keys))
    keys, flows = keys[order], flows[order]
    twin = np.flatnonzero((keys[1:] == keys[:-1]) & (flows[1:] != flows[:-1]))
    if not len(twin):
        return np.zeros(0, np.uint64)
    return np.unique(flows[np.isin(keys, keys[twin])])
