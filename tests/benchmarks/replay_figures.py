"""Timing of replays against the capture's, from the time stamps of the hosts' devices. Run it on a quiet machine.

./dev run python tests/benchmarks/replay_figures.py [REPEATS]

A handshake of this lab's kernels is captured and played again many times, both sides. The error of a packet is how much later
than captured it left, counted from the packet that it answered, or else from the one that its host sent before.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from rawpunch.replay.compare import Row
from rawpunch.replay.flows import Captures
from rawpunch.scene import Scene
from rawpunch.study.bench import LabBench, Planned
from rawpunch.study.experiment import Attempt
from rawpunch.study.measure import rows_of
from rawpunch.study.replaying import Replay, Replayed, play
from rawpunch.units import MS

ONE_WAY_NS = 20 * MS
BATCH = 20
MOST_DISTURBED = 5
"""Times the repeats asked for."""


def figures(name: str, rows: list[Row]) -> None:
    """One line: how late the packets of a kind left."""
    errors_us = np.array([row.error_ns for row in rows if row.error_ns is not None]) / 1000
    if len(errors_us):
        p50, p99 = np.percentile(np.abs(errors_us), [50, 99])
        print(f"{name}: error p50 {p50:.0f} us, p99 {p99:.0f} us, worst {np.abs(errors_us).max():.0f} us, n = {len(errors_us)}")


def replays(bench: LabBench, folder: Path, attempt: Attempt, repeats: int, speed: float) -> tuple[list[Replayed], int]:
    """Capture one handshake and play it again; the replays in which the machine did not stall, and how many it disturbed."""
    bench.make([Planned("original", "cell", {}, 0, attempt)], folder / "original.pcapng")
    replay = Replay(Captures([folder / "original.pcapng"]).script(1), speed=speed)
    made: list[Replayed] = []
    disturbed = 0
    while len(made) < repeats:
        batch, recording = play(replay, bench, folder / "replay.pcapng", repeats=min(BATCH, repeats - len(made)))
        rows = rows_of(recording, driver="replay", capture_name="x", one_way_ns=bench.lab.scene.one_way_ns)
        quiet = [replayed for replayed, row in zip(batch, rows.attempts, strict=True) if not row.disturbed]
        disturbed += len(batch) - len(quiet)
        made += quiet
        if disturbed > MOST_DISTURBED * repeats:
            raise SystemExit("the machine is not quiet: it disturbed most replays")
    return made, disturbed


def main() -> None:
    """All figures."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder, LabBench(1) as bench:
        bench.use(Scene.symmetric(ONE_WAY_NS))
        everything: list[Row] = []
        for offset_ns, speed in ((0, 1.0), (ONE_WAY_NS // 2, 1.0), (ONE_WAY_NS // 4, 0.5), (3 * ONE_WAY_NS // 2, 1.0)):
            attempt = Attempt(offset_ns=offset_ns)
            made, disturbed = replays(bench, Path(folder), attempt, repeats, speed)
            same = sum(replayed.comparison.same_outcome for replayed in made)
            pattern = made[0].comparison.captured.pattern
            print(f"{pattern}, offset {offset_ns / MS:.0f} ms, speed {speed}: {same} of {len(made)} alike, {disturbed} disturbed")
            rows = [row for replayed in made for row in replayed.comparison.rows]
            everything += rows
            for kind in dict.fromkeys(row.kind for row in rows):
                figures(f"  {kind}", [row for row in rows if row.kind == kind])
        figures("all packets", everything)


if __name__ == "__main__":
    main()
