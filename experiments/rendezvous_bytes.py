"""Does user data touch the server that introduces two peers? Its traffic, in sessions that carry more and more.

Two hosts behind NATs meet at a rendezvous server, punch, and send each other as much as a session has, while everything that
passes the device of the server's host is counted. A relay would have two octets for each of the users'.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.statistics import slope
from rawpunch.analysis.tables import keep
from rawpunch.scene import Scene
from rawpunch.study.experiment import Cell, Factor, Verdict, Word
from rawpunch.study.staged import Session
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

QUESTION = "Does a server that introduces two peers see more traffic when they send each other more?"
CLAIMS = ("C22",)
DRIVERS = ("lab",)
FACTORS = {
    "method": Factor(("kernel", "raw"), "how the peers open their connection", fixed=True),
    "octets": Factor((0, 1 << 16, 1 << 20, 1 << 22), "user data from each side to the other"),
}
REPEATS = 3

BOUND: Final = 0.001
"""Octets of the server's for each of the users', from which it has a part in it."""
_LEAST: Final = 6
"""Sessions that a slope is computed from."""
_UNIT: Final = "octets at the server per million of the users'"
_STATEMENT: Final = "user data never touches the server that introduces two peers"


def scene(cell: Cell) -> Scene:  # noqa: ARG001  one world for all
    """Two equal NATs that drop what they do not expect."""
    return Scene.symmetric(5 * MS)


def attempt(cell: Cell) -> Session:
    """A session."""
    method: Any = cell["method"]
    return Session(int(cell["octets"]), method)


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """The slope of the server's octets over the users', with its interval, against the bound."""
    good = keep(attempts).attempts
    users, server, n = list(good["user_octets"].astype(float)), list(good["server_octets"].astype(float)), len(good)
    if n < _LEAST or len(set(users)) < 2:
        return [Verdict("C22", _STATEMENT, "undecided", n, why="too few sessions, or all carried the same")]
    grown = slope([octets / 1e6 for octets in users], server)
    word: Word = "upheld" if grown.high < 1e6 * BOUND else "refuted" if grown.low > 1e6 * BOUND else "undecided"
    why = f"the interval of the slope reaches over {1e6 * BOUND:.0f}: more sessions are needed"
    if word != "undecided":
        why = f"{median(server):.0f} octets at the server in the median session, which had up to {max(users):.0f} of the users'"
    return [Verdict("C22", _STATEMENT, word, n, grown.value, grown.low, grown.high, why, _UNIT)]
