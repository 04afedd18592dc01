"""Experiments that ask for more: rounds until nothing is asked, the same from one seed, taken up again where a run stopped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rawpunch.dataset.store import Dataset, load
from rawpunch.errors import LabBroken
from rawpunch.study.bench import Planned
from rawpunch.study.experiment import Experiment
from rawpunch.study.runner import Job, begin, run
from rawpunch.study.sim_bench import SimBench

SEARCH = """
from rawpunch.scene import Scene, UnsolicitedAnswer
from rawpunch.study.experiment import Attempt, Factor, Verdict
QUESTION = "Where is the edge?"
CLAIMS = ()
FACTORS = {"late_ns": Factor((0, 64_000_000), "start of B after A")}
REPEATS = 1
def scene(cell): return Scene.symmetric(20_000_000, UnsolicitedAnswer.RST)
def attempt(cell): return Attempt(end_a="raw", end_b="raw", offset_ns=cell["late_ns"])
def refine(attempts):
    opened = attempts["outcome"] == "established"
    low, high = attempts["planned_offset_ns"][opened].max(), attempts["planned_offset_ns"][~opened].min()
    return [{"late_ns": int(low + high) // 2}] * 2 if high - low > 1_000_000 else []
def verdicts(attempts, run):
    return [Verdict("edge", "there is one", "upheld", len(attempts), why=str(len(run.segments) > 0))]
"""


def _job(tmp_path: Path, seed: int = 3) -> Job:
    path = tmp_path / "search.py"
    path.write_text(SEARCH)
    return Job(Experiment.load(str(path)), 1, seed, "sim")


def _story(run: Dataset) -> pd.DataFrame:
    return run.attempts[["attempt", "cell", "repeat", "planned_offset_ns", "outcome"]]


def test_a_search_ends_at_the_edge(tmp_path: Path) -> None:
    """Halving 64 ms down to 1 ms takes six rounds, of two attempts each, and the edge at 20 ms is inside the last bracket."""
    told: list[tuple[int, int]] = []
    job = _job(tmp_path)
    found = run(job, begin(job, root=tmp_path), progress=lambda finished, more=0: told.append((finished, more)))
    attempts = found.attempts
    assert len(attempts) == 2 + 6 * 2
    assert sum(finished for finished, _ in told) == len(attempts)
    assert sum(more for _, more in told) == len(attempts) - 2
    opened = attempts["outcome"] == "established"
    low, high = attempts["planned_offset_ns"][opened].max(), attempts["planned_offset_ns"][~opened].min()
    assert low <= 20_000_000 <= high
    assert high - low == 1_000_000
    assert attempts["attempt"].is_unique
    assert set(attempts.groupby("cell", observed=True)["repeat"].max()[2:]) == {0, 1}
    assert found.manifest.verdicts[0]["why"] == "True"
    assert len(found.manifest.scenes) == 1


def test_the_same_seed_searches_the_same_way(tmp_path: Path) -> None:
    """Attempt for attempt."""
    stories = []
    for root in ("one", "two"):
        job = _job(tmp_path)
        stories.append(_story(run(job, begin(job, root=tmp_path / root))))
    pd.testing.assert_frame_equal(stories[0], stories[1])


def test_a_stopped_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its third part, it asks for what would have come next, and ends with the same attempts."""
    job = _job(tmp_path)
    whole = run(job, begin(job, root=tmp_path / "whole"))
    make, made = SimBench.make, []

    def dying(bench: SimBench, attempts: list[Planned], capture: Path) -> object:
        made.append(len(attempts))
        if len(made) == 4:
            raise LabBroken("the lamp went out")
        return make(bench, attempts, capture)

    monkeypatch.setattr(SimBench, "make", dying)
    writer = begin(job, root=tmp_path / "stopped")
    with pytest.raises(LabBroken):
        run(job, writer)
    stopped = load(writer.path)
    assert stopped.manifest.status == "partial"
    assert len(stopped.attempts) == 2 + 2 * 2
    finished = run(job, begin(job, resume=writer.path))
    pd.testing.assert_frame_equal(_story(finished), _story(whole))


def test_one_bench_serves_several_jobs(tmp_path: Path) -> None:
    """It stays up, and each job has its own run."""
    job = _job(tmp_path)
    with SimBench(3) as bench:
        one = run(job, begin(job, root=tmp_path / "one"), bench=bench)
        two = run(job, begin(job, root=tmp_path / "two"), bench=bench)
    assert len(one.attempts) == len(two.attempts)
    assert two.attempts["sent_a_ns"].min() > one.attempts["sent_a_ns"].max()
