"""Two number spaces and the way between them: the captured one, and the one of the replay that is under way.

Sequence numbers: the player's own ones are moved by one constant. The peer's begin where its SYN says, whenever that comes; until
then its numbers are unknown. Timestamps: an echo has to be a value that the peer really sent, the one that stands for the value
echoed in the capture, or the newest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from rawpunch.wire import seq as sequence
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Option, Sack, Timestamps
from rawpunch.wire.segment import Segment

_REACH: Final = 1 << 30
"""How far from its initial one a sequence number of a connection may lie."""


class Numbers:
    """What one side has to know to speak in the replay's numbers.

    Args:
        own: initial sequence numbers that this side used in the capture, in order.
        peer: those of its peer.
        own_shift: what is added to this side's own sequence numbers, modulo 2**32.
        ts_shift: what is added to this side's own TSvals, modulo 2**32.
    """

    def __init__(self, own: Iterable[int], peer: Iterable[int], *, own_shift: int = 0, ts_shift: int = 0) -> None:
        self._own = tuple(dict.fromkeys(own))
        self._peer = tuple(dict.fromkeys(peer))
        self._own_shift = own_shift
        self._ts_shift = ts_shift
        self._learned: dict[int, int] = {}
        """The peer's initial sequence number in the capture -> the one it uses now."""
        self._echoes: dict[int, int] = {}
        """The peer's TSval in the capture -> the one it sent instead."""
        self._newest_ts: int | None = None

    def learn(self, arrived: Segment) -> None:
        """Take the peer's initial sequence number from its SYN; a new one stands for the next of the capture's."""
        if arrived.timestamps is not None:
            self._newest_ts = arrived.timestamps.value
        if not arrived.syn or arrived.rst or arrived.seq in self._learned.values():
            return
        unknown = [isn for isn in self._peer if isn not in self._learned]
        captured = unknown[0] if unknown else self._peer[-1] if self._peer else arrived.seq
        self._learned[captured] = arrived.seq

    def learn_echo(self, expected: Segment, arrived: Segment) -> None:
        """An arrival stands for one of the capture's: from now on its TSval is echoed where the other one was."""
        if expected.timestamps is not None and arrived.timestamps is not None:
            self._echoes[expected.timestamps.value] = arrived.timestamps.value

    def to_wire(self, captured: Segment, local: Endpoint, remote: Endpoint) -> Segment:
        """A segment of this side as it has to be now; payload bytes that the capture cut off are zeros."""
        rootless = captured.rst and captured.seq == 0  # the answer to a segment without ACK (RFC 9293, section 3.10.7.1)
        return replace(
            captured,
            source=local,
            destination=remote,
            seq=captured.seq if rootless else self._own_to_wire(captured.seq),
            ack=self._peer_to_wire(captured.ack) if captured.has_ack else captured.ack,
            options=tuple(self._option_to_wire(option) for option in captured.options),
            payload=captured.payload.ljust(captured.payload_length, b"\0"),
        )

    def to_capture(self, arrived: Segment) -> Segment:
        """An arrival in the capture's numbers, so that it can be told which packet of the capture it is."""
        rootless = arrived.rst and arrived.seq == 0
        return replace(
            arrived,
            seq=arrived.seq if rootless else self._peer_to_capture(arrived.seq),
            ack=self._own_to_capture(arrived.ack) if arrived.has_ack else arrived.ack,
        )

    def _option_to_wire(self, option: Option) -> Option:
        match option:
            case Sack(blocks):
                return Sack(tuple((self._peer_to_wire(left), self._peer_to_wire(right)) for left, right in blocks))
            case Timestamps(value, echo):
                newest = echo if self._newest_ts is None else self._newest_ts
                return Timestamps(sequence.add(value, self._ts_shift), self._echoes.get(echo, newest) if echo else 0)
        return option

    def _own_to_wire(self, number: int) -> int:
        return sequence.add(number, self._own_shift) if self._own else number

    def _own_to_capture(self, number: int) -> int:
        return sequence.add(number, -self._own_shift) if self._own else number

    def _peer_to_wire(self, number: int) -> int:
        return _moved(number, self._learned)

    def _peer_to_capture(self, number: int) -> int:
        return _moved(number, {now: captured for captured, now in self._learned.items()})


def _moved(number: int, starts: dict[int, int]) -> int:
    """A number by as much as the start that it lies behind; as it is where it lies behind none."""
    behind = [(sequence.distance(start, number), to) for start, to in starts.items()]
    near = [(count, to) for count, to in behind if -1 <= count < _REACH]  # keep-alives lie one before their start
    if not near:
        return number
    count, to = min(near, key=lambda found: abs(found[0]))
    return sequence.add(to, count)
