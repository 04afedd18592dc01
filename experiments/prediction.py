"""How many ports must be guessed to meet the next one, and are the odds that a forecast states the share of its hits?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.foretelling import calibration, forecasts, hit
from rawpunch.analysis.ports import MOSTLY
from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.nat import personas
from rawpunch.nat.behavior import Allocation
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Cell, Factor, Sampling, Sources, Verdict, Word, judge
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = (
    "How many ports must be guessed to meet the next one, with others' connections in between, and do the stated odds hold?"
)
CLAIMS = ("C14",)
FACTORS = {
    "nat_a": Factor(
        (
            "symmetric-sequential",
            "symmetric-sequential-2",
            "linux-sequential",
            "port-block",
            "carrier-grade-band",
            "symmetric-random",
        ),
        "the NAT: a persona, or the file of one",
    ),
    "foreign": Factor((0, 1, 2, 4, 8), "connections of another inside host after each of ours, on average"),
}
REPEATS = 4
LEAN = True

_GUESSES = 64
_TENTH = 0.1


def scene(cell: Cell) -> Scene:
    """The NAT in front of A, and none elsewhere."""
    return Scene.between(Nat(persona=str(cell["nat_a"])), None, 4 * MS)


def attempt(cell: Cell) -> Sampling:
    """A sample of its ports."""
    return Sampling(connections=32, sources=Sources.RANDOM, foreign=int(cell["foreign"]))


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """Whether ports that count are foretold and others not, and whether stated odds come true."""
    good = keep(attempts).attempts
    if good.empty:
        return [Verdict("C14", "ports that count are met, and drawn ones are not", "undecided", 0, why="no undisturbed sample")]
    table = forecasts(run)
    table = table[table["attempt"].isin(good["attempt"])]
    made = {name: personas.load(name).behavior.ports.allocation for name in table["nat_a"].unique()}
    counts = table[table["nat_a"].map(made) == Allocation.SEQUENTIAL]
    draws = table[table["nat_a"].map(made).isin([Allocation.RANDOM, Allocation.BANDED])]
    found = [
        _told("ports that count are met at the first guess, without cross traffic", counts[counts["foreign"] == 0], 1),
        _told(f"and at one of {_GUESSES} guesses whatever the cross traffic", counts, _GUESSES),
        _told(f"ports that are drawn are not met at one of {_GUESSES} guesses", draws, _GUESSES, never=True),
    ]
    return found + [_honest(table, guesses) for guesses in (1, 8, _GUESSES)]


def _told(statement: str, table: pd.DataFrame, guesses: int, *, never: bool = False) -> Verdict:
    """Samples are what is counted: the forecasts of one depend on each other."""
    statement = f"{statement} (share of samples of which nine ports in ten are{' not' if never else ''})"
    if table.empty:
        return Verdict("C14", statement, "undecided", 0, why="no such NAT was sampled undisturbed")
    met = table["rank"] <= guesses
    shares = (met != never).groupby(table["attempt"], observed=True).mean()
    rate = wilson(int((shares >= MOSTLY).sum()), len(shares))
    word = judge(rate, 0.5)
    told = f"met were {int(met.sum())} of {len(met)} ports"
    why = f"too few samples, or some each way; {told}" if word == "undecided" else told
    return Verdict("C14", statement, word, rate.n, rate.estimate, rate.low, rate.high, why)


def _honest(table: pd.DataFrame, guesses: int) -> Verdict:
    """Odds are honest if the whole interval of the hits lies within a tenth of them, and not if all of it lies further off."""
    stated, _, off = calibration(table, guesses)
    share = hit(table, guesses)
    words = f"the odds stated for {guesses} {'guess' if guesses == 1 else 'guesses'} are the share of hits, to a tenth"
    why = f"stated {stated:.3f}, {off:+.1f} standard deviations off"
    word: Word = "undecided"
    if stated - _TENTH <= share.low and share.high <= stated + _TENTH:
        word = "upheld"
    elif share.high < stated - _TENTH or share.low > stated + _TENTH:
        word = "refuted"
    return Verdict("odds", words, word, share.n, share.estimate, share.low, share.high, why=why)
