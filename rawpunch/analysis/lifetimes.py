"""How long something lives that can be looked at once only: interval-censored lifetimes, and their figure.

Who looks whether a mapping is still there sends a packet, and that packet may keep it alive. So each attempt looks once, at an
instant of its own, and says of the lifetime only on which side of it that instant lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rawpunch.errors import BadParameter
from rawpunch.units import SECOND

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_THERE: Final = "#0072B2"
_GONE: Final = "#D55E00"
_PALE: Final = "#636c76"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """What looks at several instants say of a lifetime that is the same each time."""

    n: int
    """How many looks."""
    there_ns: int
    """The latest instant at which it was still there; 0 if it never was."""
    gone_ns: int | None
    """The earliest one at which it was gone; None if it never was: then it is censored."""

    @property
    def is_one(self) -> bool:
        """Whether one lifetime explains all looks: nothing was there after something was gone."""
        return self.gone_ns is None or self.there_ns < self.gone_ns

    def allows(self, lifetime_ns: int) -> bool:
        """Whether a lifetime explains all looks."""
        return self.there_ns <= lifetime_ns and (self.gone_ns is None or lifetime_ns <= self.gone_ns)


def lifetime(looks: Iterable[tuple[int, bool]]) -> Lifetime:
    """The lifetime behind looks.

    Args:
        looks: when each was, in ns from the beginning, and whether it was still there.
    """
    seen = list(looks)
    return Lifetime(
        len(seen),
        max((at_ns for at_ns, there in seen if there), default=0),
        min((at_ns for at_ns, there in seen if not there), default=None),
    )


def looks_by(attempts: pd.DataFrame, segments: pd.DataFrame, by: Sequence[str]) -> dict[tuple[str, ...], list[tuple[int, bool]]]:
    """What a prober's last packets say of the mappings they were sent to: levels of these columns -> looks (see `lifetime`).

    A look's time is that since the packet that the prober sent before its last one.

    Args:
        attempts: those that count; B is the prober in each.
        segments: of the same run.
        by: columns of the attempts.
    """
    came, waited_ns = reached(segments), _waited(segments)
    found: dict[tuple[str, ...], list[tuple[int, bool]]] = {}
    for levels, group in attempts.groupby(list(by), observed=True):
        mine = [attempt for attempt in group["attempt"] if attempt in waited_ns]
        looks = [(int(waited_ns[attempt]), bool(came.get(attempt, False))) for attempt in mine]
        found[tuple(str(level) for level in (levels if isinstance(levels, tuple) else (levels,)))] = looks
    return found


def reached(segments: pd.DataFrame) -> pd.Series:
    """Attempt -> whether the last packet that B sent of its own reached A's host."""
    last = _last(segments)[["kind", "seq", "time_ns"]].add_suffix("_sent")
    arrived = segments[(segments["vantage"] == "hostA:eth0") & (segments["direction"] == "in")]
    both = arrived.join(last, on="attempt")
    matching = both[
        (both["kind"] == both["kind_sent"]) & (both["seq"] == both["seq_sent"]) & (both["time_ns"] > both["time_ns_sent"])
    ]
    return last.index.to_series().isin(matching["attempt"])


def _waited(segments: pd.DataFrame) -> pd.Series:
    """Attempt -> ns from what B sent before its last packet to that one."""
    sent = segments[(segments["vantage"] == "hostB:eth0") & (segments["direction"] == "out")]
    sent = sent.join(_last(segments)["time_ns"].rename("last_ns"), on="attempt")
    before = sent[sent["time_ns"] < sent["last_ns"]].groupby("attempt", observed=True)[["time_ns", "last_ns"]].max()
    return before["last_ns"] - before["time_ns"]


def _last(segments: pd.DataFrame) -> pd.DataFrame:
    """The last packet that B sent of its own in each attempt; a RST is its kernel's, or what a look comes after."""
    sent = segments[(segments["vantage"] == "hostB:eth0") & (segments["direction"] == "out")]
    sent = sent[~sent["kind"].str.startswith("RST") | (sent["ack"] == 0)]
    return sent.sort_values("time_ns").groupby("attempt", observed=True).last()


@dataclass(frozen=True, slots=True)
class Watched:
    """One thing that was looked at, for `lifetimes_figure`."""

    label: str
    looks: Sequence[tuple[int, bool]]
    """As for `lifetime`."""


def lifetimes_figure(rows: Sequence[Watched], *, title: str, xlabel: str, foot: str = "") -> Figure:
    """Every look as a mark, filled where it was still there, and the span in which it went.

    Args:
        rows: from top to bottom.
        title: written above.
        xlabel: from what the time counts, which is in seconds.
        foot: written below.

    Raises:
        BadParameter: there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  most of a second
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    if not any(row.looks for row in rows):
        raise BadParameter("there is nothing to plot", why="nothing was looked at")
    figure = Figure(figsize=(8.6, 1.7 + 0.36 * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    right = max(at_ns for row in rows for at_ns, _ in row.looks) / SECOND * 1.08
    labels = []
    for place, row in enumerate(rows):
        found = lifetime(row.looks)
        axes.plot([0, found.there_ns / SECOND], [place, place], color=_THERE, linewidth=2.5, alpha=0.45, zorder=1)
        if found.gone_ns is None:
            ahead = (found.there_ns / SECOND + right / 30, place)
            axes.annotate("", ahead, (found.there_ns / SECOND, place), arrowprops={"arrowstyle": "->", "color": _THERE})
        elif found.is_one:
            span = [found.there_ns / SECOND, found.gone_ns / SECOND]
            axes.plot(span, [place, place], color=_GONE, linewidth=7, alpha=0.35, solid_capstyle="butt", zorder=1)
        for there, colour, face in ((True, _THERE, _THERE), (False, _GONE, "white")):
            at = [at_ns / SECOND for at_ns, was in row.looks if was is there]
            axes.plot(at, [place] * len(at), "o", color=colour, markerfacecolor=face, markersize=5.5, zorder=2)
        labels.append(f"{_in_words(found)}  n={found.n}")
    for name, colour, face in (("still there", _THERE, _THERE), ("gone", _GONE, "white")):
        axes.plot([], [], "o", color=colour, markerfacecolor=face, label=name)
    axes.set_xlim(0, right)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(rows)), labels, fontsize=8)
    beside.tick_params(length=0, colors=_PALE)
    beside.spines["right"].set_visible(False)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.grid(visible=True, axis="x", color="#e6e9ed", linewidth=0.9)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    if foot:
        figure.supxlabel(foot, x=0.01, ha="left", fontsize=8, color=_PALE)
    return figure


def _in_words(found: Lifetime) -> str:
    if not found.is_one:
        return "not one lifetime"
    if found.gone_ns is None:
        return f"> {found.there_ns / SECOND:.3g} s"
    return (
        f"{found.there_ns / SECOND:.3g} to {found.gone_ns / SECOND:.3g} s"
        if found.there_ns
        else f"< {found.gone_ns / SECOND:.2g} s"
    )
