"""The claims' report: every claim has a line, verdicts come from data, and what cannot be decided says why."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from rawpunch.analysis.statistics import CONFIDENCE, holm, wilson
from rawpunch.dataset.store import Dataset
from rawpunch.study.claims import (
    Finding,
    Source,
    claims,
    decide,
    figures,
    in_words,
    page,
    plans,
    report,
    sample_page,
    together_in_words,
)
from rawpunch.study.experiment import Experiment, Verdict, Word, experiment_files
from rawpunch.study.runner import Job, begin, run

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Source("made_up", "made_up/1", Path(), "sim", 10, 0, 0)
WORDS: tuple[Word, ...] = ("upheld", "refuted", "conditional", "undecided")


def _finding(word: Word, n: int = 10) -> Finding:
    return Finding(SOURCE, Verdict("C1", f"{word} thing", word, n, 0.5, 0.4, 0.6, "the moon is full"))


def test_all_claims_are_there() -> None:
    """C1 to C22 in order, and every id that an experiment names is one of them."""
    assert list(claims()) == [f"C{number}" for number in range(1, 23)]
    for name in experiment_files():
        assert set(Experiment.load(name).claims) <= set(claims())


def test_planned_runs_can_be_made() -> None:
    """Experiments and quick settings exist."""
    for plan in plans():
        assert plan.experiment in experiment_files()
        cells = list(Experiment.load(plan.experiment).with_settings(plan.quick).cells())
        assert 0 < len(cells) <= len(list(Experiment.load(plan.experiment).cells()))


@given(st.lists(st.sampled_from(WORDS), max_size=5))
def test_agreement_decides_and_contradiction_is_a_condition(words: list[Word]) -> None:
    """The order of findings does not matter."""
    told = {decide("C1", "text", [_finding(word) for word in order], "x").verdict for order in itertools.permutations(words)}
    decided = set(words) - {"undecided"}
    assert told == ({next(iter(decided))} if len(decided) == 1 else {"conditional"} if decided else {"undecided"})


def test_a_decision_says_what_it_rests_on() -> None:
    """On the finding of most attempts; conditions are spelt out; without data it says what to run."""
    both = decide("C1", "text", [_finding("upheld", 5), _finding("refuted", 50), _finding("undecided", 500)], "x")
    assert both.deciding is not None
    assert both.deciding.verdict.n == 50
    assert both.why == "upheld that upheld thing; refuted that refuted thing"
    assert in_words(both) == "holds in part"
    mixed = decide("C1", "text", [_finding("refuted"), _finding("conditional")], "x")
    assert f"{in_words(mixed)} {mixed.why}" == "holds only when the moon is full; refuted that refuted thing"
    assert decide("C1", "text", [_finding("undecided")], "x").why == "the moon is full"
    assert decide("C1", "text", [], "nothing is at hand").why == "nothing is at hand"
    assert both.to_document()["n"] == 50
    assert len(both.to_document()["findings"]) == 3


def test_what_does_not_hold_together_is_marked_and_not_withdrawn() -> None:
    """A claim's verdict holds together if the findings that do give the same one; an undecided claim does anyway."""
    weak = replace(_finding("upheld", 50), together=False)
    assert not decide("C1", "text", [weak], "x").together
    assert decide("C1", "text", [weak], "x").verdict == "upheld"
    assert decide("C1", "text", [weak, _finding("upheld", 5)], "x").together
    assert not decide("C1", "text", [weak, _finding("refuted")], "x").together
    assert decide("C1", "text", [], "x").together
    assert decide("C1", "text", [weak], "x").to_document()["together"] is False


def test_figures_have_an_interval_or_are_not_shown() -> None:
    """And their unit."""
    assert figures(Verdict("C1", "", "upheld", 3, 12.5, 10, 15, unit="us")) == "12.5 [10, 15] us"
    assert figures(Verdict("C1", "", "undecided", 0)) == ""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small simulated run."""
    experiment = Experiment.load("timing_window").with_settings(["one_way_ns=5ms", "ends=kernel-kernel", "path=resetting"])
    job = Job(experiment, 2, 3, "sim")
    return run(job, begin(job, root=tmp_path_factory.mktemp("data")))


def test_the_report_is_computed_from_the_runs(small: Dataset) -> None:
    """From the newest complete run; the same run gives the same report; the page has a line for each claim."""
    root = small.path.parents[2]
    found = report(root)
    assert [source.run for source in found.sources] == [f"timing_window/{small.manifest.run_id}"]
    words = {each.claim: each.verdict for each in found.decisions}
    assert words["C10"] == "upheld"
    assert words["C22"] == "undecided"
    again = report(runs=[small])
    assert [each.verdict for each in again.decisions] == list(words.values())
    text = page(found)
    assert all(f"| {claim} |" in text for claim in claims())


def _shelved(name: str) -> Dataset:
    (path,) = (ROOT / "data" / "sample" / name).iterdir()
    return Dataset(path)


class _Only(Dataset):
    """A run of which only some attempts are there, or all are disturbed."""

    def __init__(self, path: Path, *, most: int | None = None, disturbed: bool = False) -> None:
        super().__init__(path)
        table = super().attempts
        self._some = table if most is None else table[table["repeat"] == 0].head(most)
        if disturbed:
            self._some = self._some.assign(disturbed=True)

    def _table(self, table: str) -> pd.DataFrame:
        frame = super()._table(table)
        if table == "attempts":
            return self._some.copy() if hasattr(self, "_some") else frame
        return frame[frame["attempt"].isin(self._some["attempt"])]


SHELVED = sorted(path.name for path in (ROOT / "data" / "sample").iterdir() if path.is_dir())


@pytest.mark.parametrize("name", SHELVED)
def test_without_good_attempts_nothing_is_decided(name: str) -> None:
    """All disturbed: every claim is undecided, and says why; so it does if there is but one attempt."""
    whole = _shelved(name)
    for run_of in (_Only(whole.path, disturbed=True), _Only(whole.path, most=1)):
        told = [verdict for verdict in Experiment.load(name).verdicts(run_of) if not verdict.is_expectation]
        assert {verdict.claim for verdict in told} >= set(Experiment.load(name).claims)
        assert [verdict for verdict in told if verdict.verdict != "undecided" or not verdict.why] == []


def test_the_correction_is_that_of_the_p_values() -> None:
    """The report on a sample whose verdicts are shares against a bar: Holm over the p-values marks the same claims."""
    run_of = _shelved("mixed_open")
    found = report(runs=[run_of])
    tests = [finding.verdict for each in found.decisions for finding in each.findings if finding.verdict.verdict != "undecided"]
    assert found.tests == len(tests) > 1

    def p_value(verdict: Verdict) -> float:
        successes = round((verdict.value or 0) * verdict.n)
        return brentq(lambda p: wilson(successes, verdict.n, 1 - p).low - 0.9, 1e-12, 1 - 1e-9)

    survive = [tested.p <= 1 - CONFIDENCE for tested in holm([p_value(verdict) for verdict in tests])]
    assert [finding.together for each in found.decisions for finding in each.findings] == survive
    assert str(found.tests) in together_in_words(found, "*")


def test_the_page_is_what_the_samples_say() -> None:
    """To make it anew: python -m rawpunch.study.claims data/sample > experiments/README.md."""
    assert (ROOT / "experiments" / "README.md").read_text(encoding="utf-8") == sample_page(ROOT / "data" / "sample")
