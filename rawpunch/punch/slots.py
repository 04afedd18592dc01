"""When each try of a plan begins and ends, after the instant agreed on: both sides know it without another word.

A try has its own time even if it fails at once, because the other side may not know yet. After its opening there is some time for
the proof, and before the next one begins what is still on its way has arrived.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rawpunch.nat.oracle import Strategy
from rawpunch.punch.plan import Certainty, Deed, Move, Path, Plan, Step
from rawpunch.units import MS, SECOND

PROOF_NS: Final = SECOND
"""For the proof, after the last instant at which a connection may open."""
_SLACK_NS: Final = 20 * MS


@dataclass(frozen=True, slots=True)
class Slot:
    """One try."""

    step: Step
    number: int
    """Which try of its step, from 1."""
    begins_ns: int
    opened_by_ns: int
    """No connection opens later."""
    ends_ns: int
    inside: bool = False
    """Whether the peer is sought at its inside address, because both seem to be behind the same NAT."""

    @property
    def several(self) -> bool:
        """Whether more than one connection may come about in it: not between two endpoints that both send a SYN."""
        return any(move.deed is not Deed.OPEN or move.ports for move in (self.step.a, self.step.b))


INSIDE: Final = Step(
    Strategy.SIMULTANEOUS, Certainty.POSSIBLE, Move(Deed.OPEN), Move(Deed.OPEN), "both have the same public address"
)


def slots_of(plan: Plan, *, inside: bool = False) -> Iterator[Slot]:
    """All tries of a plan in their order, but for the relay; times in ns after the start.

    Args:
        plan: both sides have the same.
        inside: whether to try the peers' inside addresses first.
    """
    at = 0
    tries = [(INSIDE, True)] if inside else []
    tries += [(step, False) for step in plan.steps if step.strategy is not Strategy.RELAY]
    for step, within in tries:
        for number in range(1, step.tries + 1):
            opened_by = at + max(step.a.begins_ns, step.b.begins_ns) + step.give_up_ns
            yield Slot(step, number, at, opened_by, opened_by + PROOF_NS, within)
            at = opened_by + PROOF_NS + gap_ns(plan.path)


def gap_ns(path: Path) -> int:
    """How long nothing is tried between two slots."""
    return path.late_ns + _SLACK_NS
