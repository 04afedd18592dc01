"""Where words go: stdout is data, stderr is talk.

Data are tables, documents and drawings that somebody may pipe on; talk is everything said to the person who waits. Colour and
progress bars appear on a terminal only, and NO_COLOR or TERM=dumb turn colour off.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Final, TextIO

from rawpunch.errors import RawpunchError

Style = str
"""One of the keys of `_STYLES`."""

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(slots=True)
class _Talk:
    """How much is said: -1 only warnings and errors, 0 what matters, 1 every step, 2 everything."""

    level: int = 0


_talk = _Talk()


def set_level(level: int) -> None:
    """Choose how much is said on stderr: -1 quiet, 0 normal, 1 verbose, 2 everything."""
    _talk.level = level


def level() -> int:
    """How much is said on stderr: -1 quiet, 0 normal, 1 verbose, 2 everything."""
    return _talk.level


# --- talk ---


def say(text: str) -> None:
    """Tell the user something; silent under -q."""
    if _talk.level >= 0:
        _write(sys.stderr, text)


def detail(text: str) -> None:
    """Tell the user a step that only -v shows."""
    if _talk.level >= 1:
        _write(sys.stderr, styled(text, "dim", sys.stderr))


def warn(text: str) -> None:
    """Tell the user something even under -q."""
    complain(f"{styled('warning:', 'yellow', sys.stderr)} {text}")


def complain(text: str) -> None:
    """Write to stderr whatever the level."""
    _write(sys.stderr, text)


def fail(error: RawpunchError) -> None:
    """Say on stderr what happened, why, and what to try: one line each."""
    lines = [f"{styled('rawpunch:', 'red', sys.stderr)} {error.what}"]
    if error.why:
        lines.append(f"why: {error.why}")
    if error.todo:
        lines.append(f"try: {error.todo}")
    complain("\n".join(lines))


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, where that is a terminal and -q was not given; else nothing.

    Args:
        total: how many steps there are.
        what: the steps' name, in the plural.

    Yields:
        A function to call with the number of steps done since the last call, and how many more there are than was thought.
    """
    if _talk.level < 0 or not sys.stderr.isatty():
        yield lambda _steps, _more=0: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - the same

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def tell(steps: int, more: int = 0) -> None:
            bar.update(task, advance=steps, total=(bar.tasks[task].total or 0) + more)

        yield tell


# --- data ---


def data(text: str) -> None:
    """Write a line, or a drawing of several, to stdout."""
    _write(sys.stdout, text)


def document(schema: str, body: Mapping[str, Any]) -> None:
    """Write one JSON document as one line to stdout.

    Args:
        schema: its kind and version, e.g. ``rawpunch.demo/1``; becomes the first key.
        body: the rest. Paths, enums, dataclasses and numpy scalars are converted; NaN becomes null.

    Raises:
        TypeError: a value has no JSON form.
    """
    data(_spelt({"schema": schema, **body}))


def long_document(schema: str, body: Mapping[str, Any], name: str, values: Iterable[Any]) -> None:
    """Write one JSON document whose last value is a list that may be too long to be held at once.

    Args:
        schema: see `document`.
        body: what comes before the list.
        name: the list's key.
        values: what is in it.
    """
    head = _spelt({"schema": schema, **body, name: []})
    sys.stdout.write(head[:-2])
    for number, value in enumerate(values):
        text = _spelt(value)
        sys.stdout.write(f", {text}" if number else text)
    sys.stdout.write("]}\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Write aligned columns to stdout: a line of names, then a line per row.

    Args:
        columns: their names.
        rows: as many values each as there are columns.
        right: the columns that are flush right, such as counts.
    """
    lines = [list(columns), *([str(value) for value in row] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        ]
        text = "  ".join(cells).rstrip()
        data(styled(text, "bold", sys.stdout) if number == 0 else text)


def styled(text: str, style: Style, stream: TextIO) -> str:
    """The text in a colour or weight, if the stream is a terminal that wants it.

    Args:
        text: what to show.
        style: bold, dim, red, green, yellow or cyan.
        stream: where it will be written.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")


def _spelt(value: Any) -> str:
    import json  # noqa: PLC0415  most of what is said is text

    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case enum.Enum():
            return _plain(value.value)
        case os.PathLike():
            return os.fspath(value)
        case None | bool() | int() | str():
            return value
        case float():
            return value if value == value else None  # noqa: PLR0124 - NaN alone differs from itself
        case list() | tuple() | set() | frozenset():
            return [_plain(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if hasattr(value, "item"):  # a numpy scalar, without importing numpy
        return _plain(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form")
