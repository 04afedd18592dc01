"""rawpunch doctor: what this machine can do."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import DataOption, JsonOption
from rawpunch.errors import MachineCannot

if TYPE_CHECKING:
    from rawpunch.lab.doctor import Finding

SCHEMA = "rawpunch.doctor/1"
_MARKS = {"ok": "ok     ", "missing": "MISSING", "without": "without"}


EXAMPLES = (
    "rawpunch doctor",
    "rawpunch doctor --json",
)


def command(data: DataOption = None, json: JsonOption = False) -> None:
    """Say what this machine can do for the lab and raw packets, with the command that mends it. Exit 3: no lab can be built."""
    from rawpunch.dataset.store import data_root
    from rawpunch.lab.doctor import able, examine

    findings = [*examine(data_root(data)), raw_punching()]
    if json:
        output.document(SCHEMA, {"able": able(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mend = f"  -> {finding.mend}" if finding.mend else ""
            output.data(f"{_MARKS[finding.verdict]}  {finding.name:<{width}}  {finding.said}{mend}")
    if not able(findings):
        missing = ", ".join(finding.name for finding in findings if finding.verdict == "missing")
        if json:
            raise typer.Exit(MachineCannot.exit_code)
        raise MachineCannot("this machine cannot build the lab yet", why=f"missing: {missing}", todo="the commands above")


def raw_punching() -> Finding:
    """Whether connections can be opened by raw packets here, outside a lab; and if not, whether they can inside one."""
    from rawpunch.lab.doctor import Finding
    from rawpunch.lab.features import as_in_a_lab
    from rawpunch.live.rights import lacks

    def attempt() -> None:
        if missing := lacks():
            raise MachineCannot("; ".join(missing))

    missing = lacks()
    if not missing:
        return Finding("raw punching", "ok", "raw sockets, packet sockets, the guard and TCP_REPAIR work")
    by_reason: dict[str, list[str]] = {}
    for part, _, why in (lack.partition(": ") for lack in missing):
        by_reason.setdefault(why, []).append(part)
    said_of = "; ".join(f"{', '.join(parts)}: {why}" for why, parts in by_reason.items())
    said = as_in_a_lab(attempt)
    inside = f"inside a lab: {said}" if said else "inside a lab all of it works"
    python = Path(sys.executable).resolve()
    if not any("not permitted" in why for why in missing):
        mend = "use a kernel with CONFIG_PACKET and CONFIG_CHECKPOINT_RESTORE"
    else:
        mend = f"run as root, or sudo setcap cap_net_raw,cap_net_admin+ep {python}"
    return Finding("raw punching", "without", f"{said_of}; the kernel punches instead; {inside}", mend)
