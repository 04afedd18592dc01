"""Tables of outcomes: success by factors, with n and interval. Disturbed attempts are left out by rule, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import CONFIDENCE, Proportion, wilson
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome

if TYPE_CHECKING:
    import pandas as pd

RULE: Final = "disturbed attempts (the planned cell was not the one that happened) and unmeasured ones are left out"


@dataclass(frozen=True, slots=True)
class Kept:
    """The attempts that count, and how many do not."""

    attempts: pd.DataFrame
    disturbed: int
    """Left out: a SYN left so late that the planned cell was not the one that happened."""
    not_measured: int
    """Left out: an end could not even start."""

    def __str__(self) -> str:
        n = len(self.attempts)
        return f"{n} attempts; left out: {self.disturbed} disturbed, {self.not_measured} not measured"


@dataclass(frozen=True, slots=True)
class SuccessTable:
    """Success by factors."""

    table: pd.DataFrame
    """One row per combination of levels: the factors, `successes`, `n`, `estimate`, `low`, `high`, and `disturbed` (left out)."""
    kept: Kept

    def __str__(self) -> str:
        return f"{self.table.to_string(index=False, float_format='{:.3f}'.format)}\n{self.kept}"

    def _repr_html_(self) -> str:
        return f"{self.table.to_html(index=False, float_format='{:.3f}'.format)}<p>{self.kept}</p>"


def keep(attempts: pd.DataFrame) -> Kept:
    """Leave out disturbed attempts and those that were not measured.

    Raises:
        BadParameter: it is no attempts table.
    """
    _need(attempts, ["disturbed", "outcome"])
    disturbed = attempts["disturbed"].astype(bool)
    unmeasured = (attempts["outcome"] == Outcome.NOT_MEASURED.value) & ~disturbed
    return Kept(attempts[~disturbed & ~unmeasured], int(disturbed.sum()), int(unmeasured.sum()))


def success_by(
    attempts: pd.DataFrame,
    by: str | Sequence[str] = (),
    *,
    outcome: str = Outcome.ESTABLISHED.value,
    confidence: float = CONFIDENCE,
) -> SuccessTable:
    """How many attempts ended with an outcome, by factors.

    Args:
        attempts: the attempts table.
        by: factors; none gives one row for all.
        outcome: what counts as success.
        confidence: of the Wilson interval.

    Raises:
        BadParameter: a factor is no column.
    """
    import pandas as pd  # noqa: PLC0415  nearly a second

    factors = [by] if isinstance(by, str) else list(by)
    _need(attempts, factors)
    kept = keep(attempts)
    groups = attempts.groupby(factors, sort=True) if factors else [((), attempts)]
    rows = []
    for levels, group in groups:
        counted = keep(group)
        rate = wilson(int((counted.attempts["outcome"] == outcome).sum()), len(counted.attempts), confidence)
        rows.append((*levels, rate.successes, rate.n, rate.estimate, rate.low, rate.high, counted.disturbed))
    columns = [*factors, "successes", "n", "estimate", "low", "high", "disturbed"]
    return SuccessTable(pd.DataFrame(rows, columns=columns), kept)


def proportion(attempts: pd.DataFrame, *, outcome: str = Outcome.ESTABLISHED.value, confidence: float = CONFIDENCE) -> Proportion:
    """Share of all attempts that count which ended with an outcome."""
    counted = keep(attempts).attempts
    return wilson(int((counted["outcome"] == outcome).sum()), len(counted), confidence)


def patterns(attempts: pd.DataFrame, by: str | Sequence[str] = ()) -> pd.DataFrame:
    """How often each wire pattern occurred, by factors: one row per combination of levels, one column per pattern, and `n`.

    Raises:
        BadParameter: a factor is no column.
    """
    import pandas as pd  # noqa: PLC0415  as above

    factors = [by] if isinstance(by, str) else list(by)
    _need(attempts, [*factors, "pattern"])
    counted = keep(attempts).attempts
    words = sorted(counted["pattern"].unique())
    groups = counted.groupby(factors, sort=True) if factors else [((), counted)]
    rows = [(*levels, *((group["pattern"] == word).sum() for word in words), len(group)) for levels, group in groups]
    return pd.DataFrame(rows, columns=[*factors, *words, "n"])


def _need(attempts: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in attempts.columns]
    if missing:
        raise BadParameter(
            f"the attempts have no column {', '.join(missing)}", todo=f"one of {', '.join(map(str, attempts.columns[-8:]))} ..."
        )
