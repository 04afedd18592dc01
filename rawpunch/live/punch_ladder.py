"""A punch that led nowhere, as lines: what was noted, and the packets between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rawpunch.errors import Malformed
from rawpunch.live.punch_log import PunchLog
from rawpunch.units import MS
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Packet


@dataclass(frozen=True, slots=True)
class Passed:
    """A packet that left or came."""

    at_ns: int
    outgoing: bool
    packet: Packet


def ladder(log: PunchLog, *, without: Endpoint | None = None, most: int = 60) -> list[str]:
    """Notes and packets in the order of their time, as lines; what is too much in the middle is left out.

    Args:
        log: of one punch; its packets are taken from it.
        without: whose packets are left out: those of a rendezvous server.
        most: lines at most.
    """
    rows = [(note.at_ns, f"      {note.text}") for note in log.notes]
    rows += [(passed.at_ns, _line(passed)) for passed in _passed(log) if without not in _ends(passed.packet)]
    rows.sort(key=lambda row: row[0])
    lines = [f"{(at - rows[0][0]) / MS:10.1f} ms  {text}" for at, text in rows]
    if len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], f"{'':13}... {len(lines) - 2 * half} lines ...", *lines[-half:]]


def _passed(log: PunchLog) -> Iterator[Passed]:
    for at_ns, outgoing, octets in log.octets():
        try:
            packet = decode(octets)
        except Malformed:
            continue  # ICMP that speaks of no segment, or IPv6
        yield Passed(at_ns, outgoing, packet)


def _ends(packet: Packet) -> tuple[Endpoint, ...]:
    segment = packet.quoted if isinstance(packet, IcmpError) else packet
    return segment.source, segment.destination


def _line(passed: Passed) -> str:
    packet, arrow = passed.packet, "-->" if passed.outgoing else "<--"
    if isinstance(packet, IcmpError):
        return f"{arrow}   {packet.kind} about {packet.quoted.destination}"
    return f"{arrow}   {packet.kind} {f'to {packet.destination}' if passed.outgoing else f'from {packet.source}'}"
