"""External ports that a NAT gave, in their order: steps, bands, and how often the next one can be told beforehand.

The table to work on is `samples`: one row for each SYN of a sample that came out of the NAT. Rows of the other host inside (cross
traffic) are in it, and are not the sampler's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.statistics import CONFIDENCE, Proportion, wilson
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

KNOWN: Final = 3
"""Mappings that a predictor sees before its first guess."""
NEAR: Final = 32
"""A step of so much at most is a small one: cross traffic uses up ports in between."""
MOSTLY: Final = 0.9
"""A rule is one that explains so much: a port that is to be kept may be taken, counting wraps round, parity makes it uneven."""


def samples(run: Dataset) -> pd.DataFrame:
    """One row for each mapping of a run of samples, in the order in which each sample's packets left the NAT.

    Columns: `attempt`, `driver`, `own` (of the sampler, not of another host), `internal_port`, `external_address`,
    `external_port`, `remote`, `time_ns`, `step` (external port minus that of the sampler's mapping before; null at the first),
    and the run's factors.

    Raises:
        BadParameter: the run sampled nothing.
    """
    attempts = run.attempts
    attempts = attempts[attempts["outcome"] == Outcome.SAMPLED.value]
    if attempts.empty:
        raise BadParameter("the run sampled no ports", todo="take a run of port_allocation")
    table = run.mappings.merge(attempts[["attempt", "driver", "local_a", *run.manifest.grid]], on="attempt")
    inside = table["internal"].str.rpartition(":")
    outside = table["external"].str.rpartition(":")
    table["own"] = inside[0] == table["local_a"].str.rpartition(":")[0]
    table["internal_port"] = inside[2].astype("int64")
    table["external_address"], table["external_port"] = outside[0], outside[2].astype("int64")
    table = table.sort_values(["attempt", "time_ns"], kind="stable", ignore_index=True)
    mine = table[table["own"]]
    table["step"] = mine.groupby("attempt", observed=True)["external_port"].diff().astype("Int64").reindex(table.index)
    ports = ["attempt", "driver", "own", "internal_port", "external_address", "external_port", "remote", "time_ns", "step"]
    return table[[*ports, *run.manifest.grid]]


def own(table: pd.DataFrame) -> pd.DataFrame:
    """The sampler's own rows of `samples`."""
    mine: pd.DataFrame = table[table["own"]]
    return mine


def guesses(internal: Sequence[int], external: Sequence[int], coming: int) -> Iterator[int]:
    """The ports that the next mapping may get, the likeliest first, told from those before.

    A NAT that has kept nearly every inside port (some are taken) will keep the next one, one that has used one port for all will
    use it again, and any other one takes a step that it has taken before, the commonest first, or else goes farther that way
    (RFC 5128, section 3.4).

    Args:
        internal: inside ports so far, in order; not empty.
        external: the external ports they got.
        coming: the inside port of the next connection.
    """
    if sum(before == after for before, after in zip(internal, external, strict=True)) >= MOSTLY * len(external):
        yield coming
    elif len(set(external)) == 1:
        yield external[0]
    steps = [step for step, _ in Counter(after - before for before, after in pairwise(external)).most_common() if step] or [1]
    yield from (external[-1] + step for step in steps)
    port = external[-1] + steps[0]
    while True:
        port += steps[0]
        yield port


def ranks(table: pd.DataFrame, most: int = 1) -> list[int | None]:
    """Which guess each next port was, from 1; None for none of the first `most`. Over all samples of a table of `samples`."""
    found: list[int | None] = []
    for _, sample in own(table).groupby("attempt", observed=True):
        inside, outside = sample["internal_port"].tolist(), sample["external_port"].tolist()
        for place in range(KNOWN, len(outside)):
            likely = islice(guesses(inside[:place], outside[:place], inside[place]), most)
            found.append(next((rank for rank, port in enumerate(likely, 1) if port == outside[place]), None))
    return found


def hits(table: pd.DataFrame, tries: int = 1) -> tuple[int, int]:
    """How often the next port was among the first guesses, and of how many."""
    found = ranks(table, tries)
    return sum(rank is not None for rank in found), len(found)


def predicted(table: pd.DataFrame, tries: int = 1, confidence: float = CONFIDENCE) -> Proportion:
    """The share of ports that were among the first guesses, with Wilson's interval."""
    return wilson(*hits(table, tries), confidence)


@dataclass(frozen=True, slots=True)
class Ports:
    """What a NAT's ports looked like in one cell."""

    sent: int
    mapped: int
    distinct: int
    """External ports in the cell's first sample."""
    repeated: bool
    """Whether mappings shared external ports in it."""
    low: int
    high: int
    step: int | None
    """The commonest step, if at least half of all are that; else None."""
    kept: float
    """Share of mappings that kept the inside port."""
    next_port: Proportion
    """How often the next port was guessed at once."""

    counts: bool
    """Whether nearly all steps go the same way and are small."""

    @property
    def lost(self) -> int:
        """SYNs that never came out."""
        return self.sent - self.mapped

    @property
    def rule(self) -> str:
        """How ports were given, as far as these samples show: kept, one, few, counted or drawn; "none" without any."""
        if self.mapped == 0:
            return "none"
        if self.kept >= MOSTLY:
            return "kept"
        if self.distinct == 1:
            return "one"
        if self.repeated:
            return "few"
        return "counted" if self.counts else "drawn"


def ports_of(table: pd.DataFrame, sent: int) -> Ports:
    """Sum up the samples of a cell.

    Args:
        table: its rows of `samples`.
        sent: SYNs of the sampler that went in.
    """
    mine = own(table)
    steps = mine["step"].dropna().astype(int).value_counts()
    common = len(steps) > 0 and 2 * int(steps.iloc[0]) >= int(steps.sum())
    external = mine["external_port"]
    first = mine[mine["attempt"] == mine["attempt"].iloc[0]]["external_port"] if len(mine) else external
    small = [1 if 0 < step <= NEAR else -1 if -NEAR <= step < 0 else 0 for step in mine["step"].dropna().astype(int)]
    return Ports(
        sent=sent,
        mapped=len(mine),
        distinct=int(first.nunique()),
        repeated=bool(first.duplicated().any()),
        low=int(external.min()) if len(mine) else 0,
        high=int(external.max()) if len(mine) else 0,
        step=int(steps.index[0]) if common else None,
        kept=float((external == mine["internal_port"]).mean()) if len(mine) else 0.0,
        next_port=predicted(table),
        counts=len(small) > 0 and abs(sum(small)) >= MOSTLY * len(small),
    )


def ports_by(run: Dataset, by: Sequence[str] = ()) -> list[tuple[tuple[Any, ...], Ports]]:
    """The same for each combination of factor levels, all of the run's by default, in the order of its grid."""
    factors = list(by) or list(run.manifest.grid)
    table, attempts = samples(run), run.attempts
    groups = dict(list(table.groupby(factors, sort=False, observed=True)))
    found = []
    for levels, group in attempts.groupby(factors, sort=True, observed=True):
        empty = table.iloc[:0]
        found.append((levels, ports_of(groups.get(levels, empty), int(group["syn_a"].sum()))))
    return found
