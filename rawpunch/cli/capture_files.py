"""What the commands that read captures have in common: a progress bar, and an exit code that says what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rawpunch.cli import output
from rawpunch.errors import PartialData

if TYPE_CHECKING:
    from rawpunch.capture.records import File

_MEGABYTE: Final = 1_000_000

FilesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="pcap or pcapng; plain, .gz or .zst.", show_default=False)
]


@contextmanager
def reading(paths: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """A progress bar in megabytes over these files; yields a function to call with the octets read since the last call."""
    octets = 0
    for path in paths:
        with suppress(OSError):  # whoever opens it says what is wrong
            octets += path.stat().st_size
    rest = 0
    with output.progress(max(octets // _MEGABYTE, 1), "MB") as advance:

        def told(count: int) -> None:
            nonlocal rest
            rest += count
            advance(rest // _MEGABYTE)
            rest %= _MEGABYTE

        yield told


def finish(files: Sequence[File]) -> None:
    """Say what was skipped, and end with the exit code that the files deserve.

    Raises:
        PartialData: a file is damaged, packets that may have been segments could not be read, or there is no TCP in it.
    """
    from rawpunch.capture.decode import lost  # noqa: PLC0415 - not for the sake of --help

    broken = []
    for file in files:
        missing = lost(file.skipped)
        for reason, count in file.skipped.items():
            if reason not in missing:
                output.detail(f"{file.path}: {count} skipped: {reason}")
        for reason, count in file.noted.items():
            output.detail(f"{file.path}: {count} noted: {reason}")
        if not file.rows and not missing:
            broken.append(f"{file.path}: no TCP in its {file.packets} packets")
        broken += [f"{file.path}: {reason} ({count})" for reason, count in missing.items()]
    if broken:
        raise PartialData("not all could be read; what could is kept", why="; ".join(broken))
