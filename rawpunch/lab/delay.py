"""The delay line: packets on their way, held until their link machine says so, all by one process that is punctual.

What the core forwards it holds in NetfilterQueue. What goes between a host and its NAT it takes in as frames on one device of a
line's namespace and sends out on the other, so that no hop is added and no kernel's forwarding takes part.
"""

from __future__ import annotations

import gc
import os
import random
import select
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import netfilterqueue

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import RawpunchError
from rawpunch.lab.box_port import BoxPort
from rawpunch.lab.namespaces import enter
from rawpunch.link.link import Link, Path
from rawpunch.units import MS, US

_SPIN_NS: Final = 120 * US
_IDLE_NS: Final = 100 * MS
_QUEUE_LENGTH: Final = 65_535
_SOCKET_OCTETS: Final = 8 << 20
_OTHER: Final = {"in": "out", "out": "in"}


@dataclass(slots=True)
class Way:
    """One direction: a link machine, and what takes what it lets go."""

    link: Link[Any]
    release: Callable[[Any], None]

    def take(self, packet: Any) -> None:
        """A packet came in, now."""
        for due in self.link.arrive(packet, now=now_ns()):
            self.release(due)


class DelayLine:
    """All that is held in a lab.

    Args:
        delays: queue number -> delay in ns.
        lines: node -> what `Lab` says of a line: descriptor of its `namespace`, `headers` and `paths` as in `wiring.Line`.
        seed: of what gets lost between hosts and NATs.

    The queues belong to the network namespace of the thread that makes this object, the lines' devices to theirs. Packets still
    held when the process ends are dropped by the kernel.
    """

    def __init__(self, delays: Mapping[int, int], lines: Mapping[str, Mapping[str, Any]], *, seed: int = 0) -> None:
        self.ways: dict[str, Way] = {}
        """By queue number, or by ``node:device`` where frames leave."""
        self.arrived: dict[int, Callable[[], None]] = {}
        """Descriptor -> what to do when it is readable."""
        self._leaving: list[Way] = []
        """Ways whose path has changed, as long as they hold something."""
        self._dice = random.Random(seed)  # noqa: S311  losses of a lab
        self._queues: list[netfilterqueue.NetfilterQueue] = []
        for number, delay_ns in delays.items():
            self._bind(number, delay_ns)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        for node, line in lines.items():
            enter(line["namespace"])
            self._cut(node, line)
        enter(home)
        os.close(home)

    def _bind(self, number: int, delay_ns: int) -> None:
        way = self.ways[str(number)] = self._way(Path(delay_ns=delay_ns), netfilterqueue.Packet.accept)

        def hold(packet: netfilterqueue.Packet) -> None:
            packet.retain()
            way.take(packet)

        queue = netfilterqueue.NetfilterQueue()
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # it warns of the size it was asked for
            queue.bind(number, hold, max_len=_QUEUE_LENGTH, sock_len=_SOCKET_OCTETS)
        self._queues.append(queue)
        self.arrived[queue.get_fd()] = partial(queue.run, block=False)

    def _cut(self, node: str, line: Mapping[str, Any]) -> None:
        ports = {device: BoxPort(device, bytes.fromhex(header)) for device, header in line["headers"].items()}
        for device, port in ports.items():
            way = self.ways[f"{node}:{device}"] = self._way(_path(line["paths"][device]), port.send)
            self.arrived[ports[_OTHER[device]].fileno()] = partial(_take_in, ports[_OTHER[device]], way)

    def _way(self, path: Path, release: Callable[[Any], None]) -> Way:
        return Way(Link(path=path, dice=self._dice), release)

    def change(self, delays: Mapping[int, int], lines: Mapping[str, Mapping[str, Any]]) -> None:
        """Other delays, for the same queues and lines; what is held is released as it was to be."""
        paths = {str(number): Path(delay_ns=delay_ns) for number, delay_ns in delays.items()}
        for node, line in lines.items():
            paths |= {f"{node}:{device}": _path(path) for device, path in line["paths"].items()}
        for name, path in paths.items():
            way = self.ways[name]
            self._leaving.append(Way(way.link, way.release))
            way.link = Link(path=path, dice=self._dice)
        self._leaving = [way for way in self._leaving if len(way.link)]

    @property
    def held(self) -> int:
        """Packets on their way."""
        return sum(len(way.link) for way in (*self.ways.values(), *self._leaving))

    def deadline(self) -> int | None:
        """When the next packet is due, in ns."""
        soonest = None
        for way in (*self.ways.values(), *self._leaving):
            at = way.link.deadline
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest

    def release_due(self) -> None:
        """Release what is due now."""
        now = now_ns()
        for way in (*self.ways.values(), *self._leaving):
            link = way.link
            if link.deadline is not None and link.deadline <= now:
                for packet in link.wake(now=now):
                    way.release(packet)

    def close(self) -> None:
        """Give the queues back; what they hold is dropped."""
        for queue in self._queues:
            queue.unbind()


def _path(described: Sequence[int]) -> Path:
    delay_ns, loss_ppm = described
    return Path(delay_ns=delay_ns, loss_ppm=loss_ppm)


def _take_in(port: BoxPort, way: Way) -> None:
    for packet in port.receive():
        way.take(packet)


def serve(channel: Channel, delays: dict[str, int], lines: dict[str, dict[str, Any]], seed: int) -> None:
    """Delay packets until the channel closes.

    Requests: ``{"delays": {QUEUE: NS}, "lines": {NODE: LINE}}``, answered when in force. The arguments are those of `DelayLine`,
    with queue numbers in words.
    """
    be_punctual()
    priority = _ask_for_real_time()
    line = DelayLine(_numbered(delays), lines, seed=seed)
    watched = [channel.fileno(), *line.arrived]
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
                line.arrived[descriptor]()
        if deadline is not None and deadline - now_ns() <= _SPIN_NS:
            while now_ns() < deadline:
                pass
            line.release_due()


def _obey(channel: Channel, line: DelayLine) -> bool:
    try:
        message, _ = channel.receive()
    except RawpunchError:
        return False
    line.change(_numbered(message["delays"]), message["lines"])
    channel.send({"held": line.held})
    return True


def _numbered(delays: dict[str, int]) -> dict[int, int]:
    return {int(number): delay_ns for number, delay_ns in delays.items()}


def _ask_for_real_time() -> str:
    """SCHED_FIFO where this process may have it (root); a rootless lab does without."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return "normal"
    return "SCHED_FIFO"
