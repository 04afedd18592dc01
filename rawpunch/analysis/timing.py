"""Offsets and delays of attempts, as they were and not as they were planned, and the window's edges among them.

The *point* of a path is where an early SYN is answered: B's NAT, or B itself where it has none. A's SYN comes too early when it
reaches that point before B's own SYN has passed it; the *lateness* of an attempt is by how much it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.edges import Edge, threshold_edge
from rawpunch.analysis.statistics import CONFIDENCE, Estimate
from rawpunch.analysis.tables import keep
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome
from rawpunch.units import US

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES: Final = 1_999
_OTHER: Final = {"a": "b", "b": "a"}


@dataclass(frozen=True, slots=True)
class WindowEdge:
    """One end of the window of one kind of path."""

    levels: Mapping[str, Any]
    """Which path: factor -> level."""
    first: str
    """Who starts first: "a" or "b"."""
    beyond: Edge
    """The latest start of the other that works, minus the one-way delay of the same attempt, in ns."""
    one_way_ns: float
    """Median one-way delay of its attempts: the first one's SYN from its host to the other's point, by capture."""

    @property
    def latest_ns(self) -> float:
        """The latest start of the other that works."""
        return self.one_way_ns + self.beyond.value

    @property
    def deviation_us(self) -> tuple[float, float, float]:
        """The edge minus the one-way delay, with the edge's interval, in microseconds."""
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

    New columns: ``first`` (who sent first), ``late_ns`` (the other's start after that, by capture), ``way_ns`` (the first one's
    SYN from its host to the other's point), ``too_late_ns`` (when the other's SYN passed the point after the first one's had come
    to it; negative when it was in time), ``opened``.

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
    a_first = np.where(np.isnan(offset), planned, offset) >= 0
    ways, margins = {}, {}
    for one, other in _OTHER.items():
        upper = other.upper()
        translated = attempts[f"remote_{one}"].astype(str) != attempts[f"local_{other}"].astype(str)
        point = np.where(translated, column(f"{one}@nat{upper}:out"), column(f"{one}@host{upper}:eth0"))
        passed = np.where(translated, column(f"{other}@nat{upper}:out"), column(f"{other}@host{upper}:eth0"))
        ways[one] = point - column(f"{one}@host{one.upper()}:eth0")
        margins[one] = passed - point
    return attempts.assign(
        first=np.where(a_first, "a", "b"),
        late_ns=np.abs(offset),
        way_ns=np.where(a_first, ways["a"], ways["b"]),
        too_late_ns=np.where(a_first, margins["a"], margins["b"]),
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
        found.append(WindowEdge(dict(zip(by, path, strict=True)), str(first), edge, float(group["way_ns"].median())))
    return found


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


def median_of(values: Sequence[float], *, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """A median with a percentile bootstrap interval.

    Raises:
        BadParameter: there are fewer than two values.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`
    from scipy.stats import bootstrap  # noqa: PLC0415  as in `statistics`

    sample = np.asarray(values, dtype=float)
    if sample.size < 2:
        raise BadParameter("a bootstrap needs two observations", why=f"n = {sample.size}")
    drawn = bootstrap(
        (sample,),
        np.median,
        n_resamples=_RESAMPLES,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = drawn.confidence_interval
    return Estimate(float(np.median(sample)), float(interval.low), float(interval.high), (sample.size,))


def launch_errors(attempts: pd.DataFrame) -> pd.DataFrame:
    """How late each first SYN left after its planned instant: `scheduler` (if it was a factor), `error_ns`."""
    import pandas as pd  # noqa: PLC0415  as above

    columns = ["scheduler"] if "scheduler" in attempts.columns else []
    sides = [
        attempts[columns].assign(error_ns=(attempts[f"sent_{side}_ns"] - attempts[f"planned_{side}_ns"]).astype("Float64"))
        for side in "ab"
    ]
    return pd.concat(sides).dropna(subset=["error_ns"]).astype({"error_ns": float})
