"""What happened in a punch: the steps that were taken, and the packets of its port, where they can be seen."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from rawpunch.clock import now_ns
from rawpunch.units import SECOND

_ETH_P_ALL: Final = 0x0003
_SO_TIMESTAMPNS: Final = 35
_SO_ATTACH_FILTER: Final = 26
_OUTGOING: Final = 4
_OCTETS: Final = 2_048
_BUFFER: Final = 1 << 20
_TIMESPEC: Final = struct.Struct("ll")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened."""

    at_ns: int
    text: str


def of_port(port: int) -> bytes:
    """A classic BPF program that passes TCP segments from or to a port, first fragments only, and ICMP (linux/filter.h)."""
    lines = [  # code, jump if true, jump if false, operand; offsets count from the IP header
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 8, 0, socket.IPPROTO_ICMP),
        (0x15, 0, 8, socket.IPPROTO_TCP),
        (0x28, 0, 0, 6),  # the fragment's offset
        (0x45, 6, 0, 0x1FFF),
        (0xB1, 0, 0, 0),  # the header's length
        (0x48, 0, 0, 0),
        (0x15, 2, 0, port),
        (0x48, 0, 0, 2),
        (0x15, 0, 1, port),
        (0x06, 0, 0, _OCTETS),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


class PunchLog:
    """Notes, and where this process may, the packets of one port.

    Args:
        tell: called with each note as it is made.
        packets: whether packets are wanted.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None, *, packets: bool = False) -> None:
        self.notes: list[Note] = []
        self._wanted = packets
        self._tell = tell
        self._sock: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sock is not None:
            threading.Thread(target=self._sock.close, name="close").start()  # the kernel takes 15 ms; nobody has to wait
            self._sock = None

    def note(self, text: str, at_ns: int | None = None) -> None:
        """Something happened."""
        self.notes.append(Note(now_ns() if at_ns is None else at_ns, text))
        self._tell(text)

    def watch(self, port: int) -> bool:
        """Keep the packets of a port from now on, as many as a megabyte holds; whether that is wanted and possible."""
        if not self._wanted:
            return False
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
        except PermissionError:
            return False
        program = ctypes.create_string_buffer(of_port(port))
        lines = (len(program) - 1) // 8
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", lines, ctypes.addressof(program)))
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._sock = sock
        return True

    def octets(self) -> Iterator[tuple[int, bool, bytes]]:
        """The packets since the last call, from their IP headers on: when they passed in ns, and whether they left."""
        while self._sock is not None:
            try:
                octets, ancillary, _, address = self._sock.recvmsg(_OCTETS, 64)
            except BlockingIOError:
                return
            stamps = [data for level, kind, data in ancillary if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)]
            seconds, rest = _TIMESPEC.unpack(stamps[0]) if stamps else divmod(now_ns(), SECOND)
            yield seconds * SECOND + rest, address[2] == _OUTGOING, octets

    @property
    def has_packets(self) -> bool:
        """Whether packets were kept."""
        return self._sock is not None
