"""manifest.json: what a run was, on which machine, and which files it left. A strict model: an unknown key is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from rawpunch.dataset.files import write_atomically
from rawpunch.dataset.schema import SCHEMA_VERSION
from rawpunch.errors import Unreadable

FILE_NAME: Final = "manifest.json"
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=_NAME)]
"""A word that is safe as a file name."""
Level = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """One file of the run."""

    path: str
    """Relative to the run's folder."""
    sha256: Annotated[str, Field(pattern=re.compile(r"^[0-9a-f]{64}$").pattern)]
    size: int
    """Octets."""
    rows: int | None = None
    """Rows of a table's file; None for a capture."""


class Part(_Strict):
    """What was finished at once: some cells with all their files."""

    name: Name
    cells: tuple[str, ...]
    attempts: int
    files: tuple[FileEntry, ...]


class MachineInfo(_Strict):
    """What the run was made on."""

    kernel: str
    python: str
    cpus: int
    libraries: dict[str, str] = {}
    """Name -> version."""


class Manifest(_Strict):
    """All that is needed to judge a run, or to do it again."""

    schema_version: Literal[1] = SCHEMA_VERSION
    experiment: Name
    run_id: Name
    rawpunch_version: str
    created: AwareDatetime
    ended: AwareDatetime | None = None
    resumed: tuple[AwareDatetime, ...] = ()
    """When a stopped run was taken up again."""
    status: Literal["running", "complete", "partial"] = "running"
    seed: int
    driver: str
    grid: dict[str, tuple[Level, ...]]
    """Factor -> its levels."""
    repeats: Annotated[int, Field(ge=1)]
    policy: dict[str, Any] = {}
    """What the experiment treats as disturbed, how long it waits, how it spaces attempts."""
    machine: MachineInfo
    sysctls: dict[str, dict[str, str]] = {}
    """Namespace -> name -> value."""
    clock_source: str = ""
    scenes: dict[str, dict[str, Any]] = {}
    """Scene -> its topology and exact rulesets."""
    parts: tuple[Part, ...] = ()
    capture_drops: dict[str, int] = {}
    """Vantage point -> packets that the kernel could not hand over."""
    verdicts: tuple[dict[str, Any], ...] = ()

    @property
    def attempts(self) -> int:
        """How many attempts the finished parts hold."""
        return sum(part.attempts for part in self.parts)

    def files(self) -> tuple[FileEntry, ...]:
        """All files of all finished parts."""
        return tuple(entry for part in self.parts for entry in part.files)

    def write(self, folder: Path) -> None:
        """Write it into a run's folder: after a crash either the old one or the new one is there, whole.

        Raises:
            PartialData: the disk is full.
            UsageError: the folder may not be written.
        """
        write_atomically(folder / FILE_NAME, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a run's folder.

        Raises:
            Unreadable: there is none, or it is not one of this version.
        """
        path = folder / FILE_NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise Unreadable(f"{folder} holds no run", why=f"{path.name}: {error.strerror}", todo="rawpunch runs ls") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise Unreadable(f"{path} is not a manifest of this version", why=f"{where}: {first['msg']}") from error
