"""IP addresses of many packets as numbers, and the texts of those that occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rawpunch.capture.records import Ints

_IPV6: Final = 1 << 32
"""Keys from here on are those of IPv6 addresses, in the order in which they were met; below are the IPv4 addresses themselves."""
_OCTETS: Final = pa.array([str(octet) for octet in range(256)])


@dataclass(slots=True)
class Addresses:
    """The addresses of one file: each has a key, the same over all pieces."""

    _six: dict[bytes, int] = field(default_factory=dict)

    def keys(self, raw: npt.NDArray[Any]) -> Ints:
        """The key of each address.

        Args:
            raw: numbers for IPv4 (uint32), or 16 octets each for IPv6.
        """
        if raw.dtype == np.uint32:
            return raw.astype(np.int64)
        octets = pa.py_buffer(np.ascontiguousarray(raw))
        encoded = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(raw), [None, octets]).dictionary_encode()
        six = self._six
        known = [six.setdefault(address, _IPV6 + len(six)) for address in encoded.dictionary.to_pylist()]
        keys: Ints = np.array(known, np.int64)[encoded.indices.to_numpy()]
        return keys

    def coded(self, columns: Sequence[Ints]) -> tuple[list[npt.NDArray[np.int32]], pa.StringArray]:
        """Columns of keys as codes, all into the same list of texts, in the order in which they occur."""
        if not columns:
            return [], pa.array([], pa.string())
        encoded = pa.chunked_array([pa.array(column) for column in columns], pa.int64()).combine_chunks().dictionary_encode()
        codes = np.split(encoded.indices.to_numpy(), np.cumsum([len(column) for column in columns])[:-1])
        return codes, self._texts(encoded.dictionary.to_numpy())

    def texts(self, keys: Ints) -> list[str]:
        """The text of each key."""
        encoded = pa.array(keys).dictionary_encode()
        texts = self._texts(encoded.dictionary.to_numpy()).to_pylist()
        return [texts[index] for index in encoded.indices.to_pylist()]

    def _texts(self, keys: Ints) -> pa.StringArray:
        """The texts of different keys."""
        four = (keys & 0xFFFFFFFF).astype(np.uint32)
        octets = [_OCTETS.take(pa.array((four >> shift) & 255)) for shift in (24, 16, 8, 0)]
        texts = pc.binary_join_element_wise(*octets, ".")
        if (keys < _IPV6).all():
            return texts
        met = list(self._six)
        six = [str(IPv6Address(met[key - _IPV6])) if key >= _IPV6 else None for key in keys.tolist()]
        return pc.coalesce(pa.array(six, pa.string()), texts)
