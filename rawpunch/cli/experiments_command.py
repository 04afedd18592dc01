"""rawpunch experiments: what can be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rawpunch.cli import output

if TYPE_CHECKING:
    from rawpunch.study.experiment import Factor

SCHEMA = "rawpunch.experiments/1"
_SHOWN = 5

EXAMPLES = (
    "rawpunch experiments",
    "rawpunch experiments timing_window",
    "rawpunch experiments --json",
)


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them, with all its levels.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """List the experiments that come with the toolkit: question, factors and levels."""
    from rawpunch.study.experiment import DRIVERS, Experiment, experiment_files

    found = [Experiment.load(each) for each in ([name] if name else experiment_files())]
    if json:
        output.document(
            SCHEMA,
            {
                "experiments": [
                    {
                        "name": experiment.name,
                        "question": experiment.question,
                        "claims": list(experiment.claims),
                        "repeats": experiment.repeats,
                        "drivers": list(experiment.drivers),
                        "factors": {
                            each: {"levels": list(factor.levels), "meaning": factor.meaning}
                            for each, factor in experiment.factors.items()
                        },
                    }
                    for experiment in found
                ],
            },
        )
        return
    for experiment in found:
        told = [", ".join(experiment.claims) or "no claim", f"{experiment.repeats} attempts per cell"]
        if experiment.drivers != DRIVERS:
            told.append(f"only --on {' or '.join(experiment.drivers)}")
        output.data(f"{experiment.name}  ({'; '.join(told)})")
        output.data(f"  {experiment.question}")
        for factor_name, factor in experiment.factors.items():
            output.data(f"  {factor_name} = {_levels(factor_name, factor, whole=name is not None)}: {factor.meaning}")


def _levels(name: str, factor: Factor, *, whole: bool) -> str:
    from rawpunch.study.experiment import level_name

    levels = [level_name(name, level) or "(none)" for level in factor.levels]
    if whole or len(levels) <= _SHOWN + 1:
        return ", ".join(levels)
    return f"{', '.join(levels[:_SHOWN])} ... ({len(levels)})"
