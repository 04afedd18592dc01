"""How often must two programs dial each other where there is no delay, and how often does one dial itself by mistake?

On a loopback a SYN is answered before the call returns: two programs meet only if both are in a call at the same moment. Tries
count at the program that began last, so that both were dialling all the time; one that gave up would have needed more. Packets
are not recorded: how the last tries went is told from what TCP_INFO counts (`study.dialling`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import ecdf, stated_confidence
from rawpunch.analysis.tables import keep
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
    """The claim by two programs of one host; what a link and a program that dials itself need is said beside it."""
    good = keep(attempts).attempts
    pairs = {
        (way, sockets): median(good[(good["way"] == way.value) & (good["sockets"] == sockets)])
        for way in (Way.LOOPBACK, Way.LINK)
        for sockets in ("kept", "new")
    }
    itself = good[good["way"] == Way.ITSELF.value]
    drawn = sorted(map(int, itself["ephemeral_ports"].unique()))
    narrowed = [ports for ports in drawn if ports != EPHEMERAL_PORTS]
    scaled = f" (the range was narrowed to {', '.join(map(str, narrowed))}, and tries are scaled)" if narrowed else ""
    return [
        *(
            _verdict(
                "C15",
                f"two programs that dial each other's port on the loopback, {_SOCKETS[sockets]}, need thousands of tries",
                pairs[Way.LOOPBACK, sockets],
                pairs[Way.LINK, sockets],
            )
            for sockets in _SOCKETS
        ),
        _verdict(
            "self-connect",
            f"one that has bound no port dials thousands of times until it is connected to itself, among {EPHEMERAL_PORTS} ports"
            + scaled,
            median(itself, scale=True),
        ),
    ]


@dataclass(frozen=True, slots=True)
class Median:
    """The median number of tries with its 95 % interval; what is not known because too many gave up is infinite."""

    value: float
    low: float
    high: float
    ninth: float
    """What nine in ten attempts do with."""
    n: int
    censored: int
    """Attempts that gave up."""

    def __str__(self) -> str:
        return f"{self.value:.0f} [{self.low:.0f}, {self.high:.0f}] (n = {self.n}, {self.censored} gave up)"


def median(attempts: pd.DataFrame, *, scale: bool = False) -> Median:
    """Tries at the median attempt.

    The distribution is Kaplan's and Meier's, with attempts that gave up counted as longer, and the interval of its median that of
    Brookmeyer and Crowley (1982): the numbers of tries at which one half lies within the distribution's own interval.

    Args:
        attempts: of one way.
        scale: whether to multiply by what the ephemeral range was narrowed.
    """
    opened = attempts["outcome"] == "established"
    tries = attempts["tries_b"].fillna(attempts["tries_a"]).astype(float)
    if scale:
        tries *= EPHEMERAL_PORTS / attempts["ephemeral_ports"]
    n, censored = len(attempts), int((~opened).sum())
    confidence, infinite = stated_confidence(), float("inf")
    if censored == n:  # it lies below all of them as rarely as so many coins fall alike
        least = float(tries.min()) if 2 / 2**n <= 1 - confidence else 0.0
        return Median(infinite, least, infinite, infinite, n, censored)
    curve = ecdf(list(tries[opened]), list(tries[~opened]), confidence)

    def first(shares: tuple[float, ...], beyond: float) -> float:
        return next((at for at, share in zip(curve.times, shares, strict=True) if share >= 1 / 2), beyond)

    low = first(curve.high, float(tries[~opened].min()) if censored else infinite)
    return Median(curve.quantile(1 / 2), low, first(curve.low, infinite), curve.quantile(0.9), n, censored)


def _verdict(claim: str, statement: str, found: Median, link: Median | None = None) -> Verdict:
    if found.n < _LEAST:
        return Verdict(claim, statement, "undecided", found.n, why=f"{_LEAST} undisturbed attempts are the least")
    word: Word = "upheld" if found.low >= THOUSANDS else "refuted" if found.high < THOUSANDS else "undecided"
    notes = [f"{found.censored} of {found.n} gave up, and count as longer"] if found.censored else []
    if word == "undecided":
        notes.append(f"{THOUSANDS} lies within the interval of the median")
    if found.ninth < float("inf"):
        notes.append(f"nine in ten do with {found.ninth:.0f}")
    if link is not None and link.n:
        notes.append(f"the median on a link without delay is {link}")
    if found.high == float("inf"):
        notes.append(f"the median is {found.low:.0f} tries at least")
        return Verdict(claim, statement, word, found.n, why="; ".join(notes))
    return Verdict(claim, statement, word, found.n, found.value, found.low, found.high, "; ".join(notes), "tries")
