"""The sample runs that are kept with the source: how each is made, and their datasheets.

    python -m rawpunch.study.samples data/sample                # make all anew, in about ten minutes on a machine that is quiet
    python -m rawpunch.study.samples data/sample binding spray  # or only some
    python -m rawpunch.study.samples data/sample --sheets       # make none; write what is said about them

A run is made in a scratch folder, condensed, and takes the place of the older one of its experiment only when it is complete.
Then the datasheets, the page of the claims and the drawing of a crossing are written anew, as they are told from these runs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from rawpunch.analysis.ladder import ladder_of
from rawpunch.analysis.tables import keep
from rawpunch.dataset.condense import condense
from rawpunch.dataset.datasheet import datasheet
from rawpunch.dataset.reader import Dataset
from rawpunch.errors import RawpunchError, UnknownName, UsageError
from rawpunch.study.claims import sample_page
from rawpunch.study.experiment import Experiment
from rawpunch.study.runner import Job, begin, run

SHEETS: Final = "README.md"
DRAWING: Final = "crossing.svg"
_FILE: Final = Path(__file__).with_name("samples.toml")
_CLAIMS_PAGE: Final = Path("experiments") / "README.md"


@dataclass(frozen=True, slots=True)
class Sample:
    """How a sample run is made."""

    experiment: str
    seed: int
    repeats: int
    settings: tuple[str, ...] = ()
    driver: str = "lab"

    @property
    def command(self) -> str:
        """What makes such a run by hand, not condensed."""
        words = ["rawpunch run", self.experiment, *(f"--set {_quoted(setting)}" for setting in self.settings)]
        return " ".join([*words, f"--repeat {self.repeats} --seed {self.seed}", *(["--on sim"] if self.driver == "sim" else [])])


def _quoted(setting: str) -> str:
    return f"'{setting}'" if " " in setting else setting


@cache
def samples() -> tuple[Sample, ...]:
    """The runs that are kept, in the order in which they are made."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))["sample"]
    return tuple(Sample(**(entry | {"settings": tuple(entry.get("settings", ()))})) for entry in table)


def as_made(made: Dataset, experiment: Experiment) -> Sample:
    """How a run was made, as its manifest has it: levels that are not the experiment's own are settings."""
    told = made.manifest
    settings = (
        f"{name}={','.join(str(level).lower() if isinstance(level, bool) else str(level) for level in levels)}"
        for name, levels in told.grid.items()
        if name in experiment.factors and levels != experiment.factors[name].levels
    )
    return Sample(told.experiment, told.seed, told.repeats, tuple(settings), told.driver)


def make(sample: Sample, shelf: Path) -> Path:
    """Make a sample run in place of the shelf's older one of its experiment.

    Raises:
        RawpunchError: it cannot be made here, or is not complete; the older one is still there.
    """
    experiment = Experiment.load(sample.experiment).with_settings(sample.settings)
    job = Job(experiment, sample.repeats, sample.seed, sample.driver)
    with tempfile.TemporaryDirectory(prefix="rawpunch-") as scratch:
        made = run(job, begin(job, root=Path(scratch)))
        target = shelf / sample.experiment / made.manifest.run_id
        condense(made.path, target)
    for folder in (shelf / sample.experiment).iterdir():
        if folder.name != target.name:
            shutil.rmtree(folder)
    return target


def sheets(shelf: Path) -> str:
    """The datasheets of a shelf's runs, as one page."""
    runs = [Dataset(path.parent) for path in sorted(shelf.glob("*/*/manifest.json"))]
    octets = sum(entry.size for each in runs for entry in each.manifest.files())
    lines = [
        "# Sample runs",
        "",
        f"{len(runs)} small runs, {octets / 1e6:.1f} MB, made by the experiments themselves: what the notebooks, the tests and",
        "the [page of the claims](../../experiments/README.md) read. Columns are in the [dictionary](../README.md).",
        "They are condensed: one file a table with every row, and captures that show each wire pattern and outcome. Addresses",
        "are of documentation and private ranges; nobody's traffic is in them. Licence: GPL-2.0-only, as the toolkit's.",
        "",
        "This file is told from the runs: `python -m rawpunch.study.samples data/sample --sheets`; a test compares. Without",
        "`--sheets` all are made anew, in about ten minutes; the machine should do nothing else then.",
        "",
    ]
    for each in runs:
        experiment = Experiment.load(each.manifest.experiment)
        meanings = {name: factor.meaning for name, factor in experiment.factors.items()}
        lines.append(datasheet(each, experiment.question, meanings=meanings, command=as_made(each, experiment).command))
    return "\n".join(lines)


def drawing(shelf: Path) -> str:
    """A crossing of crafted and kernel's packets, as SVG: the first one of the shelf's run of raw_vs_kernel.

    Raises:
        UnknownName: there is none.
    """
    for path in sorted((shelf / "raw_vs_kernel").glob("*/manifest.json")):
        drawn = Dataset(path.parent)
        good = keep(drawn.attempts).attempts
        such = good[(good["ends"] == "raw-kernel") & (good["pattern"] == "simultaneous") & (good["offset"] == 0.5)]
        such = such[such["one_way_ns"] == such["one_way_ns"].max()]
        if len(such):
            return ladder_of(drawn, str(such["attempt"].iloc[0])).svg()
    raise UnknownName(f"no crossing of a raw end with a kernel's is in {shelf}", todo="make the sample raw_vs_kernel")


def main(words: Sequence[str]) -> int:
    """Make what the command line names."""
    shelf, names = Path(words[0] if words else "data/sample"), [word for word in words[1:] if not word.startswith("--")]
    try:
        unknown = set(names) - {sample.experiment for sample in samples()}
        if unknown:
            raise UsageError(
                f"there is no sample {', '.join(sorted(unknown))}", todo=", ".join(sample.experiment for sample in samples())
            )
        for sample in () if "--sheets" in words else samples():
            if not names or sample.experiment in names:
                sys.stderr.write(f"{sample.command}\n")
                sys.stderr.write(f"  {make(sample, shelf)}\n")
        (shelf / SHEETS).write_text(sheets(shelf), encoding="utf-8")
        (shelf / DRAWING).write_text(drawing(shelf), encoding="utf-8")
        page = shelf.resolve().parents[1] / _CLAIMS_PAGE
        if page.exists():
            page.write_text(sample_page(shelf), encoding="utf-8")
    except RawpunchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
