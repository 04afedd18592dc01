"""One cell's repeat, named and to be made."""

from __future__ import annotations

from dataclasses import dataclass

from rawpunch.scene import Scene
from rawpunch.study.experiment import Attempt, Cell, Sampling
from rawpunch.study.staged import Staged


@dataclass(frozen=True, slots=True)
class Planned:
    """One attempt that is to be made."""

    name: str
    cell_name: str
    cell: Cell
    repeat: int
    attempt: Attempt
    sampling: Sampling | None = None
    """What is sampled, where no connection is to be tried."""
    staged: Staged | None = None
    """What is staged instead, where it is programs that are watched."""
    scene: Scene | None = None
    """Its world; None for the one that the bench is in."""

    @property
    def kind(self) -> type:
        """What can be made together is of one kind."""
        return type(self.staged or self.sampling or self.attempt)
