"""Every packet that a probe sent, got, or was told of by its observer, under the number that it will have in the capture."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, Statistics, write_pcapng
from rawpunch.probe.ground import Place, Seen
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Packet, Segment

PLACES: Final = tuple(Place)
"""The capture's interfaces, in this order."""
_TOTAL_LENGTH: Final = slice(2, 4)


def concerned(packet: Packet) -> Endpoint:
    """Whom a packet that came is for: a segment's destination, or the sender that an ICMP error quotes."""
    return packet.destination if isinstance(packet, Segment) else packet.quoted.source


class ProbeLog:
    """Packets in the order in which they became known; those that came can be asked for by endpoint."""

    def __init__(self) -> None:
        self._rows: list[Recorded] = []
        self._came: dict[tuple[Place, Endpoint], list[Seen]] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._rows)

    def came(self, place: Place, at_ns: int, octets: bytes, packet: Packet) -> None:
        """Note a packet that came; whoever waits for news is woken.

        Args:
            place: where.
            at_ns: when, on that place's clock.
            octets: from the IP header on; they may be cut short.
            packet: the same, read.
        """
        seen = Seen(self.add(place, at_ns, octets, outgoing=False), at_ns, place, outgoing=False, packet=packet)
        self._came.setdefault((place, concerned(packet)), []).append(seen)
        self.stir()

    def stir(self) -> None:
        """Wake whoever waits for news."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def sent(self, place: Place, at_ns: int, octets: bytes, packet: Packet) -> Seen:
        """Note a packet that leaves."""
        return Seen(self.add(place, at_ns, octets, outgoing=True), at_ns, place, outgoing=True, packet=packet)

    def expected(self, place: Place, at_ns: int) -> int:
        """Take a number for a packet that is about to leave somewhere else, so that what it causes has higher ones.

        As long as nobody says that it left it is an empty packet in the capture.
        """
        return self.add(place, at_ns, b"", outgoing=True)

    def left(self, number: int, place: Place, at_ns: int, octets: bytes, packet: Packet) -> Seen:
        """The expected packet has left."""
        self._rows[number - 1] = self._recorded(place, at_ns, octets, outgoing=True)
        return Seen(number, at_ns, place, outgoing=True, packet=packet)

    def seen(self, place: Place, at: Endpoint, after: int = 0) -> tuple[Seen, ...]:
        """What has come to an endpoint at a place with a number above `after`, oldest first."""
        found = self._came.get((place, at), [])
        return tuple(found[bisect_right(found, after, key=lambda seen: seen.number) :])

    async def news(self, within_s: float) -> None:
        """Wait until another packet has come, or for that long."""
        news = self._news
        try:
            async with asyncio.timeout(within_s):
                await news.wait()
        except TimeoutError:
            return

    def write(
        self, path: str | os.PathLike[str], comment: str = "", statistics: Mapping[Place, Statistics] | None = None
    ) -> Path:
        """Write all packets as one capture file.

        Raises:
            PartialData: it cannot be written.
        """
        counted = {PLACES.index(place): figures for place, figures in (statistics or {}).items()}
        return write_pcapng(
            path, [Interface(place.value, RAW_IP) for place in PLACES], self._rows, comment=comment, statistics=counted
        )

    def add(self, place: Place, at_ns: int, octets: bytes, *, outgoing: bool) -> int:
        """Give a packet its number in the capture."""
        self._rows.append(self._recorded(place, at_ns, octets, outgoing=outgoing))
        return len(self._rows)

    @staticmethod
    def _recorded(place: Place, at_ns: int, octets: bytes, *, outgoing: bool) -> Recorded:
        length = int.from_bytes(octets[_TOTAL_LENGTH], "big")
        return Recorded(at_ns, PLACES.index(place), octets, max(length, len(octets)), outgoing)
