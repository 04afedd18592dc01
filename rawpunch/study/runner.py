"""Carries out an experiment: grid, seed, parts, resume, verdicts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from rawpunch.clock import SOURCE
from rawpunch.dataset.store import Dataset, MachineInfo, Manifest, RunWriter, load, new_run_id
from rawpunch.errors import BadParameter
from rawpunch.lab import wiring
from rawpunch.lab.features import kernel_release
from rawpunch.rng import stream
from rawpunch.scene import Nat, Scene, Side
from rawpunch.study.bench import Bench, LabBench
from rawpunch.study.experiment import LAUNCH_TOLERANCE_NS, Attempt, Cell, Experiment, Sampling, cell_name
from rawpunch.study.measure import TRANSIT_TOLERANCE_NS, Rows, rows_of
from rawpunch.study.planned import Planned
from rawpunch.study.sample_rows import rows_of_samples
from rawpunch.study.sim_bench import SimBench
from rawpunch.version import __version__

PART_ATTEMPTS: Final = 60
"""Attempts of a part: what a kill at the worst moment loses."""
_LIBRARIES: Final = ("scapy", "NetfilterQueue", "pandas", "pyarrow", "numpy", "scipy")

ROUNDS: Final = 60
"""How often an experiment may ask for more at most."""


class Progress(Protocol):
    """Told of attempts that are finished."""

    def __call__(self, finished: int, more: int = 0, /) -> None:
        """So many are finished since the last call, and so many more than thought are to come."""


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

    def __post_init__(self) -> None:
        able = self.experiment.drivers
        if self.driver not in able:
            raise BadParameter(
                f"the driver {self.driver} cannot make {self.experiment.name}",
                why=f"only {' and '.join(able)} can",
                todo=f"--on {able[0]}",
            )
        for side, nat in self.nats.items():
            name = f"nat_{side}"
            levels = self.experiment.factors[name].levels if name in self.experiment.factors else ()
            program = len(levels) == 1 and self.made.get(side, "").startswith(wiring.PROGRAM)
            if levels and not program and levels != (nat.persona if nat else "none",):
                word = nat.persona if nat else "one"
                raise BadParameter(
                    f"{self.experiment.name} varies {name} itself, so it cannot be replaced",
                    why=f"its rows would say {name}={levels[0]} of attempts through another NAT",
                    todo=f"--set {name}={word}, and beside it --nat-{side} box:{word} if it is to be made in a certain way",
                )

    @property
    def size(self) -> int:
        """How many attempts it has in all."""
        return sum(1 for _ in self.experiment.cells()) * self.repeats * len(self.drivers)

    @property
    def drivers(self) -> tuple[str, ...]:
        """Who makes the attempts, one after the other: the one that was asked for, and those that the experiment wants beside."""
        return (self.driver, *(name for name in self.experiment.beside if name != self.driver))

    def groups(self, driver: str = "") -> Iterator[tuple[Scene, list[Planned]]]:
        """All attempts, by scene; within a scene in an order drawn from the seed, so that no cell gets the best minutes.

        Those that are made beside have their driver's name in front of their own.
        """
        before = "" if driver in {"", self.driver} else f"{driver}-"
        yield from self._by_scene(
            [
                (f"{before}c{number:03d}-r{repeat:04d}", cell, repeat)
                for number, cell in enumerate(self.experiment.cells())
                for repeat in range(self.repeats)
            ],
            "order",
        )

    def more(self, run: Dataset) -> list[tuple[Scene, list[Planned]]]:
        """What the experiment asks for, given a run so far, in the same form; nothing when it knows enough.

        A cell that was tried before goes on counting its repeats; a new one gets the next number. Both are read off the attempts,
        so that a resumed run goes on where it stopped.
        """
        wanted, attempts = self.experiment.refine(run), run.attempts
        numbers = {cell_name(cell): number for number, cell in enumerate(self.experiment.cells())}
        repeats = dict(attempts.groupby("cell", observed=True)["repeat"].max() + 1)
        for cell, attempt in zip(attempts["cell"], attempts["attempt"], strict=True):
            numbers.setdefault(cell, int(str(attempt)[1:].partition("-")[0]))
        plan: list[tuple[str, Cell, int]] = []
        for cell in wanted:
            name = cell_name(cell)
            number = numbers.setdefault(name, max(numbers.values(), default=-1) + 1)
            repeat = int(repeats.get(name, 0))
            repeats[name] = repeat + 1
            plan.append((f"c{number:03d}-r{repeat:04d}", cell, repeat))
        return list(self._by_scene(plan, f"order after {len(attempts)}"))

    def _by_scene(self, plan: list[tuple[str, Cell, int]], order: str) -> Iterator[tuple[Scene, list[Planned]]]:
        by_scene: dict[tuple[Scene, type], list[Planned]] = {}
        for name, cell, repeat in plan:
            own, wanted = self.experiment.scene(cell), self.experiment.attempt(cell)
            scene = own.model_copy(update={f"nat_{side}": nat for side, nat in self.nats.items()})
            match wanted:
                case Sampling():
                    planned = Planned(name, cell_name(cell), cell, repeat, Attempt(), wanted, scene=scene)
                case Attempt():
                    planned = Planned(name, cell_name(cell), cell, repeat, wanted, scene=scene)
                case _:
                    planned = Planned(name, cell_name(cell), cell, repeat, Attempt(), staged=wanted, scene=scene)
            by_scene.setdefault((scene, planned.kind), []).append(planned)
        for number, ((scene, _), attempts) in enumerate(by_scene.items()):
            stream(self.seed, order, number).shuffle(attempts)
            yield scene, attempts

    @property
    def _tolerance_ns(self) -> int:
        """The widest of the attempts' tolerances."""
        plans = (self.experiment.attempt(cell) for cell in self.experiment.cells())
        return max((plan.tolerance_ns for plan in plans if isinstance(plan, Attempt)), default=LAUNCH_TOLERANCE_NS)

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
                "disturbed_launch_ns": self._tolerance_ns,
                "disturbed_transit_ns": TRANSIT_TOLERANCE_NS,
                "part_attempts": PART_ATTEMPTS,
                "nats": {f"nat_{side}": nat.persona if nat else "none" for side, nat in self.nats.items()},
                "made": dict(self.made),
            },
            machine=this_machine(),
            sysctls={node: wiring.sysctls(node) for node in wiring.NODES} if self.driver == LabBench.name else {},
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


def run(job: Job, writer: RunWriter, *, progress: Progress | None = None, bench: Bench | None = None) -> Dataset:
    """Carry out a job and return its dataset; whatever happens, finished parts stay and the folder is let go.

    Args:
        job: what to do.
        writer: where it goes; see `begin`.
        progress: called when attempts are finished.
        bench: a driver to use, which stays up; by default one is made for this job alone.

    Raises:
        MachineCannot: this machine cannot do it, or the lab broke.
        PartialData: the disk is full.
    """
    with writer, ExitStack() as stack:
        if bench is None:
            bench = stack.enter_context(bench_of(job.driver, job.seed, job.made))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rawpunch-")))
        told = progress or (lambda _finished, _more=0: None)
        carrying = _Carrying(writer, bench, scratch / "part.pcapng", told, lean=job.experiment.lean)
        finished = writer.finished_attempts()
        carrying.tell(len(finished))
        for driver in reversed(job.drivers):  # what is beside goes first: its bench is cheap, and not kept
            with bench_of(driver, job.seed, {}) if driver != job.driver else nullcontext(bench) as carrying.bench:
                carrying.out(
                    (scene, [one for one in attempts if one.name not in finished]) for scene, attempts in job.groups(driver)
                )
        for _ in range(ROUNDS if job.experiment.refines else 0):
            groups = job.more(load(writer.path))
            if not groups:
                break
            carrying.tell(0, sum(len(attempts) for _, attempts in groups))
            carrying.out(groups)
        writer.finish([verdict.to_document() for verdict in job.experiment.verdicts(load(writer.path))])
    return load(writer.path)


class _Carrying:
    """The carrying out of attempts, part by part."""

    def __init__(self, writer: RunWriter, bench: Bench, capture: Path, tell: Progress, *, lean: bool) -> None:
        self.writer = writer
        self.bench = bench
        self.lean = lean
        self.scenes = dict(writer.manifest.scenes)
        self.capture = capture
        self.tell = tell

    def out(self, groups: Iterable[tuple[Scene, list[Planned]]]) -> None:
        """Make and write all attempts, scene by scene; in the simulator, where a scene costs nothing, a part may have several."""
        if self.bench.name == SimBench.name:
            batch: list[Planned] = []
            for scene, attempts in groups:
                if attempts:
                    self.bench.use(scene)
                    self._note_scene()
                for planned in attempts:
                    if batch and (len(batch) == PART_ATTEMPTS or batch[0].kind is not planned.kind):
                        self._make(batch)
                        batch = []
                    batch.append(planned)
            if batch:
                self._make(batch)
            return
        for scene, attempts in groups:
            if not attempts:
                continue
            self.bench.use(scene)
            self._note_scene()
            for start in range(0, len(attempts), PART_ATTEMPTS):
                self._make(attempts[start : start + PART_ATTEMPTS])

    def _note_scene(self) -> None:
        described = self.bench.describe()
        if described not in self.scenes.values():
            self.scenes[f"scene-{len(self.scenes):02d}"] = described

    def _make(self, batch: list[Planned]) -> None:
        if len(self.scenes) > len(self.writer.manifest.scenes):
            self.writer.update(scenes=dict(self.scenes))
        _part(self.bench, self.writer, batch, self.capture, lean=self.lean and self.bench.name == SimBench.name)
        self.tell(len(batch))


def _part(bench: Bench, writer: RunWriter, batch: list[Planned], capture: Path, *, lean: bool) -> None:
    """Make and write one part."""
    part = writer.next_part()
    name = writer.capture_name(part)
    if batch[0].staged is not None:
        if not isinstance(bench, LabBench):
            raise BadParameter(f"the driver {bench.name} cannot stage programs", todo='say DRIVERS = ("lab",)')
        staged = Rows(bench.stage(batch), [], [], [])
        writer.write_part(part, staged.tables(), levels={planned.cell_name: dict(planned.cell) for planned in batch})
        return
    if batch[0].sampling is not None:
        sampled = bench.sample(batch, capture)
        rows, dropped = rows_of_samples(sampled, driver=bench.name, capture_name=name), sampled.dropped
    else:
        recording = bench.make(batch, capture)
        rows, dropped = rows_of(recording, driver=bench.name, capture_name=name, one_way_ns=(0, 0)), recording.dropped
    if lean:
        rows = Rows([replace(row, capture=None, decided_by=None) for row in rows.attempts], [], [], rows.mappings)
    writer.write_part(
        part,
        rows.tables(),
        levels={planned.cell_name: dict(planned.cell) for planned in batch},
        captures={} if lean else {name: capture},
        capture_drops={"all": dropped},
    )


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
