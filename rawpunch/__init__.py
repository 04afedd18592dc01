"""rawpunch: a laboratory for TCP simultaneous open and TCP NAT traversal, packet by packet."""

from rawpunch.version import __version__

__all__ = ["__version__"]
