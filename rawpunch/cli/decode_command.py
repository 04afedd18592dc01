"""rawpunch decode: captures to Parquet, or their first rows on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rawpunch.cli import output
from rawpunch.cli.capture_files import FilesArgument, finish, reading
from rawpunch.cli.run_command import JsonOption
from rawpunch.errors import BadParameter, PartialData, Unreadable, UsageError

if TYPE_CHECKING:
    from rawpunch.capture.records import File

SCHEMA: Final = "rawpunch.decode/1"

EXAMPLES = (
    "rawpunch decode capture.pcapng --head",
    "rawpunch decode *.pcap.gz -o decoded",
)

_SHOWN: Final = (
    "number",
    "time_ns",
    "interface",
    "direction",
    "source",
    "destination",
    "kind",
    "seq",
    "ack",
    "len",
    "ttl",
    "options",
)


def command(
    files: FilesArgument,
    folder: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write one Parquet file per capture here.")
    ] = None,
    head: Annotated[bool, typer.Option("--head", help="Show the first segments of each file instead.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many --head shows.")] = 10,
    json: JsonOption = False,
) -> None:
    """Decode captures: every TCP segment, and every ICMP error about one, a row with typed columns."""
    if head == (folder is not None):
        raise BadParameter(
            "say either where to write or to show" if head else "nothing is asked for",
            todo="-o DIR writes Parquet, --head shows rows",
        )
    if folder is None:
        _show(files, lines, json=json)
        return
    targets = _targets(files, folder)
    pairs, failed = _write(files, targets)
    if json:
        output.document(SCHEMA, {"files": [_document(file) | {"parquet": target} for file, target in pairs]})
    else:
        rows = [(file.path, file.packets, file.rows, _reasons(file), target) for file, target in pairs]
        output.table(["file", "packets", "rows", "skipped", "parquet"], rows, right=["packets", "rows"])
    if failed:
        files_failed = "; ".join(error.what for error in failed)
        raise PartialData(f"{len(failed)} of {len(files)} files could not be read", why=files_failed, todo=failed[0].todo)
    finish([file for file, _ in pairs])


def _write(files: list[Path], targets: list[Path]) -> tuple[list[tuple[File, Path]], list[Unreadable]]:
    """Write all files that can be read; the others' errors come with them.

    Raises:
        Unreadable: none of them can be read.
    """
    from rawpunch.capture.parquet import write_parquet

    written: list[tuple[File, Path]] = []
    failed: list[Unreadable] = []
    with reading(files) as progress:
        for path, target in zip(files, targets, strict=True):
            try:
                written.append((write_parquet(path, target, progress=progress), target))
            except Unreadable as error:
                failed.append(error)
    if not written:
        raise failed[0]
    return written, failed


def _targets(files: list[Path], folder: Path) -> list[Path]:
    """A name for each: the capture's without its ending, or with it where two would have the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}", why=str(error.strerror)) from error
    stems = [path.name.split(".")[0] or path.name for path in files]
    names = [stem if stems.count(stem) == 1 else path.name for stem, path in zip(stems, files, strict=True)]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise BadParameter(f"two files would become {double[0]}.parquet", todo="decode them into different folders")
    return [folder / f"{name}.parquet" for name in names]


def _document(file: File) -> dict[str, Any]:
    return {"file": file.path, "packets": file.packets, "rows": file.rows, "skipped": file.skipped, "noted": file.noted}


def _reasons(file: File) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in file.skipped.items()) or "-"


def _show(files: list[Path], lines: int, *, json: bool) -> None:
    """The first rows of each file; not much more of it is read than these need."""
    from rawpunch.capture.columns import read_head

    heads = [read_head(path, lines) for path in files]
    shown = [[_row(row) for row in table.to_pylist()] for table, _ in heads]
    if json:
        output.document(
            SCHEMA,
            {
                "files": [
                    {"file": path, "head": [{name: row[name] for name in _SHOWN} for row in rows]}
                    for path, rows in zip(files, shown, strict=True)
                ]
            },
        )
    else:
        for path, rows in zip(files, shown, strict=True):
            if len(files) > 1:
                output.data(f"{path}:")
            cells = [["" if row[name] is None else row[name] for name in _SHOWN] for row in rows]
            output.table(_SHOWN, cells, right=["number", "time_ns", "seq", "ack", "len", "ttl"])
    finish([file for _, file in heads])


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a person reads it: endpoints in one word, options in the toolkit's notation."""
    from rawpunch.errors import Malformed
    from rawpunch.wire.endpoint import Endpoint
    from rawpunch.wire.notation import format_options
    from rawpunch.wire.options import decode_options

    options = row["options"]
    if options is not None:
        try:
            options = format_options(decode_options(options))
        except Malformed:
            options = options.hex()
    ends = {name: str(Endpoint(row[f"{name}_address"], row[f"{name}_port"])) for name in ("source", "destination")}
    return row | ends | {"options": options, "len": row["payload_length"]}
