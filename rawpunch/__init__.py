"""rawpunch: a laboratory for TCP simultaneous open and TCP NAT traversal, packet by packet.

`rawpunch.load("raw-vs-kernel")` gives the newest run of an experiment as data frames.
"""

from typing import TYPE_CHECKING, Any

from rawpunch.version import __version__

if TYPE_CHECKING:
    from rawpunch.dataset.reader import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is first asked for: pydantic, pandas and pyarrow are slow to come (PEP 562)."""
    if name == "load":
        from rawpunch.dataset.reader import load  # noqa: PLC0415  the point of this function

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
