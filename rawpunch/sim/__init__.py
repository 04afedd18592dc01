"""sim: the driver in virtual time. The same machines as everywhere, an event heap, and no clock."""

from rawpunch.sim.attempt import Aim, Punched, Trial, learn, punch, reverse
from rawpunch.sim.host import SimEnd
from rawpunch.sim.world import Sighting, World

__all__ = ["Aim", "Punched", "Sighting", "SimEnd", "Trial", "World", "learn", "punch", "reverse"]
