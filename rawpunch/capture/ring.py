"""A capture ring shared with the kernel: every packet of one device, with the kernel's nanosecond time stamp.

A plain packet socket loses packets when its reader is late, and a rootless user may not enlarge its buffer. A ring
(packet_mmap, TPACKET_V2) is memory of our own: the kernel fills slot after slot without us, and we read when nothing is being
measured.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.errors import MachineCannot

SLOT: Final = 512
"""Octets of a slot. Its headers take 82 at most; a longer packet is cut, its true length kept."""
SLOTS: Final = 1 << 15

_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_TPACKET_V2: Final = 1
_ETH_P_ALL: Final = 3
_BLOCK: Final = 1 << 16
_STATUS_USER: Final = 1
_STATUS_KERNEL: Final = 0
_HEADER: Final = struct.Struct("=IIIHHII")  # status, len, snaplen, mac, net, sec, nsec
_PKTTYPE_AT: Final = 32 + 10
_PACKET_OUTGOING: Final = 4


class Ring:
    """The ring of one device in the calling thread's network namespace.

    Args:
        device: the device's name.
        slots: packets it holds between two readings.

    Raises:
        MachineCannot: no right to capture, or no such device.
    """

    def __init__(self, device: str, slots: int = SLOTS) -> None:
        self.slots = slots
        self.received = 0
        self.dropped = 0
        """Packets that came while the ring was full, counted by the kernel."""
        self._next = 0
        self._chunks: list[npt.NDArray[np.uint8]] = []
        try:
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            request = struct.pack("IIII", _BLOCK, slots * SLOT // _BLOCK, SLOT, slots)
            self._sock.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            self._map = mmap.mmap(self._sock.fileno(), slots * SLOT)
            self._sock.bind((device, _ETH_P_ALL))
        except OSError as error:
            raise MachineCannot(f"cannot capture on {device}", why=str(error), todo="rawpunch doctor") from error
        self._memory = np.frombuffer(self._map, np.uint8).reshape(slots, SLOT)
        self._status = self._memory.view(np.uint32)[:, 0]

    def fileno(self) -> int:
        """The socket's descriptor; readable when the ring is not empty."""
        return self._sock.fileno()

    @property
    def half_full(self) -> bool:
        """Whether it is time to drain."""
        return bool(self._status[(self._next + self.slots // 2) % self.slots] & _STATUS_USER)

    def drain(self) -> None:
        """Move what is in the ring aside, as it is, and give the slots back: a tenth of a microsecond a packet."""
        for _ in range(2):  # to the end of the ring, then from its beginning
            filled = self._status[self._next :] & _STATUS_USER
            count = int(filled.argmin()) if not filled.all() else len(filled)
            if count == 0:
                return
            taken = self._memory[self._next : self._next + count]
            heads = taken.view(np.uint32)
            widest = int((taken.view(np.uint16)[:, 6] + heads[:, 2]).max())
            self._chunks.append(taken[:, :widest].copy())
            self._status[self._next : self._next + count] = _STATUS_KERNEL
            self._next = (self._next + count) % self.slots

    def read(self) -> Iterator[tuple[int, bytes, int, bool]]:
        """Take all packets out, oldest first: time stamp in ns, octets (cut to the slot), true length, whether it left."""
        self.drain()
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            for slot in chunk:
                data = slot.tobytes()
                _, length, kept, mac, _, seconds, nanoseconds = _HEADER.unpack_from(data)
                outgoing = data[_PKTTYPE_AT] == _PACKET_OUTGOING
                yield seconds * 1_000_000_000 + nanoseconds, data[mac : mac + kept], length, outgoing

    def count(self) -> None:
        """Bring `received` and `dropped` up to date."""
        received, dropped = struct.unpack("II", self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self.received += received
        self.dropped += dropped

    def close(self) -> None:
        """Give the memory back."""
        del self._memory, self._status
        self._map.close()
        self._sock.close()
