"""A peer's own clock, simulated: all hosts of a lab share one clock, peers in the world do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BILLION: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PeerClock:
    """A clock that was set once and runs at a rate of its own."""

    ahead_ns: int = 0
    """How far it was ahead of true time when it was set; negative for behind."""
    drift_ppb: int = 0
    """How much faster than true time it runs, in parts per billion (1000 = 1 ppm)."""

    def shows(self, true_ns: int) -> int:
        """What it shows at a true time since it was set, in ns."""
        return true_ns + self.ahead_ns + true_ns * self.drift_ppb // BILLION

    def true_ns(self, shown_ns: int) -> int:
        """The true time since it was set at which it first shows an instant, in ns."""
        return -(-(shown_ns - self.ahead_ns) * BILLION // (BILLION + self.drift_ppb))

    def late_ns(self, agreed_ns: int) -> int:
        """How much after the true instant a peer starts that starts when its own clock shows that instant."""
        return self.true_ns(agreed_ns) - agreed_ns
