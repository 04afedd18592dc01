"""rawpunch runs: what has been measured."""

from __future__ import annotations

from typing import Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import DataOption, JsonOption, document_of, print_tables, print_verdicts
from rawpunch.errors import UsageError

SCHEMA = "rawpunch.runs/1"

EXAMPLES = (
    "rawpunch runs ls",
    "rawpunch runs show raw_vs_kernel",
    "rawpunch runs verify raw_vs_kernel",
    "rawpunch runs rm raw_vs_kernel/20260131-142530-7f3a --yes",
)

app = typer.Typer(no_args_is_help=True, help="Runs on disk: ls, show, verify, rm.")

Run = Annotated[str, typer.Argument(metavar="RUN", help="An experiment (its newest run), experiment/run_id, or a folder.")]


@app.command()
def ls(data: DataOption = None, json: JsonOption = False) -> None:
    """List all runs, newest first."""
    from rawpunch.dataset.store import list_runs

    runs = [
        {
            "run": str(info.path),
            "experiment": info.manifest.experiment,
            "run_id": info.manifest.run_id,
            "status": info.manifest.status,
            "attempts": info.manifest.attempts,
            "seed": info.manifest.seed,
            "created": info.manifest.created.isoformat(timespec="seconds"),
        }
        for info in list_runs(data)
    ]
    if json:
        output.document(SCHEMA, {"runs": runs})
        return
    if not runs:
        output.say("no runs yet; rawpunch demo makes one")
    for run in runs:
        output.data(f"{run['status']:<8} {run['attempts']:>6} attempts  {run['experiment']}/{run['run_id']}  {run['run']}")


@app.command()
def show(run: Run, data: DataOption = None, json: JsonOption = False) -> None:
    """Show one run: its datasheet, what came out, and what that says."""
    from rawpunch.dataset.datasheet import facts, limits
    from rawpunch.dataset.store import load

    dataset = load(run, root=data)
    document = document_of(dataset)
    manifest = dataset.manifest
    if json:
        output.document(SCHEMA, document | {"manifest": manifest.model_dump(mode="json", exclude={"parts", "scenes"})})
        return
    output.data(f"{manifest.experiment}/{manifest.run_id}")
    for name, value in facts(dataset):
        output.data(f"{name:<9} {value}")
    for limit in limits(dataset):
        output.data(f"limit     {limit}")
    for name in ("by_outcome", "by_pattern"):
        output.data(f"{name[3:]}s: " + ", ".join(f"{word} {count}" for word, count in document[name].items()))
    output.data(f"packets that the capture lost: {document['capture_drops']}")
    if document["attempts"]:
        print_tables(dataset)
    print_verdicts(document["verdicts"])


@app.command()
def verify(run: Run, data: DataOption = None, json: JsonOption = False) -> None:
    """Check a run against its manifest: hashes, schemas, counts, references. Exit code 1 if anything is wrong."""
    from rawpunch.dataset.store import find_run, verify

    path = find_run(run, data)
    problems = verify(path)
    if json:
        output.document(SCHEMA, {"run": str(path), "problems": list(problems)})
    else:
        output.data("\n".join(map(str, problems)) or f"{path}: all files are there and as they were written")
    if problems:
        raise typer.Exit(1)


@app.command()
def rm(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: DataOption = None,
) -> None:
    """Remove a run from the disk."""
    from rawpunch.dataset.store import find_run, remove

    path = find_run(run, data)
    if not yes and not typer.confirm(f"remove {path}?", err=True):
        raise UsageError("nothing was removed")
    remove(path)
    output.say(f"removed {path}")
