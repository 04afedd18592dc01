"""Predictions and sprays told afterwards: from the committed samples, and from tables small enough to count."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest

import rawpunch
from rawpunch.analysis.foretelling import calibration, expected, forecasts, guesses_figure, hit, spray_figure, spray_table, sprays
from rawpunch.dataset.store import Dataset
from rawpunch.errors import BadParameter
from rawpunch.study.experiment import Experiment

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def prediction() -> Dataset:
    """The committed sample run."""
    return rawpunch.load(next((SAMPLE / "prediction").iterdir()))


@pytest.fixture(scope="module")
def spray() -> Dataset:
    """The committed sample run."""
    return rawpunch.load(next((SAMPLE / "spray").iterdir()))


def test_forecasts_of_the_sample(prediction: Dataset) -> None:
    """Ports that count are the first guess without cross traffic; each row has its odds, which grow with the guesses."""
    table = forecasts(prediction, every=12)
    calm = table[(table["nat_a"] == "symmetric-sequential") & (table["foreign"] == 0)]
    assert (calm["rank"] == 1).all()
    assert hit(calm, 1).successes == len(calm) > 5
    assert (table["odds_1"] <= table["odds_8"] + 1e-12).all()
    assert (table[table["nat_a"] == "symmetric-random"]["odds_64"] < 0.02).all()
    assert guesses_figure(table, title="x").get_axes()
    stated, share, off = calibration(calm, 1)
    assert share == 1
    assert stated > 0.9
    assert off > 0


def test_sprays_of_the_sample_hit_as_theory_says(spray: Dataset) -> None:
    """In each cell of the committed run; and its verdicts are what its file computes now."""
    table = sprays(spray, (64, 256, 1024))
    assert (table.groupby("attempt")["hits"].diff().dropna() >= 0).all()
    rows = spray_table(table)
    assert len(rows) == 24
    inside = sum(
        int(low) <= hits <= int(high)
        for hits, (low, high) in zip(rows["hit"], rows["theory, 95 %"].str.split("..", regex=False), strict=True)
    )
    assert inside >= 22
    assert spray_figure(table, title="x").get_axes()
    again = [verdict.to_document() for verdict in Experiment.load("spray").verdicts(spray)]
    assert [one["verdict"] for one in again] == [one["verdict"] for one in spray.manifest.verdicts]


def test_the_interval_of_theory_is_exact() -> None:
    """Against all outcomes of five sprays of two kinds, counted one by one."""
    table = pd.DataFrame({"odds": [0.3, 0.3, 0.8, 0.8, 0.8]})
    chances = [0.0] * 6
    for outcome in itertools.product((0, 1), repeat=5):
        chances[sum(outcome)] += math.prod(p if one else 1 - p for one, p in zip(outcome, table["odds"], strict=True))
    low, high = expected(table, 0.9)
    assert sum(chances[:low]) < 0.05 <= sum(chances[: low + 1])
    assert sum(chances[high + 1 :]) <= 0.05
    assert sum(chances[low : high + 1]) >= 0.9


def test_calibration_counts_in_standard_deviations() -> None:
    """A hundred forecasts of one half that all hit are ten of them off."""
    table = pd.DataFrame({"rank": [1] * 100, "odds_1": [0.5] * 100})
    assert calibration(table, 1) == (0.5, 1.0, 10.0)


def test_a_run_that_sampled_nothing_is_refused() -> None:
    """In one sentence."""
    with pytest.raises(BadParameter):
        forecasts(rawpunch.load(next((SAMPLE / "raw_vs_kernel").iterdir())))
