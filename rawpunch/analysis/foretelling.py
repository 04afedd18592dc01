"""Predictions and sprays told afterwards, from a run of samples: odds as they would have been stated, and whether they came true.

What a NAT gave is in the run; a forecast is made at several places of each sample from the mappings before it alone, and the
tries of a spray are drawn from a stream of the run's seed: the NAT knows nothing of them, so that it is as if they had been sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.plots import COLOURS, MARKERS, STYLES, foot, new_figure
from rawpunch.analysis.ports import own, samples
from rawpunch.analysis.statistics import Proportion, wilson
from rawpunch.errors import BadParameter
from rawpunch.nat import personas
from rawpunch.punch.birthday import without_repetition
from rawpunch.punch.ports import Mapped
from rawpunch.punch.predict import forecast
from rawpunch.rng import stream

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rawpunch.dataset.store import Dataset

COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of ports that are guessed."""
_FIRST: Final = 8
"""Mappings that are seen before the first forecast of a sample."""
EVERY: Final = 4
"""Forecasts are made for each fourth port: neighbours rest on nearly the same."""


def forecasts(run: Dataset, *, every: int = EVERY) -> pd.DataFrame:
    """A row for each forecast: the factors, `attempt`, `place`, the `rank` that the port had, and odds_1, odds_2 ... as stated.

    Args:
        run: samples whose factor `nat_a` names a persona.
        every: a forecast is made for each so many-th port.

    Raises:
        BadParameter: the run sampled nothing, or too few ports each.
    """
    return _all_forecasts(run, every).copy()


@lru_cache(maxsize=1)  # verdicts are asked for again at other confidences; to foretell takes seconds
def _all_forecasts(run: Dataset, every: int) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  most of a second

    mine = own(samples(run))
    rows = [
        {"attempt": attempt} | {name: group[name].iloc[0] for name in run.manifest.grid} | row
        for attempt, group in mine.groupby("attempt", observed=True)
        for row in _forecasts(group, every)
    ]
    if not rows:
        raise BadParameter("no sample has enough ports to foretell one", why=f"{_FIRST} are seen first")
    return pd.DataFrame(rows)


def _forecasts(sample: pd.DataFrame, every: int) -> Iterator[dict[str, Any]]:
    # without times: a sample's SYNs go out one by one, so that the next gap would tell what came in between
    pairs = zip(sample["external_port"], sample["internal_port"], strict=True)
    seen = [Mapped(int(port), int(inside)) for port, inside in pairs]
    for place in range(_FIRST, len(seen), every):
        after = seen[place]
        told = forecast(seen[:place], inside_port=after.inside_port)
        rank = int((told.order == after.port).argmax()) + 1
        odds = {f"odds_{count}": told.odds(count) for count in COUNTS}
        yield {"place": place, "rank": rank if told.by_port[after.port] > 0 else len(told.order), "kind": told.kind.value} | odds


def hit(table: pd.DataFrame, count: int) -> Proportion:
    """How often the port was among that many guesses, of a table of `forecasts`."""
    return wilson(int((table["rank"] <= count).sum()), len(table))


def calibration(table: pd.DataFrame, count: int) -> tuple[float, float, float]:
    """Stated odds against hits, of that many guesses: mean odds, share of hits, and how many standard deviations lie between."""
    odds = table[f"odds_{count}"].clip(0, 1)
    hits = int((table["rank"] <= count).sum())
    spread = math.sqrt(float((odds * (1 - odds)).sum()))
    return float(odds.mean()), hits / len(table), (hits - float(odds.sum())) / spread if spread else 0.0


def guesses_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Hits against the number of guesses: a panel for each NAT, a curve for each amount of cross traffic.

    Points are shares of hits with Wilson's interval, lines the odds as stated beforehand.
    """
    names = list(dict.fromkeys(table["nat_a"]))
    figure, first = new_figure("", (11, 2.6 + 2.9 * ((len(names) + 2) // 3)))
    first.remove()
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    grid = figure.subplots(math.ceil(len(names) / 3), 3, sharex=True, sharey=True, squeeze=False)
    levels = sorted(table["foreign"].unique())
    for axes, name in zip(grid.flat, names, strict=False):
        for index, level in enumerate(levels):
            some = table[(table["nat_a"] == name) & (table["foreign"] == level)]
            if some.empty:
                continue
            shares = [hit(some, count) for count in COUNTS]
            look = {"color": COLOURS[index % len(COLOURS)]}
            bars = [[s.estimate - s.low for s in shares], [s.high - s.estimate for s in shares]]
            apart = 2 ** (0.11 * (index - (len(levels) - 1) / 2))
            axes.errorbar(
                [count * apart for count in COUNTS],
                [share.estimate for share in shares],
                bars,
                marker=MARKERS[index % len(MARKERS)],
                linestyle="none",
                markersize=4,
                label=str(level),
                **look,
            )
            stated = [some[f"odds_{count}"].mean() for count in COUNTS]
            axes.plot(COUNTS, stated, linestyle=STYLES[index % len(STYLES)], linewidth=1.3, **look)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.set_ylim(-0.03, 1.05)
        axes.grid(visible=True, axis="y", color="#e6e9ed", linewidth=0.9)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
    for axes in list(grid.flat)[len(names) :]:
        axes.remove()
    grid[0, 0].legend(title="others' connections", frameon=False, fontsize=8, loc="lower right")
    for row in grid:
        row[0].set_ylabel("share of hits, stated odds")
    foot(figure, "ports guessed, the likeliest first. Points: hits with 95 % intervals; lines: odds stated beforehand")
    return figure


# --- sprays ---


def sprays(run: Dataset, tried: Sequence[int]) -> pd.DataFrame:
    """A row for each sample and number of tries: the factors, `attempt`, `open`, `tried`, `ports`, `hits` and the `odds`.

    Args:
        run: samples whose factor `nat_a` names a persona.
        tried: how many different ports of the persona's range are tried.

    Raises:
        BadParameter: the run sampled nothing.
    """
    import pandas as pd  # noqa: PLC0415  most of a second

    rows = []
    for attempt, group in own(samples(run)).groupby("attempt", observed=True):
        factors = {name: group[name].iloc[0] for name in run.manifest.grid}
        ports = personas.load(str(factors["nat_a"])).behavior.ports
        size = ports.high - ports.low + 1
        most = min(max(tried), size)
        aims = stream(run.manifest.seed, "aims", str(attempt)).sample(range(ports.low, ports.high + 1), most)
        open_ports = set(group["external_port"])
        for count in tried:
            hits = len(open_ports & set(aims[:count]))
            odds = without_repetition(len(open_ports), min(count, size), size)
            held = {"open": len(open_ports), "tried": count, "ports": size, "hits": hits, "odds": odds}
            rows.append({"attempt": attempt} | factors | held)
    return pd.DataFrame(rows)


def expected(table: pd.DataFrame, confidence: float = 0.95) -> tuple[int, int]:
    """The interval that theory gives for the number of sprays that hit, of a table of `sprays`: exact, by cells of equal odds.

    The sum of binomials is their convolution; the interval leaves at most half of what is outside at each end.
    """
    import numpy as np  # noqa: PLC0415  as above
    from scipy.stats import binom  # noqa: PLC0415  as above

    total = np.ones(1)
    for _, group in table.groupby("odds"):
        total = np.convolve(total, binom.pmf(np.arange(len(group) + 1), len(group), float(group["odds"].iloc[0])))
    below, tail = np.cumsum(total), (1 - confidence) / 2
    return int(np.searchsorted(below, tail)), int(np.searchsorted(below, 1 - tail))


def spray_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Share of sprays that hit against what theory says: a point for each NAT, number of open ports and number of tries."""
    figure, axes = new_figure(title, (7.5, 5.2))
    axes.plot([0, 1], [0, 1], color="#9aa3ad", linewidth=1, zorder=1)
    for index, (nat, group) in enumerate(table.groupby("nat_a", sort=False, observed=True)):
        cells = [(float(cell["odds"].mean()), wilson(int((cell["hits"] > 0).sum()), len(cell))) for _, cell in _cells(group)]
        xs = [odds + 0.006 * (index - 1.5) for odds, _ in cells]
        bars = [[share.estimate - share.low for _, share in cells], [share.high - share.estimate for _, share in cells]]
        axes.errorbar(
            xs,
            [share.estimate for _, share in cells],
            bars,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="none",
            markersize=5,
            label=str(nat),
        )
    axes.set_xlabel("odds by theory: one minus C(N-k, m) / C(N, m)")
    axes.set_ylabel("share of sprays that hit")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    foot(figure, "95 % intervals of Wilson; points of one NAT stand apart a little so that they can be seen")
    return figure


def _cells(table: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    yield from table.groupby(["open", "tried"], observed=True)


def spray_table(table: pd.DataFrame) -> pd.DataFrame:
    """Hits and theory, a row for each NAT, number of open ports and number of tries."""
    import pandas as pd  # noqa: PLC0415  as above

    rows: list[Mapping[str, Any]] = []
    for (nat, opened, tried), cell in table.groupby(["nat_a", "open", "tried"], sort=False, observed=True):
        low, high = expected(cell)
        rows.append(
            {
                "nat_a": nat,
                "open": opened,
                "tried": tried,
                "odds": round(float(cell["odds"].iloc[0]), 4),
                "n": len(cell),
                "hit": int((cell["hits"] > 0).sum()),
                "theory, 95 %": f"{low}..{high}",
            }
        )
    return pd.DataFrame(rows)
