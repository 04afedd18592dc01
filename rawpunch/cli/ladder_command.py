"""rawpunch ladder: draw one attempt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import DataOption
from rawpunch.errors import BadParameter, UnknownName, UsageError

if TYPE_CHECKING:
    from rawpunch.dataset.store import Dataset

_FORMATS = ("text", "svg", "mermaid")
_ENDINGS = {".svg": "svg", ".mmd": "mermaid", ".md": "mermaid", ".txt": "text"}


EXAMPLES = (
    "rawpunch ladder raw_vs_kernel --pattern simultaneous",
    "rawpunch ladder raw_vs_kernel c001-r0003 -o crossing.svg",
)


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="An experiment (its newest run), experiment/run_id, or a folder.")],
    attempt: Annotated[str, typer.Argument(help="The attempt's name; without one, the first that fits.")] = "",
    pattern: Annotated[str, typer.Option(help="The first attempt of this wire pattern.")] = "",
    ends: Annotated[str, typer.Option(help="The first attempt of these ends, e.g. raw-kernel.")] = "",
    form: Annotated[str, typer.Option("--format", help="text, svg or mermaid; told from the file's ending otherwise.")] = "",
    file: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")] = None,
    data: DataOption = None,
) -> None:
    """Draw an attempt to time scale, every vantage point a lane, crossings visible."""
    from rawpunch.analysis.ladder import ladder_of
    from rawpunch.dataset.store import load

    chosen = form or (_ENDINGS.get(file.suffix, "text") if file else "text")
    if chosen not in _FORMATS:
        raise BadParameter(f"{chosen!r} is not a form of ladder", todo="one of text, svg, mermaid")
    dataset = load(run, root=data)
    drawing = ladder_of(dataset, attempt or _first(dataset, pattern, ends))
    text: str = {"text": drawing.text, "svg": drawing.svg, "mermaid": drawing.mermaid}[chosen]()
    if file is None:
        output.data(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}", why=str(error.strerror)) from error
    output.say(f"wrote {file}")


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
