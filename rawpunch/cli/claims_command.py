"""rawpunch claims: what the runs at hand say of the claims, one line each."""

from __future__ import annotations

import shutil
import sys
import textwrap
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
_MARK = "*"
_INDENT = "     "
_WIDEST = 120
"""Longer lines are hard to read, however wide the terminal is."""


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
    n is how many the estimate is of, in [ ] its 95 % interval. A * marks a verdict that its own interval reaches, and that would
    not be reached if all are to hold together (Holm's procedure).

    With --json: "claims" is a list of objects: claim, text, verdict (upheld, refuted, conditional or undecided), together (false
    is the *), n, value, low, high, unit, run, why (the condition, or what is missing), and findings, the verdicts behind it, with
    the same keys and a statement. "tests" is how many of these were reached; "runs" are those asked, with what was left out.
    """
    from rawpunch.study.claims import report

    if not run and (quick or on != "lab" or seed is not None):
        raise BadParameter("--quick, --on and --seed say how runs are made", todo="add --run")
    found = report(runs=_make(quick, on, seed, data)) if run else report(data)
    if json:
        output.document(
            SCHEMA,
            {
                "claims": [each.to_document() for each in found.decisions],
                "tests": found.tests,
                "runs": list(found.sources),
            },
        )
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
    """On a terminal paragraphs of its width; elsewhere a line for each claim, to be searched and cut."""
    from rawpunch.study.claims import together_in_words

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for each in found.decisions:
        output.data(_paragraph(each, min(width, _WIDEST)) if width else _line(each))
    if not found.sources:
        return
    told = together_in_words(found, _MARK)
    output.data(f"{textwrap.fill(told, min(width, _WIDEST))}\n" if width else told)
    output.table(
        ["run", "driver", "attempts", "disturbed", "unmeasured"],
        [(source.run, source.driver, source.attempts, source.disturbed, source.not_measured) for source in found.sources],
        right=["attempts", "disturbed", "unmeasured"],
    )
    output.data("Disturbed and unmeasured attempts are left out.")


def _line(each: Decision) -> str:
    why = f" ({each.why})" if each.why else ""
    return "  ".join([f"{each.claim:<3}", f"{_word(each):<15}", *filter(None, _figures(each)), f"{each.text}{why}"])


def _paragraph(each: Decision, width: int) -> str:
    """The claim, the verdict with its condition, and what was found that decides it."""
    word = _word(each)
    why = f"{' ' if each.verdict == 'conditional' else ': '}{each.why}" if each.why else ""
    lines = [*_wrapped(f"{each.claim:<5}{each.text}", width), *_wrapped(f"{_INDENT}{word}{why}", width)]
    lines = [line.replace(f"{_INDENT}{word}", _INDENT + output.styled(word, _STYLES[each.verdict], sys.stdout)) for line in lines]
    if each.deciding is not None:
        n, value, run = _figures(each)
        told = each.deciding.verdict
        beside = f" ({told.why})" if told.why and told.why not in each.why else ""
        rests_on = f"{told.statement}: {', '.join(filter(None, (value, n, run)))}{beside}"
        lines += [output.styled(line, "dim", sys.stdout) for line in _wrapped(_INDENT + rests_on, width)]
    return "\n".join([*lines, ""])


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=_INDENT, break_on_hyphens=False)


def _word(each: Decision) -> str:
    from rawpunch.study.claims import in_words

    return in_words(each) + ("" if each.together else _MARK)


def _figures(each: Decision) -> tuple[str, str, str]:
    from rawpunch.study.claims import figures

    if each.deciding is None:
        return "", "", ""
    return f"n={each.deciding.verdict.n}", figures(each.deciding.verdict), each.deciding.source.run
