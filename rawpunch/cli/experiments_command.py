"""rawpunch experiments: what can be run."""

from __future__ import annotations

from typing import Annotated

import typer

from rawpunch.cli import output

SCHEMA = "rawpunch.experiments/1"


EXAMPLES = (
    "rawpunch experiments",
    "rawpunch experiments --json",
)


def command(json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """List the experiments that come with the toolkit: question, factors and levels."""
    from rawpunch.study.experiment import Experiment, experiment_files

    found = [Experiment.load(name) for name in experiment_files()]
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
                        "factors": {
                            name: {"levels": list(factor.levels), "meaning": factor.meaning}
                            for name, factor in experiment.factors.items()
                        },
                    }
                    for experiment in found
                ],
            },
        )
        return
    for experiment in found:
        output.data(f"{experiment.name}  ({', '.join(experiment.claims) or 'no claim'}; {experiment.repeats} attempts per cell)")
        output.data(f"  {experiment.question}")
        for name, factor in experiment.factors.items():
            output.data(f"  {name} = {', '.join(map(str, factor.levels))}: {factor.meaning}")
