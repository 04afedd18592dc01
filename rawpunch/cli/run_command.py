"""rawpunch run: carry out an experiment and leave a dataset."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rawpunch.cli import output
from rawpunch.cli.nats import NatOption, makes
from rawpunch.errors import BadParameter, PartialData, RawpunchError

if TYPE_CHECKING:
    from rawpunch.dataset.store import Dataset
    from rawpunch.study.bench import Bench
    from rawpunch.study.experiment import Experiment
    from rawpunch.study.live_bench import LiveBench
    from rawpunch.study.runner import Job

SCHEMA = "rawpunch.run/1"

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder that holds runs (default: RAWPUNCH_DATA, or ./data).")]
LIVE = "live"
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
SeedOption = Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of all chance; drawn and recorded if absent.")]


EXAMPLES = (
    "rawpunch run raw_vs_kernel",
    "rawpunch run raw_vs_kernel --on sim --nat-a full-cone",
    "rawpunch run raw_vs_kernel --set ends=raw-raw --set one_way_ns=20ms --repeat 50 --seed 7",
    "rawpunch run raw_vs_kernel --nat-a symmetric-sequential --nat-b rst-sender --repeat 5",
    "rawpunch run --resume data/runs/raw_vs_kernel/20260131-142530-7f3a",
    'rawpunch run stack_conformance --stack "cmd:python -m rawpunch.live.stack_program"',
    "rawpunch run stack_conformance --on live",
    'rawpunch run stack_conformance --on live --target 198.18.2.2 --stack "cmd:ip netns exec x my-stack"',
)


def command(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="An experiment's name, or a Python file of yours.")] = "",
    on: Annotated[
        str, typer.Option(help="The driver: lab, sim, or live, where a prober takes a stack through its branches from here.")
    ] = "lab",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FACTOR=LEVEL[,LEVEL]", help="Use these levels of a factor.")
    ] = None,
    repeat: Annotated[int | None, typer.Option(min=1, help="Attempts per cell.")] = None,
    seed: SeedOption = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with a stopped run; NAME may be left out.")] = None,
    nat_a: NatOption = "",
    nat_b: NatOption = "",
    stack: Annotated[
        str,
        typer.Option(
            metavar="kernel|cmd:PROGRAM|PROFILE",
            help="The stack under test, where an experiment has one. A program is told on its standard input when to open; "
            "how: pydoc rawpunch.live.stack_program.",
        ),
    ] = "",
    target: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS[:PORT]", help="With --on live: where the stack opens from; the loopback if it is left out."
        ),
    ] = "",
    policy: Annotated[
        Path | None,
        typer.Option(help="With --on live: who consented to be a target (TOML), as for `rawpunch replay`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and touch nothing.")] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Carry out an experiment, in the lab, simulated or live: attempts, captures, dataset, verdicts."""
    nats, made = makes(nat_a, nat_b)
    job = replace(_job(what, on, settings or [], repeat, seed, resume, stack), nats=nats, made=made)
    if (target or policy) and job.driver != LIVE:
        raise BadParameter("--target and --policy are for --on live", why=f"the driver is {job.driver}")
    bench = _live(job, target or _target_of(resume), policy) if job.driver == LIVE else None
    if dry_run:
        _show(job, bench)
        return
    dataset = carry_out(job, data, resume, bench)
    document = document_of(dataset)
    if json:
        output.document(SCHEMA, document)
    else:
        _print_result(job.experiment, dataset, document["verdicts"])
        output.data(f"\nrun: {dataset.path}")
    finish(document)


def _live(job: Job, target: str, policy: Path | None) -> LiveBench:
    """The bench of a live path, when the policy allows it."""
    from rawpunch.study.live_bench import LOOPBACK, LiveBench
    from rawpunch.wire.endpoint import Endpoint

    if job.nats:
        raise BadParameter("a live path has the NATs that it has", todo="leave --nat-a and --nat-b out, or --on lab")
    if not target:
        return LiveBench(job.seed, LOOPBACK, policy)
    with_port = target.count(":") == 1 or "]" in target
    return LiveBench(job.seed, Endpoint.parse(target) if with_port else Endpoint(target, 0), policy)


def _target_of(resume: Path | None) -> str:
    """The target of a stopped run: going on with it means going on with that one."""
    from rawpunch.dataset.store import Manifest

    scenes = Manifest.read(resume).scenes.values() if resume is not None else ()
    return next((str(scene["target"]) for scene in scenes if "target" in scene), "")


def _job(what: str, on: str, settings: list[str], repeat: int | None, seed: int | None, resume: Path | None, stack: str) -> Job:
    from rawpunch.dataset.store import Manifest
    from rawpunch.rng import draw_seed
    from rawpunch.study.experiment import Experiment, Factor
    from rawpunch.study.runner import Job

    if resume is None:
        if not what:
            raise BadParameter("no experiment is named", todo="rawpunch experiments lists them")
        experiment = _with_stack(Experiment.load(what).with_settings(settings), stack)
        return Job(experiment, repeat or experiment.repeats, draw_seed() if seed is None else seed, on)
    before = Manifest.read(resume)
    experiment = Experiment.load(what or before.experiment)
    for name, levels in before.grid.items():
        if name in experiment.factors:
            factor = experiment.factors[name]
            experiment.factors[name] = Factor(levels, factor.meaning, factor.fixed)
    experiment = _with_stack(experiment.with_settings(settings), stack)
    return Job(experiment, repeat or before.repeats, before.seed if seed is None else seed, before.driver)


def _with_stack(experiment: Experiment, stack: str) -> Experiment:
    """The experiment with that stack under test; unlike a setting it may have commas."""
    if stack:
        if "stack" not in experiment.factors:
            raise BadParameter(f"{experiment.name} has no stack under test", todo="leave --stack out")
        experiment.factors["stack"] = replace(experiment.factors["stack"], levels=(stack,))
    return experiment


def carry_out(job: Job, data: Path | None, resume: Path | None = None, bench: Bench | None = None) -> Dataset:
    """Run a job with progress on stderr, and say how to go on if it is cut short."""
    from rawpunch.study.runner import begin, run

    writer = begin(job, root=data, resume=resume)
    output.say(f"{job.experiment.name}: seed {job.seed}, {writer.path}")
    how_to_go_on = f"rawpunch run {job.experiment.name} --resume {writer.path}"
    try:
        with bench or nullcontext(), output.progress(job.size, "attempts") as told:
            return run(job, writer, progress=told, bench=bench)
    except KeyboardInterrupt:
        output.say(f"interrupted; {writer.manifest.attempts} finished attempts are kept. Go on: {how_to_go_on}")
        raise
    except RawpunchError as error:
        if writer.manifest.attempts:
            error.todo = "; ".join(filter(None, (error.todo, f"finished attempts are kept, go on: {how_to_go_on}")))
        raise


def document_of(dataset: Dataset) -> dict[str, Any]:
    """What `--json` prints of a run."""
    attempts = dataset.attempts
    return {
        "run": str(dataset.path),
        "attempts": len(attempts),
        "by_pattern": {str(word): int(count) for word, count in attempts["pattern"].value_counts().items()},
        "by_outcome": {str(word): int(count) for word, count in attempts["outcome"].value_counts().items()},
        "disturbed": int(attempts["disturbed"].sum()),
        "capture_drops": sum(dataset.manifest.capture_drops.values()),
        "verdicts": list(dataset.manifest.verdicts),
    }


def _print_result(experiment: Experiment, dataset: Dataset, verdicts: list[dict[str, Any]]) -> None:
    """The experiment's own table, and of the expectations in it those that were not met; or success by cell, and all verdicts."""
    table = experiment.table(dataset)
    if table is None:
        print_tables(dataset)
        print_verdicts(verdicts)
        return
    output.table(list(table.columns), table.rows, right=list(table.right))
    output.data(f"{table.foot}\n")
    met = [verdict for verdict in verdicts if _is_expectation(verdict) and verdict["verdict"] == "upheld"]
    print_verdicts([verdict for verdict in verdicts if verdict not in met])
    output.data(f"{len(met)} expectations are met; rawpunch runs show {dataset.path} lists them")


def print_tables(dataset: Dataset) -> None:
    """Success by cell, as a table on stdout; of samples, the ports by cell."""
    from rawpunch.analysis.tables import success_by
    from rawpunch.study.experiment import level_name

    factors = list(dataset.manifest.grid)
    if dataset.attempts["driver"].nunique() > 1:
        factors.append("driver")
    if (dataset.attempts["outcome"] == "sampled").any():
        _print_ports(dataset, factors)
        return
    found = success_by(dataset.attempts, factors)
    rows = [
        (
            *(level_name(name, row[name]) for name in factors),
            f"{row['successes']}/{row['n']}",
            f"{row['low']:.2f}-{row['high']:.2f}" if row["n"] else "-",
        )
        for row in found.table.to_dict("records")
    ]
    output.table([*factors, "opened", "95 %"], rows, right=["opened"])
    output.data(f"{found.kept}; intervals are Wilson's\n")


def _print_ports(dataset: Dataset, factors: list[str]) -> None:
    from rawpunch.analysis.ports import ports_by
    from rawpunch.study.experiment import level_name

    rows = [
        (
            *map(level_name, factors, levels),
            f"{ports.mapped}/{ports.sent}",
            f"{ports.low}-{ports.high}",
            ports.rule,
            "-" if ports.step is None else f"{ports.step:+d}",
            f"{ports.kept:.2f}",
            f"{ports.next_port.estimate:.2f}",
            f"{ports.next_port.low:.2f}-{ports.next_port.high:.2f}",
        )
        for levels, ports in ports_by(dataset, factors)
    ]
    columns = ["mapped", "ports", "rule", "step", "kept", "told", "95 %"]
    output.table([*factors, *columns], rows, right=[name for name in columns[:-1] if name != "rule"])
    output.data(
        "step: the commonest, if half of all are that; kept: share with the inside port; told: share guessed beforehand\n"
    )


def print_verdicts(verdicts: list[dict[str, Any]]) -> None:
    """One line per verdict on stdout."""
    for verdict in verdicts:
        unit = f" {verdict['unit']}" if verdict.get("unit") else ""
        figures = f"{verdict['value']:.3f} [{verdict['low']:.3f}, {verdict['high']:.3f}]" if verdict["low"] is not None else ""
        interval = f"  {figures}{unit}" if figures else ""
        why = f"  ({verdict['why']})" if verdict["why"] else ""
        claim = "" if _is_expectation(verdict) else f"{verdict['claim']}: "
        output.data(f"{verdict['verdict']:>11}  n={verdict['n']}{interval}  {claim}{verdict['statement']}{why}")


def _is_expectation(verdict: dict[str, Any]) -> bool:
    from rawpunch.study.experiment import Verdict

    return Verdict(**verdict).is_expectation


def finish(document: dict[str, Any]) -> None:
    """End with the exit code that the data deserve.

    Raises:
        PartialData: an attempt could not be measured.
        typer.Exit: 1 if something that was to be so is not. A claim that turned out false is a result.
    """
    missing = document["by_outcome"].get("not_measured", 0)
    if missing:
        raise PartialData(
            f"{missing} of {document['attempts']} attempts could not be measured",
            why="the cause column of the attempts table says why",
            todo=f"rawpunch runs show {document['run']}",
        )
    if any(verdict["verdict"] == "refuted" and _is_expectation(verdict) for verdict in document["verdicts"]):
        raise typer.Exit(1)


def _show(job: Job, bench: Bench | None) -> None:
    from rawpunch.lab.features import choose_delay_way
    from rawpunch.lab.wiring import AUTO, describe, made_by
    from rawpunch.scene import SIDES

    way = choose_delay_way() if job.driver == "lab" else ""
    for number, (scene, attempts) in enumerate(job.groups()):
        output.data(f"# scene {number}: {len(attempts)} attempts, {job.repeats} per cell, seed {job.seed}")
        for cell in dict.fromkeys(planned.cell_name for planned in attempts):
            output.data(f"#   {cell}")
        if job.driver == "sim":
            output.data(scene.model_dump_json())
            continue
        if bench is not None:
            output.data(", ".join(f"{name}: {what}" for name, what in bench.describe().items() if name != "scene"))
            continue
        for command in describe(scene, way, {side: made_by(scene, side, job.made.get(side, AUTO)) for side in SIDES}):
            output.data(command)
    for driver in job.drivers[1:]:
        output.data(f"# beside: the same {job.size // len(job.drivers)} attempts by the driver {driver}")
