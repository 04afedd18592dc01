"""Offsets and delays of attempts, as they were and not as they were planned, and the window's edges among them.

The *point* of a path is where an early SYN is answered: B's NAT, or B itself where it has none. A's SYN comes too early when it
reaches that point before B's own SYN has passed it; the *lateness* of an attempt is by how much it did.

So the law, for A's start at 0 and B's at t: A's SYN passes its own point after the way there, i_A, and comes to B's point after
the delay d between the points; B's passes that point at t + i_B. It is in time if t < d + i_A - i_B: the window's edge follows
the delay from point to point, and is moved by as much as the first one has farther to its own point than the other one has. How
far the hosts are from each other, i_A + d and B's way in, does not come into it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.edges import Edge, threshold_edge
from rawpunch.analysis.statistics import Estimate, enough_resamples, stated_confidence, wilson
from rawpunch.analysis.tables import keep
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome
from rawpunch.units import MS, US

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES: Final = 1_999
_FEWEST: Final = 4
"""Edges that are needed to tell what two delays add to them."""
_APART_NS: Final = MS
"""Delays that vary by less vary by chance."""
_OTHER: Final = {"a": "b", "b": "a"}


@dataclass(frozen=True, slots=True)
class WindowEdge:
    """One end of the window of one kind of path."""

    levels: Mapping[str, Any]
    """Which path: factor -> level."""
    first: str
    """Who starts first: "a" or "b"."""
    beyond: Edge
    """The latest start of the other that works, minus the one that is lawful in the same attempt, in ns."""
    one_way_ns: float
    """Median one-way delay of its attempts: the first one's SYN from its own point to the other's, by capture."""
    farther_ns: float
    """Median of how much longer the first one's SYN took to its own point than the other's to its."""
    host_way_ns: float
    """Median of how long the first one's SYN took from host to host; NaN where none came through."""

    @property
    def lawful_ns(self) -> float:
        """The latest start of the other that is to work, by the law."""
        return self.one_way_ns + self.farther_ns

    @property
    def latest_ns(self) -> float:
        """The latest start of the other that works."""
        return self.lawful_ns + self.beyond.value

    @property
    def deviation_us(self) -> tuple[float, float, float]:
        """The edge minus where the law has it, with the edge's interval, in microseconds."""
        return self.beyond.value / US, self.beyond.low / US, self.beyond.high / US


def first_syns(segments: pd.DataFrame) -> pd.DataFrame:
    """When each end's first SYN was where: one row per attempt, columns like ``a@natB:out``, missing if it never came.

    Times are in ns since the attempt's first SYN.

    Args:
        segments: the segments table.
    """
    syns = segments[(segments["kind"] == "SYN") & (segments["vantage"] != "core:a") & (segments["vantage"] != "core:b")]
    home = syns["vantage"].str.contains("A:")
    from_home = syns["direction"].eq("out") & syns["vantage"].isin(["hostA:eth0", "hostB:eth0", "natA:out", "natB:out"])
    from_home |= syns["direction"].eq("in") & syns["vantage"].isin(["natA:in", "natB:in"])
    a_sent = home == from_home
    where = a_sent.map({True: "a@", False: "b@"}) + syns["vantage"].astype(str)
    since = syns["time_ns"] - syns.groupby("attempt", observed=True)["time_ns"].transform("min")
    table = syns.assign(where=where, since=since)
    return table.pivot_table(index="attempt", columns="where", values="since", aggfunc="min", observed=True)


def with_times(attempts: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """The attempts with what the capture says of their timing, in ns.

    New columns: ``first`` (whose SYN passed its own point first), ``late_ns`` (the other's start after the first one's),
    ``way_ns`` (the first one's SYN from its own point to the other's), ``farther_ns`` (how much longer the first one's SYN took
    from its host to its own point than the other's), ``host_way_ns`` (the first one's SYN from host to host, missing if it never
    came), ``too_late_ns`` (when the other's SYN passed the point after the first one's had come to it; negative when it was in
    time), ``opened``.

    Args:
        attempts: the attempts table.
        segments: the segments table.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`

    seen = first_syns(segments).reindex(attempts["attempt"]).astype(float)

    def column(name: str) -> Any:
        return seen[name].to_numpy() if name in seen else np.full(len(attempts), np.nan)

    offset = attempts["offset_ns"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    planned = attempts["planned_offset_ns"].to_numpy(dtype=float)
    started, passed, came, reached = {}, {}, {}, {}
    for side, other in _OTHER.items():
        upper = side.upper()
        translated = attempts[f"remote_{other}"].astype(str) != attempts[f"local_{side}"].astype(str)
        started[side] = column(f"{side}@host{upper}:eth0")
        reached[other] = column(f"{other}@host{upper}:eth0")
        passed[side] = np.where(translated, column(f"{side}@nat{upper}:out"), started[side])
        came[other] = np.where(translated, column(f"{other}@nat{upper}:out"), reached[other])
    gap = passed["b"] - passed["a"]
    a_first = np.where(np.isnan(gap), np.where(np.isnan(offset), planned, offset), gap) >= 0
    to_point = {side: passed[side] - started[side] for side in _OTHER}

    def of_first(values: Mapping[str, Any]) -> Any:
        return np.where(a_first, values["a"], values["b"])

    def of_other(values: Mapping[str, Any]) -> Any:
        return np.where(a_first, values["b"], values["a"])

    return attempts.assign(
        first=np.where(a_first, "a", "b"),
        late_ns=np.where(a_first, offset, -offset),
        way_ns=of_first(came) - of_first(passed),
        farther_ns=of_first(to_point) - of_other(to_point),
        host_way_ns=of_first(reached) - of_first(started),
        too_late_ns=of_other(passed) - of_first(came),
        opened=(attempts["outcome"] == Outcome.ESTABLISHED.value).to_numpy(),
    )


def window_edges(timed: pd.DataFrame, by: Sequence[str], *, seed: int = 0) -> list[WindowEdge]:
    """The edges of the window of each path, from the undisturbed attempts; a path whose attempts all opened has none.

    An attempt is placed by its own delay, as captured, so that a delay which varies does not blur the edge.

    Args:
        timed: attempts with their times, see `with_times`.
        by: factors that tell the paths apart.
        seed: of the bootstrap.
    """
    found = []
    for levels, group in keep(timed).attempts.dropna(subset=["too_late_ns"]).groupby([*by, "first"], sort=True, observed=True):
        *path, first = levels
        try:
            edge = threshold_edge(group["too_late_ns"].tolist(), group["opened"].tolist(), seed=seed)
        except BadParameter:
            continue
        measured = (float(group[column].median()) for column in ("way_ns", "farther_ns", "host_way_ns"))
        found.append(WindowEdge(dict(zip(by, path, strict=True)), str(first), edge, *measured))
    return found


def shares_of_delays(edges: Sequence[WindowEdge], *, confidence: float | None = None) -> tuple[Estimate, Estimate]:
    """What the delay from point to point, and what the rest of the way from host to host, adds to the latest start that works.

    By least squares, over edges from which the difference of the ways to the own points is taken off.

    Args:
        edges: at least four, of paths that differ in both.
        confidence: of the intervals, which are Student's.

    Returns:
        How much the edge moves with each of the two, in ns per ns of it, the other one held.

    Raises:
        BadParameter: they are too few, or the two delays do not vary apart.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`
    from statsmodels.regression.linear_model import OLS  # noqa: PLC0415  as in `statistics`

    known = [edge for edge in edges if math.isfinite(edge.host_way_ns)]
    delays = np.array([[edge.one_way_ns, edge.host_way_ns - edge.one_way_ns] for edge in known]).reshape(-1, 2)
    apart = delays.shape[0] > 0 and np.linalg.matrix_rank(delays, tol=_APART_NS) == 2
    if len(known) < _FEWEST or not apart:
        raise BadParameter(
            "what each delay adds cannot be told",
            why=f"{len(known)} edges, " + ("enough" if apart else "on which the two delays do not vary apart"),
            todo="edges of paths with and without a delay between host and NAT",
        )
    fitted: Any = OLS(np.array([edge.latest_ns - edge.farther_ns for edge in known]), delays).fit()
    intervals = fitted.conf_int(alpha=1 - (confidence or stated_confidence()))
    between, rest = (
        Estimate(float(value), float(low), float(high), (len(known),))
        for value, (low, high) in zip(fitted.params, intervals, strict=True)
    )
    return between, rest


def offsets_three_ways(attempts: pd.DataFrame) -> pd.DataFrame:
    """B's start after A's, for attempts whose ends were both kernel sockets and opened by a crossing, in ns.

    Columns: `planned`, `captured` (time stamps of the two hosts' devices), `by_rtt` (half the difference of the ends' tcpi_rtt,
    which is sampled from the SYN-ACK: no clock is compared), and `way_by_rtt`, half of their sum, the one-way delay.

    Args:
        attempts: the attempts table.
    """
    import pandas as pd  # noqa: PLC0415  nearly a second

    kept = keep(attempts).attempts
    crossed = kept[(kept["pattern"] == "simultaneous") & kept["rtt_a_ns"].notna() & kept["rtt_b_ns"].notna()]
    rtt_a, rtt_b = (crossed[f"rtt_{side}_ns"].astype(float) for side in "ab")
    return pd.DataFrame(
        {
            "attempt": crossed["attempt"],
            "planned": crossed["planned_offset_ns"].astype(float),
            "captured": crossed["offset_ns"].astype(float),
            "by_rtt": (rtt_b - rtt_a) / 2,
            "way_by_rtt": (rtt_a + rtt_b) / 2,
        }
    )


def median_of(values: Sequence[float], *, seed: int = 0, confidence: float | None = None) -> Estimate:
    """A median with a percentile bootstrap interval.

    Raises:
        BadParameter: there are fewer than two values.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`
    from scipy.stats import bootstrap  # noqa: PLC0415  as in `statistics`

    sample = np.asarray(values, dtype=float)
    if sample.size < 2:
        raise BadParameter("a bootstrap needs two observations", why=f"n = {sample.size}")
    confidence = confidence or stated_confidence()
    drawn = bootstrap(
        (sample,),
        np.median,
        n_resamples=enough_resamples(_RESAMPLES, confidence),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = drawn.confidence_interval
    return Estimate(float(np.median(sample)), float(interval.low), float(interval.high), (sample.size,))


def clock_shifts(timed: pd.DataFrame) -> pd.DataFrame:
    """What a clock of B's that shows something else than A's did to the start and to the attempt, of the undisturbed ones.

    A row for each `ahead_ns` and `drift_ppb`, with `n`, `planned_ms` (B's start after A's, as the clock makes it), `captured_ms`
    (the median one by capture), `window_ms` (the window to that side, median), `opened`, and a 95 % interval `low` to `high` of
    the share that opened.

    Args:
        timed: attempts with their times, see `with_times`, which were to start at once.
    """
    import pandas as pd  # noqa: PLC0415  as above

    rows = []
    for (ahead_ns, drift_ppb), group in keep(timed).attempts.groupby(["ahead_ns", "drift_ppb"], observed=True):
        share = wilson(int(group["opened"].sum()), len(group))
        rows.append(
            {
                "ahead_ns": ahead_ns,
                "drift_ppb": drift_ppb,
                "n": len(group),
                "planned_ms": group["planned_offset_ns"].median() / MS,
                "captured_ms": float(group["offset_ns"].median()) / MS,
                "window_ms": (group["way_ns"] + group["farther_ns"]).median() / MS,
                "opened": share.successes,
                "low": share.low,
                "high": share.high,
            }
        )
    return pd.DataFrame(rows)


def launch_errors(attempts: pd.DataFrame) -> pd.DataFrame:
    """How late each first SYN left after its planned instant: `scheduler` (if it was a factor), `error_ns`."""
    import pandas as pd  # noqa: PLC0415  as above

    columns = ["scheduler"] if "scheduler" in attempts.columns else []
    sides = [
        attempts[columns].assign(error_ns=(attempts[f"sent_{side}_ns"] - attempts[f"planned_{side}_ns"]).astype("Float64"))
        for side in "ab"
    ]
    return pd.concat(sides).dropna(subset=["error_ns"]).astype({"error_ns": float})
