"""Does a birthday spray through a NAT that draws its ports hit as often as theory says?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.foretelling import expected, sprays
from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Cell, Factor, Sampling, Sources, Verdict, judge
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = "With k ports open behind a NAT that draws them, and m tried, is there a hit as often as 1 - C(N-k, m) / C(N, m) says?"
CLAIMS = ("C12",)
FACTORS = {
    "nat_a": Factor(
        ("symmetric-random", "linux-masquerade-random", "linux-masquerade-band-random", "carrier-grade-band"),
        "the NAT: a persona that draws ports",
    ),
    "opened": Factor((16, 64), "ports that are opened, one SYN each, towards one endpoint"),
}
REPEATS = 40
LEAN = True

TRIED = (64, 256, 1024)
"""Different ports that the other side tries, of the range that the NAT draws from."""
_JUDGED = 256
"""The number of tries at which theory is judged: some sprays hit then and some do not, whatever the range."""


def scene(cell: Cell) -> Scene:
    """The NAT in front of A, and none elsewhere."""
    return Scene.between(Nat(persona=str(cell["nat_a"])), None, 4 * MS)


def attempt(cell: Cell) -> Sampling:
    """The ports that a side opens."""
    return Sampling(connections=int(cell["opened"]), sources=Sources.RANDOM)


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """For each NAT whether its hits lie in the interval of theory, and what that means for the claim."""
    good = keep(attempts).attempts
    widest = int(good["syn_a"].max()) if len(good) else 0
    words = f"a spray of {widest} and {max(TRIED)} SYNs through a NAT that draws its ports mostly misses"
    if good.empty:
        return [Verdict("C12", words, "undecided", 0, why="no undisturbed sample")]
    table = sprays(run, TRIED)
    table = table[table["attempt"].isin(good["attempt"])]
    found = [_as_theory(str(name), group) for name, group in table[table["tried"] == _JUDGED].groupby("nat_a", sort=False)]
    most = table[(table["tried"] == max(TRIED)) & (table["open"] >= 0.9 * table["open"].max())]
    rate = wilson(int((most["hits"] == 0).sum()), len(most))
    word = judge(rate, 0.5)
    why = "too few sprays, or about as many hit as miss" if word == "undecided" else ""
    return [Verdict("C12", words, word, rate.n, rate.estimate, rate.low, rate.high, why), *found]


def _as_theory(name: str, table: pd.DataFrame) -> Verdict:
    low, high = expected(table)
    hit, n = int((table["hits"] > 0).sum()), len(table)
    share = wilson(hit, n)
    return Verdict(
        "theory",
        f"through {name}, {_JUDGED} tries hit as often as theory says",
        "upheld" if low <= hit <= high else "refuted",
        n,
        share.estimate,
        share.low,
        share.high,
        why=f"{hit} sprays of {n} hit, and the 95 % interval of theory is {low} to {high}",
    )
