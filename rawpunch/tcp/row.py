"""The vocabulary of the handshake table: turns, guards and actions, stimuli, rows."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from rawpunch.machine import Arrived, Concluded, Effect, Send, Stimulus
from rawpunch.tcp.state import Block, State
from rawpunch.wire.segment import IcmpError, Segment


class Turn:
    """One stimulus at one instant.

    `segment` and `error` exist only where the stimulus is the arrival of one: only rows for it may look at them.
    """

    __slots__ = ("block", "effects", "endings", "error", "now", "opening", "segment")
    segment: Segment
    error: IcmpError
    opening: bool
    """Whether the segment came with a SYN, so that its window field is not scaled."""

    def __init__(self, block: Block, stimulus: Stimulus, now: int) -> None:
        self.block = block
        self.now = now
        self.effects: list[Effect] = []
        self.endings: list[Concluded] = []
        if isinstance(stimulus, Arrived):
            if isinstance(stimulus.packet, Segment):
                self.segment = stimulus.packet
                self.opening = stimulus.packet.syn
            else:
                self.error = stimulus.packet

    def send(self, segment: Segment) -> None:
        """Put a segment on the wire."""
        self.effects.append(Send(segment))


Guard = Callable[[Turn], bool]
Action = Callable[[Turn], None]


class On(enum.StrEnum):
    """Kinds of stimuli: the user's calls, a segment's or ICMP error's arrival, a timer."""

    OPEN = "OPEN"
    LISTEN = "LISTEN"
    CLOSE = "CLOSE"
    ABORT = "ABORT"
    SEGMENT = "SEGMENT"
    ICMP = "ICMP"
    TIMER = "TIMER"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    id: str
    """Its name, unique in a table; the transitions of a dataset quote it."""
    states: tuple[State, ...]
    on: On
    guards: tuple[Guard, ...]
    """All must hold."""
    actions: tuple[Action, ...]
    """Run in this order."""
    to: State | None
    """Next state; None to stay."""
    source: str
    """The citation: document and section."""
    go_on: bool = False
    """Whether the same stimulus is then looked up again in the next state ("continue processing")."""
