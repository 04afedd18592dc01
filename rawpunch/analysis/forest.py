"""A forest: estimates with their intervals, one below the other, n written beside each; and distributions of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import ecdf
from rawpunch.errors import BadParameter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Those of Okabe and Ito."""
_MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
_STYLES: Final = ("-", "--", "-.", ":")
_PALE: Final = "#636c76"


@dataclass(frozen=True, slots=True)
class Line:
    """One estimate."""

    label: str
    value: float
    low: float
    high: float
    n: int
    group: str = ""
    """What its colour and marker stand for."""


def forest_figure(
    lines: Iterable[Line],
    *,
    title: str,
    xlabel: str,
    at: float | None = None,
    band: tuple[float, float] | None = None,
    foot: str = "",
) -> Figure:
    """Estimates with their intervals.

    Args:
        lines: from top to bottom.
        title: written above.
        xlabel: what the estimates are, with their unit.
        at: where to draw a line, such as at no difference.
        band: what to shade, such as the bar that is to be met.
        foot: written below.

    Raises:
        BadParameter: there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    rows = list(lines)
    if not rows:
        raise BadParameter("there is nothing to plot", why="no estimate was given")
    figure = Figure(figsize=(8.2, 1.5 + 0.32 * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if band is not None:
        axes.axvspan(*band, color="#eef1f4", zorder=0)
    if at is not None:
        axes.axvline(at, color=_PALE, linewidth=1, linestyle="--", zorder=1)
    groups = list(dict.fromkeys(row.group for row in rows))
    for index, group in enumerate(groups):
        mine = [(place, row) for place, row in enumerate(rows) if row.group == group]
        axes.errorbar(
            [row.value for _, row in mine],
            [place for place, _ in mine],
            xerr=[[max(row.value - row.low, 0) for _, row in mine], [max(row.high - row.value, 0) for _, row in mine]],
            fmt=_MARKERS[index % len(_MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            capsize=3,
            markersize=6,
            linewidth=1.5,
            label=group or None,
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(rows)), [f"n={row.n}" for row in rows], fontsize=8)
    beside.tick_params(length=0, colors=_PALE)
    beside.spines["right"].set_visible(False)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.grid(visible=True, axis="x", color="#e6e9ed", linewidth=0.9)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    if any(groups) and len(groups) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.1, 1), frameon=False, fontsize=9)
    if foot:
        figure.supxlabel(foot, x=0.01, ha="left", fontsize=8, color=_PALE)
    return figure


def errors_figure(samples: Mapping[str, Sequence[float]], *, title: str, xlabel: str, bar: float | None = None) -> Figure:
    """Distributions of the size of errors, on a logarithmic axis.

    Args:
        samples: name -> errors; their sign is dropped.
        title: written above.
        xlabel: what they are, with their unit.
        bar: where to draw a line.

    Raises:
        BadParameter: there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    curves = {name: [abs(value) for value in values] for name, values in samples.items() if len(values)}
    if not curves:
        raise BadParameter("there is nothing to plot", why="no errors were given")
    figure = Figure(figsize=(7.2, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    least = min((value for values in curves.values() for value in values if value > 0), default=1.0)
    most = max(max(values) for values in curves.values())
    for index, (name, values) in enumerate(curves.items()):
        curve = ecdf(values)
        colour, style = COLOURS[index % len(COLOURS)], _STYLES[index % len(_STYLES)]
        xs = [least * 0.8, *(max(time, least * 0.8) for time in curve.times), max(most, least) * 1.2]
        axes.fill_between(
            xs, [0.0, *curve.low, curve.low[-1]], [0.0, *curve.high, 1.0], step="post", color=colour, alpha=0.13, linewidth=0
        )
        axes.step(xs, [0.0, *curve.shares, 1.0], where="post", color=colour, linestyle=style, label=f"{name}  (n={curve.n})")
    if bar is not None:
        axes.axvline(bar, color=_PALE, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("share")
    axes.set_xlabel(xlabel)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.grid(visible=True, axis="both", color="#e6e9ed", linewidth=0.9)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.legend(loc="lower right", frameon=True, edgecolor="none", framealpha=0.85, fontsize=9)
    figure.supxlabel("95 % pointwise bands", x=0.01, ha="left", fontsize=8, color=_PALE)
    return figure
