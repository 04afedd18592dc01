"""The delay line: the core's forwarded packets, held in NetfilterQueue and released when their link machine says so."""

from __future__ import annotations

import gc
import os
import select
import warnings
from functools import partial
from typing import Final

import netfilterqueue

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import RawpunchError
from rawpunch.link.link import Link
from rawpunch.units import MS, US

_SPIN_NS: Final = 120 * US
_IDLE_NS: Final = 100 * MS
_QUEUE_LENGTH: Final = 65_535
_SOCKET_OCTETS: Final = 8 << 20


class DelayLine:
    """One NetfilterQueue and one link machine per pair of devices.

    Args:
        delays: queue number -> delay in ns.

    The queue belongs to the network namespace of the thread that makes this object. Packets still held when the process ends are
    dropped by the kernel.
    """

    def __init__(self, delays: dict[int, int]) -> None:
        self.links: dict[int, Link[netfilterqueue.Packet]] = {}
        self.queues: dict[int, netfilterqueue.NetfilterQueue] = {}
        self.by_descriptor: dict[int, netfilterqueue.NetfilterQueue] = {}
        self.held = 0
        for number, delay_ns in delays.items():
            self.links[number] = Link(delay_ns=delay_ns)
            queue = netfilterqueue.NetfilterQueue()
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # it warns of the size it was asked for
                queue.bind(number, partial(self._arrived, number), max_len=_QUEUE_LENGTH, sock_len=_SOCKET_OCTETS)
            self.queues[number] = queue
            self.by_descriptor[queue.get_fd()] = queue

    def _arrived(self, number: int, packet: netfilterqueue.Packet) -> None:
        now = now_ns()
        packet.retain()
        self.held += 1
        self._release(self.links[number].arrive(packet, now=now))

    def _release(self, packets: list[netfilterqueue.Packet]) -> None:
        for packet in packets:
            packet.accept()
            self.held -= 1

    def deadline(self) -> int | None:
        """When the next packet is due, in ns."""
        return min((link.deadline for link in self.links.values() if link.deadline is not None), default=None)

    def release_due(self) -> None:
        """Release what is due now."""
        now = now_ns()
        for link in self.links.values():
            if link.deadline is not None and link.deadline <= now:
                self._release(link.wake(now=now))

    def close(self) -> None:
        """Give the queues back; what they hold is dropped."""
        for queue in self.queues.values():
            queue.unbind()


def serve(channel: Channel, delays: dict[str, int]) -> None:
    """Delay packets until the channel closes. Requests: ``{"delays": {QUEUE: NS}}``, answered when in force."""
    be_punctual()
    priority = _ask_for_real_time()
    line = DelayLine({int(number): delay for number, delay in delays.items()})
    watched = [channel.fileno(), *line.by_descriptor]
    gc.disable()
    channel.send({"ready": True, "priority": priority})
    while True:
        deadline = line.deadline()
        rest = _IDLE_NS if deadline is None else deadline - now_ns() - _SPIN_NS
        readable = select.select(watched, [], [], max(rest, 0) / 1e9)[0]
        for descriptor in readable:
            if descriptor == channel.fileno():
                if not _obey(channel, line):
                    return
            else:
                line.by_descriptor[descriptor].run(block=False)
        if deadline is not None and deadline - now_ns() <= _SPIN_NS:
            while now_ns() < deadline:
                pass
            line.release_due()


def _obey(channel: Channel, line: DelayLine) -> bool:
    try:
        message, _ = channel.receive()
    except RawpunchError:
        return False
    for number, delay in message["delays"].items():
        line.links[int(number)] = Link(delay_ns=delay)
    channel.send({"held": line.held})
    return True


def _ask_for_real_time() -> str:
    """SCHED_FIFO where this process may have it (root); a rootless lab does without."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return "normal"
    return "SCHED_FIFO"
