"""The words for how an opening ends."""

from __future__ import annotations

import enum


class Ending(enum.StrEnum):
    """How one endpoint's opening ended, as the endpoint itself knows it."""

    ESTABLISHED = "established"
    REFUSED = "refused"
    """A RST answered its SYN (SYN-SENT: "connection refused")."""
    RESET = "reset"
    """A RST came later (SYN-RECEIVED and after)."""
    UNREACHABLE = "unreachable"
    """An ICMP error ended it."""
    TIMED_OUT = "timed_out"
    """Nothing that decides came before it gave up."""
    CLOSED = "closed"
    """The user closed or aborted it."""
