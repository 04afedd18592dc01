"""Named NATs: a behaviour from a TOML file, with the source of every field.

    summary = "Port-restricted cone, but a RST ends it"
    like = "port-restricted"          # the fields that are not given here, and their sources; linux-masquerade by default

    [behavior]                        # fields of `Behavior`; [behavior.ports] and [behavior.timers] for those of its parts
    unsolicited = "rst"

    [source]                          # where each of them is known from; a part may have one source for all its fields
    unsolicited = "measured on my own box"

This is the one file of the NAT floor that reads files. A user's file may leave sources out; those that come with the toolkit may
not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rawpunch.errors import BadParameter, UnknownName, Unreadable
from rawpunch.nat.behavior import Behavior
from rawpunch.nat.reading import behavior_of, paths_of

LINUX: Final = "linux-masquerade"
"""What a NAT is when nothing else is said."""

_ENDING: Final = ".toml"
_KEYS: Final = ("summary", "like", "behavior", "source")


@dataclass(frozen=True, slots=True)
class Persona:
    """A named NAT."""

    name: str
    summary: str
    behavior: Behavior
    sources: Mapping[str, str]
    """Path of a field (``ports.stride``) -> where its value is known from."""

    def explained(self) -> Iterator[tuple[str, object, str]]:
        """Each field with its value and its source."""
        for path, value in paths_of(self.behavior).items():
            yield path, value, self.sources.get(path, "not given")


def names() -> tuple[str, ...]:
    """The personas that come with the toolkit."""
    return tuple(sorted(file.name.removesuffix(_ENDING) for file in _folder().iterdir() if file.name.endswith(_ENDING)))


def load(what: str, *, folder: Path | None = None) -> Persona:
    """The persona of that name, or in that file.

    Args:
        what: a name, underscores or hyphens alike, or the path of a TOML file.
        folder: what a relative path is relative to; the working directory by default.

    Raises:
        UnknownName: none is called that.
        Unreadable: the file is not there, or is not TOML.
        BadParameter: a field is unknown, a value impossible, or fields contradict each other.
    """
    if what.endswith(_ENDING) or "/" in what:
        path = (folder or Path()) / what
        return _read(path.stem, path, path.parent)
    return _own(what.replace("_", "-"))


@cache
def _own(name: str) -> Persona:
    if name not in names():
        raise UnknownName(f"no persona is called {name!r}", todo=f"one of {', '.join(names())}, or a TOML file")
    return _read(name, _folder() / f"{name}{_ENDING}", None)


def _folder() -> Any:
    return resources.files("rawpunch.nat") / "personas"


def _read(name: str, file: Any, folder: Path | None) -> Persona:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Unreadable(f"cannot read the persona {name} in {file}", why=str(error), todo="give a TOML file") from error
    try:
        return _persona(name, table, folder)
    except BadParameter as error:
        raise BadParameter(f"the persona {name} is not valid: {error.what}", why=error.why, todo=error.todo) from error
    except RecursionError as error:
        raise BadParameter(f"the persona {name} is like itself", todo="mend its `like`") from error


def _persona(name: str, table: dict[str, Any], folder: Path | None) -> Persona:
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise BadParameter(f"a persona has no {', '.join(unknown)}", todo=f"there are {', '.join(_KEYS)}")
    given, told = table.get("behavior", {}), table.get("source", {})
    if not isinstance(given, dict) or not isinstance(told, dict):
        raise BadParameter("behavior and source are not tables", todo="write [behavior] and [source]")
    if not isinstance(like := table.get("like", LINUX), str):
        raise BadParameter(f"a persona cannot be like {like!r}", todo="name another persona")
    base = None if name == LINUX and folder is None else load(like, folder=folder)
    behavior = behavior_of(given, base.behavior if base else None)
    mine = set(_flat(given))
    sources = {path: source for path, source in base.sources.items() if path not in mine} if base else {}
    sources |= _sources(told, mine)
    return Persona(name, str(table.get("summary", "")), behavior, sources)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _sources(told: Mapping[str, Any], given: set[str]) -> dict[str, str]:
    """The sources by path; a source of a part holds for all its fields that are given."""
    found: dict[str, str] = {}
    for path, source in _pairs(told):
        covered = [name for name in given if name == path or name.startswith(f"{path}.")] or _unset(path)
        if not covered:
            raise BadParameter(f"there is a source for {path}, and no such field is given", todo="set the field too")
        found |= dict.fromkeys(covered, str(source))
    return found


def _unset(path: str) -> list[str]:
    """TOML cannot say None, so a field that is None may have a source without being given."""
    return [path] if paths_of(Behavior()).get(path, "") is None else []


def _pairs(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
