"""A made world of eight vantage points, as the lab has them: packets are sent through it and come out as rows."""

from __future__ import annotations

from collections.abc import Sequence

from rawpunch.record.rows import SegmentRow
from rawpunch.units import MS, US
from rawpunch.wire.segment import kind_of

VANTAGES = ("hostA:eth0", "natA:in", "natA:out", "core:a", "core:b", "natB:out", "natB:in", "hostB:eth0")
_LOOKS = (1, -1, 1, -1, 1, -1, 1, -1)
"""To which side each of them looks: 1 is towards B."""
EPOCH = 1_795_207_507_000_000_000
SYN, SYN_ACK, ACK, RST, RST_ACK, FIN_ACK = 0x02, 0x12, 0x10, 0x04, 0x14, 0x11
HOP = 10 * US
"""From one vantage point to the next, but for the core, which holds packets."""


class World:
    """A place to send packets in.

    Args:
        one_way_ms: what the core holds a packet for.
        attempt: name of the attempt.
    """

    def __init__(self, one_way_ms: float = 20, attempt: str = "made") -> None:
        self.one_way = round(one_way_ms * MS)
        self.attempt = attempt
        self._seen: list[tuple[int, int, str, int, int | None, int | None, int, str]] = []

    def send(
        self,
        to_b: bool,
        at_ms: float,
        flags: int,
        seq: int,
        ack: int | None = None,
        *,
        begin: int | None = None,
        end: int | None = None,
        length: int = 0,
        icmp: str = "",
    ) -> float:
        """Send a packet from vantage point `begin` (a host if not given) to `end`; it answers when it was last seen, in ms."""
        way = 1 if to_b else -1
        first = (0 if to_b else 7) if begin is None else begin
        last = (7 if to_b else 0) if end is None else end
        time = round(at_ms * MS)
        for lane in range(first, last + way, way):
            if lane != first:
                time += self.one_way if {lane, lane - way} == {3, 4} else HOP
            direction = "out" if _LOOKS[lane] == way else "in"
            kind = icmp or kind_of(flags, length)
            self._seen.append((time, lane, direction, flags, seq, ack, length, kind))
        return time / MS

    def rows(self, keep: Sequence[str] = VANTAGES) -> list[SegmentRow]:
        """What was seen, numbered by time, at the vantage points to be kept; addresses differ at each, as NATs have it."""
        return [
            SegmentRow(
                attempt=self.attempt,
                number=number,
                vantage=VANTAGES[lane],
                time_ns=EPOCH + time,
                direction=direction,
                source_address=f"10.0.{lane}.1",
                source_port=4000 + lane,
                destination_address=f"10.0.{lane}.2",
                destination_port=5000 + lane,
                kind=kind,
                flags=None if kind.startswith("ICMP") else flags,
                seq=seq,
                ack=ack,
                payload_length=None if kind.startswith("ICMP") else length,
            )
            for number, (time, lane, direction, flags, seq, ack, length, kind) in enumerate(sorted(self._seen), 1)
            if VANTAGES[lane] in keep
        ]


def crossing(offset_ms: float = 0, one_way_ms: float = 20) -> World:
    """A true simultaneous open: both SYNs are under way at the same time."""
    world = World(one_way_ms)
    at_b = world.send(True, 0, SYN, 1000)
    at_a = world.send(False, offset_ms, SYN, 9000)
    back_at_a = world.send(False, at_b, SYN_ACK, 9000, 1001)
    back_at_b = world.send(True, at_a, SYN_ACK, 1000, 9001)
    world.send(True, back_at_a, ACK, 1001, 9001)
    world.send(False, back_at_b, ACK, 9001, 1001)
    return world


def late() -> World:
    """B starts two delays late behind NATs that reset: each SYN dies at the far NAT, which answers RST."""
    world = World()
    at_nat_b = world.send(True, 0, SYN, 1000, end=5)
    world.send(False, at_nat_b + 0.02, RST_ACK, 0, 1001, begin=5)
    at_nat_a = world.send(False, 50, SYN, 9000, end=2)
    world.send(True, at_nat_a + 0.02, RST_ACK, 0, 9001, begin=2)
    return world


def repeated() -> World:
    """A's SYN is lost at natB, and a second later so is not the next one."""
    world = World()
    world.send(True, 0, SYN, 1000, end=5)
    at_b = world.send(True, 1000, SYN, 1000)
    at_a = world.send(False, at_b, SYN_ACK, 9000, 1001)
    world.send(True, at_a, ACK, 1001, 9001)
    return world
