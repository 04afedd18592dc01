"""A NAT in user space: the NAT machine between two devices of a namespace, whose kernel keeps out of it.

Packets come in through packet sockets on both devices, the machine decides, and what it sends leaves as whole frames with all
checksums made anew. Options keep their order; IP identification and type of service are not carried over.
"""

from __future__ import annotations

import gc
import random
import select
import socket
from collections import Counter
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import Malformed, RawpunchError
from rawpunch.machine import Arrived, Effect, Refused, Send, Woke
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.reading import behavior_of
from rawpunch.wire.codec import decode, encode, encode_icmp_error
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

_ETH_P_IP: Final = 0x0800
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_FRAME: Final = 14
_OCTETS: Final = 65_536
_IDLE_S: Final = 1.0


class Box:
    """One NAT machine between the devices `in` and `out` of the calling thread's network namespace.

    Args:
        machine: the NAT.
        headers: port -> the Ethernet header of frames that leave there.
    """

    def __init__(self, machine: NatBox, headers: dict[str, bytes]) -> None:
        self.machine = machine
        self.refused: Counter[str] = Counter()
        self._headers = headers
        self._sockets = {INSIDE: _socket("in"), OUTSIDE: _socket("out")}
        self.ports = {sock.fileno(): port for port, sock in self._sockets.items()}

    def receive(self, port: str) -> None:
        """Take in everything that waits at a port."""
        sock = self._sockets[port]
        while True:
            try:
                frame = sock.recv(_OCTETS)
            except BlockingIOError:
                return
            try:
                packet = decode(frame[_FRAME:])
            except Malformed:
                self.refused["neither TCP nor an ICMP error about it"] += 1
                continue
            self._carry_out(self.machine.step(Arrived(packet, port), now=now_ns()))

    def wake(self) -> None:
        """Let the machine look at its timers."""
        self._carry_out(self.machine.step(Woke(), now=now_ns()))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(packet, port):
                    self._sockets[port].send(self._headers[port] + _octets(packet))
                case Refused(_, reason):
                    self.refused[str(reason)] += 1


def _socket(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.bind((device, _ETH_P_IP))
    return sock


def _octets(packet: Packet) -> bytes:
    if isinstance(packet, Segment):
        return encode(packet)
    return encode_icmp_error(packet, _quoted(packet))


def _quoted(error: IcmpError) -> bytes:
    """The quoted packet as far as an ICMP error tells of it: addresses, ports, sequence number."""
    return encode(Segment(error.quoted.source, error.quoted.destination, Flags.SYN, error.quoted_seq))


def serve(
    channel: Channel, behavior: dict[str, Any], external: list[str], inside: str, headers: dict[str, str], seed: int
) -> None:
    """Be a NAT until the channel closes. Requests: ``{"behavior": TABLE}`` starts anew with another behaviour.

    Args:
        channel: to the lab's owner.
        behavior: `Behavior` as a table.
        external: its outside addresses.
        inside: its inside address.
        headers: port -> Ethernet header, in hexadecimal.
        seed: of its chance.
    """
    be_punctual()
    dice = random.Random(seed)  # noqa: S311  ports of a lab, and the same ones again for the same seed
    frames = {port: bytes.fromhex(header) for port, header in headers.items()}

    def box_for(table: dict[str, Any]) -> NatBox:
        return NatBox(behavior_of(table), external, dice=dice, inside=inside)

    box = Box(box_for(behavior), frames)
    gc.freeze()
    channel.send({"ready": True})
    while True:
        deadline = box.machine.deadline
        rest = _IDLE_S if deadline is None else max(min((deadline - now_ns()) / 1e9, _IDLE_S), 0)
        readable = select.select([channel.fileno(), *box.ports], [], [], rest)[0]
        for descriptor in readable:
            if descriptor != channel.fileno():
                box.receive(box.ports[descriptor])
                continue
            try:
                message, _ = channel.receive()
            except RawpunchError:
                return
            if "behavior" in message:
                box.machine = box_for(message["behavior"])
            channel.send({"refused": dict(box.refused)})
        if deadline is not None and deadline <= now_ns():
            box.wake()
