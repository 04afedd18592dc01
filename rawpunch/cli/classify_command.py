"""rawpunch classify: what happened in each handshake of some captures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rawpunch.cli import output
from rawpunch.cli.capture_files import FilesArgument, finish, reading
from rawpunch.cli.run_command import JsonOption

if TYPE_CHECKING:
    from rawpunch.capture.classified import Classified

SCHEMA: Final = "rawpunch.classify/1"

EXAMPLES = (
    "rawpunch classify capture.pcapng",
    "rawpunch classify hostA.pcap natA.pcap natB.pcap hostB.pcap --json",
)

_AT_ONCE: Final = 10_000
_COLUMNS: Final = {
    "flow": "flow",
    "pattern": "pattern",
    "outcome": "outcome",
    "syn": "SYN",
    "syn_ack": "SYN-ACK",
    "rst": "RST",
    "syn_retransmissions": "repeated",
    "icmp_errors": "ICMP",
    "segments": "segments",
    "decided_by": "decided by",
}
_COUNTS: Final = ("#", "SYN", "SYN-ACK", "RST", "repeated", "ICMP", "segments")


def command(
    files: FilesArgument,
    most: Annotated[int, typer.Option("--most", min=0, help="How many flows the table shows; 0 for all. JSON has all.")] = 200,
    json: JsonOption = False,
) -> None:
    """Say for every handshake its wire pattern, its outcome and the packet that decided it.

    Several files of the same traffic, taken at several places, are merged: packets that more than one of them saw count once.
    """
    from rawpunch.capture.classify import classify

    with reading(files) as progress:
        found = classify(files, progress=progress)
    if json:
        output.long_document(SCHEMA, {"totals": totals(found)}, "flows", _rows(found, len(found)))
    else:
        _print(found, most or len(found))
    finish(found.files)


def totals(found: Classified) -> dict[str, Any]:
    """What `--json` says of all flows together."""
    return {
        "segments": found.segments,
        "flows": len(found),
        "by_pattern": found.by_pattern(),
        "skipped": found.skipped(),
    }


def _rows(found: Classified, stop: int) -> Iterator[dict[str, Any]]:
    for start in range(0, stop, _AT_ONCE):
        yield from found.rows(start, min(start + _AT_ONCE, stop))


def _print(found: Classified, most: int) -> None:
    shown = min(most, len(found))
    rows = (
        [number, *("-" if row[name] is None else row[name] for name in _COLUMNS)]
        for number, row in enumerate(_rows(found, shown), 1)
    )
    if shown:
        output.table(["#", *_COLUMNS.values()], rows, right=_COUNTS)
    patterns = ", ".join(f"{pattern} {count}" for pattern, count in found.by_pattern().items())
    output.data(
        f"{found.segments} segments, {len(found)} {'flow' if len(found) == 1 else 'flows'}{': ' if patterns else ''}{patterns}"
    )
    if shown < len(found):
        output.say(f"{len(found) - shown} more flows are not shown; --most 0 shows them all")
