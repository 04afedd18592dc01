"""What each vantage point alone says of an attempt, beside what all of them say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from rawpunch.errors import BadParameter
from rawpunch.record.pattern import tell
from rawpunch.record.words import Pattern

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rawpunch.capture.classified import Classified

TOGETHER: Final = "together"

_LOOKS: Final = {
    Pattern.THREE_WAY: ("#8cc5e3", "three-way"),
    Pattern.SIMULTANEOUS: ("#009E73", "simult."),
    Pattern.HALF_SIMULTANEOUS: ("#7fd0b3", "half sim."),
    Pattern.SPLIT: ("#E69F00", "split"),
    Pattern.SELF_CONNECT: ("#CC79A7", "itself"),
    Pattern.REFUSED: ("#D55E00", "refused"),
    Pattern.RESET_MIDWAY: ("#b5543a", "reset"),
    Pattern.ICMP_ENDED: ("#f0b27a", "ICMP"),
    Pattern.UNANSWERED: ("#c9cfd6", "unansw."),
    Pattern.TRUNCATED: ("#f3f4f6", "truncated"),
}
_DARK: Final = frozenset({Pattern.SIMULTANEOUS, Pattern.REFUSED, Pattern.RESET_MIDWAY})


def patterns_by_view(captures: Mapping[str, Classified]) -> pd.DataFrame:
    """The pattern of each attempt as each vantage point alone tells it, and as all tell it together.

    Args:
        captures: name -> classified captures.

    Returns:
        A row per attempt (named by its capture, numbered where that has several), a column per vantage point in the order in
        which the files describe them, and ``together``; None where a vantage point saw nothing of the attempt.
    """
    import pandas as pd  # noqa: PLC0415  whoever only draws ladders does without

    rows: dict[str, dict[str, str]] = {}
    names: dict[str, None] = {}
    for name, found in captures.items():
        names |= dict.fromkeys(vantage.name for vantage in found.vantages)
        for attempt, row in enumerate(found.rows()):
            told = {view.vantage: str(tell([view]).pattern) for view in found.views_of(attempt)}
            rows[name if len(found) == 1 else f"{name} {attempt + 1}"] = told | {TOGETHER: row["pattern"]}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=[*names, TOGETHER])
    return frame.astype(object).where(frame.notna(), None)


def views_figure(frame: pd.DataFrame, *, title: str = "") -> Figure:
    """What `patterns_by_view` found, as coloured cells with words; empty where nothing was seen.

    Raises:
        BadParameter: there is no attempt in it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415  as above
    from matplotlib.patches import Rectangle  # noqa: PLC0415  as above

    if frame.empty:
        raise BadParameter("there is nothing to draw", why="no attempt was classified")
    across, down = len(frame.columns), len(frame)
    figure = Figure(figsize=(2.6 + 0.85 * across, 0.9 + 0.3 * down), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for y, cells in enumerate(frame.itertuples(index=False)):
        for x, cell in enumerate(cells):
            if cell is None:
                continue
            pattern = next(word for word in Pattern if word == cell)
            colour, word = _LOOKS[pattern]
            left = x + (0.15 if x == across - 1 else 0)
            axes.add_patch(Rectangle((left + 0.02, y + 0.06), 0.96, 0.88, facecolor=colour, edgecolor="#9aa3ad", linewidth=0.5))
            ink = "white" if pattern in _DARK else "#1f2328"
            axes.text(left + 0.5, y + 0.5, word, ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_xlim(0, across + 0.2)
    axes.set_ylim(down, 0)
    places = [x + 0.5 + (0.15 if x == across - 1 else 0) for x in range(across)]
    axes.set_xticks(places, [str(name) for name in frame.columns], fontsize=8)
    axes.set_yticks([y + 0.5 for y in range(down)], [str(name) for name in frame.index], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    return figure
