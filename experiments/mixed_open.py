"""What is it on the wire when the SYNs cross, and what when the first one is lost to a silent NAT?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.scene import Scene
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, judge
from rawpunch.study.make_up import make_up
from rawpunch.units import MS, SECOND

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from rawpunch.dataset.store import Dataset

QUESTION = "Which handshakes do the two ends run when the SYNs cross or the first one is dropped, and is it one connection?"
CLAIMS = ("C3", "C4", "C16")
FACTORS = {
    "ends": Factor(("kernel-kernel", "raw-raw"), "what makes end A and end B", fixed=True),
    "offset": Factor((0.0, 0.5, 2.0, 60.0), "start of B after A, in one-way delays; at 60 A has sent its SYN twice in vain"),
    "one_way_ns": Factor((20 * MS,), "one-way delay between the hosts"),
}
REPEATS = 25


def scene(cell: Cell) -> Scene:
    """Two equal NATs that drop what they do not expect, half of the delay on each leg."""
    return Scene.symmetric(int(cell["one_way_ns"]))


def attempt(cell: Cell) -> Attempt:
    """Both ends dial, B later by the offset; A goes on for long enough."""
    end_a, end_b = str(cell["ends"]).split("-")
    return Attempt(
        end_a=end_a,
        end_b=end_b,
        offset_ns=round(float(cell["offset"]) * int(cell["one_way_ns"])),
        give_up_ns=4 * SECOND,
        count_sockets=True,
    )


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """From the undisturbed attempts; connections are counted in the packets at both hosts, and in their kernels' sockets."""
    good = keep(attempts).attempts
    opened = good[good["outcome"] == "established"]
    late = good[good["offset"].abs() > 1]
    mixed = late[late["outcome"] == "established"]
    halves = (
        (mixed["pattern"] == "half_simultaneous")
        & (mixed["pattern_a"] == "half_simultaneous")
        & (mixed["pattern_b"] == "three_way")
    )
    single = connections(run.segments).reindex(opened["attempt"]).eq(1).to_numpy() & sockets_fit(opened)
    asked = int((opened["sockets_a"].notna() & opened["sockets_b"].notna()).sum())
    kinds = completing(mixed, run.segments)
    again = int((mixed["syn_retransmissions_a"] > 0).sum())
    words = ", ".join(f"{count} by {kind}" for kind, count in kinds.items())
    return [
        _share(
            "C3",
            "through silent NATs it opens however late B is",
            int((late["outcome"] == "established").sum()),
            len(late),
            f"completed {words}; {again} after A had sent its SYN again",
        ),
        _share(
            "C4",
            "what opened is one connection at both hosts: one pair of endpoints, one initial sequence number an end, one socket",
            int(single.sum()),
            len(opened),
            f"both kernels told their sockets in {asked} of them: one where a kernel opened, none where raw packets did",
        ),
        _share(
            "C16",
            "when A's SYN was dropped, A ran a simultaneous open and B an ordinary handshake",
            int(halves.sum()),
            len(mixed),
        ),
    ]


def connections(segments: pd.DataFrame) -> pd.Series:
    """Attempt -> how many connections its packets at the hosts make, the more of the two hosts' counts.

    A connection has a pair of endpoints and an initial sequence number at each end; another number of either is another one.
    """
    syns = segments[segments["vantage"].isin(["hostA:eth0", "hostB:eth0"]) & segments["kind"].isin(["SYN", "SYN-ACK"])]
    sender = syns["source_address"].astype(str) + ":" + syns["source_port"].astype(str)
    receiver = syns["destination_address"].astype(str) + ":" + syns["destination_port"].astype(str)
    numbered = syns.assign(isn=sender + ">" + receiver + "#" + syns["seq"].astype(str))
    per_host = numbered.groupby(["attempt", "vantage", "direction"], observed=True)["isn"].nunique()
    return per_host.groupby("attempt", observed=True).max()


def sockets_fit(opened: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each host's kernel held one connection if it made the end, and none if raw packets did; true if nobody asked."""
    fits = [
        (opened[f"sockets_{side}"] == (opened[f"end_{side}"] == "kernel").astype("Int64")).fillna(value=True) for side in "ab"
    ]
    return (fits[0] & fits[1]).to_numpy(dtype=bool)


def completing(opened: pd.DataFrame, segments: pd.DataFrame) -> dict[str, int]:
    """Kind of the packet that completed the handshake -> attempts."""
    first = segments.drop_duplicates(["attempt", "vantage", "number"]).set_index(["attempt", "vantage", "number"])["kind"]
    found: dict[str, int] = {}
    for name, decided in zip(opened["attempt"], opened["decided_by"], strict=True):
        vantage, _, number = str(decided).partition("#")
        kind = (
            str(first.get((name, vantage, int(number)), "a packet that was not seen")) if number else "a packet that was not seen"
        )
        found[kind] = found.get(kind, 0) + 1
    return found


def _share(claim: str, statement: str, count: int, n: int, why: str = "") -> Verdict:
    if n == 0:
        return Verdict(claim, statement, "undecided", 0, why="no undisturbed attempt of that kind")
    share = wilson(count, n)
    word = judge(share, 0.9)
    return Verdict(
        claim,
        statement,
        word,
        n,
        share.estimate,
        share.low,
        share.high,
        why if word != "undecided" else f"{count} of {n} do not tell whether nine in ten do",
    )
