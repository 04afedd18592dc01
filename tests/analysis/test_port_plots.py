"""Figures of ports and matrices: each draws what the table says, and an empty table is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rawpunch.analysis.matrix_plots import matrix_figure
from rawpunch.analysis.port_plots import band_figure, lag_figure, odds_figure, step_figure
from rawpunch.analysis.ports import predicted, samples
from rawpunch.dataset.store import load
from rawpunch.errors import BadParameter

DATA = Path(__file__).resolve().parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The sample run's samples, without cross traffic, of three NATs."""
    (path,) = (DATA / "port_allocation").iterdir()
    found = samples(load(path))
    few = ["linux-masquerade", "linux-sequential", "symmetric-random"]
    return found[found["nat_a"].isin(few) & (found["sources"] == "random")]


def test_odds_are_the_shares_predicted(table: pd.DataFrame) -> None:
    """A curve for each level in each panel, through the estimates, and n below."""
    figure = odds_figure(table, title="odds", tries=(1, 8))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["linux-masquerade", "linux-sequential", "symmetric-random"]
    for axes in figure.axes:
        group = table[table["nat_a"] == axes.get_title(loc="left")]
        for line, level in zip(axes.lines, (0, 2), strict=True):
            estimates = [predicted(group[group["foreign"] == level], tries).estimate for tries in (1, 8)]
            assert list(line.get_ydata()) == estimates  # type: ignore[arg-type]
    assert figure.axes[1].lines[0].get_ydata()[0] == 1  # type: ignore[index]


def test_lags_steps_and_bands_show_each_nat(table: pd.DataFrame) -> None:
    """The steps of a NAT that counts are all one; its lags lie on a line; its band is what it gave."""
    calm = table[table["foreign"] == 0]
    lags = lag_figure(calm).axes[1].lines[0]
    drawn = pd.DataFrame({"before": lags.get_xdata(), "after": lags.get_ydata()}).dropna().astype(float)
    assert set(drawn["after"] - drawn["before"]) == {1.0}
    bars: list[Any] = list(step_figure(calm).axes[1].patches)
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars] == [(1.0, 1.0)]
    words = [text.get_text() for text in band_figure(calm).axes[0].texts]
    assert any(word.startswith("linux-sequential: 32768-") for word in words)


@pytest.mark.parametrize("draw", [odds_figure, lag_figure, step_figure, band_figure])
def test_nothing_to_draw_is_named(draw: Callable[..., object], table: pd.DataFrame) -> None:
    """No rows, or no such factor."""
    with pytest.raises(BadParameter, match="nothing to plot"):
        draw(table.iloc[:0])
    with pytest.raises(BadParameter, match="no column nosuch"):
        draw(table, "nosuch")


def test_a_matrix_has_n_and_interval_in_each_cell() -> None:
    """Rows and columns by how much succeeds; a cell without attempts stays empty."""
    rows = [("x", "x", "established", False)] * 3 + [("x", "y", "refused", False), ("y", "x", "established", True)]
    attempts = pd.DataFrame(rows, columns=["a", "b", "outcome", "disturbed"])
    figure = matrix_figure(attempts, "a", "b", title="matrix")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["3/3", "44-100%", "0/1", "0-79%"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["x", "y"]
    with pytest.raises(BadParameter, match="nothing to plot"):
        matrix_figure(attempts[attempts["disturbed"]], "a", "b")
