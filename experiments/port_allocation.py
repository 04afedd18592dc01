"""Which external port does a new connection get, and can the next one be told beforehand?"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rawpunch.analysis.ports import MOSTLY, hits, own, ports_by, samples
from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.nat import personas
from rawpunch.nat.behavior import Allocation, Mapping
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Cell, Factor, Sampling, Sources, Verdict, Word, judge
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = "Which external port does a new connection get, and can a peer tell the next one beforehand?"
CLAIMS = ("C14",)
FACTORS = {
    "nat_a": Factor(
        (
            "linux-masquerade",
            "linux-masquerade-random",
            "linux-masquerade-band",
            "linux-masquerade-band-random",
            "linux-sequential",
            "symmetric-sequential",
            "symmetric-sequential-2",
            "address-dependent",
            "symmetric-random",
            "carrier-grade-band",
            "port-block",
        ),
        "the NAT: a persona, or the file of one",
    ),
    "sources": Factor(tuple(word.value for word in Sources), "inside ports: in sequence, drawn, or one for all", fixed=True),
    "destinations": Factor((1,), "remote endpoints in turn (with one inside port each connection has its own)"),
    "foreign": Factor((0, 2), "connections of another inside host after each of ours, on average"),
}
REPEATS = 3
LEAN = True
BESIDE = ("sim",)

_ANEW = {Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.PER_CONNECTION}
"""Mappings with a port of its own for each connection of a sample."""


def scene(cell: Cell) -> Scene:
    """The NAT in front of A, and none elsewhere."""
    return Scene.between(Nat(persona=str(cell["nat_a"])), None, 4 * MS)


def attempt(cell: Cell) -> Sampling:
    """A sample of its ports."""
    return Sampling(
        connections=48,
        sources=Sources(str(cell["sources"])),
        destinations=int(cell["destinations"]),
        foreign=int(cell["foreign"]),
    )


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """Of the driver asked for: is each SYN accounted for, can ports that count be told, can drawn ones? And do both agree?"""
    attempts = attempts[attempts["driver"] == run.manifest.driver]
    good = keep(attempts).attempts
    if good.empty:
        return [
            Verdict("C14", "ports that count can be told, and drawn ones cannot", "undecided", 0, why="no undisturbed sample")
        ]
    everything = samples(run)
    mine = own(everything[everything["driver"] == run.manifest.driver])
    table = everything[everything["attempt"].isin(good["attempt"])]
    sent, mapped = int(attempts["syn_a"].sum()), len(mine)
    whole = wilson(mapped, sent)
    found = [
        Verdict(
            "accounted",
            "every SYN that went in came out with an external port",
            "upheld" if mapped == sent else "refuted",
            sent,
            whole.estimate,
            whole.low,
            whole.high,
        )
    ]
    declared = {name: personas.load(name).behavior for name in mine["nat_a"].unique()}
    drawn = {Allocation.RANDOM, Allocation.BANDED}
    anew = {name: nat.ports for name, nat in declared.items() if nat.mapping in _ANEW and not nat.ports.keeps_parity}
    counts = {name for name, ports in anew.items() if ports.allocation is Allocation.SEQUENTIAL}
    draws = {name for name, ports in anew.items() if ports.allocation in drawn}
    calm = table["foreign"] == 0
    found += [
        _told(
            "ports that count are told at the first guess, without cross traffic",
            table[calm & table["nat_a"].isin(counts)],
            1,
        ),
        _told("so they are with cross traffic, at one of eight guesses", table[~calm & table["nat_a"].isin(counts)], 8),
        _told("ports that are drawn are not told at one of eight guesses", table[table["nat_a"].isin(draws)], 8, never=True),
    ]
    return [*found, *_alike(run)]


@lru_cache(maxsize=1)  # a run is asked again at each confidence, and this rests on none
def _rules(run: Dataset) -> dict[tuple[object, ...], dict[object, str]]:
    """Cell -> driver -> the rule by which it gave ports."""
    cells: dict[tuple[object, ...], dict[object, str]] = {}
    for (*levels, driver), ports in ports_by(run, [*run.manifest.grid, "driver"]):
        cells.setdefault(tuple(levels), {})[driver] = ports.rule
    return cells


def _alike(run: Dataset) -> list[Verdict]:
    """Whether both drivers give ports by the same rule in each cell, if there are two."""
    both = {levels: rules for levels, rules in _rules(run).items() if len(rules) > 1}
    if not both:
        return []
    other = [
        f"{' '.join(map(str, levels))}: {', '.join(f'{driver} {rule}' for driver, rule in sorted(rules.items(), key=str))}"
        for levels, rules in both.items()
        if len(set(rules.values())) > 1
    ]
    rate = wilson(len(both) - len(other), len(both))
    word: Word = "refuted" if other else "upheld"
    statement = "the lab and the simulator give ports by the same rule in every cell"
    return [Verdict("alike", statement, word, len(both), rate.estimate, rate.low, rate.high, "; ".join(other))]


def _told(statement: str, table: pd.DataFrame, tries: int, *, never: bool = False) -> Verdict:
    """Samples are what is counted: the ports of one depend on each other."""
    shares = [hits(sample, tries) for _, sample in table.groupby("attempt", observed=True)]
    told = [(made - hit if never else hit) >= MOSTLY * made for hit, made in shares if made]
    statement = f"{statement} (share of samples of which nine ports in ten are{' not' if never else ''})"
    if not told:
        return Verdict("C14", statement, "undecided", 0, why="no such NAT was sampled undisturbed")
    rate = wilson(sum(told), len(told))
    word = judge(rate, 0.5)
    guesses = f"{sum(hit for hit, _ in shares)} of {sum(made for _, made in shares)} ports"
    why = f"too few samples, or some each way; told were {guesses}" if word == "undecided" else f"told were {guesses}"
    return Verdict("C14", statement, word, rate.n, rate.estimate, rate.low, rate.high, why)
