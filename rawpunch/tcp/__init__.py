"""tcp: the handshake of TCP as a table, the engine that runs it, and the stacks that differ from it."""

from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import LINUX, LINUX_BEFORE_6_12, PROFILES, RFC9293, Override, Profile, profile
from rawpunch.tcp.row import On, Row
from rawpunch.tcp.state import Habits, Negotiated, Offer, Schedule, State
from rawpunch.tcp.table import TABLE

__all__ = [
    "LINUX",
    "LINUX_BEFORE_6_12",
    "PROFILES",
    "RFC9293",
    "TABLE",
    "Habits",
    "Handshake",
    "Negotiated",
    "Offer",
    "On",
    "Override",
    "Profile",
    "Row",
    "Schedule",
    "State",
    "profile",
]
