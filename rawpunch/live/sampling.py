"""Many SYNs sent at once, and taken in elsewhere: which external port a NAT gives to each.

The packets are made all together with numpy before the first one leaves, and sent by a raw socket; what arrives is read from a
ring, without a system call for each. Every SYN carries its number in its timestamp option, so that each is accounted for even
behind a NAT that shifts sequence numbers.
"""

from __future__ import annotations

import gc
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.ring import Ring
from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import MachineCannot, RawpunchError
from rawpunch.wire.codec import encode, packed_address
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, Option, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import Flags, Segment

OPTIONS_AT: Final = 40
NUMBER_AT: Final = 48
"""Where a sample's packet has its options, and in them its number: MSS, SACK permitted, timestamps, as Linux orders them."""
OCTETS: Final = 60

_ISN: Final = 1 << 30
_NAP_S: Final = 0.0002
_PAUSE_S: Final = 0.05
_FRAME: Final = 14
_ROW: Final = np.dtype(
    [
        ("time_ns", np.int64),
        ("number", np.uint32),
        ("isn", np.uint32),
        ("address", np.uint32),
        ("port", np.uint16),
        ("remote_address", np.uint32),
        ("remote_port", np.uint16),
    ]
)

Octets = npt.NDArray[np.uint8]
Arrivals = npt.NDArray[np.void]
"""What came: one row of `_ROW` for each SYN, the endpoint it seemed to come from and the one it came to."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One SYN of a sample."""

    number: int
    """Its number, in the timestamp option."""
    source: Endpoint
    remote: Endpoint

    @property
    def isn(self) -> int:
        """Its initial sequence number: far from zero, where conntrack takes a RST with number 0 for one in the window."""
        return _ISN + self.number

    def segment(self) -> Segment:
        """Its SYN."""
        return Segment(self.source, self.remote, Flags.SYN, self.isn, options=options_of(self.number))


def options_of(number: int) -> tuple[Option, ...]:
    """The TCP options of a sample's SYN, as a Linux host's."""
    return (Mss(1460), SackPermitted(), Timestamps(number, 0), Nop(), WindowScale(7))


def syns(connections: Sequence[Connection]) -> Octets:
    """The IP packets of many SYNs at once: one row of `OCTETS` each, checksums right. IPv4 only."""
    one = encode(Segment(Endpoint("0.0.0.0", 0), Endpoint("0.0.0.0", 0), Flags.SYN, 0, options=options_of(0)))  # noqa: S104
    packets = np.tile(np.frombuffer(one, np.uint8), (len(connections), 1))
    for at, ends in ((12, [c.source for c in connections]), (16, [c.remote for c in connections])):
        packed = b"".join(packed_address(end.address) for end in ends)
        packets[:, at : at + 4] = np.frombuffer(packed, np.uint8).reshape(-1, 4)
        packets[:, 20 + (at - 12) // 2 : 22 + (at - 12) // 2] = _words([end.port for end in ends], ">u2")
    packets[:, 24:28] = _words([connection.isn for connection in connections], ">u4")
    packets[:, NUMBER_AT : NUMBER_AT + 4] = _words([connection.number for connection in connections], ">u4")
    packets[:, 10:12] = packets[:, 36:38] = 0
    words = packets.view(">u2").astype(np.int64)
    # the pseudo header's protocol and length stand for themselves (RFC 9293, section 3.1)
    packets[:, 36:38] = _folded(words[:, 6:].sum(axis=1) + 6 + OCTETS - 20)
    packets[:, 10:12] = _folded(words[:, :10].sum(axis=1))
    return packets


def _words(values: Sequence[int], kind: str) -> Octets:
    return np.array(values, kind).view(np.uint8).reshape(len(values), -1)


def _folded(sums: npt.NDArray[np.int64]) -> Octets:
    """Checksums of sums of 16-bit words (RFC 1071)."""
    rest = sums % 0xFFFF
    return (0xFFFF - np.where(rest == 0, 0xFFFF, rest)).astype(">u2").view(np.uint8).reshape(-1, 2)


def send(packets: Octets, *, interval_ns: int = 0) -> tuple[int, int]:
    """Send IP packets in order; returns when the first and the last one were handed to the kernel.

    Args:
        packets: from `syns`.
        interval_ns: between one and the next; what is late is made up for.

    Raises:
        MachineCannot: no right to open raw sockets, or no route.
    """
    outlets: dict[bytes, socket.socket] = {}
    try:
        ready = [(_outlet(outlets, packet[16:20]).send, packet) for packet in map(bytes, packets)]
        start = now = now_ns()
        for number, (put, packet) in enumerate(ready):
            due = start + number * interval_ns
            while interval_ns and (now := now_ns()) < due:
                time.sleep(_NAP_S if due - now > 2 * _NAP_S * 1e9 else 0)
            put(packet)
        return start, now_ns()
    except OSError as error:
        raise MachineCannot("cannot send samples", why=str(error), todo="rawpunch doctor") from error
    finally:
        for outlet in outlets.values():
            outlet.close()


def _outlet(outlets: dict[bytes, socket.socket], address: bytes) -> socket.socket:
    """The raw socket that is connected to an address: that spares a look-up for each packet."""
    outlet = outlets.get(address)
    if outlet is None:
        outlet = outlets[address] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        outlet.connect((socket.inet_ntoa(address), 0))
    return outlet


class Watch:
    """Takes in samples at one device, whoever sends them.

    Args:
        device: its name, in the calling thread's network namespace.

    Raises:
        MachineCannot: no right to capture, or no such device.
    """

    def __init__(self, device: str) -> None:
        self._ring = Ring(device)

    def drain(self) -> None:
        """Make room in the ring, if it is filling up."""
        if self._ring.half_full:
            self._ring.drain()

    def arrivals(self) -> tuple[Arrivals, int]:
        """The SYNs since the last call, in their order, and how many packets the ring has lost since it began."""
        times, packets = [], []
        for time_ns, data, _, outgoing in self._ring.read():
            packet = data[_FRAME : _FRAME + OCTETS]
            if not outgoing and len(packet) == OCTETS and packet[0] == 0x45 and packet[9] == 6 and packet[33] == Flags.SYN:
                times.append(time_ns)
                packets.append(packet)
        self._ring.count()
        return _rows(times, b"".join(packets)), self._ring.dropped

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()


def _rows(times: Sequence[int], octets: bytes) -> Arrivals:
    packets = np.frombuffer(octets, np.uint8).reshape(-1, OCTETS)
    rows = np.zeros(len(packets), _ROW)
    rows["time_ns"] = times
    for name, at in (("number", NUMBER_AT), ("isn", 24), ("address", 12), ("remote_address", 16)):
        rows[name] = np.ascontiguousarray(packets[:, at : at + 4]).view(">u4")[:, 0]
    for name, at in (("port", 20), ("remote_port", 22)):
        rows[name] = np.ascontiguousarray(packets[:, at : at + 2]).view(">u2")[:, 0]
    return rows


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of many SYNs: each is mapped or lost."""

    connections: Sequence[Connection]
    mapped: dict[int, tuple[int, Endpoint]]
    """Number -> when it was seen outside (ns), and the endpoint that it came from."""

    @property
    def lost(self) -> list[Connection]:
        """Those that never came."""
        return [connection for connection in self.connections if connection.number not in self.mapped]


def matched(connections: Sequence[Connection], arrivals: Arrivals) -> Sample:
    """Join what was sent with what came, by number; strangers and repetitions are left out."""
    wanted = np.fromiter((connection.number for connection in connections), np.uint32, len(connections))
    mine = arrivals[np.isin(arrivals["number"], wanted)]
    _, first = np.unique(mine["number"], return_index=True)
    mine = mine[np.sort(first)]
    texts = {int(address): socket.inet_ntoa(struct.pack("!I", address)) for address in np.unique(mine["address"])}
    ends = (Endpoint(texts[address], port) for address, port in zip(mine["address"].tolist(), mine["port"].tolist(), strict=True))
    found = zip(mine["number"].tolist(), mine["time_ns"].tolist(), ends, strict=True)
    return Sample(connections, {number: (time_ns, end) for number, time_ns, end in found})


# --- workers of a lab ---


def serve(channel: Channel) -> None:
    """Send samples until the channel closes. Requests: ``{"sample": [[number, source, remote] ...], "interval_ns": NS}``."""
    be_punctual()
    channel.send({"ready": True})
    for message in _requests(channel):
        connections = [
            Connection(number, Endpoint.parse(source), Endpoint.parse(remote)) for number, source, remote in message["sample"]
        ]
        try:
            first_ns, last_ns = send(syns(connections), interval_ns=message["interval_ns"])
        except RawpunchError as error:
            channel.send({"error": error.what, "why": error.why, "todo": error.todo})
        else:
            channel.send({"first_ns": first_ns, "last_ns": last_ns})


def watch(channel: Channel, device: str) -> None:
    """Take samples in until the channel closes. Requests: ``{"arrivals": PATH}`` writes, as numpy does, those since the last."""
    watching = Watch(device)
    gc.disable()  # long lists of packets, and nothing cyclic
    channel.send({"ready": True})
    while True:
        if not select.select([channel], [], [], _PAUSE_S)[0]:
            watching.drain()
            continue
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        rows, lost = watching.arrivals()
        with Path(message["arrivals"]).open("wb") as file:
            np.save(file, rows)
        channel.send({"arrived": len(rows), "lost": lost})


def _requests(channel: Channel) -> Iterator[dict[str, Any]]:
    with suppress(RawpunchError):  # its owner has gone
        while True:
            message, _ = channel.receive()
            yield message
