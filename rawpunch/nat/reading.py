"""A behaviour from a table of plain values (TOML, JSON) and back. Strict: what is not known is refused by name."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from rawpunch.errors import BadParameter
from rawpunch.nat.behavior import Behavior
from rawpunch.units import parse_duration_ns


def behavior_of(table: Mapping[str, object], base: Behavior | None = None) -> Behavior:
    """The behaviour that a table tells; fields that it does not name are those of `base` (Linux masquerade by default).

    Times (names that end in ``_ns``) are integers, or words such as ``"124min"``.

    Raises:
        BadParameter: a field is unknown, a value is none of the allowed ones, or the fields contradict each other.
    """
    changed = _changed(base or Behavior(), table, "")
    assert isinstance(changed, Behavior)  # noqa: S101  for the type checker: it is what was put in
    return changed


def table_of(behavior: Behavior) -> dict[str, Any]:
    """The table that `behavior_of` reads this behaviour from, whole."""
    return {name: _plain(value) for name, value in _fields_of(behavior)}


def paths_of(behavior: Behavior) -> dict[str, object]:
    """All fields with their values, nested ones by path: ``ports.stride``."""
    return dict(_paths(behavior, ""))


def _paths(thing: Any, prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in _fields_of(thing):
        if dataclasses.is_dataclass(value):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _fields_of(thing: Any) -> Iterator[tuple[str, Any]]:
    for entry in dataclasses.fields(thing):
        yield entry.name, getattr(thing, entry.name)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _plain(part) for name, part in _fields_of(value) if part is not None}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.value if isinstance(value, enum.Enum) else value


def _changed(model: Any, table: Mapping[str, object], prefix: str) -> Any:
    kinds = typing.get_type_hints(type(model))
    names = [entry.name for entry in dataclasses.fields(model)]
    unknown = [name for name in table if name not in names]
    if unknown:
        raise BadParameter(
            f"a NAT's behaviour has no field {', '.join(prefix + name for name in unknown)}", todo=f"there are {', '.join(names)}"
        )
    changes = {name: _value(kinds[name], getattr(model, name), value, prefix + name) for name, value in table.items()}
    return dataclasses.replace(model, **changes)


def _value(kind: Any, before: Any, value: object, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "a table of fields")
        return _changed(before, value, f"{path}.")
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _word(kind, value, path)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise _wrong(path, value, "a list of words")
        return tuple(_word(typing.get_args(kind)[0], word, path) for word in value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise _wrong(path, value, "true or false")
    if path.endswith("_ns") and isinstance(value, str):
        return parse_duration_ns(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is None and isinstance(kind, types.UnionType):
        return None
    raise _wrong(path, value, "a time" if path.endswith("_ns") else "an integer")


def _word(kind: type[enum.Enum], value: object, path: str) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        raise _wrong(path, value, "one of " + ", ".join(str(member.value) for member in kind)) from None


def _wrong(path: str, value: object, wanted: str) -> BadParameter:
    return BadParameter(f"a NAT's {path} cannot be {value!r}", todo=f"give {wanted}")
