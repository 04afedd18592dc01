"""A heat map of success by two factors, with n in every cell and intervals told by what they exclude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rawpunch.analysis.plots import foot, new_figure
from rawpunch.analysis.statistics import CONFIDENCE
from rawpunch.analysis.tables import success_by
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_CELL: Final = 0.42
"""Inches of a cell's side."""


def matrix_figure(
    attempts: pd.DataFrame,
    rows: str,
    columns: str,
    *,
    outcome: str = Outcome.ESTABLISHED.value,
    title: str = "",
    confidence: float = CONFIDENCE,
) -> Figure:
    """Success by two factors as a heat map.

    Each cell has its successes over n, and below them the Wilson interval in per cent. Rows and columns are ordered by how much
    succeeds in them.

    Args:
        attempts: the attempts table.
        rows: factor of the rows.
        columns: factor of the columns.
        outcome: what counts as success.
        title: written above.
        confidence: of the intervals.

    Raises:
        BadParameter: a factor is no column, or no attempt counts.
    """
    found = success_by(attempts, [rows, columns], outcome=outcome, confidence=confidence)
    table = found.table[found.table["n"] > 0]
    if table.empty:
        raise BadParameter("there is nothing to plot", why=str(found.kept))

    def ordered(factor: str) -> list[object]:
        shares = table.groupby(factor, observed=True)[["successes", "n"]].sum()
        best = (shares["successes"] / shares["n"]).sort_index().sort_values(ascending=False, kind="stable")
        return list(best.index)

    down, across = ordered(rows), ordered(columns)
    size = (2.6 + _CELL * 1.25 * len(across), 2.1 + _CELL * len(down))
    figure, axes = new_figure(title, size=size)
    axes.grid(visible=False)
    shares = table.pivot_table(index=rows, columns=columns, values="estimate", observed=True).reindex(index=down, columns=across)
    axes.imshow(shares.to_numpy(float), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row in table.to_dict("records"):
        y, x = down.index(row[rows]), across.index(row[columns])
        ink = "black" if row["estimate"] > 0.55 else "white"
        axes.annotate(f"{row['successes']}/{row['n']}", (x, y - 0.14), ha="center", va="center", fontsize=7, color=ink)
        band = f"{row['low']:.0%}-{row['high']:.0%}".replace("%-", "-")
        axes.annotate(band, (x, y + 0.22), ha="center", va="center", fontsize=5.5, color=ink)
    axes.set_xticks(range(len(across)), [str(level) for level in across], rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(down)), [str(level) for level in down], fontsize=8)
    axes.tick_params(length=0)
    for edge in ("left", "bottom"):
        axes.spines[edge].set_visible(False)
    axes.set_xlabel(columns.replace("_", " "))
    axes.set_ylabel(rows.replace("_", " "))
    foot(figure, f"in each cell: {outcome.replace('_', ' ')} of n, and the {confidence:.0%} Wilson interval; {found.kept}")
    return figure
