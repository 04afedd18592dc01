"""rawpunch demo: the main job in under a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import (
    DataOption,
    JsonOption,
    SeedOption,
    carry_out,
    document_of,
    finish,
    print_tables,
    print_verdicts,
)

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

_INTRODUCTION = """\
Two hosts behind two kernel NATs, in network namespaces of this machine. Each host sends a SYN to the other; if the SYNs cross,
one connection comes of it. Kernel sockets do it, and crafted packets do it, through NATs that stay silent and NATs that reset."""


SCHEMA = "rawpunch.demo/1"

EXAMPLES = (
    "rawpunch demo",
    "rawpunch demo --repeat 5 --json",
)


def command(
    repeat: Annotated[int, typer.Option(min=1, help="Attempts per cell.")] = 24,
    seed: SeedOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Open TCP connections through two NATs by kernel sockets and by crafted packets, draw them, leave a dataset."""
    from rawpunch.rng import draw_seed
    from rawpunch.study.experiment import Experiment
    from rawpunch.study.runner import Job

    output.say(_INTRODUCTION)
    job = Job(Experiment.load("raw_vs_kernel"), repeat, draw_seed() if seed is None else seed)
    dataset = carry_out(job, data)
    document = document_of(dataset)
    if json:
        output.document(SCHEMA, document)
    else:
        _draw(dataset)
        print_tables(dataset)
        print_verdicts(document["verdicts"])
        output.data(f"\nrun: {dataset.path}")
        output.data("next: ./dev run rawpunch ladder raw_vs_kernel --pattern half_simultaneous")
        output.data("      ./dev run rawpunch lab up, then lab shell hostA")
        output.data("      open the captures in Wireshark, and notebooks/01_first_punch.ipynb in Jupyter")
    finish(document)


def _draw(dataset: Dataset) -> None:
    """One ladder per telling case."""
    from rawpunch.analysis.ladder import ladder_of

    for title, attempt in _telling(dataset.attempts).items():
        output.data(f"--- {title} ---")
        output.data(ladder_of(dataset, attempt).text())


def _telling(attempts: pd.DataFrame) -> dict[str, str]:
    wanted = {
        "kernel sockets, SYNs cross": ("kernel-kernel", "simultaneous"),
        "crafted packets, SYNs cross": ("raw-raw", "simultaneous"),
        "B starts too late, natB resets": ("kernel-kernel", "refused"),
    }
    found = {}
    for title, (ends, pattern) in wanted.items():
        match = attempts[(attempts["ends"] == ends) & (attempts["pattern"] == pattern) & ~attempts["disturbed"]]
        if len(match):
            found[title] = str(match["attempt"].iloc[0])
    return found
