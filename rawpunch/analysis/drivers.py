"""The same cells by two drivers, side by side: where they agree, and in which columns they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.analysis.tables import keep
from rawpunch.errors import BadParameter

if TYPE_CHECKING:
    import pandas as pd

COMPARED: Final = ("outcome", "outcome_a", "outcome_b", "pattern", "pattern_a", "pattern_b", "syn_a", "syn_b", "rst", "icmp")
"""Columns that two drivers should fill alike."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One cell as two drivers saw it."""

    cell: str
    n: tuple[int, int]
    """Attempts that count, by driver."""
    differing: dict[str, tuple[str, str]]
    """Column -> what the two say: the values of all attempts, each once."""

    @property
    def decided(self) -> bool:
        """Whether both have attempts that count."""
        return min(self.n) > 0

    @property
    def agrees(self) -> bool:
        """Whether no column differs."""
        return self.decided and not self.differing

    def __str__(self) -> str:
        told = ", ".join(f"{column} {one} against {other}" for column, (one, other) in self.differing.items())
        return f"{self.cell}: {told or 'agrees'}"


def side_by_side(attempts: pd.DataFrame, drivers: tuple[str, str], columns: Sequence[str] = COMPARED) -> list[Compared]:
    """Each cell by two drivers, from the undisturbed attempts alone.

    Args:
        attempts: the attempts table of a run by several drivers.
        drivers: the two.
        columns: what is compared.

    Raises:
        BadParameter: a column is none of the table's.
    """
    missing = [column for column in columns if column not in attempts.columns]
    if missing:
        raise BadParameter(f"the attempts have no column {', '.join(missing)}")
    good = keep(attempts).attempts
    found = []
    for cell in dict.fromkeys(attempts["cell"]):
        groups = [good[(good["cell"] == cell) & (good["driver"] == driver)] for driver in drivers]
        one, other = groups
        differing = {}
        if len(one) and len(other):
            said = {column: (_values(one[column]), _values(other[column])) for column in columns}
            differing = {column: pair for column, pair in said.items() if pair[0] != pair[1]}
        found.append(Compared(str(cell), (len(one), len(other)), differing))
    return found


def _values(column: pd.Series[Any]) -> str:
    return "/".join(sorted({str(value) for value in column.tolist()}))
