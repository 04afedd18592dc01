"""The claims, and what the runs at hand say of them. Verdicts are computed, by the experiments, from data; none is kept.

python -m rawpunch.study.claims data/sample > experiments/README.md    # the page, from the runs that come with the source
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from rawpunch.dataset.layout import list_runs
from rawpunch.dataset.store import Dataset, load
from rawpunch.errors import RawpunchError
from rawpunch.record.words import Outcome
from rawpunch.study.experiment import Experiment, Verdict, Word, experiment_files

_FILE: Final = Path(__file__).with_name("claims.toml")
_SEVERAL: Final = "conditional"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that the claims' report rests on."""

    experiment: str
    quick: tuple[str, ...] = ()
    """Settings that make it short."""
    quick_repeats: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A run that was asked."""

    experiment: str
    run: str
    """Its name: experiment/run_id."""
    path: Path
    driver: str
    attempts: int
    disturbed: int
    """Attempts that a stall of the machine disturbed: left out by rule."""
    not_measured: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run says of a claim."""

    source: Source
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """A claim, and what is to be thought of it."""

    claim: str
    text: str
    verdict: Word
    deciding: Finding | None
    """The finding of most attempts among those that decide it; None when none does."""
    findings: tuple[Finding, ...]
    why: str

    def to_document(self) -> dict[str, Any]:
        """As a JSON-able document."""
        shown = self.deciding.verdict if self.deciding else None
        return {
            "claim": self.claim,
            "text": self.text,
            "verdict": self.verdict,
            "n": shown.n if shown else 0,
            "value": shown.value if shown else None,
            "low": shown.low if shown else None,
            "high": shown.high if shown else None,
            "unit": shown.unit if shown else "",
            "run": self.deciding.source.run if self.deciding else None,
            "why": self.why,
            "findings": [found.verdict.to_document() | {"run": found.source.run} for found in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All claims."""

    decisions: tuple[Decision, ...]
    sources: tuple[Source, ...]


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def claims() -> dict[str, str]:
    """Id -> the claim in our words."""
    return dict(_table()["claims"])


def plans() -> list[Plan]:
    """What a report is made from when it is made anew."""
    return [
        Plan(entry["experiment"], tuple(entry.get("quick", ())), entry.get("quick_repeats")) for entry in _table().get("run", [])
    ]


def report(root: Path | None = None, *, runs: Iterable[Dataset] | None = None) -> Report:
    """Ask the runs at hand: of each experiment the newest one that is complete, one of the lab before one of the simulator.

    Args:
        root: the folder that holds runs; RAWPUNCH_DATA or ./data if not given.
        runs: these runs instead of those in the folder.
    """
    chosen = list(runs) if runs is not None else list(_newest(root))
    findings: dict[str, list[Finding]] = {}
    sources = []
    for run in chosen:
        source = _source(run)
        sources.append(source)
        for verdict in Experiment.load(source.experiment).verdicts(run):
            findings.setdefault(verdict.claim, []).append(Finding(source, verdict))
    drivers = {source.driver for source in sources} if runs is not None else set()
    return Report(
        tuple(
            decide(claim, text, findings.get(claim, []), _missing(claim, runs is None, drivers))
            for claim, text in claims().items()
        ),
        tuple(sources),
    )


def _missing(claim: str, all_at_hand: bool, drivers: Collection[str]) -> str:
    """Why nothing is found of a claim.

    Args:
        claim: its id.
        all_at_hand: whether all runs were asked that there are, and not some that were named.
        drivers: who made those that were named.
    """
    deciders = [found for found in map(Experiment.load, experiment_files()) if claim in found.claims]
    able = {driver for found in deciders for driver in found.drivers}
    named = " or ".join(found.name for found in deciders)
    if drivers and deciders and able.isdisjoint(drivers):
        return f"only {' and '.join(sorted(able))} can decide it: rawpunch run {named}"
    if not all_at_hand:
        return "none of these runs decides it"
    return f"no run at hand: rawpunch run {named}" if deciders else "no experiment decides it yet"


def decide(claim: str, text: str, findings: Sequence[Finding], missing: str) -> Decision:
    """What several findings make of a claim.

    Where all that decide agree, that is the verdict; where some uphold and some refute it, it holds on conditions, which are what
    the findings say. Those that cannot decide are not counted.

    Args:
        claim: its id.
        text: in our words.
        findings: what was found.
        missing: why there is none, if there is none.
    """
    decided = [found for found in findings if found.verdict.verdict != "undecided"]
    if not decided:
        why = "; ".join(dict.fromkeys(found.verdict.why for found in findings if found.verdict.why))
        return Decision(claim, text, "undecided", None, tuple(findings), why if findings else missing)
    words = {found.verdict.verdict for found in decided}
    word: Word = words.pop() if len(words) == 1 else _SEVERAL
    matching = [found for found in decided if found.verdict.verdict == word] or decided
    deciding = max(matching, key=lambda found: found.verdict.n)
    why = "" if word != _SEVERAL else "; ".join(dict.fromkeys(map(_condition, decided)))
    return Decision(claim, text, word, deciding, tuple(findings), why)


def _condition(found: Finding) -> str:
    verdict = found.verdict
    if verdict.verdict == _SEVERAL:
        return f"holds only when {verdict.why}"
    return f"{verdict.verdict}: {verdict.statement}"


def _newest(root: Path | None) -> Iterator[Dataset]:
    known = experiment_files()
    found: dict[str, tuple[bool, Path]] = {}
    for info in list_runs(root):
        name, lab = info.manifest.experiment, info.manifest.driver == "lab"
        if name in known and info.manifest.status == "complete" and (name not in found or (lab and not found[name][0])):
            found[name] = (lab, info.path)
    for name in known:
        if name in found:
            yield load(found[name][1])


def _source(run: Dataset) -> Source:
    attempts, manifest = run.attempts, run.manifest
    disturbed = attempts["disturbed"].astype(bool)
    return Source(
        manifest.experiment,
        f"{manifest.experiment}/{manifest.run_id}",
        run.path,
        manifest.driver,
        manifest.attempts,
        int(disturbed.sum()),
        int(((attempts["outcome"] == Outcome.NOT_MEASURED.value) & ~disturbed).sum()),
    )


def figures(verdict: Verdict) -> str:
    """A verdict's estimate with its interval: ``0.97 [0.93, 1.00]``; "" when it has none."""
    if verdict.value is None or verdict.low is None or verdict.high is None:
        return ""
    unit = f" {verdict.unit}" if verdict.unit else ""
    return f"{verdict.value:.3g} [{verdict.low:.3g}, {verdict.high:.3g}]{unit}"


def page(found: Report) -> str:
    """The report as a page: claims with their verdicts, then the experiments."""
    lines = [
        "# Experiments",
        "",
        "This page is generated from the experiments and from the runs in `data/sample`; a test compares. To make it again:",
        "`./dev run python -m rawpunch.study.claims data/sample > experiments/README.md`. `rawpunch claims` says the same of",
        "your own runs, and `rawpunch claims --run` makes them.",
        "",
        "## The claims",
        "",
        "Verdicts are computed from the data; intervals are 95 %. *Undecided* claims say why.",
        "",
        "| claim | in our words | verdict | n | estimate | run |",
        "|---|---|---|---|---|---|",
    ]
    for each in found.decisions:
        shown = each.deciding.verdict if each.deciding else None
        verdict = "holds only on conditions" if each.verdict == _SEVERAL else each.verdict
        cells = (
            each.claim,
            each.text,
            f"**{verdict}**" + (f": {each.why}" if each.why else ""),
            str(shown.n) if shown else "",
            figures(shown) if shown else "",
            each.deciding.source.run if each.deciding else "",
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    lines += ["", "What was found, finding by finding:", ""]
    for each in found.decisions:
        for finding in each.findings:
            told = finding.verdict
            value = f", {figures(told)}" if figures(told) else ""
            why = f" ({told.why})" if told.why else ""
            lines.append(f"- {each.claim}, {told.verdict}: {told.statement}: n = {told.n}{value}{why}")
    lines += ["", "## The runs", "", "| run | driver | attempts | disturbed, left out | not measured |", "|---|---|---|---|---|"]
    lines += [
        f"| {source.run} | {source.driver} | {source.attempts} | {source.disturbed} | {source.not_measured} |"
        for source in found.sources
    ]
    lines += ["", "## The experiments", ""]
    for name in sorted(source.experiment for source in found.sources):
        experiment = Experiment.load(name)
        lines += [f"### {name}", "", f"{experiment.question} ({', '.join(experiment.claims) or 'no claim'})", ""]
        lines += [f"- `{factor}`: {given.meaning}" for factor, given in experiment.factors.items()]
        lines.append("")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Print the page made from the runs in a folder like data/sample."""
    shelf = Path(words[0] if words else "data/sample")
    try:
        print(sample_page(shelf), end="")  # noqa: T201  stdout is what it is for
    except RawpunchError as error:
        print(error, file=sys.stderr)  # noqa: T201  as above
        return error.exit_code
    return 0


def sample_page(shelf: Path) -> str:
    """The page made from one shelf alone, so that what else was measured on this machine does not change it."""
    known = experiment_files()
    newest = [max(shelf.glob(f"{name}/*/manifest.json"), default=None) for name in known]
    return page(report(runs=[load(path.parent) for path in newest if path is not None]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
