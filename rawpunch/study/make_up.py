"""Making up for attempts that a stall of the machine disturbed, so that each cell has as many that count as were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from rawpunch.study.experiment import Factor, Level

if TYPE_CHECKING:
    from rawpunch.dataset.store import Dataset

TRIES: Final = 4
"""How many attempts of a cell are made at most, in multiples of those asked for: a machine that always stalls is let be."""


def make_up(run: Dataset, factors: Mapping[str, Factor]) -> list[dict[str, Level]]:
    """The cells that lack undisturbed attempts, each as often as it lacks them; what an experiment's `refine` may return.

    Args:
        run: what was made so far.
        factors: the experiment's.
    """
    return list(_lacking(run, factors))


def _lacking(run: Dataset, factors: Mapping[str, Factor]) -> Iterator[dict[str, Level]]:
    repeats = run.manifest.repeats
    for _, group in run.attempts.groupby("cell", sort=False, observed=True):
        missing = repeats - int((~group["disturbed"].astype(bool)).sum())
        cell = {name: type(factor.levels[0])(group[name].iloc[0]) for name, factor in factors.items()}
        for _ in range(min(missing, TRIES * repeats - len(group))):
            yield cell
