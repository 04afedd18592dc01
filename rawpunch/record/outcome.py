"""How an attempt ended, told from packets alone: what its wire pattern means for the two ends.

A program may know more (why its socket gave up); a capture knows what its packets say.
"""

from __future__ import annotations

from typing import Final

from rawpunch.record.pattern import Told
from rawpunch.record.words import Outcome, Pattern

COMPLETE: Final = frozenset(
    {Pattern.THREE_WAY, Pattern.SIMULTANEOUS, Pattern.HALF_SIMULTANEOUS, Pattern.SPLIT, Pattern.SELF_CONNECT}
)
"""Patterns of handshakes that completed (a self-connect only with its SYN-ACK)."""
ENDED: Final = {
    Pattern.REFUSED: Outcome.REFUSED,
    Pattern.RESET_MIDWAY: Outcome.RESET,
    Pattern.ICMP_ENDED: Outcome.UNREACHABLE,
    Pattern.UNANSWERED: Outcome.TIMED_OUT,
}
"""What the others mean; a truncated record means nothing."""


def outcome_of(told: Told) -> Outcome | None:
    """The outcome that a pattern stands for; None where the record does not show how it ended.

    An attempt is half open when the records of both ends differ: in one the handshake completed, in the other it did not.
    """
    done = [pattern in COMPLETE for pattern in (told.at_a, told.at_b) if pattern is not None]
    if told.decided_by is not None and len(done) == 2 and done[0] != done[1]:
        return Outcome.HALF_OPEN
    if told.pattern in COMPLETE:
        return Outcome.ESTABLISHED if told.decided_by is not None else None
    return ENDED.get(told.pattern)
