"""One device of a box: frames in through a ring shared with the kernel, frames out through a packet socket.

A plain packet socket holds a few hundred packets and a rootless user may not enlarge it, so a stall of some 10 ms loses some. A
ring (packet_mmap, TPACKET_V2) is memory of our own; besides, a packet that is in it needs no system call.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from itertools import cycle
from typing import Final

from rawpunch.errors import MachineCannot

SLOT: Final = 2048
"""Octets of a slot: a whole Ethernet frame and the kernel's headers."""
SLOTS: Final = 8192
"""Frames that wait: 0.4 s of 20,000 a second."""
HEADER_OCTETS: Final = 14
"""Of an Ethernet frame."""
OUTLETS: Final = 16
"""Sockets that frames leave by in turn. What left counts against its socket's buffer until somebody has taken it in, a delay
line's queue included; a rootless user may not enlarge that buffer, which holds a few hundred frames and then blocks."""

_ETH_P_IP: Final = 0x0800
_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_PACKET_IGNORE_OUTGOING: Final = 23
_TPACKET_V2: Final = 1
_BLOCK: Final = 1 << 16
_STATUS_USER: Final = 1
_FREE: Final = bytes(4)
"""TP_STATUS_KERNEL."""
_HEADER: Final = struct.Struct("=IIIHH")  # status, len, snaplen, mac, net


class BoxPort:
    """A device of the calling thread's network namespace.

    Args:
        device: its name.
        header: the Ethernet header of frames that leave there.

    Raises:
        MachineCannot: no right to open packet sockets, or no such device.
    """

    def __init__(self, device: str, header: bytes) -> None:
        self._frame_header = header
        self._next = 0
        self._lost = 0
        try:
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            self._sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            request = struct.pack("IIII", _BLOCK, SLOTS * SLOT // _BLOCK, SLOT, SLOTS)
            self._sock.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            self._map = mmap.mmap(self._sock.fileno(), SLOTS * SLOT)
            self._sock.bind((device, _ETH_P_IP))
            outlets = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) for _ in range(OUTLETS)]
            for outlet in outlets:
                outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SLOTS * SLOT)
                outlet.bind((device, 0))
        except OSError as error:
            raise MachineCannot(f"cannot be a NAT on {device}", why=str(error), todo="rawpunch doctor") from error

        self._outlets = cycle(outlets)

    def fileno(self) -> int:
        """The socket's descriptor; readable when a frame waits."""
        return self._sock.fileno()

    def receive(self) -> Iterator[bytes]:
        """The IP packets that wait, without link-layer header; what comes meanwhile is among them."""
        ring, read = self._map, _HEADER.unpack_from
        while True:
            at = self._next
            status, _, kept, mac, _ = read(ring, at)
            if not status & _STATUS_USER:
                return
            packet = ring[at + mac + HEADER_OCTETS : at + mac + kept]
            ring[at : at + 4] = _FREE
            self._next = (at + SLOT) % (SLOTS * SLOT)
            yield packet

    def send(self, packet: bytes) -> None:
        """Send an IP packet.

        Raises:
            OSError: the device is gone or down.
        """
        next(self._outlets).send(self._frame_header + packet)

    @property
    def lost(self) -> int:
        """Packets that came while the ring was full, counted by the kernel since the beginning."""
        _, dropped = struct.unpack("II", self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._lost += dropped
        return self._lost
