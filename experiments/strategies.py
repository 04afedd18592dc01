"""Which ways of connecting two hosts get through which pairs of NATs? The table that was last made in 2005, with intervals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import Proportion
from rawpunch.analysis.strategies import LATE_NS, NONE, ONE_WAY_NS, PATIENCE_NS, Table, drawn, names_of, reachable, symmetric
from rawpunch.analysis.tables import keep
from rawpunch.scene import Nat, Scene
from rawpunch.study.aiming import Aim
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word, judge
from rawpunch.study.make_up import make_up
from rawpunch.units import MS
from rawpunch.wire.ttl import DEFAULT_TTL

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

SOON_NS: Final = 600 * MS
"""How long an end tries where the first SYN works or none does."""
TOLERANCE_NS: Final = 4 * MS
"""Orders and crossings stay what they are within it, as they are apart by the delay."""
LOW_TTL: Final = 2
"""Enough to pass one's own NAT, too little to reach the other's."""
DISCARD: Final = 9
"""The port of RFC 863."""

LEARNED: Final = Attempt(aim=Aim.LEARNED, give_up_ns=PATIENCE_NS, tolerance_ns=TOLERANCE_NS)
SOON: Final = replace(LEARNED, give_up_ns=SOON_NS)
PUNCHES: Final = {
    "assumed": replace(LEARNED, aim=Aim.ASSUMED),
    "simultaneous": LEARNED,
    "ordered_a": replace(LEARNED, offset_ns=LATE_NS),
    "ordered_b": replace(LEARNED, offset_ns=-LATE_NS),
    "low_ttl_a": replace(LEARNED, end_a="raw", offset_ns=LATE_NS, first_ttl_a=LOW_TTL),
    "low_ttl_b": replace(LEARNED, end_b="raw", offset_ns=-LATE_NS, first_ttl_b=LOW_TTL),
    "stunt_a": replace(LEARNED, end_a="listening", offset_ns=LATE_NS, first_ttl_a=LOW_TTL),
    "stunt_b": replace(LEARNED, end_b="listening", offset_ns=-LATE_NS, first_ttl_b=LOW_TTL),
    "syn_ack_out": replace(LEARNED, end_a="raw", end_b="raw", first_ttl_a=LOW_TTL, first_ttl_b=LOW_TTL, told_ns=LATE_NS),
    "retry": replace(LEARNED, end_a="raw", end_b="raw", offset_ns=LATE_NS, retry_ns=5 * MS),
    "prediction": replace(SOON, aim=Aim.PREDICTED),
}
"""Hole punching: both send, and nobody is in between. Of `_a` and `_b`, A or B goes first, or sends the SYN that dies."""
PLAIN: Final = tuple(name for name, punch in PUNCHES.items() if punch.first_ttl_a == punch.first_ttl_b == DEFAULT_TTL)
"""Those that need nothing but sockets: no SYN that dies on its way."""
OTHERS: Final = {
    "reversal_a": replace(SOON, end_a="listening"),
    "reversal_b": replace(SOON, end_b="listening"),
    "poked_a": replace(SOON, end_a="listening", offset_ns=LATE_NS, first_ttl_a=LOW_TTL, poke_port=DISCARD),
    "poked_b": replace(SOON, end_b="listening", offset_ns=-LATE_NS, first_ttl_b=LOW_TTL, poke_port=DISCARD),
    "relay": replace(SOON, aim=Aim.RELAY),
}
"""A listens, or B does, and the other connects; or both connect to a third party."""
NATS: Final = ("linux-masquerade", "rst-sender", "crossing-dropper", "full-cone", "linux-sequential", "linux-masquerade-random")

HALF: Final = 0.5
OFTEN: Final = 0.9
STATEMENTS: Final = {
    "strategies": "every strategy that the oracle knows opens where it says so, and nowhere else (share of attempts)",
    "C6": "punching works for UDP only, because of TCP's handshake (share of foretold TCP punches that open)",
    "C7": "when one side is reachable, it is to listen; when neither is, only a relay helps (share of punches that open then)",
    "C8": "two firewalled hosts need spoofing or SYNs that die (share of foretold punches that open without either)",
    "C12": "behind a symmetric NAT nothing can be done but relay (share of predictions that open where ports are sequential)",
    "C14": "sequential ports can be predicted, drawn ones cannot (share of predictions that open where ports are sequential)",
}

QUESTION = "Which strategy connects two hosts behind which pair of NATs, and does the oracle say so beforehand?"
CLAIMS = ("C6", "C7", "C8", "C12", "C14")
FACTORS = {
    "pair": Factor(
        (
            *("+".join(pair) for pair in itertools.combinations_with_replacement(NATS, 2)),
            f"{NONE}+{NATS[0]}",
            f"{NONE}+{NATS[-1]}",
        ),
        "the personas in front of A and B; none for a public address",
    ),
    "strategy": Factor((*PUNCHES, *OTHERS), "how they try to connect", fixed=True),
}
REPEATS = 2


def scene(cell: Cell) -> Scene:
    """The pair of NATs, the same delay each way."""
    a, b = (Nat(persona=name) if name != NONE else None for name in names_of(str(cell["pair"])))
    return Scene.between(a, b, ONE_WAY_NS)


def attempt(cell: Cell) -> Attempt:
    """What the strategy has both ends do."""
    return (PUNCHES | OTHERS)[str(cell["strategy"])]


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """Whether the oracle foretold every cell, and the claims, from the undisturbed attempts alone."""
    table = Table(keep(attempts).attempts)
    closed = table.pairs(lambda two: not any(map(reachable, two)))
    through = table.rate(PUNCHES, closed, foretold=True)
    reversal = table.reversal()
    agreed, against = table.against_the_oracle()
    listed = table.rate(
        ["prediction"], table.pairs(lambda two: any(map(symmetric, two)) and not any(map(drawn, two))), foretold=True
    )
    guessed = table.rate(["prediction"], table.pairs(lambda two: any(map(drawn, two))))
    hopeless = table.rate(PUNCHES, [pair for pair in closed if any(map(drawn, table.nats[pair]))])
    works_alone = _turned(judge(through, HALF))
    openly = table.rate(PLAIN, closed, foretold=True)
    punched, plainly = (f"{len(table.connected(ways, closed))} of {len(closed)} pairs" for ways in (PUNCHES, PLAIN))
    return [
        _verdict("strategies", "refuted" if against else judge(agreed, OFTEN), agreed, ", ".join(against)),
        _verdict("C6", works_alone, through, f"punches connect {punched} of NATs that nobody can reach"),
        _verdict(
            "C7",
            _both(judge(reversal, HALF), works_alone),
            through,
            f"it was reached in {reversal}; where neither was, punches opened in {through}, and connect {punched}",
            "one side is reachable",
        ),
        _verdict(
            "C8",
            _turned(judge(openly, HALF)),
            openly,
            f"without either {plainly} of firewalled hosts are connected; with it {punched}",
        ),
        _verdict(
            "C12",
            _both(_turned(judge(hopeless, HALF)), _turned(judge(listed, HALF))),
            listed,
            f"punches opened then in {hopeless}; sequential ports were foretold in {listed}",
            "the NAT draws its ports and neither side is reachable",
        ),
        _verdict(
            "C14", _all(judge(listed, HALF), _turned(judge(guessed, HALF))), listed, f"where ports are drawn, {guessed} opened"
        ),
    ]


def _verdict(claim: str, word: Word, rate: Proportion, told: str = "", when: str = "") -> Verdict:
    """A verdict with what was counted; `when` is the condition under which it holds, if on one."""
    if not rate.n:
        return Verdict(claim, STATEMENTS[claim], "undecided", 0, why=f"no undisturbed attempt of that kind; {told}".rstrip("; "))
    if word == "conditional":
        told = f"{when}: {told}"
    elif word == "undecided":
        told = f"too few undisturbed attempts, or some each way: {told or rate}"
    return Verdict(claim, STATEMENTS[claim], word, rate.n, rate.estimate, rate.low, rate.high, told)


def _turned(word: Word) -> Word:
    if word == "upheld":
        return "refuted"
    return "upheld" if word == "refuted" else word


def _all(one: Word, other: Word) -> Word:
    """A claim of two halves that both have to hold."""
    if "refuted" in (one, other):
        return "refuted"
    return "upheld" if one == other == "upheld" else "undecided"


def _both(one: Word, other: Word) -> Word:
    """A claim of two halves of which each may hold by itself."""
    if "undecided" in (one, other):
        return "undecided"
    return one if one == other else "conditional"
