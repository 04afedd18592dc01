"""The claims, and what the runs at hand say of them. Verdicts are computed, by the experiments, from data; none is kept.

Each verdict is reached by its own 95 % interval: whoever asks about one claim is told how sure that one is. Of many such verdicts
some are wrong by chance, so a report also says which of them would be reached if all were to hold together, by Holm's procedure:
every run is asked again at the stricter confidence, whatever its intervals are of. The others are marked and not withdrawn,
as that is the answer to another question, and more attempts decide it.

python -m rawpunch.study.claims data/sample > experiments/README.md    # the page, from the runs that come with the source
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from rawpunch.analysis.statistics import CONFIDENCE, at_confidence, holm_by_intervals
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
    together: bool = True
    """Whether it is still reached when all verdicts of the report are to hold together."""


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
    """When it holds, if on conditions; what is missing, if it is undecided."""
    together: bool
    """Whether the verdict is the same when all of the report are to hold together; an undecided one is."""

    def to_document(self) -> dict[str, Any]:
        """As a JSON-able document."""
        shown = self.deciding.verdict if self.deciding else None
        return {
            "claim": self.claim,
            "text": self.text,
            "verdict": self.verdict,
            "together": self.together,
            "n": shown.n if shown else 0,
            "value": shown.value if shown else None,
            "low": shown.low if shown else None,
            "high": shown.high if shown else None,
            "unit": shown.unit if shown else "",
            "run": self.deciding.source.run if self.deciding else None,
            "why": self.why,
            "findings": [
                found.verdict.to_document() | {"together": found.together, "run": found.source.run} for found in self.findings
            ],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All claims."""

    decisions: tuple[Decision, ...]
    sources: tuple[Source, ...]
    tests: int
    """How many verdicts on claims were reached, of which some might be wrong by chance."""

    @property
    def alone(self) -> tuple[str, ...]:
        """The claims whose verdict rests on its own interval alone."""
        return tuple(each.claim for each in self.decisions if not each.together)


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
    asked = [_ask(run) for run in (runs if runs is not None else _newest(root))]
    together = _together(asked)
    findings: dict[str, list[Finding]] = {}
    for number, each in enumerate(asked):
        for place, verdict in enumerate(each.verdicts):
            found = Finding(each.source, verdict, verdict.verdict == "undecided" or (number, place) in together)
            findings.setdefault(verdict.claim, []).append(found)
    drivers = {each.source.driver for each in asked} if runs is not None else set()
    return Report(
        tuple(
            decide(claim, text, findings.get(claim, []), _missing(claim, runs is None, drivers))
            for claim, text in claims().items()
        ),
        tuple(each.source for each in asked),
        len(_tests(asked)),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A run and what it says."""

    run: Dataset
    experiment: Experiment
    source: Source
    verdicts: list[Verdict]
    """Those on claims."""


def _ask(run: Dataset) -> _Asked:
    source = _source(run)
    experiment = Experiment.load(source.experiment)
    return _Asked(run, experiment, source, _on_claims(experiment, run))


def _on_claims(experiment: Experiment, run: Dataset) -> list[Verdict]:
    return [verdict for verdict in experiment.verdicts(run) if not verdict.is_expectation]


def _tests(asked: Sequence[_Asked]) -> list[tuple[int, int]]:
    """The verdicts that were reached: the run's number, and its place among those of the run."""
    return [
        (number, place)
        for number, each in enumerate(asked)
        for place, verdict in enumerate(each.verdicts)
        if verdict.verdict != "undecided"
    ]


def _together(asked: Sequence[_Asked]) -> set[tuple[int, int]]:
    """Those of the verdicts that hold together, with the chance of a single wrong one among all at 5 %."""
    tests = _tests(asked)

    def decided(confidence: float, left: AbstractSet[int]) -> set[int]:
        with at_confidence(confidence):
            again = {
                number: _on_claims(asked[number].experiment, asked[number].run) for number in {tests[one][0] for one in left}
            }
        return {
            one
            for one in left
            for number, place in [tests[one]]
            if again[number][place].verdict == asked[number].verdicts[place].verdict
        }

    return {tests[one] for one in holm_by_intervals(len(tests), decided, level=1 - CONFIDENCE)}


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
    word = _word(findings)
    stands = word == _word([found for found in findings if found.together])
    decided = [found for found in findings if found.verdict.verdict != "undecided"]
    if not decided:
        why = "; ".join(dict.fromkeys(found.verdict.why for found in findings if found.verdict.why))
        return Decision(claim, text, word, None, tuple(findings), why if findings else missing, stands)
    matching = [found for found in decided if found.verdict.verdict == word] or decided
    deciding = max(matching, key=lambda found: found.verdict.n)
    return Decision(claim, text, word, deciding, tuple(findings), _condition(decided) if word == _SEVERAL else "", stands)


def _word(findings: Iterable[Finding]) -> Word:
    words = {found.verdict.verdict for found in findings} - {"undecided"}
    return "undecided" if not words else words.pop() if len(words) == 1 else _SEVERAL


def _condition(decided: Sequence[Finding]) -> str:
    """When a claim holds, in words that follow on "holds only when", or else which halves of it were upheld and which not."""
    conditions = dict.fromkeys(found.verdict.why for found in decided if found.verdict.verdict == _SEVERAL)
    halves = dict.fromkeys(
        f"{found.verdict.verdict} that {found.verdict.statement}" for found in decided if found.verdict.verdict != _SEVERAL
    )
    return "; ".join([*conditions, *halves])


def in_words(decision: Decision) -> str:
    """The verdict as a reader needs it: ``upheld``, ``holds only when``, ``holds in part``; the condition follows in `why`."""
    if decision.verdict != _SEVERAL:
        return decision.verdict
    return "holds only when" if any(found.verdict.verdict == _SEVERAL for found in decision.findings) else "holds in part"


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


def together_in_words(found: Report, mark: str) -> str:
    """What a report says of its many verdicts, in one sentence."""
    rule = f"if all {found.tests} verdicts are to hold together, with a chance of 5 % of one that is wrong (Holm's procedure)"
    if not found.tests:
        return "No verdict was reached."
    if not found.alone:
        return f"Each would be reached as well {rule}."
    return f"{mark} marks what would not be reached {rule}; more attempts tell."


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
        "Verdicts are computed from the data, each by its own 95 % interval; n is how many the estimate is of. *Undecided*",
        "claims say why.",
        "Attempts that the machine disturbed are left out by rule, and counted below. " + together_in_words(found, "†"),
        "",
        "| claim | in our words | verdict | n | estimate | run |",
        "|---|---|---|---|---|---|",
    ]
    for each in found.decisions:
        shown = each.deciding.verdict if each.deciding else None
        mark = "" if each.together else " †"
        why = (": " if each.verdict != _SEVERAL else " ") + each.why if each.why else ""
        cells = (
            each.claim,
            each.text,
            f"**{in_words(each)}**{mark}{why}",
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
            mark = "" if finding.together else " †"
            lines.append(f"- {each.claim}, {told.verdict}{mark}: {told.statement}: n = {told.n}{value}{why}")
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
