"""The window as a picture: which attempts opened, by how much the second SYN was too late."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.forest import COLOURS, Line, forest_figure
from rawpunch.analysis.tables import keep
from rawpunch.analysis.timing import WindowEdge
from rawpunch.errors import BadParameter
from rawpunch.units import MS, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure

_PALE: Final = "#636c76"
_MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
_LINEAR_MS: Final = 0.05
"""Around zero the axis is linear; beyond it is logarithmic."""


def window_figure(timed: pd.DataFrame, by: Sequence[str], *, title: str) -> Figure:
    """Each attempt a mark, by how much after the first one's SYN the second one's passed the point; a row for each kind of path.

    Args:
        timed: attempts with their times, see `timing.with_times`.
        by: factors that tell the rows apart.
        title: written above.

    Raises:
        BadParameter: no attempt has the times.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    kept = keep(timed)
    good = kept.attempts.dropna(subset=["too_late_ns"])
    groups = list(good.groupby(list(by), sort=True, observed=True))
    if not groups:
        raise BadParameter("there is nothing to plot", why=str(kept))
    figure = Figure(figsize=(8.2, 1.7 + 0.42 * len(groups)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(0, color=_PALE, linewidth=1, linestyle="--")
    dice = np.random.default_rng(0)
    for place, (_, group) in enumerate(groups):
        for opened, colour, marker, shift in ((True, COLOURS[0], "o", -0.16), (False, COLOURS[1], "x", 0.16)):
            mine = group.loc[group["opened"] == opened, "too_late_ns"] / MS
            heights = place + shift + dice.uniform(-0.09, 0.09, len(mine))
            label = ("opened" if opened else "failed") if place == 0 else None
            axes.scatter(mine, heights, s=16, color=colour, marker=marker, alpha=0.7, linewidths=1, label=label)
    axes.set_xscale("symlog", linthresh=_LINEAR_MS)
    far = float((good["too_late_ns"].abs() / MS).max())
    ticks = [tick for tick in (-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100) if abs(tick) <= far * 1.3]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(groups)), [f"{_words(by, levels)}  (n={len(group)})" for levels, group in groups], fontsize=9)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("second SYN passed the NAT (or left its host) after the first one's arrival there (ms)")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.grid(visible=True, axis="x", color="#e6e9ed", linewidth=0.9)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    figure.supxlabel(str(kept), x=0.01, ha="left", fontsize=8, color=_PALE)
    return figure


def edges_figure(edges: Sequence[WindowEdge], *, title: str, bar_us: float = 100) -> Figure:
    """The window's edges minus where the delays of the same attempts have them, with the bar that they are to meet.

    Args:
        edges: see `timing.window_edges`.
        title: written above.
        bar_us: of the shaded band.

    Raises:
        BadParameter: there are none.
    """
    lines = [
        Line(
            f"{edge.levels['path']}, {format_duration(int(edge.levels['one_way_ns']))}, {edge.first.upper()} first",
            *edge.deviation_us,
            edge.beyond.n,
            str(edge.levels["path"]),
        )
        for edge in edges
    ]
    return forest_figure(
        lines,
        title=title,
        xlabel="latest start that works, minus the lawful one (us)",
        at=0,
        band=(-bar_us, bar_us),
        foot=f"95 % bootstrap intervals; shaded: within {bar_us:g} us",
    )


def delays_figure(edges: Sequence[WindowEdge], *, title: str) -> Figure:
    """Where the window ends, against the delay between the NATs and against that between the hosts: which of them is it?

    Args:
        edges: see `timing.window_edges`; those of which no SYN came from host to host are left out.
        title: written above.

    Raises:
        BadParameter: there are none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  as above
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    known = [edge for edge in edges if math.isfinite(edge.host_way_ns)]
    if not known:
        raise BadParameter("there is nothing to plot", why=f"{len(edges)} edges, none with a delay from host to host")
    figure = Figure(figsize=(8.2, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    ends = [(edge.lawful_ns / MS, edge.host_way_ns / MS, edge.latest_ns / MS) for edge in known]
    low, high = min(map(min, ends)) / 1.5, max(map(max, ends)) * 1.5
    paths = list(dict.fromkeys(str(edge.levels["path"]) for edge in known))
    for axes, place, words in zip(
        panels, (0, 1), ("NAT to NAT, and the first one's\nlonger way to its own (ms)", "host to host\n(ms)"), strict=True
    ):
        axes.plot([low, high], [low, high], color=_PALE, linewidth=1, linestyle="--")
        for index, path in enumerate(paths):
            mine = [end for edge, end in zip(known, ends, strict=True) if edge.levels["path"] == path]
            axes.scatter(
                [end[place] for end in mine],
                [end[2] for end in mine],
                s=26 + 22 * (len(paths) - index),  # what lies in one place lies in rings
                facecolors="none",
                edgecolors=COLOURS[index % len(COLOURS)],
                linewidths=1.4,
                marker=_MARKERS[index % len(_MARKERS)],
                label=f"{path}  (n={len(mine)})",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= tick <= high]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)
        axes.set_xlabel(words)
        axes.grid(visible=True, color="#e6e9ed", linewidth=0.9)
        axes.set_axisbelow(True)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
    panels[0].set_ylabel("latest start that works (ms)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    panels[1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)
    figure.supxlabel(
        "one mark an edge; dashed: where it would lie if that delay were the window", x=0.01, ha="left", fontsize=8, color=_PALE
    )
    return figure


def _words(by: Sequence[str], levels: Sequence[object]) -> str:
    return ", ".join(
        format_duration(int(str(level))) if name.endswith("_ns") else str(level) for name, level in zip(by, levels, strict=True)
    )
