"""Figures: success by two factors with intervals, and the distribution of the time to ESTABLISHED.

Each function returns a Figure of its own; matplotlib's global state and its settings are left alone, and no display is needed.
Colours are those of Okabe and Ito, which colour-blind readers can tell apart; markers and line styles differ as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.statistics import CONFIDENCE, ecdf
from rawpunch.analysis.tables import keep, success_by
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome
from rawpunch.units import MS, format_duration

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
STYLES: Final = ("-", "--", "-.", ":")
_PALE: Final = "#636c76"
_SIZE: Final = (7.2, 4.2)


def success_figure(
    attempts: pd.DataFrame,
    x: str,
    by: str,
    *,
    outcome: str = Outcome.ESTABLISHED.value,
    title: str = "",
    confidence: float = CONFIDENCE,
) -> Figure:
    """Success by two factors: a point with its Wilson interval for each pair of levels, n written below it.

    Args:
        attempts: the attempts table.
        x: factor along the axis.
        by: factor that colours tell apart.
        outcome: what counts as success.
        title: written above.
        confidence: of the intervals.

    Raises:
        BadParameter: a factor is no column, or no attempt counts.
    """
    found = success_by(attempts, [x, by], outcome=outcome, confidence=confidence)
    table = found.table[found.table["n"] > 0]
    if table.empty:
        raise BadParameter("there is nothing to plot", why=str(found.kept))
    figure, axes = new_figure(title)
    levels, series = sorted(table[x].unique()), sorted(table[by].unique())
    width = 0.62 / max(len(series), 1)
    for index, level in enumerate(series):
        rows = table[table[by] == level]
        places = [levels.index(value) + (index - (len(series) - 1) / 2) * width for value in rows[x]]
        colour = COLOURS[index % len(COLOURS)]
        below = (rows["estimate"] - rows["low"]).clip(lower=0)
        above = (rows["high"] - rows["estimate"]).clip(lower=0)
        axes.errorbar(
            places,
            rows["estimate"],
            yerr=[below, above],
            fmt=MARKERS[index % len(MARKERS)],
            color=colour,
            capsize=4,
            markersize=7,
            linewidth=1.6,
            label=_level(by, level),
        )
        for place, n in zip(places, rows["n"], strict=True):
            axes.annotate(f"n={n}", (place, -0.045), ha="center", va="top", fontsize=8, color=colour, annotation_clip=False)
    axes.set_xticks(range(len(levels)), [_level(x, level) for level in levels])
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_ylim(-0.12, 1.06)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(_name(x))
    axes.set_ylabel(f"share {outcome.replace('_', ' ')}")
    axes.legend(title=_name(by), loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, alignment="left", fontsize=9)
    foot(figure, f"{confidence:.0%} Wilson intervals; {found.kept}")
    return figure


def time_figure(attempts: pd.DataFrame, by: str, *, side: str = "a", title: str = "", confidence: float = CONFIDENCE) -> Figure:
    """The distribution of the time from a side's first SYN to its ESTABLISHED, in ms, one curve per level of a factor.

    Attempts that did not get there keep the curve below 100 %: they count as longer than all that did.

    Args:
        attempts: the attempts table.
        by: factor that tells the curves apart.
        side: "a" or "b".
        title: written above.
        confidence: of the pointwise bands.

    Raises:
        BadParameter: the factor is no column, or no attempt of any level was established.
    """
    column = f"connect_{side}_ns"
    if column not in attempts.columns or by not in attempts.columns:
        raise BadParameter(f"the attempts have no column {column if column not in attempts.columns else by}")
    kept = keep(attempts)
    groups = [(level, group[column]) for level, group in kept.attempts.groupby(by, sort=True)]
    curves = [(level, times) for level, times in groups if times.notna().any()]
    if not curves:
        raise BadParameter("there is nothing to plot: no attempt was established", why=str(kept))
    longest = max(float(times.max()) for _, times in curves) / MS
    shortest = min(float(times.min()) for _, times in curves) / MS
    wide = longest / max(shortest, 1e-3) > 30
    figure, axes = new_figure(title)
    end = longest * 1.25 if wide else longest + 0.06 * max(longest - shortest, longest * 0.05)
    start = shortest * 0.8 if wide else max(0.0, shortest - 0.06 * max(longest - shortest, longest * 0.05))
    for index, (level, times) in enumerate(curves):
        missing = int(times.isna().sum())
        curve = ecdf([float(time) / MS for time in times.dropna()], [longest * 2] * missing, confidence)
        steps = sum(time <= longest for time in curve.times)  # what is beyond stands for the missing
        xs = [start, *curve.times[:steps], end]
        low, share, high = ([0.0, *values[:steps], values[steps - 1]] for values in (curve.low, curve.shares, curve.high))
        colour = COLOURS[index % len(COLOURS)]
        words = f"{_level(by, level)}  (n={curve.n}" + (f", {missing} not established)" if missing else ")")
        axes.fill_between(xs, low, high, step="post", color=colour, alpha=0.13, linewidth=0)
        axes.step(xs, share, where="post", color=colour, linestyle=STYLES[index % len(STYLES)], linewidth=1.8, label=words)
    if wide:
        axes.set_xscale("log")
    axes.set_xlim(start, end)
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(f"{side.upper()}: first SYN to ESTABLISHED (ms)")
    axes.set_ylabel("share of attempts")
    axes.legend(title=_name(by), loc="lower right", frameon=True, edgecolor="none", framealpha=0.85, alignment="left", fontsize=9)
    foot(figure, f"{confidence:.0%} pointwise bands; {kept}")
    return figure


def new_figure(title: str, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    """A figure of its own with one pair of axes, plain and without a display.

    Args:
        title: written above, "" for none.
        size: width and height in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.grid(visible=True, axis="y", color="#e6e9ed", linewidth=0.9)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    return figure, axes


def foot(figure: Figure, words: str) -> None:
    """Small words below a figure: intervals, what was left out."""
    figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color=_PALE)


def _name(factor: str) -> str:
    """A factor's name as words: ``owd_ns`` is "owd"."""
    return factor.removesuffix("_ns").replace("_", " ")


def _level(factor: str, level: Any) -> str:
    """A level as words: nanoseconds with a unit that can be read."""
    if factor.endswith("_ns"):
        return format_duration(int(level)) if level else "0"
    return str(level)
