"""rawpunch claims: what the runs at hand say of the claims, one line each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import DataOption, JsonOption, SeedOption
from rawpunch.errors import BadParameter, PartialData

if TYPE_CHECKING:
    from rawpunch.dataset.store import Dataset
    from rawpunch.study.claims import Decision, Report

SCHEMA = "rawpunch.claims/1"

EXAMPLES = (
    "rawpunch claims",
    "rawpunch claims --run --quick",
    "rawpunch claims --run --on sim --seed 7",
    "rawpunch claims --json",
)

_STYLES = {"upheld": "green", "refuted": "red", "conditional": "yellow", "undecided": "dim"}
_SHORT = {"conditional": "holds only when"}


def command(
    run: Annotated[bool, typer.Option("--run", help="First make the runs that decide the claims.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --run: fewer levels and repeats, three minutes.")] = False,
    on: Annotated[str, typer.Option(help="With --run: the driver, lab or sim.")] = "lab",
    seed: SeedOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Say of each claim whether the data uphold or refute it, and which run says so.

    Of each experiment the newest complete run counts, one of the lab before a simulated one; with --run, those just made.
    """
    from rawpunch.study.claims import report

    if not run and (quick or on != "lab" or seed is not None):
        raise BadParameter("--quick, --on and --seed say how runs are made", todo="add --run")
    found = report(runs=_make(quick, on, seed, data)) if run else report(data)
    if json:
        output.document(SCHEMA, {"claims": [each.to_document() for each in found.decisions], "runs": list(found.sources)})
    else:
        _show(found)
    missing = sum(source.not_measured for source in found.sources)
    if run and missing:
        raise PartialData(f"{missing} attempts could not be measured", todo="rawpunch runs show RUN")


def _make(quick: bool, on: str, seed: int | None, data: Path | None) -> list[Dataset]:
    from rawpunch.rng import draw_seed
    from rawpunch.study.claims import plans
    from rawpunch.study.experiment import Experiment
    from rawpunch.study.runner import Job, begin, bench_of
    from rawpunch.study.runner import run as carry_out

    seed = draw_seed() if seed is None else seed
    made = []
    with bench_of(on, seed, {}) as bench:  # one lab for all
        for plan in plans():
            experiment = Experiment.load(plan.experiment).with_settings(plan.quick if quick else ())
            if on not in experiment.drivers:
                output.say(f"{experiment.name}: left out, only {' and '.join(experiment.drivers)} can make it")
                continue
            repeats = (plan.quick_repeats if quick else None) or experiment.repeats
            job = Job(experiment, repeats, seed, on)
            writer = begin(job, root=data)
            output.say(f"{experiment.name}: seed {seed}, {writer.path}")
            with output.progress(job.size, experiment.name) as told:
                made.append(carry_out(job, writer, progress=told, bench=bench))
    return made


def _show(found: Report) -> None:
    for each in found.decisions:
        output.data(_line(each))
    for source in found.sources:
        output.data(
            f"{source.run} ({source.driver}): {source.attempts} attempts; "
            f"left out: {source.disturbed} disturbed, {source.not_measured} not measured"
        )


def _line(each: Decision) -> str:
    from rawpunch.study.claims import figures

    word = output.styled(f"{_SHORT.get(each.verdict, each.verdict):<15}", _STYLES[each.verdict], sys.stdout)
    if each.deciding is None:
        return f"{each.claim:<4} {word} {each.text} ({each.why})"
    shown, source = each.deciding.verdict, each.deciding.source
    why = f" ({each.why})" if each.why else ""
    return f"{each.claim:<4} {word} n={shown.n}  {figures(shown)}  {source.run}  {each.text}{why}"
