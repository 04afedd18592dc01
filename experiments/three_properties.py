"""Do three properties of a NAT decide it? All eight combinations, early and late."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from rawpunch.analysis.statistics import holm, wilson
from rawpunch.analysis.tables import keep
from rawpunch.nat.behavior import Allocation, Behavior, CrossingSyn, Mapping, Ports, UnsolicitedAnswer
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word
from rawpunch.study.make_up import make_up
from rawpunch.units import MS, SECOND

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = "Do both NATs need all three properties: reply-SYNs pass, early SYNs are dropped in silence, the port mapping is kept?"
CLAIMS = ("C13",)
PROPERTIES = ("reply_syn_passes", "silent", "port_kept")
WORDS = {
    "reply_syn_passes": "that reply-SYNs pass",
    "silent": "that early SYNs are dropped in silence",
    "port_kept": "that the port is kept",
}
FACTORS = {
    "reply_syn_passes": Factor((True, False), "whether a SYN passes that comes from where a SYN went to", fixed=True),
    "silent": Factor((True, False), "whether an unexpected SYN is dropped in silence, and not answered by RST", fixed=True),
    "port_kept": Factor((True, False), "whether the port outside is the one that the peer aims at", fixed=True),
    "offset": Factor((0.0, 2.0), "start of B after A, in one-way delays"),
    "one_way_ns": Factor((20 * MS,), "one-way delay between the hosts"),
}
REPEATS = 10


def scene(cell: Cell) -> Scene:
    """Two equal NATs with those properties and no others varied."""
    kept = bool(cell["port_kept"])
    nat = Nat(
        behavior=Behavior(
            crossing_syn=CrossingSyn.PASSES if cell["reply_syn_passes"] else CrossingSyn.BLOCKED,
            unsolicited=UnsolicitedAnswer.DROP if cell["silent"] else UnsolicitedAnswer.RST,
            mapping=Mapping.ENDPOINT_INDEPENDENT if kept else Mapping.PER_CONNECTION,
            ports=Ports(overloading=True) if kept else Ports(allocation=Allocation.RANDOM, overloading=True),
        )
    )
    return Scene.between(nat, nat, int(cell["one_way_ns"]))


def attempt(cell: Cell) -> Attempt:
    """Both ends are kernel sockets that aim at each other's inside port, for long enough to send each SYN twice."""
    return Attempt(offset_ns=round(float(cell["offset"]) * int(cell["one_way_ns"])), give_up_ns=3 * SECOND // 2)


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """Which property is needed, when; all of them always is what the claim says. Then how they hang together."""
    good = keep(attempts).attempts
    good = good.assign(opened=good["outcome"] == "established", late=good["offset"].abs() >= 1)
    needs = [_need(good[good["late"] == late], name, late=late) for late in (False, True) for name in PROPERTIES]
    return [_rule(good, needs), *(need.verdict for need in needs), *_interactions(good)]


@dataclass(frozen=True, slots=True)
class _Need:
    """Whether a property is needed at a timing; None where the data do not tell."""

    name: str
    late: bool
    needed: bool | None
    verdict: Verdict


def _need(group: pd.DataFrame, name: str, *, late: bool) -> _Need:
    """What happens without a property, while the two others hold."""
    fair = group[group[[other for other in PROPERTIES if other != name]].all(axis=1) & ~group[name]]
    timing = _timing(late)
    opened = wilson(int(fair["opened"].sum()), len(fair))
    needed = True if opened.high < 0.5 else False if opened.low > 0.5 else None
    words = {True: "is needed", False: "is not needed", None: "may be needed"}
    text = f"{name} {words[needed]} if {timing} (share that opens without it)"
    word: Word = "undecided" if needed is None else "upheld"
    why = f"{opened.successes} of {opened.n}" if needed is None else ""
    return _Need(name, late, needed, Verdict("property", text, word, opened.n, opened.estimate, opened.low, opened.high, why))


def _timing(late: bool) -> str:
    return "B's SYN leaves after A's has come" if late else "B's SYN leaves before A's comes"


def _rule(good: pd.DataFrame, needs: list[_Need]) -> Verdict:
    statement = "both NATs need all three properties: with them it opens, without one it does not (share that obey)"
    lawful = int((good["opened"] == good[list(PROPERTIES)].all(axis=1)).sum())
    share = wilson(lawful, len(good))
    whole = good[good[list(PROPERTIES)].all(axis=1)]
    enough = wilson(int(whole["opened"].sum()), len(whole))
    always = [WORDS[name] for name in PROPERTIES if all(need.needed for need in needs if need.name == name)]
    idle = [f"{WORDS[need.name]}, if {_timing(need.late)}" for need in needs if need.needed is False]
    idle_names = {need.name for need in needs if need.needed is False}
    word: Word
    if enough.low <= 0.5 or any(need.needed is None for need in needs):
        word, why = "undecided", "too few undisturbed attempts, or some open and some do not"
    elif not idle:
        word, why = "upheld", ""
    elif always:
        full = [need.late for need in needs if need.needed and need.name in idle_names]
        when = " or ".join(_timing(late) for late in sorted(set(full)))
        why = f"{when or 'one of them is left out'}; always needed is {' and '.join(always)}; not needed is {', nor '.join(idle)}"
        word = "conditional"
    else:
        word, why = "refuted", f"not needed is {', '.join(idle)}"
    return Verdict("C13", statement, word, len(good), share.estimate, share.low, share.high, why)


def _interactions(good: pd.DataFrame) -> list[Verdict]:
    """Of each ordered pair, over both timings: does the second matter only where the first holds? Fisher, and Holm over all."""
    from scipy.stats import fisher_exact  # noqa: PLC0415  most of a second

    pairs = list(permutations(PROPERTIES, 2))
    tests: list[float] = []
    counts = []
    for one, other in pairs:
        (third,) = set(PROPERTIES) - {one, other}
        fair = good[good[third]]
        counts.append(len(fair))
        for holds in (True, False):
            groups = (fair[(fair[one] == holds) & (fair[other] == value)] for value in (True, False))
            table = [[int(group["opened"].sum()), int((~group["opened"]).sum())] for group in groups]
            tests.append(float(fisher_exact(np.array(table)).pvalue))
    tested = holm(tests)
    found = []
    for number, (one, other) in enumerate(pairs):
        where, elsewhere = tested[2 * number], tested[2 * number + 1]
        text = f"{other} matters where {one} holds (p = {where.p:.2g}) and not where it does not (p = {elsewhere.p:.2g}; Holm)"
        word: Word = "upheld" if where.rejected and not elsewhere.rejected else "undecided"
        found.append(Verdict("interaction", text, word, counts[number], why="" if word == "upheld" else "no such difference"))
    return found
