"""Disturbed attempts are made up for, cell by cell, but not for ever."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rawpunch.dataset.store import Dataset, load
from rawpunch.study.experiment import Experiment, cell_name
from rawpunch.study.make_up import TRIES, make_up
from rawpunch.study.runner import Job, begin, run
from tests.study.changed_run import ChangedRun

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two cells of three attempts, in virtual time."""
    job = Job(Experiment.load("mixed_open").with_settings(["ends=raw-raw", "offset=0.0,2.0"]), 3, 1, "sim")
    return run(job, begin(job, root=tmp_path_factory.mktemp("data")))


def test_nothing_is_lacking_where_nothing_stalls(made: Dataset) -> None:
    """So a simulated run is its grid."""
    assert make_up(made, Experiment.load("mixed_open").factors) == []
    assert len(made.attempts) == 6


def test_a_cell_gets_as_many_as_it_lacks(made: Dataset) -> None:
    """With its own levels, of their own types."""
    attempts = made.attempts
    attempts["disturbed"] = (attempts["offset"] == 2.0) & (attempts["repeat"] > 0)
    wanted = make_up(ChangedRun(made, attempts), Experiment.load("mixed_open").factors)
    assert wanted == [{"ends": "raw-raw", "offset": 2.0, "one_way_ns": 20_000_000}] * 2
    assert type(wanted[0]["one_way_ns"]) is int


def test_a_machine_that_always_stalls_is_let_be(made: Dataset) -> None:
    """After a few times as many tries as were asked for."""
    attempts = pd.concat([made.attempts.assign(disturbed=True)] * TRIES)
    assert make_up(ChangedRun(made, attempts), Experiment.load("mixed_open").factors) == []


@pytest.mark.parametrize("name", ["binding", "mixed_open", "strategies", "three_properties", "udp_baseline"])
def test_experiments_make_up_for_what_was_disturbed(name: str) -> None:
    """Else one stall takes the few attempts that a verdict rests on."""
    sample = load(next(SAMPLES.glob(f"{name}/*")))
    attempts = sample.attempts
    attempts = attempts[attempts["repeat"] < sample.manifest.repeats].assign(disturbed=False).reset_index(drop=True)
    attempts.loc[0, "disturbed"] = True
    wanted = Experiment.load(name).refine(ChangedRun(sample, attempts))
    assert [cell_name(cell) for cell in wanted] == [attempts["cell"][0]]
