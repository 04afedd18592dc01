"""Do crafted packets open as well as the kernel's own, through NATs that keep silent and NATs that reset?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.scene import Scene, UnsolicitedAnswer
from rawpunch.study.experiment import Attempt, Cell, Factor, Verdict, judge
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

QUESTION = "Do raw ends open as reliably as kernel sockets, and does a NAT that resets close the window at the one-way delay?"
CLAIMS = ()
FACTORS = {
    "ends": Factor(("kernel-kernel", "raw-kernel", "raw-raw"), "what makes end A and end B", fixed=True),
    "nat_answer": Factor(("drop", "rst"), "what both NATs answer to an unsolicited SYN"),
    "offset": Factor((0.0, 0.5, 2.0), "start of B after A, in one-way delays"),
    "one_way_ns": Factor((5 * MS, 20 * MS), "one-way delay between the hosts"),
}
REPEATS = 24


def scene(cell: Cell) -> Scene:
    """Two equal NATs, half of the delay on each leg."""
    return Scene.symmetric(int(cell["one_way_ns"]), UnsolicitedAnswer(str(cell["nat_answer"])))


def attempt(cell: Cell) -> Attempt:
    """Both ends start by the clock, B later by the offset."""
    end_a, end_b = str(cell["ends"]).split("-")
    return Attempt(end_a=end_a, end_b=end_b, offset_ns=round(float(cell["offset"]) * int(cell["one_way_ns"])))


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """One for each pair of ends inside and outside the window (|offset| < one-way delay), from the undisturbed attempts alone."""
    good = keep(attempts).attempts
    silent = good["nat_answer"] == "drop"
    inside = silent | (good["offset"].abs() < 1)
    found = []
    for ends, group in good.groupby("ends", observed=True):
        opens = inside[group.index]
        found += [
            _rate(f"{ends} opens through silent NATs, and through resetting ones inside the window", group[opens]),
            _rate(f"{ends} never opens through resetting NATs outside the window", group[~opens], failing=True),
        ]
    return found


def _rate(statement: str, group: pd.DataFrame, *, failing: bool = False) -> Verdict:
    opened = int((group["outcome"] == "established").sum())
    n = len(group)
    if n == 0:
        return Verdict("raw_vs_kernel", statement, "undecided", 0, why="no undisturbed attempt in these cells")
    rate = wilson(n - opened if failing else opened, n)
    # 0.9 is what the interval of ten clean attempts in a row cannot reach, and that of forty does
    return Verdict("raw_vs_kernel", statement, judge(rate, 0.9), n, rate.estimate, rate.low, rate.high)
