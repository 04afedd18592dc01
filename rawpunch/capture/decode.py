"""Pieces of a capture to plain columns: every TCP segment, and every ICMP error about one, a row.

A row of an ICMP error has the ICMP packet's own addresses, and the ports of the segment it quotes turned round (source_port is
the quoted destination port), so that it lies in the flow of the segment's answers; its seq is the quoted one, and quoted_address
is where that segment was sent.

The columns are equal to tshark's fields, but for this: `flags` has the nine control bits and not the three reserved ones; a first
fragment has the payload length that it carries, where tshark names none; a segment whose fixed TCP header was not captured whole
or contradicts itself is no row, where tshark shows the fields there are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rawpunch.capture.addresses import Addresses
from rawpunch.capture.blocks import Walk
from rawpunch.capture.headers import (
    CUT_SHORT,
    FIRST_FRAGMENT,
    LINK_TYPE,
    MALFORMED,
    Carried,
    Framed,
    sll_direction,
    strip_ipv4,
    strip_ipv6,
    strip_link,
)
from rawpunch.capture.records import (
    BROKEN,
    CUT,
    LYING,
    NO_INTERFACE,
    UNREADABLE,
    Bytes,
    Findings,
    Ints,
    Records,
    gather,
)
from rawpunch.errors import BadParameter
from rawpunch.wire.codec import ICMP_ERRORS, ICMPV6_ERRORS, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP
from rawpunch.wire.segment import kind_of

NOT_TCP: Final = "neither TCP nor an ICMP error about TCP"
LOST: Final = frozenset({CUT, BROKEN, NO_INTERFACE, LYING, UNREADABLE, CUT_SHORT, MALFORMED})
"""Reasons of a packet that may have been a segment and could not be read; others were read, and are none."""

COLUMNS: Final[dict[str, pa.DataType]] = {
    "number": pa.int64(),
    "time_ns": pa.int64(),
    "interface": pa.dictionary(pa.int32(), pa.string()),
    "direction": pa.dictionary(pa.int8(), pa.string()),
    "source_address": pa.dictionary(pa.int32(), pa.string()),
    "source_port": pa.int32(),
    "destination_address": pa.dictionary(pa.int32(), pa.string()),
    "destination_port": pa.int32(),
    "kind": pa.dictionary(pa.int16(), pa.string()),
    "flags": pa.int16(),
    "seq": pa.int64(),
    "ack": pa.int64(),
    "window": pa.int32(),
    "options": pa.binary(),
    "payload_length": pa.int32(),
    "ttl": pa.int16(),
    "icmp_type": pa.int16(),
    "icmp_code": pa.int16(),
    "quoted_address": pa.dictionary(pa.int32(), pa.string()),
}
"""Column -> type. Null where it does not apply: ack without ACK, TCP columns of an ICMP error, the last three of a segment."""

_OF_ERRORS: Final = ("icmp_type", "icmp_code", "quoted_address")
NULLABLE: Final = ("flags", "ack", "window", "payload_length", *_OF_ERRORS)
_DIRECTIONS: Final = ("in", "out")
_TCP_KINDS: Final = ("SYN", "SYN-ACK", "ACK", "DATA", "FIN", "FIN-ACK", "RST", "RST-ACK", "NONE")
_KIND_CODE: Final = np.array([_TCP_KINDS.index(kind_of(flags & 0x3F, flags >> 6)) for flags in range(128)], np.int16)
"""Low six control bits, and 64 for a payload -> code of the kind."""
_ICMP_KINDS: Final = len(_TCP_KINDS)

_TCP: Final = np.dtype(
    [
        ("source", ">u2"),
        ("destination", ">u2"),
        ("seq", ">u4"),
        ("ack", ">u4"),
        ("offset_flags", ">u2"),
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
    ]
)
_QUOTE: Final = np.dtype([("source", ">u2"), ("destination", ">u2"), ("seq", ">u4")])
_ICMP_HEADER: Final = 8

Array = npt.NDArray[Any]


def lost(skipped: Mapping[str, int]) -> dict[str, int]:
    """Those reasons for which data are missing, with their counts; a link type that is not known is one of them."""
    return {reason: count for reason, count in skipped.items() if reason in LOST or reason.startswith(LINK_TYPE)}


@dataclass(slots=True)
class Decoded:
    """One piece of a capture as columns: plain arrays, codes for words, masks for nulls."""

    filled: dict[str, Array]
    """Column -> its values; codes for words (-1 is null), keys for addresses."""
    nulls: dict[str, npt.NDArray[np.bool_] | None]
    """Nullable column -> True where it is null; None where it never is."""
    options: Any
    """The options as an Arrow binary array."""


class Decoder:
    """Decodes one file piece by piece; what was skipped and how many packets there were is known when all pieces are through."""

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None = None, addresses: Addresses | None = None
    ) -> None:
        self.walk = Walk(Path(path))
        self.addresses = Addresses() if addresses is None else addresses
        """Files that share it have the same keys."""
        self.icmp_kinds: dict[int, int] = {}
        """Type * 256 + code -> code of the kind."""
        self._interfaces: dict[str, int] = {}
        self._interface_codes = np.zeros(0, np.int32)
        self._links = np.zeros(0, np.int64)
        self.columns = list(COLUMNS) if columns is None else list(columns)
        for name in self.columns:
            if name not in COLUMNS:
                raise BadParameter(f"a capture has no column {name!r}", todo=f"take some of {', '.join(COLUMNS)}")

    @property
    def findings(self) -> Findings:
        """What was skipped and noted, and how many packets there were; final when all pieces are through."""
        return self.walk.findings

    @property
    def words(self) -> dict[str, list[str]]:
        """Dictionary column (but for addresses) -> its words, by code."""
        return {
            "interface": list(self._interfaces),
            "direction": list(_DIRECTIONS),
            "kind": [*_TCP_KINDS, *(f"ICMP {both >> 8}/{both & 255}" for both in self.icmp_kinds)],
        }

    def pieces(self) -> Iterator[Decoded]:
        """The columns of each piece of the file.

        Raises:
            Unreadable: the file cannot be opened or is no capture.
        """
        for records in self.walk.pieces():
            yield self._piece(records)

    def _piece(self, records: Records) -> Decoded:
        data = records.data
        direction = records.direction
        parts: list[Carried] = []
        self._know_interfaces()
        links = self._links[records.interface]
        frames = Framed(np.arange(len(records.at)), records.at, records.original, records.captured)
        one = not len(links) or (links == links[0]).all()
        for link_type in links[:1].tolist() if one else np.unique(links).tolist():
            these = frames if one else frames.take(links == link_type)
            told = sll_direction(link_type, data, these.at)
            if told is not None:
                direction = direction.copy()
                direction[these.row] = np.where(direction[these.row] == 0, told, direction[these.row])
            for packets, strip in zip(
                strip_link(link_type, data, these, self.findings.skipped), (strip_ipv4, strip_ipv6), strict=True
            ):
                if len(packets.at):
                    parts.append(strip(data, packets, self.findings.skipped))
        segments: list[Carried] = []
        errors: list[tuple[Carried, Carried]] = []
        for part in parts:
            is_tcp = part.protocol == PROTO_TCP
            segments.append(self._addressed(part if is_tcp.all() else part.take(is_tcp)))
            if not is_tcp.all():
                errors.extend(self._errors(data, part, is_tcp))
        return self._assemble(records, direction, _joined(segments), errors)

    def _addressed(self, part: Carried) -> Carried:
        """The same with addresses as keys; the column is needed though nobody may want it."""
        return replace(part, source=self.addresses.keys(part.source), destination=self.addresses.keys(part.destination))

    def _know_interfaces(self) -> None:
        """Take in the interfaces that the file has described since; those of one name are one, nameless ones are numbered."""
        for index in range(len(self._links), len(self.findings.interfaces)):
            described = self.findings.interfaces[index]
            name = described.name or f"interface {index}"
            code = self._interfaces.setdefault(name, len(self._interfaces))
            self._interface_codes = np.append(self._interface_codes, np.int32(code))
            self._links = np.append(self._links, described.link_type)

    def _errors(self, data: Bytes, part: Carried, is_tcp: npt.NDArray[np.bool_]) -> Iterator[tuple[Carried, Carried]]:
        """The ICMP errors about TCP among IP packets, each with what it quotes; the rest is counted."""
        ipv4 = part.source.dtype == np.uint32
        protocol, kinds = (PROTO_ICMP, ICMP_ERRORS) if ipv4 else (PROTO_ICMPV6, ICMPV6_ERRORS)
        icmp = part.take(part.protocol == protocol)
        whole = icmp.captured >= _ICMP_HEADER
        icmp = icmp.take(whole)
        icmp = icmp.take(np.isin(data[icmp.at], list(kinds)))
        found = 0
        if len(icmp.at):
            quoting = Framed(np.arange(len(icmp.at)), icmp.at + _ICMP_HEADER, icmp.length - 8, icmp.captured - 8)
            inner_version = data[quoting.at] >> 4
            quoting = quoting.take((quoting.captured > 0) & (inner_version == (4 if ipv4 else 6)))
            # Routers quote the first octets only: what the quoted header says of its length is no reason to doubt it.
            quoting = Framed(quoting.row, quoting.at, np.full(len(quoting.at), 1 << 20), quoting.captured)
            quoted = (strip_ipv4 if ipv4 else strip_ipv6)(data, quoting, Counter())
            quoted = quoted.take((quoted.protocol == PROTO_TCP) & (quoted.captured >= _QUOTE.itemsize))
            found = len(quoted.at)
            yield self._addressed(icmp.take(quoted.row)), self._addressed(quoted)
        rest = int((~is_tcp).sum()) - found
        if rest:
            self.findings.skipped[NOT_TCP] += rest

    def _assemble(
        self, records: Records, direction: npt.NDArray[np.int8], segments: Carried, errors: list[tuple[Carried, Carried]]
    ) -> Decoded:
        """The rows in the file's order: segments first made, ICMP errors put between them."""
        segments, values, nulls, options = self._segments(records.data, segments)
        row = segments.row
        for error, quoted in errors:
            if not len(error.at):
                continue
            count = len(error.at)
            for name, column in self._error_columns(records.data, error, quoted).items():
                values[name] = np.concatenate([values[name], column])
            for name in NULLABLE:
                there = nulls[name]
                there = np.zeros(len(row), np.bool_) if there is None else there
                nulls[name] = np.concatenate([there, np.full(count, name not in _OF_ERRORS)])
            row = np.concatenate([row, error.row])
            options = pa.concat_arrays([options, pa.nulls(count, pa.binary())])
        if len(row) and (np.diff(row) < 0).any():
            order = np.argsort(row, kind="stable")
            row = row[order]
            values = {name: column[order] for name, column in values.items()}
            nulls = {name: None if mask is None else mask[order] for name, mask in nulls.items()}
            options = options.take(pa.array(order))
        interface = self._interface_codes[records.interface]
        everything = len(row) == len(records.at)
        for name, column in (("number", records.number), ("time_ns", records.time_ns), ("interface", interface)):
            values[name] = column if everything else column[row]
        values["direction"] = (direction if everything else direction[row]) - np.int8(1)
        return Decoded(values, nulls, options)

    def _segments(
        self, data: Bytes, segments: Carried
    ) -> tuple[Carried, dict[str, Array], dict[str, npt.NDArray[np.bool_] | None], Any]:
        """The TCP columns of packets that carry TCP (RFC 9293, section 3.1)."""
        short = segments.captured < _TCP.itemsize
        if short.any():
            lying = segments.length < _TCP.itemsize
            self._skip(CUT_SHORT, short & ~lying)
            self._skip(MALFORMED, short & lying)
            segments = segments.take(~short)
        head = gather(data, segments.at, _TCP)
        offset_flags = head["offset_flags"].astype(np.int64)
        header = (offset_flags >> 12) * 4
        bad = (header < _TCP.itemsize) | (header > segments.length)
        if bad.any():
            self._skip(MALFORMED, bad)
            segments, head, offset_flags, header = segments.take(~bad), head[~bad], offset_flags[~bad], header[~bad]
        if segments.more.any():
            self.findings.noted[FIRST_FRAGMENT] += int(segments.more.sum())
        payload = segments.length - header
        flags = (offset_flags & 0x1FF).astype(np.int16)
        count = len(flags)
        values: dict[str, Array] = {
            "source_address": segments.source,
            "source_port": head["source"].astype(np.int32),
            "destination_address": segments.destination,
            "destination_port": head["destination"].astype(np.int32),
            "kind": _KIND_CODE[(flags & 0x3F) | ((payload > 0).astype(np.int16) << 6)],
            "flags": flags,
            "seq": head["seq"].astype(np.int64),
            "ack": head["ack"].astype(np.int64),
            "window": head["window"].astype(np.int32),
            "payload_length": payload.astype(np.int32),
            "ttl": segments.ttl.astype(np.int16),
            "icmp_type": np.zeros(count, np.int16),
            "icmp_code": np.zeros(count, np.int16),
            "quoted_address": segments.destination,
        }
        nulls: dict[str, npt.NDArray[np.bool_] | None] = dict.fromkeys(NULLABLE)
        nulls["ack"] = (flags & 0x10) == 0
        nulls |= dict.fromkeys(_OF_ERRORS, np.ones(count, np.bool_))
        if "options" in self.columns:
            options = _options(data, segments.at + _TCP.itemsize, np.minimum(header, segments.captured) - _TCP.itemsize)
        else:
            options = pa.nulls(count, pa.binary())
        return segments, values, nulls, options

    def _error_columns(self, data: Bytes, error: Carried, quoted: Carried) -> dict[str, Array]:
        quote = gather(data, quoted.at, _QUOTE)
        both = data[error.at].astype(np.int64) << 8 | data[error.at + 1]
        kinds = [self.icmp_kinds.setdefault(value, _ICMP_KINDS + len(self.icmp_kinds)) for value in both.tolist()]
        zero = np.zeros(len(both), np.int32)
        return {
            "source_address": error.source,
            "source_port": quote["destination"].astype(np.int32),
            "destination_address": error.destination,
            "destination_port": quote["source"].astype(np.int32),
            "kind": np.array(kinds, np.int16),
            "flags": zero.astype(np.int16),
            "seq": quote["seq"].astype(np.int64),
            "ack": zero.astype(np.int64),
            "window": zero,
            "payload_length": zero,
            "ttl": error.ttl.astype(np.int16),
            "icmp_type": (both >> 8).astype(np.int16),
            "icmp_code": (both & 255).astype(np.int16),
            "quoted_address": quoted.destination,
        }

    def _skip(self, reason: str, which: npt.NDArray[np.bool_]) -> None:
        number = int(which.sum())
        if number:
            self.findings.skipped[reason] += number


def _joined(parts: list[Carried]) -> Carried:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.zeros(0, np.int64)
        octets = none.astype(np.uint8)
        return Carried(none, none, none, none, octets, octets, none, none, none > 0)
    return Carried(*(np.concatenate([getattr(part, name) for part in parts]) for name in Carried.__slots__))


def _options(data: Bytes, at: Ints, length: Ints) -> Any:
    """The octets [at, at + length) of each row as an Arrow binary array; lengths are few, so they are copied length by length."""
    ends = np.zeros(len(at) + 1, np.int32)
    np.cumsum(length, out=ends[1:])
    out = np.zeros(int(ends[-1]) + 64, np.uint8)
    for octets in np.flatnonzero(np.bincount(length, minlength=1)).tolist():
        if octets:
            rows = np.flatnonzero(length == octets)
            target = np.ndarray((len(out) - octets + 1,), f"V{octets}", out.data, strides=(1,))
            target[ends[rows]] = gather(data, at[rows], f"V{octets}")
    return pa.BinaryArray.from_buffers(pa.binary(), len(at), [None, pa.py_buffer(ends), pa.py_buffer(out)])
