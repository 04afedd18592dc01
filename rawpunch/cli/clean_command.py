"""rawpunch clean: remove what a lab could have left."""

from __future__ import annotations

from rawpunch.cli import output
from rawpunch.cli.run_command import JsonOption

SCHEMA = "rawpunch.clean/1"


EXAMPLES = ("rawpunch clean",)


def command(json: JsonOption = False) -> None:
    """Take a standing lab down and remove its state file. A lab of a run leaves nothing, even when it is killed; data stay."""
    from rawpunch.lab import standing

    removed = standing.clean()
    if json:
        output.document(SCHEMA, {"removed": removed})
    else:
        output.data("\n".join(f"removed {what}" for what in removed) or "nothing to clean")
