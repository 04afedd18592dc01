"""A transmit ring shared with the kernel: a thousand packets are written with numpy and sent by one system call.

packet_mmap with TPACKET_V2, the counterpart of the capture ring. Packets carry their link header, so whom they go to next is
looked up in the kernel's own tables (`next_hop`). They pass the queueing discipline and taps as any packet does.
"""

from __future__ import annotations

import mmap
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.clock import now_ns
from rawpunch.errors import MachineCannot
from rawpunch.units import SECOND
from rawpunch.wire.codec import packed_address

SLOTS: Final = 1024
"""Packets that are handed over at once."""
_SLOT: Final = 256
_DATA_AT: Final = 32
"""TPACKET2_HDRLEN - sizeof(struct sockaddr_ll): where the kernel looks for a slot's packet."""
_LINK: Final = 14
MOST_OCTETS: Final = _SLOT - _DATA_AT - _LINK
"""Of an IP packet."""
_BLOCK: Final = 1 << 16
_SOL_PACKET: Final = 263
_PACKET_VERSION: Final = 10
_PACKET_TX_RING: Final = 13
_TPACKET_V2: Final = 1
_ETH_P_IP: Final = 0x0800
_AVAILABLE: Final = 0
_SEND_REQUEST: Final = 1
_WRONG_FORMAT: Final = 4
_WAIT_NS: Final = 2 * SECOND
_NAP_S: Final = 0.0005

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Hop:
    """The next node on the way to an address."""

    device: str
    address: str
    """The router's, or the target's own."""
    mac: bytes
    """b"" if the kernel does not know it yet."""


def next_hop(target: str, *, routes: str | None = None, neighbours: str | None = None) -> Hop:
    """How to get to an IPv4 address, by the kernel's tables of the calling thread's network namespace.

    Args:
        target: where to.
        routes: the text of /proc/net/route; read if it is not given.
        neighbours: the text of /proc/net/arp.

    Raises:
        MachineCannot: no route leads there.
    """
    wanted = int.from_bytes(packed_address(target), "big")
    if wanted >> 24 == 127:
        return Hop("lo", target, bytes(6))
    best: tuple[int, int, str, int] | None = None
    for line in (Path("/proc/thread-self/net/route").read_text() if routes is None else routes).splitlines()[1:]:
        fields = line.split()
        network, gateway, mask = (socket.ntohl(int(fields[place], 16)) for place in (1, 2, 7))
        found = (mask, -int(fields[6]), fields[0], gateway)
        if int(fields[3], 16) & 1 and wanted & mask == network and (best is None or found[:2] > best[:2]):
            best = found
    if best is None:
        raise MachineCannot(f"no route leads to {target}", todo="rawpunch doctor")
    device, gateway = best[2], best[3]
    via = socket.inet_ntoa(gateway.to_bytes(4, "big")) if gateway else target
    for line in (Path("/proc/thread-self/net/arp").read_text() if neighbours is None else neighbours).splitlines()[1:]:
        fields = line.split()
        if (fields[0], fields[5]) == (via, device) and int(fields[2], 16) & 2:
            return Hop(device, via, bytes.fromhex(fields[3].replace(":", "")))
    return Hop(device, via, b"")


@dataclass(frozen=True, slots=True)
class Counters:
    """What a device has sent."""

    packets: int
    dropped: int

    @classmethod
    def of(cls, device: str, text: str | None = None) -> Counters:
        """Read them, from /proc/net/dev or its text.

        Raises:
            MachineCannot: there is no such device.
        """
        for line in (Path("/proc/thread-self/net/dev").read_text() if text is None else text).splitlines():
            name, colon, numbers = line.partition(":")
            if colon and name.strip() == device:
                fields = numbers.split()
                return cls(int(fields[9]), int(fields[11]))
        raise MachineCannot(f"there is no device {device}")

    def __sub__(self, before: Counters) -> Counters:
        return Counters(self.packets - before.packets, self.dropped - before.dropped)


class TxRing:
    """The ring of one device, towards one neighbour.

    Args:
        hop: where packets go; its MAC address is known.

    Raises:
        MachineCannot: no right to open packet sockets, or no such device.
    """

    def __init__(self, hop: Hop) -> None:
        self._next = 0
        with ExitStack() as undo:
            try:
                self._sock = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                self._sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
                request = struct.pack("IIII", _BLOCK, SLOTS * _SLOT // _BLOCK, _SLOT, SLOTS)
                self._sock.setsockopt(_SOL_PACKET, _PACKET_TX_RING, request)
                self._sock.bind((hop.device, _ETH_P_IP))
                self._memory = mmap.mmap(self._sock.fileno(), SLOTS * _SLOT)
            except OSError as error:
                raise MachineCannot("cannot set up a ring to send from", why=str(error), todo="rawpunch doctor") from error
            undo.pop_all()
        self._slots: Octets = np.frombuffer(self._memory, np.uint8).reshape(SLOTS, _SLOT)
        self._status = self._slots[:, 0:4].view(np.uint32)[:, 0]
        self._lengths = self._slots[:, 4:8].view(np.uint32)[:, 0]
        own: bytes = self._sock.getsockname()[4] or bytes(6)
        head = hop.mac + own + _ETH_P_IP.to_bytes(2, "big")
        self._slots[:, _DATA_AT : _DATA_AT + _LINK] = np.frombuffer(head, np.uint8)

    def send(self, packets: Octets) -> int:
        """Send IP packets, a row each and at most `SLOTS` of them; returns how many the kernel took.

        The kernel goes on where it stopped the last time, round and round, and so do we.

        Raises:
            MachineCannot: the device is down, or does not send.
        """
        count, octets = packets.shape
        where = (self._next + np.arange(count)) % SLOTS
        self._slots[where, _DATA_AT + _LINK : _DATA_AT + _LINK + octets] = packets
        self._lengths[where] = _LINK + octets
        self._status[where] = _SEND_REQUEST
        try:
            self._sock.send(b"")
        except OSError as error:
            if not (self._status[where] == _WRONG_FORMAT).any():
                raise MachineCannot("the device does not send", why=str(error)) from error
        deadline = now_ns() + _WAIT_NS
        while (waiting := (self._status[where] != _AVAILABLE) & (self._status[where] != _WRONG_FORMAT)).any():
            if now_ns() > deadline:
                raise MachineCannot(f"the device did not send {int(waiting.sum())} packets within {_WAIT_NS // SECOND} s")
            time.sleep(_NAP_S)
        self._next = (self._next + count) % SLOTS
        return int((self._status[where] == _AVAILABLE).sum())

    def close(self) -> None:
        """Give the memory back."""
        del self._slots, self._status, self._lengths
        self._memory.close()
        self._sock.close()
