"""Rows and manifests to write in the dataset tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rawpunch.dataset.store import MachineInfo, Manifest
from rawpunch.record.rows import AttemptRow, MappingRow, SegmentRow, TransitionRow

CELLS: dict[str, dict[str, bool | int | float | str]] = {
    "ends=raw-raw owd_ns=5000000": {"ends": "raw-raw", "owd_ns": 5_000_000},
    "ends=kernel-kernel owd_ns=5000000": {"ends": "kernel-kernel", "owd_ns": 5_000_000},
}
FIRST, SECOND = CELLS


def manifest(**changes: Any) -> Manifest:
    """A manifest of a small run."""
    fields: dict[str, Any] = {
        "experiment": "raw-vs-kernel",
        "run_id": "20260131-120000-abcd",
        "rawpunch_version": "0.1.0",
        "created": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "seed": 7,
        "driver": "lab",
        "grid": {"ends": ("raw-raw", "kernel-kernel"), "owd_ns": (5_000_000,)},
        "repeats": 2,
        "machine": MachineInfo(kernel="6.18.0", python="3.11.7", cpus=2),
    }
    return Manifest(**(fields | changes))


def attempt(name: str, cell: str = FIRST, **changes: Any) -> AttemptRow:
    """An attempt that was established, times left out except one."""
    fields: dict[str, Any] = {
        "attempt": name,
        "cell": cell,
        "repeat": 0,
        "driver": "lab",
        "end_a": "raw",
        "end_b": "raw",
        "outcome": "established",
        "pattern": "simultaneous",
        "sent_a_ns": 1_795_207_507_925_878_001,
        "disturbed": False,
        "decided_by": "natB:wan #3",
    }
    return AttemptRow(**(fields | changes))


def segment(name: str, number: int = 3, vantage: str = "natB:wan") -> SegmentRow:
    """A SYN."""
    return SegmentRow(
        attempt=name,
        number=number,
        vantage=vantage,
        time_ns=1_795_207_507_925_878_001,
        direction="out",
        source_address="10.1.0.2",
        source_port=4000,
        destination_address="203.0.113.2",
        destination_port=5000,
        kind="SYN",
        flags=2,
        seq=2**32 - 1,
    )


def transition(name: str) -> TransitionRow:
    """A SYN was sent."""
    return TransitionRow(attempt=name, machine="hostA", time_ns=5, before="CLOSED", after="SYN-SENT")


def mapping(name: str) -> MappingRow:
    """A mapping of natA."""
    return MappingRow(
        attempt=name, nat="natA", internal="10.1.0.2:4000", external="203.0.113.1:4000", remote="203.0.113.2:5000", time_ns=9
    )


def tables(*names: str, cell: str = FIRST) -> dict[str, list[Any]]:
    """All tables of a part with some attempts."""
    return {
        "attempts": [attempt(name, cell) for name in names],
        "segments": [segment(name) for name in names],
        "transitions": [transition(name) for name in names],
        "mappings": [mapping(name) for name in names],
    }
