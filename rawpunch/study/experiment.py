"""The experiment contract: one file, about a page, that says what is asked, what is varied, and how the data answer.

An experiment is a Python file with these names at its top level:

    QUESTION: str                              one sentence
    CLAIMS: tuple[str, ...]                    ids of the claims it decides
    FACTORS: dict[str, Factor]                 what is varied
    REPEATS: int                               attempts per cell by default
    scene(cell) -> Scene                       the world an attempt of this cell needs
    attempt(cell) -> Attempt                   what the two ends do in it; or -> Sampling, where only ports are looked at;
                                               or -> Dialling or Session, where it is programs that are watched (`staged`)
    verdicts(attempts) -> list[Verdict]        conclusions from the attempts table, and from nothing else

and, where all combinations of levels or a fixed grid would waste attempts, as in the search for an edge:

    sensible(cell) -> bool                     whether a combination of levels is to be tried; all are by default
    refine(attempts) -> list[cell]             what to try next, given all attempts so far; one attempt for each cell it names,
                                               [] when enough is known. It is asked again after each round.
    DRIVERS: tuple[str, ...]                   who can make it, where not every driver can: ("lab",)
    table(attempts) -> Table                   what is printed of a run, instead of how many attempts of each cell opened

`verdicts`, `refine` and `table` may take the run as a second argument, and look at its other tables too.
It declares and never acts, so that any driver can run it.
"""

from __future__ import annotations

import enum
import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from rawpunch.errors import BadParameter, UnknownName, Unreadable
from rawpunch.live.end import Scheduler
from rawpunch.scene import Scene
from rawpunch.study.aiming import Aim
from rawpunch.study.staged import Staged
from rawpunch.units import MS, SECOND, US, format_duration, parse_duration_ns
from rawpunch.wire.ttl import DEFAULT_TTL

if TYPE_CHECKING:
    from rawpunch.dataset.store import Dataset

Answer = TypeVar("Answer")
Level = bool | int | float | str
Cell = Mapping[str, Level]
Word = Literal["upheld", "refuted", "conditional", "undecided"]
"""True, false, true under a condition, or not to be told from the data."""

LAUNCH_TOLERANCE_NS: Final = 500 * US
"""A SYN that left later than this after its instant makes its attempt a disturbed one, unless the attempt says otherwise."""

_HERE: Final = Path(__file__).resolve().parents[2]
_FOLDERS: Final = (_HERE / "experiments", _HERE / "rawpunch_experiments")
DRIVERS: Final = ("lab", "sim")
"""Who can make an experiment that does not say otherwise."""
_CLAIM: Final = re.compile(r"C\d+")
_NAMES: Final = ("QUESTION", "CLAIMS", "FACTORS", "REPEATS", "scene", "attempt", "verdicts")


@dataclass(frozen=True, slots=True)
class Factor:
    """Something that is varied."""

    levels: tuple[Level, ...]
    meaning: str
    fixed: bool = False
    """Whether only the listed levels make sense; otherwise a user may set any value of their type."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the two ends of an attempt do."""

    end_a: str = "kernel"
    """kernel, raw, handover (raw until it is open), listening (a kernel socket that waits for its peer), replay, prober, or stack
    (a program that is another stack)."""
    end_b: str = "kernel"
    offset_ns: int = 0
    """Start of B after the start of A; negative when B is first."""
    give_up_ns: int = 3 * SECOND
    """How long after its own start an end without an answer gives up and closes."""
    profile: str = "linux"
    """Whose handshake table raw ends follow."""
    script_a: str = ""
    """What A plays: the file of a replay end (`replay.part`), the branch of a prober (`tcp.branches`), or the command that is a
    stack (`live.stack_program`)."""
    script_b: str = ""
    scheduler: Scheduler = Scheduler.SPIN
    """How the ends wait for their instants."""
    aim: Aim = Aim.ASSUMED
    """How each end knows the other's endpoint."""
    first_ttl_a: int = DEFAULT_TTL
    """Time to live of A's first SYN, if it is a raw end; a listening end sends one only if this is not the usual one."""
    first_ttl_b: int = DEFAULT_TTL
    poke_port: int = 0
    """The peer's port that a listening end's SYN goes to; 0 for the one that the peer is thought to use."""
    retry_ns: int = 0
    """How long after a RST or an ICMP error a raw end opens again, from the same port; 0 for never."""
    tolerance_ns: int = LAUNCH_TOLERANCE_NS
    """How far off its instant a first SYN may leave, or how late a packet may come, without making the attempt disturbed."""
    told_ns: int = 0
    """How long after its start each raw end is told of the other's SYN by a third party; 0 for never."""
    count_sockets: bool = False
    """Whether both hosts' kernels are asked, before it is finished, how many connections they hold at its port; in the lab."""

    def __post_init__(self) -> None:
        """Check that the ends can do what is asked of them.

        Raises:
            BadParameter: a kernel's connect() is to do what only a crafted SYN can.
        """
        for name, kind, ttl in (("A", self.end_a, self.first_ttl_a), ("B", self.end_b, self.first_ttl_b)):
            if ttl != DEFAULT_TTL and kind not in {"raw", "listening"}:
                raise BadParameter(f"end {name} cannot send a first SYN that dies", why=f"it is {kind}", todo="raw or listening")
        if (self.retry_ns or self.told_ns) and "raw" not in {self.end_a, self.end_b}:
            raise BadParameter("no end can try again, or be told of a SYN", why="neither is raw", todo="make one of them raw")


MOST_SYNS: Final = 8_000
"""SYNs of one sample."""


class Sources(enum.StrEnum):
    """Which inside ports the SYNs of a sample come from."""

    CONSECUTIVE = "consecutive"
    """One after the other."""
    RANDOM = "random"
    """Drawn, none twice."""
    SAME = "same"
    """One for all, each SYN to another remote endpoint."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """SYNs from A's host to observers, that show which external ports its NAT gives and are left unanswered."""

    connections: int = 64
    """SYNs of A's own."""
    sources: Sources = Sources.CONSECUTIVE
    destinations: int = 1
    """Remote endpoints, over which the SYNs go in turn; with one inside port each has its own."""
    foreign: int = 0
    """Connections of another host inside, on average after each of ours: cross traffic, from none to twice as many."""
    interval_ns: int = MS // 2
    """From one SYN to the next."""

    def __post_init__(self) -> None:
        if not 1 <= self.connections * (1 + 2 * self.foreign) <= MOST_SYNS or self.foreign < 0 or self.destinations < 1:
            raise BadParameter(
                f"a sample of {self.connections} connections, {self.foreign} foreign ones each, to {self.destinations} endpoints",
                why=f"it has 1 to {MOST_SYNS} SYNs, and somewhere to send them",
            )


class Interval(Protocol):
    """Something with two ends, such as a proportion with its confidence interval."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A conclusion computed from the data."""

    claim: str
    """The claim's id, or a word for what is decided."""
    statement: str
    """What is held to be true or false, in one sentence."""
    verdict: Word
    n: int
    """Attempts that it rests on."""
    value: float | None = None
    """The estimate, e.g. a success rate."""
    low: float | None = None
    """Lower end of its 95 % interval."""
    high: float | None = None
    why: str = ""
    """What is missing, when it is undecided; when it holds, if it is conditional."""
    unit: str = ""
    """Of the estimate: "" for a share, else e.g. ms."""

    @property
    def is_expectation(self) -> bool:
        """Whether it is something that is to be so; a claim may be true or false, and either is a result."""
        return _CLAIM.fullmatch(self.claim) is None

    def to_document(self) -> dict[str, Any]:
        """As a JSON-able document."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Table:
    """A run's result as a table."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    foot: str = ""
    """What is to be said below it."""
    right: tuple[str, ...] = ()
    """Columns that are set to the right."""


def _asked(question: Callable[..., Answer], run: Dataset) -> Answer:
    if len(inspect.signature(question).parameters) == 1:
        return question(run.attempts)
    return question(run.attempts, run)


def judge(interval: Interval, bar: float) -> Word:
    """Whether an interval lies above a bar, below it, or across it."""
    if interval.low > bar:
        return "upheld"
    return "refuted" if interval.high < bar else "undecided"


class Experiment:
    """An experiment's file, loaded and checked.

    Args:
        module: what the file defines.
        name: the file's name without its ending.
        path: the file.

    Raises:
        BadParameter: a name of the contract is missing.
    """

    def __init__(self, module: ModuleType, name: str, path: Path) -> None:
        missing = [wanted for wanted in _NAMES if not hasattr(module, wanted)]
        if missing:
            raise BadParameter(f"{path} is not an experiment", why=f"it does not define {', '.join(missing)}")
        self.name = name
        self.path = path
        self.question: str = module.QUESTION
        self.claims: tuple[str, ...] = module.CLAIMS
        self.factors: dict[str, Factor] = dict(module.FACTORS)
        self.repeats: int = module.REPEATS
        self.lean: bool = getattr(module, "LEAN", False)
        self.beside: tuple[str, ...] = getattr(module, "BESIDE", ())
        self.drivers: tuple[str, ...] = getattr(module, "DRIVERS", DRIVERS)
        self.scene: Callable[[Cell], Scene] = module.scene
        self.attempt: Callable[[Cell], Attempt | Sampling | Staged] = module.attempt
        self._refine: Callable[..., list[dict[str, Level]]] | None = getattr(module, "refine", None)
        self._sensible: Callable[[Cell], bool] = getattr(module, "sensible", lambda _cell: True)
        self._verdicts: Callable[..., list[Verdict]] = module.verdicts
        self._table: Callable[..., Table] | None = getattr(module, "table", None)

    @classmethod
    def load(cls, what: str) -> Experiment:
        """The experiment of that name (hyphens or underscores), or in that file.

        Raises:
            UnknownName: no experiment is called that.
            Unreadable: the file is not there, or is not Python that runs.
            BadParameter: it does not follow the contract.
        """
        if what.endswith(".py"):
            return cls._from(Path(what))
        files = experiment_files()
        name = what.replace("-", "_")
        if name not in files:
            raise UnknownName(
                f"no experiment is called {what!r}", why=f"there are {', '.join(files)}", todo="rawpunch experiments"
            )
        return cls._from(files[name])

    @classmethod
    def _from(cls, path: Path) -> Experiment:
        if not path.is_file():
            raise Unreadable(f"there is no file {path}", todo="give an experiment's name or a .py file")
        spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
        if spec is None or spec.loader is None:
            raise Unreadable(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise Unreadable(f"{path} does not run", why=f"{type(error).__name__}: {error}") from error
        return cls(module, path.stem, path)

    def verdicts(self, run: Dataset) -> list[Verdict]:
        """What a run of it says."""
        return _asked(self._verdicts, run)

    def table(self, run: Dataset) -> Table | None:
        """Its own table of a run of it; None if it has none."""
        return _asked(self._table, run) if self._table is not None else None

    @property
    def refines(self) -> bool:
        """Whether it may ask for more when the grid is done."""
        return self._refine is not None

    def refine(self, run: Dataset) -> list[dict[str, Level]]:
        """The cells that it wants next."""
        return _asked(self._refine, run) if self._refine is not None else []

    def with_settings(self, settings: Sequence[str]) -> Experiment:
        """Change levels by ``factor=level[,level ...]`` words; times may carry a unit (``one_way_ns=5ms,20ms``).

        Raises:
            BadParameter: no such factor, or not one of its levels.
        """
        for setting in settings:
            name, equals, text = setting.partition("=")
            name = name.strip().replace("-", "_")
            if not equals or name not in self.factors:
                known = ", ".join(f"{factor}={'|'.join(map(str, f.levels))}" for factor, f in self.factors.items())
                raise BadParameter(f"{setting!r} sets no factor of {self.name}", todo=f"--set one of {known}")
            factor = self.factors[name]
            levels = tuple(_level(name, factor, word.strip()) for word in text.split(","))
            self.factors[name] = Factor(levels, factor.meaning, factor.fixed)
        return self

    def cells(self) -> Iterator[dict[str, Level]]:
        """All combinations of factor levels that make sense."""
        names = list(self.factors)
        for levels in itertools.product(*(factor.levels for factor in self.factors.values())):
            cell = dict(zip(names, levels, strict=True))
            if self._sensible(cell):
                yield cell


def _level(name: str, factor: Factor, word: str) -> Level:
    model = factor.levels[0]
    try:
        level: Level
        match model:
            case bool():
                level = {"true": True, "false": False}[word.lower()]
            case int():
                level = parse_duration_ns(word) if name.endswith("_ns") and not word.lstrip("-").isdecimal() else int(word)
            case float():
                level = float(word)
            case _:
                level = word
    except (ValueError, KeyError) as error:
        raise BadParameter(f"{word!r} is not a level of {name}", todo=f"e.g. {name}={model}") from error
    if factor.fixed and level not in factor.levels:
        raise BadParameter(f"{word!r} is not a level of {name}", todo=f"one of {', '.join(map(str, factor.levels))}")
    return level


def cell_name(cell: Cell) -> str:
    """A cell in words: ``ends=raw-raw one_way_ns=20ms``."""
    return " ".join(f"{name}={level_name(name, level)}" for name, level in cell.items())


def level_name(name: str, level: Level) -> str:
    """A level in words: times with their unit, switches as true and false."""
    if name.endswith("_ns") and isinstance(level, int):
        return format_duration(level).replace(" ", "")
    return str(level).lower() if isinstance(level, bool) else str(level)


def experiment_files() -> dict[str, Path]:
    """The experiments that come with the toolkit: name -> file; beside the package, or installed with it by a wheel."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))} if folder else {}
