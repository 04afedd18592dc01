"""Forests, error curves and windows are drawn with all that they were given, and nothing is drawn of nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rawpunch.analysis.forest import Line, errors_figure, forest_figure
from rawpunch.analysis.timing import window_edges, with_times
from rawpunch.analysis.window_plots import edges_figure, window_figure
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
    assert rows[0].startswith("direct, 5 ms  (n=")
    marks = sum(np.asarray(marked.get_offsets()).shape[0] for marked in figure.axes[0].collections)
    assert marks == len(good)
    with pytest.raises(BadParameter, match="nothing to plot"):
        window_figure(timed.assign(disturbed=True), ["path"], title="T")


def test_the_samples_edges_meet_the_bar(timed: pd.DataFrame) -> None:
    """Each edge within 100 us of the one-way delay measured on its path; and they are drawn."""
    edges = window_edges(timed, ["path", "one_way_ns"])
    assert {edge.levels["path"] for edge in edges} == {"direct", "resetting", "lopsided"}
    assert all(abs(edge.deviation_us[0]) < 100 for edge in edges)
    figure = edges_figure(edges, title="T")
    assert len(figure.axes[0].get_yticklabels()) == len(edges)
