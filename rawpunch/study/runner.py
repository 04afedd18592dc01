"""Carries out an experiment: grid, seed, parts, resume, verdicts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rawpunch.clock import SOURCE
from rawpunch.dataset.store import Dataset, MachineInfo, Manifest, RunWriter, load, new_run_id
from rawpunch.errors import BadParameter
from rawpunch.lab import wiring
from rawpunch.lab.features import kernel_release
from rawpunch.rng import stream
from rawpunch.scene import Nat, Scene, Side
from rawpunch.study.bench import Bench, LabBench, Planned
from rawpunch.study.experiment import Experiment, cell_name
from rawpunch.study.measure import LAUNCH_TOLERANCE_NS, TRANSIT_TOLERANCE_NS, rows_of
from rawpunch.study.sim_bench import SimBench
from rawpunch.version import __version__

PART_ATTEMPTS: Final = 60
"""Attempts of a part: what a kill at the worst moment loses."""
_LIBRARIES: Final = ("scapy", "NetfilterQueue", "pandas", "pyarrow", "numpy", "scipy")

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run."""

    experiment: Experiment
    repeats: int
    seed: int
    driver: str = "lab"
    nats: Mapping[Side, Nat | None] = field(default_factory=dict)
    """NATs to use instead of the experiment's own."""
    made: Mapping[Side, str] = field(default_factory=dict)
    """How the lab makes them: words of `wiring.made_by`."""

    @property
    def size(self) -> int:
        """How many attempts it has in all."""
        return sum(1 for _ in self.experiment.cells()) * self.repeats

    def groups(self) -> Iterator[tuple[Scene, list[Planned]]]:
        """All attempts, by scene; within a scene in an order drawn from the seed, so that no cell gets the best minutes."""
        by_scene: dict[Scene, list[Planned]] = {}
        for number, cell in enumerate(self.experiment.cells()):
            own, attempt = self.experiment.scene(cell), self.experiment.attempt(cell)
            scene = own.model_copy(update={f"nat_{side}": nat for side, nat in self.nats.items()})
            by_scene.setdefault(scene, []).extend(
                Planned(f"c{number:03d}-r{repeat:04d}", cell_name(cell), cell, repeat, attempt) for repeat in range(self.repeats)
            )
        for number, (scene, attempts) in enumerate(by_scene.items()):
            stream(self.seed, "order", number).shuffle(attempts)
            yield scene, attempts

    def manifest(self) -> Manifest:
        """The manifest of a new run of this job."""
        simulated = self.driver == SimBench.name
        return Manifest(
            experiment=self.experiment.name,
            run_id=new_run_id(),
            rawpunch_version=__version__,
            created=datetime.now(UTC),
            seed=self.seed,
            driver=self.driver,
            grid={name: factor.levels for name, factor in self.experiment.factors.items()},
            repeats=self.repeats,
            policy={
                "disturbed_launch_ns": LAUNCH_TOLERANCE_NS,
                "disturbed_transit_ns": TRANSIT_TOLERANCE_NS,
                "part_attempts": PART_ATTEMPTS,
                "nats": {f"nat_{side}": nat.persona if nat else "none" for side, nat in self.nats.items()},
                "made": dict(self.made),
            },
            machine=this_machine(),
            sysctls={} if simulated else {node: wiring.sysctls(node) for node in wiring.NODES},
            clock_source="virtual" if simulated else SOURCE,
        )


def this_machine() -> MachineInfo:
    """What a run is made on."""
    return MachineInfo(
        kernel=kernel_release(),
        python=platform.python_version(),
        cpus=os.cpu_count() or 1,
        libraries={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )


def begin(job: Job, *, root: Path | None = None, resume: Path | None = None) -> RunWriter:
    """Make the folder of a new run, or take up a stopped one.

    Args:
        job: what to do.
        root: the data folder; see `dataset.data_root`.
        resume: the folder of a stopped run of the same job; its finished attempts are not made again.

    Raises:
        UsageError: the folder is in use or cannot be written.
        BadParameter: the stopped run was another job.
    """
    return RunWriter.resume(resume, job.manifest()) if resume else RunWriter.create(job.manifest(), root=root)


def run(job: Job, writer: RunWriter, *, progress: Progress | None = None) -> Dataset:
    """Carry out a job and return its dataset; whatever happens, finished parts stay and the folder is let go.

    Args:
        job: what to do.
        writer: where it goes; see `begin`.
        progress: called with the number of attempts finished since the last call.

    Raises:
        MachineCannot: this machine cannot do it, or the lab broke.
        PartialData: the disk is full.
    """
    with writer, bench_of(job.driver, job.seed, job.made) as bench, tempfile.TemporaryDirectory(prefix="rawpunch-") as scratch:
        finished = writer.finished_attempts()
        groups = [(scene, [planned for planned in attempts if planned.name not in finished]) for scene, attempts in job.groups()]
        tell = progress or (lambda _: None)
        tell(len(finished))
        dropped = 0
        for number, (scene, attempts) in enumerate(groups):
            if not attempts:
                continue
            bench.use(scene)
            writer.update(scenes={**writer.manifest.scenes, f"scene-{number:02d}": bench.describe()})
            for start in range(0, len(attempts), PART_ATTEMPTS):
                batch = attempts[start : start + PART_ATTEMPTS]
                dropped = _part(bench, writer, batch, Path(scratch) / "part.pcapng", dropped, scene)
                tell(len(batch))
        writer.finish([verdict.to_document() for verdict in job.experiment.verdicts(load(writer.path).attempts)])
    return load(writer.path)


def _part(bench: Bench, writer: RunWriter, batch: list[Planned], capture: Path, dropped: int, scene: Scene) -> int:
    """Make and write one part; returns the packets lost since the lab began."""
    part = writer.next_part()
    name = writer.capture_name(part)
    recording = bench.make(batch, capture)
    rows = rows_of(recording, driver=bench.name, capture_name=name, one_way_ns=scene.one_way_ns)
    writer.write_part(
        part,
        rows.tables(),
        levels={planned.cell_name: dict(planned.cell) for planned in batch},
        captures={name: capture},
        capture_drops={"all": recording.dropped - dropped},
    )
    return recording.dropped


def bench_of(driver: str, seed: int, nats: Mapping[Side, str]) -> Bench:
    """A bench by its driver's name.

    Args:
        driver: lab or sim.
        seed: source of all chance.
        nats: side -> how the lab makes its NAT; see `LabBench`.

    Raises:
        BadParameter: there is no such driver, or it cannot make such a NAT.
    """
    if driver == SimBench.name:
        made = [word for word in nats.values() if word != wiring.AUTO]
        if made:
            raise BadParameter(f"the simulator makes no NAT as {made[0]!r} says", todo="name a persona or its file, or --on lab")
        return SimBench(seed)
    if driver == LabBench.name:
        return LabBench(seed, nats=nats)
    raise BadParameter(f"no driver is called {driver!r}", todo="--on lab or --on sim")
