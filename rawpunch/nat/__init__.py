"""nat: what NATs do, axis by axis; the NAT as a machine; named NATs; and what can be punched through which."""

from rawpunch.nat.behavior import Behavior, Ports, Timers
from rawpunch.nat.box import INSIDE, OUTSIDE, NatBox
from rawpunch.nat.reasons import Reason

__all__ = ["INSIDE", "OUTSIDE", "Behavior", "NatBox", "Ports", "Reason", "Timers"]
