"""rawpunch doctor: what this machine can do."""

from __future__ import annotations

from dataclasses import asdict

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import DataOption, JsonOption
from rawpunch.errors import MachineCannot

SCHEMA = "rawpunch.doctor/1"
_MARKS = {"ok": "ok     ", "missing": "MISSING", "without": "without"}


EXAMPLES = (
    "rawpunch doctor",
    "rawpunch doctor --json",
)


def command(data: DataOption = None, json: JsonOption = False) -> None:
    """Say what this machine can do for the lab, one line each, with the command that mends it. Exit 3: no lab can be built."""
    from rawpunch.dataset.store import data_root
    from rawpunch.lab.doctor import able, examine

    findings = list(examine(data_root(data)))
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
