"""Do crafted packets open as well as the kernel's own, through NATs that keep silent and NATs that reset?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.comparison import effort
from rawpunch.analysis.statistics import ratio_of_medians, wilson
from rawpunch.analysis.tables import keep
from rawpunch.scene import Nat, Scene, UnsolicitedAnswer
from rawpunch.study.experiment import Attempt, Cell, Factor, Verdict, Word, judge
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = "Do raw ends open as reliably as kernel sockets, and does a NAT that resets close the window at the one-way delay?"
CLAIMS = ()
FACTORS = {
    "ends": Factor(("kernel-kernel", "raw-kernel", "raw-raw"), "what makes end A and end B", fixed=True),
    "nat_answer": Factor(("drop", "rst"), "what both NATs answer to an unsolicited SYN"),
    "offset": Factor((0.0, 0.5, 2.0), "start of B after A, in one-way delays"),
    "one_way_ns": Factor((5 * MS, 20 * MS), "one-way delay between the hosts"),
    "persona": Factor(("linux-masquerade",), "both NATs, but for that answer"),
}
REPEATS = 24


def scene(cell: Cell) -> Scene:
    """Two equal NATs, half of the delay on each leg."""
    nat = Nat(persona=str(cell["persona"]), unsolicited=UnsolicitedAnswer(str(cell["nat_answer"])))
    return Scene.between(nat, nat, int(cell["one_way_ns"]))


def attempt(cell: Cell) -> Attempt:
    """Both ends start by the clock, B later by the offset."""
    end_a, end_b = str(cell["ends"]).split("-")
    return Attempt(end_a=end_a, end_b=end_b, offset_ns=round(float(cell["offset"]) * int(cell["one_way_ns"])))


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """One for each pair of ends inside and outside the window (|offset| < one-way delay), from the undisturbed attempts alone.

    Then what each pair takes: packets, octets and time, against kernel sockets.
    """
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
    return [*found, *_costs(effort(attempts, run.segments))]


def _costs(taken: pd.DataFrame) -> list[Verdict]:
    """Ratios of medians, of attempts that opened by a crossing, where nothing is late."""
    crossed = taken[taken["opened"] & (taken["pattern"] == "simultaneous") & (taken["offset"] == 0)]
    samples = {str(ends): group for ends, group in crossed.groupby("ends", observed=True)}
    kernel = samples.pop("kernel-kernel", crossed.iloc[:0])
    found = []
    for ends, group in samples.items():
        for column, words in (("packets", "as many packets"), ("octets", "as many octets"), ("connect_ns", "as long")):
            statement = f"{ends} takes {words} as kernel sockets, within a tenth (ratio of medians)"
            if min(len(group), len(kernel)) < 2:
                found.append(Verdict("cost", statement, "undecided", len(group), why="fewer than two attempts of a kind"))
                continue
            # each attempt against the delay of its own cell, so that the mixture of delays does not matter
            top, bottom = ((each[column].astype(float) / _scale(each, column)).tolist() for each in (group, kernel))
            ratio = ratio_of_medians(top, bottom)
            word: Word = "upheld" if ratio.low > 0.9 and ratio.high < 1.1 else "undecided"
            why = "" if word == "upheld" else "the interval reaches beyond a tenth"
            found.append(
                Verdict("cost", statement, word, len(group) + len(kernel), ratio.value, ratio.low, ratio.high, why, "times")
            )
    return found


def _scale(group: pd.DataFrame, column: str) -> pd.Series | int:
    return group["one_way_ns"].astype(float) if column == "connect_ns" else 1


def _rate(statement: str, group: pd.DataFrame, *, failing: bool = False) -> Verdict:
    opened = int((group["outcome"] == "established").sum())
    n = len(group)
    if n == 0:
        return Verdict("raw_vs_kernel", statement, "undecided", 0, why="no undisturbed attempt in these cells")
    rate = wilson(n - opened if failing else opened, n)
    # 0.9 is what the interval of ten clean attempts in a row cannot reach, and that of forty does
    word = judge(rate, 0.9)
    why = "the interval does not tell whether nine in ten do" if word == "undecided" else ""
    return Verdict("raw_vs_kernel", statement, word, n, rate.estimate, rate.low, rate.high, why)
