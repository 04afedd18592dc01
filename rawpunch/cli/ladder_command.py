"""rawpunch ladder: draw one attempt of a run, or one flow of capture files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.capture_files import finish, reading
from rawpunch.cli.run_command import DataOption
from rawpunch.errors import BadParameter, MachineCannot, UnknownName, Unreadable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawpunch.analysis.ladder import Ladder
    from rawpunch.capture.classified import Classified
    from rawpunch.capture.records import File
    from rawpunch.dataset.store import Dataset

_PIPE_WIDTH = 100
"""Columns of a text that goes to no terminal."""
_FORMATS = ("text", "svg", "png", "mermaid")
_ENDINGS = {".svg": "svg", ".png": "png", ".mmd": "mermaid", ".md": "mermaid", ".txt": "text", "": "text"}
_RASTERISER = "rsvg-convert"


EXAMPLES = (
    "rawpunch ladder raw_vs_kernel --pattern simultaneous",
    "rawpunch ladder raw_vs_kernel c001-r0003 -o crossing.svg",
    "rawpunch ladder hostA.pcap natA.pcap natB.pcap hostB.pcap",
    "rawpunch ladder capture.pcapng --flow 3",
)


def command(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [ATTEMPT] | FILE...",
            help="A run: an experiment (its newest), experiment/run_id, or a folder; or capture files of the same traffic.",
            show_default=False,
        ),
    ],
    flow: Annotated[
        int | None, typer.Option(min=1, help="Which flow of the captures, as `rawpunch classify` numbers them.")
    ] = None,
    pattern: Annotated[str, typer.Option(help="The first attempt or flow of this wire pattern.")] = "",
    ends: Annotated[str, typer.Option(help="The first attempt of these ends, e.g. raw-kernel; of a run only.")] = "",
    most: Annotated[int, typer.Option(min=1, help="Draw so many packets of a flow at most.")] = 40,
    closing: Annotated[bool, typer.Option("--closing", help="Draw how an open connection was closed, too.")] = False,
    form: Annotated[str, typer.Option("--format", help="text, svg, png or mermaid; told from the file's ending otherwise.")] = "",
    file: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")] = None,
    data: DataOption = None,
) -> None:
    """Draw an attempt of a run, or a flow of capture files, to time scale: every vantage point a lane, crossings visible."""
    chosen = form or (_ENDINGS.get(file.suffix, file.suffix) if file else "text")
    if chosen not in _FORMATS:
        raise BadParameter(f"{chosen!r} is not a form of ladder", todo=f"one of {', '.join(_FORMATS)}")
    if chosen == "png" and file is None:
        raise BadParameter("a PNG is not for the terminal", todo="name a file: -o ladder.png")
    files = [Path(word) for word in what]
    if all(path.is_file() for path in files):
        if ends:
            raise BadParameter(
                "--ends belongs to a run", why="a capture does not say who made it", todo="use --flow or --pattern"
            )
        drawing, read = _of_captures(files, flow, pattern, most, closing=closing)
    else:
        if flow is not None:
            raise BadParameter("--flow belongs to capture files", why=f"{what[0]} is none", todo="name the attempt of a run")
        drawing, read = _of_run(what, pattern, ends, data, closing=closing), ()
    width = shutil.get_terminal_size((_PIPE_WIDTH, 0)).columns if sys.stdout.isatty() else _PIPE_WIDTH
    makers = {"text": lambda: drawing.text(width), "svg": drawing.svg, "png": drawing.svg, "mermaid": drawing.mermaid}
    text = makers[chosen]()
    if file is None:
        output.data(text)
    else:
        try:
            file.write_bytes(_png(text) if chosen == "png" else text.encode())
        except OSError as error:
            raise UsageError(f"cannot write {file}", why=str(error.strerror)) from error
        output.say(f"wrote {file}")
    finish(read)


def _png(svg: str) -> bytes:
    """The drawing in pixels, two for each of its own.

    Raises:
        MachineCannot: the program for it is not there, or fails.
    """
    import subprocess

    if shutil.which(_RASTERISER) is None:
        raise MachineCannot(
            f"a PNG needs {_RASTERISER}", why="it is not installed", todo="apt install librsvg2-bin, or -o ladder.svg"
        )
    done = subprocess.run([_RASTERISER, "--zoom", "2"], input=svg.encode(), capture_output=True, check=False)
    if done.returncode:
        raise MachineCannot(f"{_RASTERISER} failed", why=done.stderr.decode(errors="replace").strip(), todo="-o ladder.svg")
    return done.stdout


def _of_run(what: list[str], pattern: str, ends: str, data: Path | None, *, closing: bool) -> Ladder:
    from rawpunch.analysis.ladder import ladder_of
    from rawpunch.dataset.store import load

    if len(what) > 2:
        missing = ", ".join(word for word in what if not Path(word).is_file())
        raise UsageError(f"a run has one attempt drawn at a time, and these are no files: {missing}", todo="rawpunch ladder -h")
    dataset = load(what[0], root=data)
    attempt = what[1] if len(what) == 2 else _first(dataset, pattern, ends)
    return ladder_of(dataset, attempt, closing=closing)


def _of_captures(files: list[Path], flow: int | None, pattern: str, most: int, *, closing: bool) -> tuple[Ladder, Sequence[File]]:
    from rawpunch.analysis.capture_ladder import ladder_of_flow
    from rawpunch.capture.classify import classify

    with reading(files) as progress:
        found = classify(files, progress=progress)
    if not len(found):
        finish(found.files)
        raise Unreadable("there is no TCP to draw", why=f"in {', '.join(map(str, files))}", todo="rawpunch decode FILE --head")
    if flow is None:
        flow = _first_flow(found, pattern)
    return ladder_of_flow(found, flow - 1, most=most, closing=closing), found.files


def _first_flow(found: Classified, pattern: str) -> int:
    """The number of the first flow of a pattern, or of the only flow there is."""
    if not pattern:
        if len(found) == 1:
            return 1
        raise UsageError(
            f"there are {len(found)} flows",
            why="a ladder shows one",
            todo="--flow N or --pattern WORD; rawpunch classify lists them",
        )
    from rawpunch.capture.readings import PATTERNS

    codes = [code for code, word in enumerate(PATTERNS) if word == pattern]
    numbers = (found.attempts().pattern == codes[0]).nonzero()[0] if codes else []
    if not len(numbers):
        raise UnknownName(
            f"no flow is {pattern!r}", why=f"the patterns are {', '.join(found.by_pattern())}", todo="rawpunch classify"
        )
    return int(numbers[0]) + 1


def _first(dataset: Dataset, pattern: str, ends: str) -> str:
    attempts = dataset.attempts
    known = sorted(attempts["pattern"].unique())
    if pattern:
        attempts = attempts[attempts["pattern"] == pattern]
    if ends:
        end_a, _, end_b = ends.partition("-")
        attempts = attempts[(attempts["end_a"] == end_a) & (attempts["end_b"] == end_b)]
    if not len(attempts):
        raise UnknownName("no attempt of the run fits", why=f"its patterns are {', '.join(known)}", todo="rawpunch runs show RUN")
    return str(attempts["attempt"].iloc[0])
