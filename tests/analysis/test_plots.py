"""Figures show the data that they are given, with intervals, n and units, and leave matplotlib as it was."""

from __future__ import annotations

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from rawpunch.analysis.plots import success_figure, time_figure
from rawpunch.errors import BadParameter


@pytest.fixture
def attempts() -> pd.DataFrame:
    """Two pairs of ends at two offsets; outside the window nothing opens; one attempt was disturbed."""
    rows = [
        (
            ends,
            offset,
            "established" if opens else "refused",
            number == 0 and opens,
            40_000_000 + 10_000 * number if opens else None,
        )
        for ends in ("kernel-kernel", "raw-raw")
        for offset, opens in ((0, True), (40_000_000, False))
        for number in range(10)
    ]
    frame = pd.DataFrame(rows, columns=["ends", "offset_ns_set", "outcome", "disturbed", "connect_a_ns"])
    frame["start_ns"] = frame.pop("offset_ns_set")
    return frame.astype({"connect_a_ns": "Int64"})


def test_success_by_two_factors(attempts: pd.DataFrame) -> None:
    """A point per cell at its share, its Wilson interval as a bar, n below, nanoseconds written as milliseconds."""
    figure = success_figure(attempts, "start_ns", "ends", title="Success")
    (axes,) = figure.axes
    points = [float(y) for bars in axes.containers for y in bars[0].get_ydata()]
    assert points == [1.0, 0.0, 1.0, 0.0]
    segment = axes.containers[0][2][0].get_segments()[0]
    assert (segment[0][1], segment[1][1]) == pytest.approx((9 / (9 + 1.96**2), 1), abs=0.001)
    assert sorted({text.get_text() for text in axes.texts}) == ["n=10", "n=9"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "40 ms"]
    assert axes.get_title(loc="left") == "Success"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["kernel-kernel", "raw-raw"]
    assert "2 disturbed" in figure.get_supxlabel()


def test_time_to_established(attempts: pd.DataFrame) -> None:
    """In ms; what was never established holds the curve down and is counted in the legend."""
    figure = time_figure(attempts, "ends")
    (axes,) = figure.axes
    assert "(ms)" in axes.get_xlabel()
    for line in axes.lines:
        xs, ys = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        assert min(xs[1:-1]) == pytest.approx(40.01)
        assert max(ys) == pytest.approx(9 / 19)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "kernel-kernel  (n=19, 10 not established)",
        "raw-raw  (n=19, 10 not established)",
    ]


def test_a_wide_range_is_drawn_on_a_logarithmic_axis(attempts: pd.DataFrame) -> None:
    """Retransmissions after seconds do not squeeze the milliseconds."""
    attempts.loc[5, "connect_a_ns"] = 3_000_000_000
    assert time_figure(attempts, "ends").axes[0].get_xscale() == "log"


def test_nothing_to_plot_is_said(attempts: pd.DataFrame) -> None:
    """An empty figure would be a lie; a wrong factor is named."""
    with pytest.raises(BadParameter, match="no attempt was established"):
        time_figure(attempts[attempts["outcome"] == "refused"], "ends")
    with pytest.raises(BadParameter, match="nothing to plot"):
        success_figure(attempts.assign(disturbed=True), "start_ns", "ends")
    with pytest.raises(BadParameter, match="mood"):
        time_figure(attempts, "mood")
    with pytest.raises(BadParameter, match="mood"):
        success_figure(attempts, "mood", "ends")


def test_matplotlib_stays_as_it_was(attempts: pd.DataFrame) -> None:
    """No setting changes, no figure is registered, and the figure can be saved without a display."""
    before = dict(mpl.rcParams)
    figure = success_figure(attempts, "start_ns", "ends")
    assert dict(mpl.rcParams) == before
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    code = (
        "import sys, rawpunch.analysis.plots as plots; assert 'matplotlib' not in sys.modules;"
        "plots.new_figure('x'); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
