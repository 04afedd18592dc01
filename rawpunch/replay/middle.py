"""What a script shows of the devices between its hosts, so that a replay can begin with a like scene."""

from __future__ import annotations

from dataclasses import dataclass

from rawpunch.replay.script import Script, SideName, Track
from rawpunch.wire.segment import IcmpError, Segment


@dataclass(frozen=True, slots=True)
class Middle:
    """The devices between two hosts, as far as the hosts could see."""

    nats: frozenset[SideName]
    """The sides that have one: their peer did not see them where they thought themselves. Both, if neither has, but something
    answered in a host's name."""
    answer: str
    """What was answered to unsolicited SYNs: ``rst``, ``icmp``, or ``drop`` where nothing was seen."""


def middle_of(script: Script) -> Middle:
    """What lay between the hosts of a script."""
    a, b = script.a, script.b
    answer = "drop"
    if _has_icmp(a) or _has_icmp(b):
        answer = "icmp"
    elif _resets(a, sent=False) > _resets(b, sent=True) or _resets(b, sent=False) > _resets(a, sent=True):
        answer = "rst"
    sides: tuple[tuple[SideName, bool], ...] = (("a", a.local != b.remote), ("b", b.local != a.remote))
    nats = frozenset(side for side, moved in sides if moved)
    return Middle(frozenset[SideName](("a", "b")) if not nats and answer != "drop" else nats, answer)


def _has_icmp(track: Track) -> bool:
    return any(isinstance(line.packet, IcmpError) for line in track.lines if not line.sent)


def _resets(track: Track, *, sent: bool) -> int:
    return sum(isinstance(line.packet, Segment) and line.packet.rst for line in track.lines if line.sent == sent)
