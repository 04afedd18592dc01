"""Figures of external ports: what follows what, steps, bands, and the odds of telling the next one. See `analysis.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.plots import COLOURS, MARKERS, STYLES, foot, new_figure
from rawpunch.analysis.ports import own, ranks
from rawpunch.analysis.statistics import wilson
from rawpunch.errors import BadParameter

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRIES: Final = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of guesses that the odds are drawn for."""
_COLUMNS: Final = 4
_TOP: Final = 65_535


def odds_figure(
    table: pd.DataFrame, by: str = "nat_a", curves: str = "foreign", *, tries: Sequence[int] = TRIES, title: str = ""
) -> Figure:
    """How often the next port is among so many guesses: a panel per level of a factor, a curve per level of another.

    Args:
        table: rows of `samples`.
        by: factor of the panels.
        curves: factor that tells curves apart.
        tries: numbers of guesses.
        title: written above.

    Raises:
        BadParameter: there is nothing to plot.
    """
    figure, panels = _panels(_groups(table, by), title)
    levels = sorted(table[curves].unique())
    made = set()
    for axes, group in panels:
        for index, level in enumerate(levels):
            found = ranks(group[group[curves] == level], max(tries))
            shares = [wilson(sum(rank is not None and rank <= most for rank in found), len(found)) for most in tries]
            colour = COLOURS[index % len(COLOURS)]
            low, high = [share.low for share in shares], [share.high for share in shares]
            axes.fill_between(tries, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                tries,
                [share.estimate for share in shares],
                color=colour,
                marker=MARKERS[index % len(MARKERS)],
                linestyle=STYLES[index % len(STYLES)],
                markersize=4,
                linewidth=1.4,
                label=str(level),
            )
            made.add(shares[0].n)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(tries), [str(number) for number in tries])
        axes.set_ylim(-0.05, 1.05)
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    handles, words = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, words, title=curves.replace("_", " "), loc="outside upper right", ncols=len(words), fontsize=8, frameon=False
    )
    figure.supylabel("share of next ports among the guesses", fontsize=9)
    n = "-".join(str(count) for count in dict.fromkeys((min(made), max(made))))
    foot(figure, f"across: guesses; bands: 95 % Wilson intervals, n = {n} each; at least three mappings are known before a guess")
    return figure


def lag_figure(table: pd.DataFrame, by: str = "nat_a", *, title: str = "") -> Figure:
    """Each external port against the one before it, a panel per level: lines are steps, clouds are chance.

    Raises:
        BadParameter: there is nothing to plot.
    """
    figure, panels = _panels(_groups(table, by), title)
    for axes, group in panels:
        before = group.groupby("attempt", observed=True)["external_port"].shift()
        axes.plot(before, group["external_port"], ".", color=COLOURS[0], markersize=3, alpha=0.6)
        _square(axes, group["external_port"])
    figure.supxlabel("external port", fontsize=9)
    figure.supylabel("the next one", fontsize=9)
    return figure


def step_figure(table: pd.DataFrame, by: str = "nat_a", *, reach: int = 12, title: str = "") -> Figure:
    """How often each step from one external port to the next occurred, a panel per level; what is farther is summed up beside.

    Args:
        table: rows of `samples`.
        by: factor of the panels.
        reach: steps from -reach to +reach have a bar of their own.
        title: written above.

    Raises:
        BadParameter: there is nothing to plot.
    """
    figure, panels = _panels(_groups(table, by), title)
    for axes, group in panels:
        steps = group["step"].dropna().astype(int)
        near = steps[steps.abs() <= reach]
        counts = near.value_counts()
        axes.bar(counts.index, counts / max(len(steps), 1), width=0.9, color=COLOURS[0])
        axes.set_xlim(-reach - 0.7, reach + 0.7)
        axes.set_ylim(0, 1.05)
        axes.set_xticks([-reach, 0, reach])
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        far = 1 - len(near) / max(len(steps), 1)
        axes.set_xlabel(f"farther: {far:.0%}, n={len(steps)}", fontsize=7, color="#636c76")
    figure.supxlabel("step to the next external port", fontsize=9)
    return figure


def band_figure(table: pd.DataFrame, by: str = "nat_a", *, title: str = "") -> Figure:
    """Where the external ports lie, a row per level: each port a tick, the band between the outermost a line.

    Raises:
        BadParameter: there is nothing to plot.
    """
    groups = _groups(table, by)
    figure, axes = new_figure(title)
    for place, (level, group) in enumerate(reversed(groups)):
        ports = group["external_port"]
        axes.plot([ports.min(), ports.max()], [place, place], color="#b6bec8", linewidth=2, zorder=1)
        axes.plot(ports, [place] * len(ports), "|", color=COLOURS[0], markersize=9, alpha=0.35)
        axes.annotate(f"{level}: {ports.min()}-{ports.max()}, n={len(ports)}", (300, place + 0.24), fontsize=7, color="#30363d")
    axes.set_xlim(0, _TOP)
    axes.set_ylim(-0.6, len(groups) - 0.1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("external port")
    return figure


def _groups(table: pd.DataFrame, by: str) -> list[tuple[Any, pd.DataFrame]]:
    if by not in table.columns:
        raise BadParameter(f"the samples have no column {by}")
    mine = own(table)
    groups = [(level, mine[mine[by] == level]) for level in dict.fromkeys(sorted(mine[by].unique()))]
    if not groups:
        raise BadParameter("there is nothing to plot: no SYN of a sample came out")
    return groups


def _panels(groups: list[tuple[Any, pd.DataFrame]], title: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    columns = min(_COLUMNS, len(groups))
    rows = ceil(len(groups) / columns)
    figure, first = new_figure("", size=(2.1 * columns + 0.6, 1.9 * rows + 0.7))
    first.remove()
    panels = []
    for place, (level, group) in enumerate(groups, 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_title(str(level), fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
        panels.append((axes, group))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure, panels


def _square(axes: Axes, ports: pd.Series[Any]) -> None:
    low, high = int(ports.min()), int(ports.max())
    room = max(4, (high - low) // 20)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(low - room, high + room)
    ticks = [low, high] if high > low else [low]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_aspect("equal")
