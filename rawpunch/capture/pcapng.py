"""Writing pcapng: nanoseconds, interface names, direction, original length, comments, and how many packets the capture lost.

The format is draft-ietf-opsawg-pcapng: a section header block, one interface description block per interface, one enhanced
packet block per packet, one interface statistics block per interface. Numbers are little-endian. scapy's writer truncates to
microseconds and knows no names, therefore this one.
"""

from __future__ import annotations

import os
import platform
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from rawpunch.errors import BadParameter, PartialData
from rawpunch.version import __version__

ETHERNET: Final = 1
"""LINKTYPE_ETHERNET."""
RAW_IP: Final = 101
"""LINKTYPE_RAW: packets begin with the IP header."""

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER: Final = 0x1A2B3C4D
_COMMENT, _HARDWARE, _OS, _APPLICATION = 1, 2, 3, 4  # opt_comment, shb_hardware, shb_os, shb_userappl
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_ISB_IFRECV, _ISB_IFDROP = 4, 5
_EPB_FLAGS: Final = 2
_NANOSECONDS: Final = b"\x09"
_OPTION_MAX: Final = 0xFFFF

_PACKET_HEAD: Final = struct.Struct("<IIIIIII")
_STATISTICS_HEAD: Final = struct.Struct("<III")
_COUNT: Final = struct.Struct("<Q")
_DIRECTION: Final = {outgoing: struct.pack("<HHIHH", _EPB_FLAGS, 4, flags, 0, 0) for outgoing, flags in ((False, 1), (True, 2))}
"""The options of a packet block whose direction is known: epb_flags (1 inbound, 2 outbound) and the end of options."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Where packets were seen."""

    name: str
    """Name of the vantage point or device."""
    link_type: int = ETHERNET
    """LINKTYPE_ number."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One packet as it was captured."""

    time_ns: int
    """Nanoseconds since the Unix epoch, 0 .. 2**64 - 1."""
    interface: int
    """Index of its interface in the list given to the writer."""
    data: bytes
    """The captured octets, from the link layer up."""
    original_length: int
    """Octets on the wire; more than len(data) where the capture cut it."""
    outgoing: bool | None = None
    """Whether it left the interface (True), came in (False), or nobody knows."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a capture on one interface counted."""

    received: int | None = None
    """Packets that the interface received since the capture began."""
    dropped: int | None = None
    """Packets lost for lack of room."""
    time_ns: int | None = None
    """When it was counted; the last packet's time where it is not given."""


def write_pcapng(
    path: str | os.PathLike[str],
    interfaces: Sequence[Interface],
    packets: Iterable[Recorded],
    *,
    comment: str = "",
    statistics: Mapping[int, Statistics] | None = None,
) -> Path:
    """Write a capture file whole or not at all: under a temporary name, flushed to the disk, then renamed.

    Args:
        path: the file; its folder exists.
        interfaces: all interfaces that the packets name.
        packets: in the order in which they are to be numbered.
        comment: the section's comment.
        statistics: index of an interface -> what was counted there.

    Returns:
        The path.

    Raises:
        BadParameter: a packet or count names an interface that is not in the list, or a number does not fit its field.
        PartialData: the file could not be written (disk full, no permission); nothing is left behind.
    """
    target = Path(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb", buffering=1 << 18) as file:
            for block in _blocks(interfaces, packets, comment, statistics or {}):
                file.write(block)
            _settle(file)
        Path(temporary).chmod(0o644)
        Path(temporary).rename(target)
    except OSError as error:
        raise PartialData(f"the capture {target} could not be written", why=str(error.strerror or error)) from error
    finally:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
    return target


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _blocks(
    interfaces: Sequence[Interface], packets: Iterable[Recorded], comment: str, statistics: Mapping[int, Statistics]
) -> Iterator[bytes]:
    yield _section(comment)
    for interface in interfaces:
        yield _interface(interface)
    count = len(interfaces)
    last_ns = 0
    for packet in packets:
        if not 0 <= packet.interface < count:
            raise BadParameter(f"a packet names interface {packet.interface}, and there are {count}")
        last_ns = max(last_ns, packet.time_ns)
        yield _packet(packet)
    for index, counted in sorted(statistics.items()):
        if not 0 <= index < count:
            raise BadParameter(f"statistics name interface {index}, and there are {count}")
        yield _statistics(index, counted, last_ns)


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    value = value[:_OPTION_MAX]
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _options(*pairs: tuple[int, str | bytes]) -> bytes:
    """The options that have a value, and the end of options."""
    body = b"".join(_option(code, value.encode() if isinstance(value, str) else value) for code, value in pairs if value)
    return body + bytes(4) if body else b""


def _section(comment: str) -> bytes:
    options = _options(
        (_COMMENT, comment),
        (_HARDWARE, platform.machine()),
        (_OS, f"{platform.system()} {platform.release()}"),
        (_APPLICATION, f"rawpunch {__version__}"),
    )
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + options)


def _interface(interface: Interface) -> bytes:
    options = _options((_IF_NAME, interface.name), (_IF_DESCRIPTION, interface.description), (_IF_TSRESOL, _NANOSECONDS))
    return _block(_INTERFACE, struct.pack("<HHI", interface.link_type, 0, 0) + options)


def _packet(packet: Recorded) -> bytes:
    captured = len(packet.data)
    options = b"" if packet.outgoing is None else _DIRECTION[packet.outgoing]
    padding = bytes(-captured % 4)
    length = 32 + captured + len(padding) + len(options)
    original = max(packet.original_length, captured)
    head = _fitted(_PACKET_HEAD, _PACKET, length, packet.interface, *_halves(packet.time_ns), captured, original)
    return b"".join((head, packet.data, padding, options, length.to_bytes(4, "little")))


def _statistics(index: int, counted: Statistics, last_ns: int) -> bytes:
    time_ns = last_ns if counted.time_ns is None else counted.time_ns
    pairs = ((_ISB_IFRECV, counted.received), (_ISB_IFDROP, counted.dropped))
    options = _options(*((code, _fitted(_COUNT, value)) for code, value in pairs if value is not None))
    return _block(_STATISTICS, _fitted(_STATISTICS_HEAD, index, *_halves(time_ns)) + options)


def _halves(time_ns: int) -> tuple[int, int]:
    return time_ns >> 32, time_ns & 0xFFFFFFFF


def _fitted(shape: struct.Struct, *values: int) -> bytes:
    try:
        return shape.pack(*values)
    except struct.error as error:
        raise BadParameter(f"a number of {values} does not fit its field in a pcapng block") from error
