"""rawpunch lab: a standing lab to play in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.nats import NatOption, makes
from rawpunch.cli.run_command import JsonOption
from rawpunch.errors import BadParameter, UsageError

SCHEMA = "rawpunch.lab/1"

EXAMPLES = (
    "rawpunch lab up --one-way 50ms --answer rst",
    "rawpunch lab up --nat-a full-cone --nat-b box:linux-masquerade",
    "rawpunch lab up --dry-run",
    "rawpunch lab status",
    "rawpunch lab shell hostA",
    "rawpunch lab exec natA conntrack -L",
    "rawpunch lab exec core tcpdump -ni a",
    "rawpunch lab down",
)

app = typer.Typer(no_args_is_help=True, help="A standing lab to play in: up, status, shell, exec, down.")

Duration = Annotated[str, typer.Option(help="One-way delay from NAT to NAT: 20ms, 300us.")]
Inside = Annotated[str, typer.Option(help="Delay between each host and its NAT, each way: 5ms.")]


@app.command()
def up(
    scene: Annotated[Path | None, typer.Option(help="A scene file (TOML) instead of the options below.")] = None,
    one_way: Duration = "20ms",
    inside: Inside = "0ms",
    answer: Annotated[str, typer.Option(help="What the NATs answer to an unsolicited SYN: drop, rst, icmp, stack.")] = "drop",
    nat_a: NatOption = "",
    nat_b: NatOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and touch nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Build hostA - natA - core - natB - hostB and two observers, and let them stand until `down`."""
    from rawpunch.lab import standing, wiring
    from rawpunch.lab.features import choose_delay_way
    from rawpunch.lab.lab import Lab
    from rawpunch.scene import SIDES, Scene, UnsolicitedAnswer
    from rawpunch.units import parse_duration_ns

    if answer not in list(UnsolicitedAnswer):
        raise BadParameter(f"{answer!r} is not an answer to an unsolicited SYN", todo="one of drop, rst, icmp, stack")
    if scene:
        declared = Scene.read(scene)
    else:
        delays = parse_duration_ns(one_way), parse_duration_ns(inside)
        declared = Scene.symmetric(delays[0], UnsolicitedAnswer(answer), inside_ns=delays[1])
    nats, made = makes(nat_a, nat_b)
    declared = declared.model_copy(update={f"nat_{side}": nat for side, nat in nats.items()})
    if dry_run:
        how = {side: wiring.made_by(declared, side, made.get(side, wiring.AUTO)) for side in SIDES}
        for command in wiring.describe(declared, choose_delay_way(), how):
            output.data(command)
        return
    if standing.current() is not None:
        raise UsageError("a lab is up already", todo="rawpunch lab down")
    with Lab(declared, nats=made, standing=True) as lab:
        standing.up(lab)
    status(json=json)


@app.command()
def status(json: JsonOption = False) -> None:
    """Say which lab stands, and the addresses of its hosts."""
    from rawpunch.lab import standing, wiring
    from rawpunch.scene import Scene

    lab = standing.required()
    scene = Scene.model_validate(lab.scene)
    addresses: dict[str, list[str]] = {}
    for cable in wiring.cables(scene):
        for end in cable:
            addresses.setdefault(end.node, []).extend([f"{end.name} {address}" for address in end.addresses] or [end.name])
    if json:
        output.document(SCHEMA, {"pid": lab.pid, "rootless": lab.rootless, "nodes": addresses, "scene": lab.scene})
        return
    output.data(f"up, keeper {lab.pid}, {'rootless' if lab.rootless else 'as root'}")
    for node in wiring.nodes(scene):
        output.data(f"  {node:<6} {', '.join(addresses[node])}")
    output.data("rawpunch lab shell hostA, rawpunch lab exec natA nft list ruleset, rawpunch lab down")


@app.command()
def shell(host: Annotated[str, typer.Argument(help="hostA, natA, core, natB, hostB, obs1 or obs2.")]) -> None:
    """Open a shell inside a host of the standing lab."""
    from rawpunch.lab import standing

    standing.execute(standing.required(), host, [os.environ.get("SHELL") or "/bin/sh"])


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    host: Annotated[str, typer.Argument(help="hostA, natA, core, natB, hostB, obs1 or obs2.")],
    command: Annotated[list[str], typer.Argument(help="What to run there.")],
) -> None:
    """Run a command inside a host of the standing lab."""
    from rawpunch.lab import standing

    standing.execute(standing.required(), host, command)


@app.command()
def down(json: JsonOption = False) -> None:
    """Take the standing lab down."""
    from rawpunch.lab import standing

    was_up = standing.down()
    if json:
        output.document(SCHEMA, {"was_up": was_up})
    else:
        output.data("down" if was_up else "no lab was up")
