"""How two peers with different clocks begin together: offsets with a bound, an instant, or a word that reaches both at once.

A peer asks the server for the time, notes when it asked (t1) and when the answer came (t4), and learns when the server got the
question (t2) and sent the answer (t3). Each message took some time of 0 or more, so the server's clock is ahead of the peer's by
no less than t3 - t4 and no more than t2 - t1 (RFC 5905, section 8, takes the middle; half the width is the most it can be wrong).
Of several exchanges the narrowest counts, and clocks drift apart afterwards.

An agreed instant is off by the sum of both peers' bounds at most. Where that is more than a plan stands, the server may say "go"
to the farther peer first and to the nearer one later by half the difference of their round trips: both hear it at one instant, if
each way is as long as the way back; if not, they are half of both round trips apart at most. Bounds that were measured over the
same ways are about as wide as that; then the instant is the better one, since a single stall or lost segment holds a word up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from rawpunch.errors import BadParameter
from rawpunch.units import MS

DRIFT_PPM: Final = 100
"""How fast two clocks may drift apart, in parts per million: as much as two cheap crystals do."""
_CLEARLY: Final = 2
"""A word must be better than an instant by this factor to be preferred."""
LEAD_NS: Final = 50 * MS
"""How long before the instant the last of two peers should know of it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question for the time: four instants in ns, the first and the last by the peer's clock, the others by the server's."""

    asked_ns: int
    came_ns: int
    left_ns: int
    answered_ns: int

    @property
    def rtt_ns(self) -> int:
        """Time on the way, there and back."""
        return (self.answered_ns - self.asked_ns) - (self.left_ns - self.came_ns)


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the server's clock is ahead of the peer's."""

    offset_ns: int
    error_ns: int
    """By how much that may be wrong at most, when it was measured."""
    measured_ns: int
    """When, by the peer's clock."""

    @classmethod
    def of(cls, exchanges: Iterable[Exchange]) -> Self:
        """The offset by the exchange that was quickest.

        Raises:
            BadParameter: there is none, or all of them took less than no time: one of the clocks was set meanwhile.
        """
        possible = [exchange for exchange in exchanges if exchange.rtt_ns >= 0]
        if not possible:
            raise BadParameter("no exchange tells the clocks' offset", todo="ask for the time again")
        best = min(possible, key=lambda exchange: exchange.rtt_ns)
        offset_ns = (best.came_ns - best.asked_ns + best.left_ns - best.answered_ns) // 2
        return cls(offset_ns, best.rtt_ns // 2 + 1, best.answered_ns)

    def bound_ns(self, now_ns: int) -> int:
        """By how much it may be wrong at an instant of the peer's clock."""
        return self.error_ns + abs(now_ns - self.measured_ns) * DRIFT_PPM // 1_000_000

    def to_own(self, server_ns: int) -> int:
        """An instant of the server's clock by the peer's own."""
        return server_ns - self.offset_ns

    def to_server(self, own_ns: int) -> int:
        """An instant of the peer's clock by the server's."""
        return own_ns + self.offset_ns


@dataclass(frozen=True, slots=True)
class Readiness:
    """A peer who can begin."""

    rtt_ns: int
    """Round trip between the server and it, as the server measured it."""
    error_ns: int | None
    """By how much its idea of the server's clock may be wrong; None if it has none."""
    tolerance_ns: int
    """By how much the starts may differ for its plan to work."""


@dataclass(frozen=True, slots=True)
class AtInstant:
    """Both begin at an instant of the server's clock."""

    at_ns: int
    error_ns: int


@dataclass(frozen=True, slots=True)
class OnReceipt:
    """Both begin when they hear it; one of them is told later."""

    delay_a_ns: int
    delay_b_ns: int
    error_ns: int


def agree(now_ns: int, a: Readiness, b: Readiness) -> AtInstant | OnReceipt:
    """The common start of two peers who are ready.

    Args:
        now_ns: now, by the server's clock.
        a: the one.
        b: the other.
    """
    word = together(a.rtt_ns, b.rtt_ns)
    if a.error_ns is not None and b.error_ns is not None:
        error_ns = a.error_ns + b.error_ns
        if error_ns <= max(min(a.tolerance_ns, b.tolerance_ns), _CLEARLY * word.error_ns):
            return AtInstant(now_ns + max(a.rtt_ns, b.rtt_ns) + LEAD_NS, error_ns)
    return word


def together(rtt_a_ns: int, rtt_b_ns: int) -> OnReceipt:
    """When to say a word so that both hear it at one instant, if each way is as long as the way back.

    Args:
        rtt_a_ns: round trip between the server and the one.
        rtt_b_ns: the other's.
    """
    lag_ns = (rtt_a_ns - rtt_b_ns) // 2
    return OnReceipt(max(-lag_ns, 0), max(lag_ns, 0), (rtt_a_ns + rtt_b_ns) // 2)
