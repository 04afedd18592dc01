"""rawpunch: a laboratory for TCP simultaneous open and TCP NAT traversal, packet by packet.

rawpunch.load("raw-vs-kernel")            the newest run of an experiment as data frames
rawpunch.read_capture("some.pcapng")      the TCP segments of a capture as a data frame
rawpunch.iter_captures(["big.pcap.gz"])   the same in pieces, for files of any size
rawpunch.classify(["a.pcap", "b.pcap"])   what happened in each handshake of some captures
rawpunch.connect("198.51.100.2:4000", local=4000)   a simultaneous open with a peer who does the same: an ordinary socket
rawpunch.connect_async(...)               the same, to be awaited
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rawpunch.version import __version__

if TYPE_CHECKING:
    from rawpunch.capture.classify import classify
    from rawpunch.capture.columns import iter_captures, read_capture
    from rawpunch.dataset.reader import load
    from rawpunch.live.connecting import connect, connect_async

__all__ = ["__version__", "classify", "connect", "connect_async", "iter_captures", "load", "read_capture"]

_HOMES = {
    "classify": "rawpunch.capture.classify",
    "connect": "rawpunch.live.connecting",
    "connect_async": "rawpunch.live.connecting",
    "iter_captures": "rawpunch.capture.columns",
    "load": "rawpunch.dataset.reader",
    "read_capture": "rawpunch.capture.columns",
}


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for: pydantic, pandas and pyarrow are slow to come (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
