"""The recorder: one process that captures at every vantage point of a lab and writes what it saw as one pcapng per part."""

from __future__ import annotations

import gc
import os
import select
from typing import Final

from rawpunch.capture.pcapng import Interface, Recorded, Statistics, write_pcapng
from rawpunch.capture.ring import Ring
from rawpunch.channel import Channel
from rawpunch.errors import RawpunchError
from rawpunch.lab.namespaces import enter

_PAUSE_S: Final = 0.05
_IP: Final = {b"\x08\x00", b"\x86\xdd"}


class Recorder:
    """Rings at all vantage points, emptied into memory now and then.

    Args:
        vantages: vantage name (``node:device``) -> descriptor of its network namespace.
    """

    def __init__(self, vantages: dict[str, int]) -> None:
        self.vantages = list(vantages)
        self.rings: list[Ring] = []
        self._kept: list[Recorded] = []
        for name, namespace in vantages.items():
            enter(namespace)
            self.rings.append(Ring(name.partition(":")[2]))

    def drain(self) -> None:
        """Empty the rings that are filling up; the others wait for a time when nothing is being measured."""
        for ring in self.rings:
            if ring.half_full:
                ring.drain()

    def _packets(self) -> list[Recorded]:
        """All packets since the last call, in order of time."""
        found = [
            Recorded(time_ns, index, data, length, outgoing)
            for index, ring in enumerate(self.rings)
            for time_ns, data, length, outgoing in ring.read()
            if data[12:14] in _IP
        ]
        found.sort(key=lambda packet: packet.time_ns)
        return found

    def flush(self, path: str, comment: str, *, keep: bool = False) -> tuple[int, int]:
        """Write everything since the last flush in order of time; returns packets written and lost since the lab began.

        Args:
            path: the file; "" for none.
            comment: its comment.
            keep: whether the next flush is to have these packets too.
        """
        packets = self._kept + self._packets()
        self._kept = packets if keep else []
        for ring in self.rings:
            ring.count()
        statistics = {index: Statistics(ring.received, ring.dropped) for index, ring in enumerate(self.rings)}
        if path:
            write_pcapng(path, [Interface(name) for name in self.vantages], packets, comment=comment, statistics=statistics)
        return len(packets), sum(ring.dropped for ring in self.rings)


def serve(channel: Channel, vantages: dict[str, int]) -> None:
    """Record until the channel closes.

    Requests: ``{"flush": PATH, "comment": TEXT, "keep": WHETHER}``; an empty path writes nothing.
    """
    os.nice(5)  # what is measured goes first
    recorder = Recorder(vantages)
    gc.disable()  # it would stall on the long list of packets, and nothing here is cyclic
    channel.send({"ready": True})
    while True:
        if not select.select([channel], [], [], _PAUSE_S)[0]:
            recorder.drain()
            continue
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        try:
            packets, dropped = recorder.flush(message["flush"], message.get("comment", ""), keep=message.get("keep", False))
            channel.send({"packets": packets, "dropped": dropped})
        except RawpunchError as error:
            channel.send({"error": error.what, "why": error.why, "todo": error.todo})
