"""The table of strategies against pairs of NATs: what opened, and what the oracle says of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import Proportion, wilson
from rawpunch.errors import BadParameter
from rawpunch.nat import oracle, personas
from rawpunch.nat.behavior import Allocation, Behavior, Filtering
from rawpunch.nat.behavior import Mapping as Mapped
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

ONE_WAY_NS: Final = 10 * MS
"""The delay between the hosts, each way."""
LATE_NS: Final = 2 * ONE_WAY_NS + MS
"""So much later goes the second one, where order matters."""
PATIENCE_NS: Final = 1_600 * MS
"""How long an end tries: long enough for a SYN to be sent again."""
NONE: Final = "none"
"""In a pair's name, a side without a NAT."""
THIRD_PARTY: Final = oracle.Answer(oracle.Strategy.RELAY, True, "both can connect to a third party")

Two = tuple[Behavior | None, Behavior | None]
Foretell = Callable[[Behavior | None, Behavior | None], oracle.Answer]

_OPEN: Final = partial(oracle.simultaneous, one_way_ns=(ONE_WAY_NS, ONE_WAY_NS), give_up_ns=PATIENCE_NS)
FORETELL: Final[Mapping[str, Foretell]] = {
    "assumed": partial(_OPEN, aim=oracle.Aim.ASSUMED),
    "simultaneous": _OPEN,
    "ordered_a": partial(_OPEN, offset_ns=LATE_NS),
    "ordered_b": partial(_OPEN, offset_ns=-LATE_NS),
    "low_ttl_a": partial(_OPEN, offset_ns=LATE_NS, low_ttl="a"),
    "low_ttl_b": partial(_OPEN, offset_ns=-LATE_NS, low_ttl="b"),
    "prediction": oracle.prediction,
    "reversal_a": partial(oracle.reversal, listens="a"),
    "reversal_b": partial(oracle.reversal, listens="b"),
    "poked_a": partial(oracle.poked_reversal, listens="a"),
    "poked_b": partial(oracle.poked_reversal, listens="b"),
    "relay": lambda _a, _b: THIRD_PARTY,
}
"""What the oracle says of a strategy, of those that it knows."""


def names_of(pair: str) -> tuple[str, str]:
    """The two personas of a pair, written ``one+other``.

    Raises:
        BadParameter: it is not written so.
    """
    names = pair.split("+")
    if len(names) != 2 or not all(names):
        raise BadParameter(
            f"{pair!r} is no pair of personas", todo=f"write one+other, e.g. full-cone+rst-sender; {NONE} for no NAT"
        )
    return names[0], names[1]


def behaviors(pair: str) -> Two:
    """What the NATs of a pair of personas do.

    Raises:
        BadParameter: it is not written ``one+other``.
        UnknownName: there is no such persona.
    """
    a, b = (personas.load(name).behavior if name != NONE else None for name in names_of(pair))
    return a, b


def reachable(nat: Behavior | None) -> bool:
    """Whether anybody may connect to what an observer saw of a side."""
    return nat is None or nat.filtering is Filtering.ENDPOINT_INDEPENDENT


def symmetric(nat: Behavior | None) -> bool:
    """Whether a side has another port for each remote endpoint."""
    return nat is not None and nat.mapping is not Mapped.ENDPOINT_INDEPENDENT


def drawn(nat: Behavior | None) -> bool:
    """Whether it is symmetric, and its ports cannot be foretold."""
    return nat is not None and symmetric(nat) and nat.ports.allocation is not Allocation.SEQUENTIAL


class Table:
    """The attempts that count, by pair and strategy."""

    def __init__(self, good: pd.DataFrame) -> None:
        self.nats = {str(pair): behaviors(str(pair)) for pair in good["pair"].unique()}
        self.cells = {
            (str(pair), str(strategy)): wilson(int((group["outcome"] == "established").sum()), len(group))
            for (pair, strategy), group in good.groupby(["pair", "strategy"], observed=True)
        }

    def pairs(self, such: Callable[[Two], bool]) -> list[str]:
        """The pairs of which something is true."""
        return [pair for pair, two in self.nats.items() if such(two)]

    def _pairs_with_open(self, side: int) -> list[str]:
        return self.pairs(lambda two: reachable(two[side]))

    def foretold(self, pair: str, strategy: str) -> bool | None:
        """Whether it is to open, by the oracle; None where the oracle does not know the strategy."""
        ask = FORETELL.get(strategy)
        return None if ask is None else ask(*self.nats[pair]).works

    def rate(self, strategies: Collection[str], pairs: Collection[str], *, foretold: bool = False) -> Proportion:
        """How many attempts opened; those only that were to, if so wished."""
        chosen = [
            rate
            for (pair, strategy), rate in self.cells.items()
            if strategy in strategies and pair in pairs and (not foretold or self.foretold(pair, strategy))
        ]
        return wilson(sum(rate.successes for rate in chosen), sum(rate.n for rate in chosen))

    def connected(self, strategies: Collection[str], pairs: Collection[str]) -> list[str]:
        """Those of the pairs that one of the strategies connects in most of its attempts."""
        return [
            pair
            for pair in pairs
            if any(
                2 * self.cells[pair, one].successes > self.cells[pair, one].n for one in strategies if (pair, one) in self.cells
            )
        ]

    def reversal(self) -> Proportion:
        """How many connections to a reachable side that listens came about."""
        open_to_all = {f"reversal_{side}": self._pairs_with_open(at) for at, side in enumerate("ab")}
        rates = [self.rate([strategy], pairs) for strategy, pairs in open_to_all.items()]
        return wilson(sum(rate.successes for rate in rates), sum(rate.n for rate in rates))

    def against_the_oracle(self) -> tuple[Proportion, list[str]]:
        """How many attempts ended as the oracle says, of those it knows; and the cells of which none did."""
        agreed = n = 0
        against = []
        for (pair, strategy), rate in self.cells.items():
            works = self.foretold(pair, strategy)
            if works is not None:
                as_said = rate.successes if works else rate.n - rate.successes
                agreed, n = agreed + as_said, n + rate.n
                if as_said == 0:
                    against.append(f"{strategy} through {pair}")
        return wilson(agreed, n), against
