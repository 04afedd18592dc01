"""The stage of a lab: whoever makes what is staged, started when it is first needed."""

from __future__ import annotations

from rawpunch.lab.lab import Lab
from rawpunch.record.rows import AttemptRow
from rawpunch.study.dialling import Diallings
from rawpunch.study.planned import Planned
from rawpunch.study.sessions import Sessions
from rawpunch.study.staged import Dialling, Session


class Stage:
    """Programs in a lab.

    Args:
        lab: where.
        seed: of what is drawn.
    """

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab = lab
        self._diallings = Diallings(lab, seed)
        self._sessions: Sessions | None = None

    def make(self, planned: Planned) -> AttemptRow:
        """Have programs do what is planned.

        Raises:
            LabBroken: something in the lab died.
        """
        match planned.staged:
            case Dialling() as dialling:
                return self._diallings.make(planned, dialling)
            case Session() as session:
                if self._sessions is None:
                    self._sessions = Sessions(self._lab)
                return self._sessions.make(planned, session)
        raise ValueError(f"{planned.name} is nothing that is staged")
