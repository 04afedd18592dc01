"""Few numbers about many groups: packets sorted so that each group's lie together, and for each group its first, last, count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rawpunch.capture.records import Ints

NONE: Final = np.iinfo(np.int64).max
"""The place of a packet that there is not; later than any."""

Mask = npt.NDArray[np.bool_]
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class Groups:
    """Consecutive packets that belong together."""

    of: npt.NDArray[np.int32]
    """Packet -> its group; never falls."""
    start: Ints
    """Group -> its first packet."""

    @classmethod
    def beginning(cls, begins: Mask) -> Groups:
        """The groups that begin at these packets; the first packet begins one."""
        start = np.flatnonzero(begins)
        return cls(np.cumsum(begins, dtype=np.int32) - np.int32(1), start)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def end(self) -> Ints:
        """Group -> the place behind its last packet."""
        return np.append(self.start, len(self.of))[1:]

    def first(self, which: Mask) -> Ints:
        """Group -> its first packet of those, or NONE."""
        places = np.flatnonzero(which)[::-1]
        found = np.full(len(self), NONE)
        found[self.of[places]] = places
        return found

    def last(self, which: Mask) -> Ints:
        """Group -> its last packet of those, or -1."""
        places = np.flatnonzero(which)
        found = np.full(len(self), -1)
        found[self.of[places]] = places
        return found

    def count(self, which: Mask) -> Ints:
        """Group -> how many of those it has."""
        return np.bincount(self.of[which], minlength=len(self))

    def any(self, which: Mask) -> Mask:
        """Group -> whether it has one of those."""
        found = np.zeros(len(self), np.bool_)
        found[self.of[which]] = True
        return found

    def highest(self, which: Mask, values: npt.NDArray[Any]) -> Ints:
        """Group -> the highest value of those of its packets, or -1."""
        places = np.flatnonzero(which)
        found = np.full(len(self), -1)
        if len(places):
            of = self.of[places]
            begins = np.flatnonzero(np.diff(of, prepend=-1))
            found[of[begins]] = np.maximum.reduceat(values[places].astype(np.int64), begins)
        return found


def codes_of(*columns: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """One number for each different row of some columns of integers, in the order in which they occur.

    Rows are told apart by a hash of 64 bits; it is verified, and where it failed they are compared in full.
    """
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column, factor in zip(columns, _MIX, strict=False):
        mixed ^= column.astype(np.uint64) * factor
        mixed ^= mixed >> np.uint64(29)
        mixed *= _MIX[0]
    encoded = pa.array(mixed).dictionary_encode()
    codes: npt.NDArray[np.int32] = encoded.indices.to_numpy()
    first = np.zeros(len(encoded.dictionary), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    of = first[codes]
    if all((column[of] == column).all() for column in columns):
        return codes
    _, exact = np.unique(np.column_stack([column.astype(np.int64) for column in columns]), axis=0, return_inverse=True)
    return exact.reshape(-1).astype(np.int32)


def stable_order(codes: npt.NDArray[np.int32]) -> Ints:
    """The order that sorts small numbers without changing the order of equal ones (two passes of a radix sort)."""
    low = np.argsort((codes & 0xFFFF).astype(np.uint16), kind="stable")
    if not len(codes) or codes.max() < 1 << 16:
        return low
    high = np.argsort((codes[low] >> 16).astype(np.uint16), kind="stable")
    return low[high]
