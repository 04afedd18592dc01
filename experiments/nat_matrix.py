"""Which NATs can be punched through together, and does reasoning about them say so beforehand?

All personas against all are for the simulator (`--on sim`). In the lab take a few: `--set nat_a=full-cone,rst-sender`, nat_b too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.nat import oracle, personas
from rawpunch.scene import Nat, Scene
from rawpunch.study.aiming import Aim
from rawpunch.study.experiment import Attempt, Cell, Factor, Verdict, Word
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

QUESTION = "Which pairs of NATs can two hosts punch through at the same time, and does the oracle know it beforehand?"
CLAIMS = ()
FACTORS = {
    "nat_a": Factor(personas.names(), "A's NAT: a persona, or the file of one"),
    "nat_b": Factor(personas.names(), "B's NAT"),
    "offset": Factor((0.5,), "start of B after A, in one-way delays"),
}
REPEATS = 3
LEAN = True

ONE_WAY_NS = 20 * MS
GIVE_UP_NS = 2_500 * MS


def scene(cell: Cell) -> Scene:
    """Two NATs, half of the delay on each leg."""
    return Scene.between(Nat(persona=str(cell["nat_a"])), Nat(persona=str(cell["nat_b"])), ONE_WAY_NS)


def attempt(cell: Cell) -> Attempt:
    """Both ask an observer what they look like, and open towards each other; a SYN that is lost is sent again twice."""
    return Attempt("raw", "raw", round(float(cell["offset"]) * ONE_WAY_NS), GIVE_UP_NS, aim=Aim.LEARNED)


def foretold(cell: Cell) -> oracle.Answer:
    """What the oracle says of a cell."""
    behaviors = [personas.load(str(cell[side])).behavior for side in ("nat_a", "nat_b")]
    return oracle.simultaneous(
        *behaviors,
        offset_ns=round(float(cell["offset"]) * ONE_WAY_NS),
        one_way_ns=(ONE_WAY_NS, ONE_WAY_NS),
        aim=oracle.Aim.LEARNED,
        give_up_ns=GIVE_UP_NS,
    )


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """Whether the attempts of each pair that all ended alike ended as the oracle says; mixed pairs are not decided."""
    good = keep(attempts).attempts
    right, wrong, mixed = 0, [], []
    for (a, b, offset), group in good.groupby(["nat_a", "nat_b", "offset"], observed=True):
        opened = set(group["outcome"] == "established")
        told = foretold({"nat_a": str(a), "nat_b": str(b), "offset": float(str(offset))})
        if len(opened) > 1:
            mixed.append(f"{a} with {b}")
        elif told.works in opened:
            right += 1
        else:
            wrong.append(f"{a} with {b} ({'failed' if told.works else 'opened'}, though {told.why})")
    n = right + len(wrong)
    rate = wilson(right, n)
    why = "; ".join([*wrong, *([f"not decided: {', '.join(mixed)}"] if mixed else [])])
    statement = "every pair of NATs whose attempts all end alike ends as the oracle says"
    verdict: Word = "refuted" if wrong else "upheld" if n else "undecided"
    return [Verdict("oracle", statement, verdict, n, rate.estimate, rate.low, rate.high, why or "" if n else "no attempt counts")]
