"""How an end knows where to aim: what is asked of observers before an attempt, and what is made of their answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rawpunch.scene import OBSERVERS, Scene, Side
from rawpunch.sim.attempt import following
from rawpunch.wire.endpoint import Endpoint

RELAY: Final = Endpoint(OBSERVERS["obs1"][0], 3478)
"""The third party that both reach."""
_ELSEWHERE: Final = 61_000
_ELSEWHERE_PORTS: Final = 4_000
"""Ports that no attempt opens from."""


class Aim(enum.StrEnum):
    """How each end knows the other's endpoint."""

    ASSUMED = "assumed"
    """It takes the other's inside port for the outside one."""
    LEARNED = "learned"
    """The other asked an observer from the very port that it opens from, and passed the answer on."""
    PREDICTED = "predicted"
    """The other asked two observers, and the next port is as far from the second's answer as that is from the first's."""
    UNBOUND = "unbound"
    """The other asked an observer from another port, as a program does that has not bound one."""
    NEIGHBOUR = "neighbour"
    """Another inside host asked, from the same port."""
    RELAY = "relay"
    """It does not: both connect to a third party."""

    @property
    def alone(self) -> bool:
        """Whether nothing else may happen between the asking and the opening."""
        return self is Aim.PREDICTED


@dataclass(frozen=True, slots=True)
class Question:
    """A connection to an observer, that shows what it looks like outside."""

    side: Side
    local: Endpoint
    place: int
    """Which of the observers: 0, 1."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its answer."""

    question: Question
    remote: Endpoint
    """The observer's endpoint that was asked."""
    seen: Endpoint
    at_ns: int
    """When the question was seen outside."""


def questions(aim: Aim, scene: Scene, side: Side, port: int) -> tuple[Question, ...]:
    """What a side asks before an attempt from a port, in order; nothing without a NAT."""
    if scene.nat(side) is None:
        return ()
    first, second = scene.host_addresses(side)
    match aim:
        case Aim.ASSUMED | Aim.RELAY:
            return ()
        case Aim.LEARNED:
            return (Question(side, Endpoint(first, port), 0),)
        case Aim.PREDICTED:
            return tuple(Question(side, Endpoint(first, port), place) for place in (0, 1))
        case Aim.UNBOUND:
            return (Question(side, Endpoint(first, _ELSEWHERE + port % _ELSEWHERE_PORTS), 0),)
        case Aim.NEIGHBOUR:
            return (Question(side, Endpoint(second, port), 0),)


def targets(aim: Aim, scene: Scene, port: int, asked: Sequence[Asked]) -> Mapping[Side, Endpoint]:
    """Where each end aims at: side of the end aimed at -> endpoint. What nobody learned is assumed."""
    sides: tuple[Side, Side] = ("a", "b")
    if aim is Aim.RELAY:
        return dict.fromkeys(sides, RELAY)
    found: dict[Side, Endpoint] = {}
    for side in sides:
        seen = [one.seen for one in asked if one.question.side == side]
        found[side] = following(*seen[:2]) if len(seen) > 1 else seen[0] if seen else Endpoint(scene.public_address(side), port)
    return found
