"""How often must two programs dial each other where there is no delay, and how often does one dial itself by mistake?

On a loopback a SYN is answered before the call returns: two programs meet only if both are in a call at the same moment. Tries
count at the program that began last, so that both were dialling all the time; one that gave up would have needed more. Packets
are not recorded: how the last tries went is told from what TCP_INFO counts (`study.dialling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.tables import keep
from rawpunch.analysis.tries import Median, median_tries
from rawpunch.scene import Scene
from rawpunch.study.experiment import Cell, Factor, Level, Verdict, Word
from rawpunch.study.make_up import make_up
from rawpunch.study.staged import EPHEMERAL_PORTS, Dialling, Way
from rawpunch.units import SECOND

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = "How many tries do two programs that dial each other need at zero delay, and one until it is connected to itself?"
CLAIMS = ("C15",)
DRIVERS = ("lab",)
FACTORS = {
    "way": Factor(tuple(map(str, Way)), "two programs of one host, two of two hosts, or one that dials itself", fixed=True),
    "sockets": Factor(("kept", "new"), "dial again with the same socket, or with a new one bound to the same port", fixed=True),
    "ephemeral_ports": Factor(
        (EPHEMERAL_PORTS,), "ports that the host's kernel draws from; only the one that dials itself needs them"
    ),
}
REPEATS = 100

THOUSANDS: Final = 1_000
"""Tries from which it is thousands."""
_MOST_TRIES: Final = 10_000
_SOCKETS: Final = {"kept": "again with the same socket", "new": "with a new socket for each try"}
_LEAST: Final = 6
"""Fewer attempts than that have no interval of the median."""


def sensible(cell: Cell) -> bool:
    """One that has bound no port takes a new socket for each try."""
    return cell["way"] != Way.ITSELF or cell["sockets"] == "new"


def scene(cell: Cell) -> Scene:  # noqa: ARG001  one world for all
    """Two hosts without NATs and without a delay."""
    return Scene.between(None, None, 0)


def attempt(cell: Cell) -> Dialling:
    """Who dials whom; one that dials itself may go on until each port has had its turn several times."""
    way, ports = Way(str(cell["way"])), int(cell["ephemeral_ports"])
    if way is Way.ITSELF:
        return Dialling(way, ephemeral_ports=ports, most_tries=6 * ports, give_up_ns=10 * SECOND)
    return Dialling(way, anew=str(cell["sockets"]) == "new", most_tries=_MOST_TRIES)


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """The claim by two programs of one host; what two of two hosts and one that dials itself need is said beside it."""
    good = keep(attempts).attempts
    itself = good[good["way"] == Way.ITSELF.value]
    narrowed = sorted(set(map(int, itself["ephemeral_ports"])) - {EPHEMERAL_PORTS})
    scaled = f", scaled from a range of {' and '.join(map(str, narrowed))}" if narrowed else ""
    alone = _median(itself, scale=True)
    said = f"one that has bound no port dials thousands of times until it is connected to itself, among {EPHEMERAL_PORTS} ports"
    return [
        *(_of_two(good[good["sockets"] == sockets], words, alone) for sockets, words in _SOCKETS.items()),
        _verdict("self-connect", f"{said}{scaled}", alone),
    ]


def _of_two(attempts: pd.DataFrame, words: str, alone: Median) -> Verdict:
    loopback, link = (_median(attempts[attempts["way"] == way.value]) for way in (Way.LOOPBACK, Way.LINK))
    beside = {"on a link without delay": link, f"until one has dialled itself, among {EPHEMERAL_PORTS} ports": alone}
    statement = f"two programs that dial each other's port on the loopback, {words}, need thousands of tries"
    return _verdict("C15", statement, loopback, [f"{where} {found}" for where, found in beside.items() if found.n])


def _median(attempts: pd.DataFrame, *, scale: bool = False) -> Median:
    """Tries of the one that began last; scaled, as if the ephemeral range had not been narrowed, with which tries grow."""
    opened = attempts["outcome"] == "established"
    tries = attempts["tries_b"].fillna(attempts["tries_a"]).astype(float)
    if scale:
        tries *= EPHEMERAL_PORTS / attempts["ephemeral_ports"]
    return median_tries(list(tries[opened]), list(tries[~opened]))


def _verdict(claim: str, statement: str, found: Median, beside: Sequence[str] = ()) -> Verdict:
    if found.n < _LEAST:
        return Verdict(claim, statement, "undecided", found.n, why=f"{_LEAST} undisturbed attempts are the least")
    word: Word = "upheld" if found.low >= THOUSANDS else "refuted" if found.high < THOUSANDS else "undecided"
    notes = [f"{found.gave_up} of {found.n} gave up, and count as longer"] if found.gave_up else []
    if word == "undecided":
        notes.append(f"{THOUSANDS} lies within the interval of the median")
    if found.ninth < float("inf"):
        notes.append(f"nine in ten do with {found.ninth:.0f}")
    if beside:
        notes.append(f"medians {', '.join(beside)}")
    if found.high == float("inf"):
        notes.append(f"the median is {found.low:.0f} tries at least")
        return Verdict(claim, statement, word, found.n, why="; ".join(notes))
    return Verdict(claim, statement, word, found.n, found.value, found.low, found.high, "; ".join(notes), "tries")
