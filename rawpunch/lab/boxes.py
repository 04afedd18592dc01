"""A NAT in user space: the NAT machine between two devices of a namespace, whose kernel keeps out of it.

Packets come in at both devices, the machine decides on each of them, and what it passes leaves as it came but for what the
machine changed: identification, type of service and the order of options are as they were.
"""

from __future__ import annotations

import gc
import random
import select
from collections import Counter
from itertools import islice
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import Malformed, RawpunchError
from rawpunch.lab.box_port import BoxPort
from rawpunch.machine import Arrived, Effect, Refused, Send, Woke
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.reading import behavior_of
from rawpunch.wire.codec import decode, encode, encode_icmp_error
from rawpunch.wire.rewriting import rewrite
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

STRANGE: Final = "neither TCP nor an ICMP error about it"
OVERRUN: Final = "came while the box was behind"
"""Reasons of the box's own, beside those of the machine."""

_IPV4: Final = 4
_AT_ONCE: Final = 256
_IDLE_S: Final = 1.0
_DEVICES: Final = {INSIDE: "in", OUTSIDE: "out"}


class Translator:
    """Packets in, packets out: the machine between their octets. It knows no sockets.

    Args:
        machine: the NAT.
    """

    def __init__(self, machine: NatBox) -> None:
        self.machine = machine
        self.refused: Counter[str] = Counter()

    def take(self, data: bytes, port: str, now: int) -> list[tuple[str, bytes]]:
        """What leaves where because of a packet that came in at a port: (port, packet)."""
        packet = self._packet_in(data)
        if packet is None:
            self.refused[STRANGE] += 1
            return []
        return self._told(self.machine.step(Arrived(packet, port), now=now), data, packet)

    def _packet_in(self, data: bytes) -> Packet | None:
        if not data or data[0] >> 4 != _IPV4:
            return None
        try:
            return decode(data, options=self.machine.reads_options)
        except Malformed:
            return None

    def wake(self, now: int) -> list[tuple[str, bytes]]:
        """What leaves where because of the machine's timers."""
        return self._told(self.machine.step(Woke(), now=now))

    def _told(self, effects: list[Effect], data: bytes = b"", came: Packet | None = None) -> list[tuple[str, bytes]]:
        leaving = []
        for effect in effects:
            if isinstance(effect, Send):
                packet = effect.packet
                if isinstance(packet, IcmpError):
                    octets = encode_icmp_error(packet, _quoted(packet))
                elif isinstance(came, Segment):
                    octets = rewrite(data, came, packet)
                else:
                    octets = encode(packet)
                leaving.append((effect.port, octets))
            elif isinstance(effect, Refused):
                self.refused[str(effect.reason)] += 1
        return leaving


def _quoted(error: IcmpError) -> bytes:
    """The quoted packet as far as an ICMP error tells of it: addresses, ports, sequence number."""
    return encode(Segment(error.quoted.source, error.quoted.destination, Flags.SYN, error.quoted_seq))


class Box:
    """One NAT machine between the devices `in` and `out` of the calling thread's network namespace.

    Args:
        machine: the NAT.
        headers: port -> the Ethernet header of frames that leave there.

    Raises:
        MachineCannot: no right to open packet sockets.
    """

    def __init__(self, machine: NatBox, headers: dict[str, bytes]) -> None:
        self.translator = Translator(machine)
        self._ports = {port: BoxPort(device, headers[port]) for port, device in _DEVICES.items()}
        self.ports = {port.fileno(): name for name, port in self._ports.items()}

    def receive(self, port: str) -> None:
        """Take in what waits at a port, but not so much that the other one waits long."""
        take, ports = self.translator.take, self._ports
        for data in islice(ports[port].receive(), _AT_ONCE):
            for leaving, octets in take(data, port, now_ns()):
                ports[leaving].send(octets)

    def wake(self) -> None:
        """Let the machine look at its timers."""
        for leaving, octets in self.translator.wake(now_ns()):
            self._ports[leaving].send(octets)

    def refused(self) -> dict[str, int]:
        """Packets that did not pass since the beginning, by reason."""
        lost = sum(port.lost for port in self._ports.values())
        return dict(self.translator.refused) | ({OVERRUN: lost} if lost else {})


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
    gc.disable()  # sessions by the ten thousand, none of them in a cycle, would stall it for tens of ms
    channel.send({"ready": True})
    while True:
        deadline = box.translator.machine.deadline
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
                box.translator.machine = box_for(message["behavior"])
            channel.send({"refused": box.refused()})
        if deadline is not None and deadline <= now_ns():
            box.wake()
