"""Defaults of options from files: ``rawpunch.toml`` in the current folder, over ``~/.config/rawpunch/rawpunch.toml``.

A section is a command and a key one of its long options, with hyphens or underscores; groups nest:

    [run]
    jobs = 2
    on = "lab"

    [runs.verify]
    json = true

A flag wins over the environment (``RAWPUNCH_RUN_JOBS``), that over these files, and they over the built-in default. A key that no
option has is an error and not ignored: a setting that silently does nothing is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from rawpunch.cli.setting_files import NAME, files
from rawpunch.errors import BadParameter, Unreadable


def _read(path: str) -> dict[str, Any]:
    text = Path(path).read_text()
    import tomllib  # noqa: PLC0415  most starts find no file

    return tomllib.loads(text)


def load(commands: frozenset[str]) -> dict[str, Any]:
    """The merged settings, section by section.

    Args:
        commands: the names a section may have.

    Raises:
        Unreadable: a file is not TOML or cannot be read.
        BadParameter: an entry stands outside a section, or a section is no command.
    """
    merged: dict[str, Any] = {}
    for path in files():
        try:
            found = _read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Unreadable(f"the settings in {path} cannot be read", why=str(error), todo="mend or remove that file") from error
        for section, entries in found.items():
            if not isinstance(entries, dict):
                raise BadParameter(f"{section!r} in {path} stands outside a section", todo="put it under a command: [run]")
            if section not in commands:
                raise BadParameter(f"section [{section}] in {path} is no command", why=f"there are {', '.join(sorted(commands))}")
        merged = _over(merged, _underscored(found))
    return merged


def check(section: Mapping[str, Any], command: TyperCommand | TyperGroup, path: str) -> None:
    """See that every key of a section is an option of the command, or a subcommand's own section.

    Args:
        section: what the files say about the command.
        command: the command, or a group of commands.
        path: how the user calls it, e.g. ``runs verify``.

    Raises:
        BadParameter: a key is neither.
    """
    options = {str(param.name) for param in command.params}
    inner = command.commands if isinstance(command, TyperGroup) else {}
    for key, value in section.items():
        subcommand = inner.get(key)
        if isinstance(value, dict) and isinstance(subcommand, TyperCommand | TyperGroup):
            check(value, subcommand, f"{path} {key}")
        elif key not in options:
            raise BadParameter(
                f"{key!r} in section [{path.replace(' ', '.')}] of {NAME} is no option of `rawpunch {path}`",
                why=f"it has {', '.join(sorted(options | set(inner)))}",
                todo=f"rawpunch {path} --help",
            )


def _underscored(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): _underscored(value) if isinstance(value, dict) else value for key, value in entries.items()}


def _over(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(weaker)
    for key, value in stronger.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged
