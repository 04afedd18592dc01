"""Forests, error curves and windows are drawn with all that they were given, and nothing is drawn of nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rawpunch.analysis.forest import Line, errors_figure, forest_figure
from rawpunch.analysis.timing import clock_shifts, window_edges, with_times
from rawpunch.analysis.window_plots import delays_figure, edges_figure, window_figure
from rawpunch.dataset.store import load
from rawpunch.errors import BadParameter

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"


def test_a_forest_shows_every_estimate_with_its_n() -> None:
    """From top to bottom, each label once, each n beside it; groups in the legend."""
    lines = [Line("one", 1, 0, 2, 7, "x"), Line("two", 3, 2, 5, 11, "y")]
    figure = forest_figure(lines, title="T", xlabel="us", at=0, band=(-1, 1), foot="below")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    (beside,) = axes.child_axes
    assert [label.get_text() for label in beside.get_yticklabels()] == ["n=7", "n=11"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["x", "y"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    with pytest.raises(BadParameter, match="nothing to plot"):
        forest_figure([], title="", xlabel="")


def test_errors_lose_their_sign_and_keep_their_number() -> None:
    """Empty samples are left out; all empty is refused."""
    figure = errors_figure({"a": [-1.0, 2.0, 0.0], "b": []}, title="T", xlabel="us", bar=1)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a  (n=3)"]
    with pytest.raises(BadParameter, match="nothing to plot"):
        errors_figure({"b": []}, title="", xlabel="")


@pytest.fixture(scope="module")
def timed() -> pd.DataFrame:
    """The committed run, with what its captures say of its timing."""
    run = load(max((SAMPLE / "timing_window").iterdir()))
    return with_times(run.attempts, run.segments)


def test_each_path_has_its_row(timed: pd.DataFrame) -> None:
    """With n; and every undisturbed attempt has its mark."""
    figure = window_figure(timed, ["path", "one_way_ns"], title="T")
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    good = timed[~timed["disturbed"]].dropna(subset=["too_late_ns"])
    assert len(rows) == good.groupby(["path", "one_way_ns"], observed=True).ngroups
    assert rows[0].startswith("askew, 5 ms  (n=")
    marks = sum(np.asarray(marked.get_offsets()).shape[0] for marked in figure.axes[0].collections)
    assert marks == len(good)
    with pytest.raises(BadParameter, match="nothing to plot"):
        window_figure(timed.assign(disturbed=True), ["path"], title="T")


def test_the_samples_edges_meet_the_bar(timed: pd.DataFrame) -> None:
    """Each edge within 100 us of the one-way delay measured on its path; and they are drawn."""
    edges = window_edges(timed, ["path", "one_way_ns"])
    assert {edge.levels["path"] for edge in edges} == {"direct", "resetting", "lopsided", "deep", "askew"}
    assert all(abs(edge.deviation_us[0]) < 100 for edge in edges)
    figure = edges_figure(edges, title="T")
    assert len(figure.axes[0].get_yticklabels()) == len(edges)


def test_edges_lie_on_the_diagonal_of_the_nats_and_not_on_that_of_the_hosts(timed: pd.DataFrame) -> None:
    """Each edge once in either panel, at the same height; those of hosts away from their NATs are off in the second one."""
    edges = window_edges(timed, ["path", "one_way_ns"])
    figure = delays_figure(edges, title="T")
    between, hosts = (np.vstack([np.asarray(marks.get_offsets()) for marks in axes.collections]) for axes in figure.axes)
    assert len(between) == len(hosts) == len(edges)
    assert np.array_equal(between[:, 1], hosts[:, 1])
    assert np.abs(between[:, 0] - between[:, 1]).max() < 0.1
    away = [edge for edge in edges if edge.levels["path"] in {"deep", "askew"}]
    assert (hosts[:, 0] - hosts[:, 1] > 5).sum() == len(away)
    with pytest.raises(BadParameter, match="nothing to plot"):
        delays_figure([], title="T")


def test_a_clocks_shift_is_told_beside_what_came_of_it(timed: pd.DataFrame) -> None:
    """One row a clock; captured as planned; and opened where the shift is within the window."""
    found = clock_shifts(timed[(timed["ahead_ns"] != 0) | (timed["drift_ppb"] != 0)])
    assert list(zip(found["ahead_ns"], found["drift_ppb"], strict=True)) == [
        (0, -50_000),
        (0, -20_000),
        (1_000_000, 0),
        (15_000_000, 0),
        (30_000_000, 0),
    ]
    assert found["planned_ms"].round(1).tolist() == [30.0, 12.0, -1.0, -15.0, -30.0]
    assert (found["planned_ms"] - found["captured_ms"]).abs().max() < 0.5
    within = found["planned_ms"].abs() < found["window_ms"]
    assert (found.loc[within, "opened"] == found.loc[within, "n"]).all()
    assert (found.loc[~within, "opened"] == 0).all()
