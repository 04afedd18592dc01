"""What happened in each handshake of a capture, or of several captures of the same traffic.

    found = classify(["natA.pcapng", "hostB.pcap"])
    found.flows                # a DataFrame, one row per attempt
    found.packets_of(0)        # the packets of one attempt
    found.views_of(0)          # the same as `record.pattern.tell` takes them

Packets are read, sorted into attempts, merged over vantage points, told and counted as arrays. Of captures with more packets than
memory should hold (`HELD`), they wait in files meanwhile, and are classified part by part (`rawpunch.capture.parted`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from rawpunch.capture.classified import Classified, whole
from rawpunch.capture.packets import ARRAYS, PacketReader
from rawpunch.capture.parted import Parted
from rawpunch.capture.records import Progress

HELD: Final = 3_000_000
"""So many packets are held in memory, at some 300 octets each; of captures that have more, all wait in files."""


def classify(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, progress: Progress | None = None, held: int = HELD
) -> Classified:
    """Classify every handshake in one or several capture files.

    Args:
        paths: a file, or several of the same traffic, whose clocks agree.
        progress: called with the number of the files' octets read since the last call.
        held: how many packets may be held in memory.

    Raises:
        Unreadable: a file cannot be opened or is no capture; a damaged one gives what lies before the damage.
        MachineCannot: the packets do not fit into the folder for temporary files.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    reader = PacketReader(files, progress=progress)
    parts: dict[str, list[Any]] = {name: [] for name in ARRAYS}
    pieces = reader.pieces()
    rows = 0
    for piece in pieces:
        for name, column in piece.items():
            parts[name].append(column)
        rows += len(piece["number"])
        if rows > held:
            return Parted.of(reader, parts, pieces)
    return whole(reader.packets(parts))
