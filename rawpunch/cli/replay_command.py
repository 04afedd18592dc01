"""rawpunch replay: play a captured flow or a script again, and say what became of each packet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rawpunch.cli import output
from rawpunch.cli.nats import NatOption, makes
from rawpunch.cli.run_command import JsonOption, SeedOption
from rawpunch.errors import BadParameter, UsageError

if TYPE_CHECKING:
    from rawpunch.replay.compare import Comparison
    from rawpunch.replay.flows import Captures
    from rawpunch.replay.script import Script
    from rawpunch.scene import Scene
    from rawpunch.study.replaying import Replay

SCHEMA = "rawpunch.replay/1"

EXAMPLES = (
    "rawpunch replay hostA.pcap hostB.pcap --one-way 50ms",
    "rawpunch replay capture.pcapng --flow 3 --side a --nat-a none --nat-b none",
    "rawpunch replay crossing.txt --nat-a full-cone --nat-b symmetric-sequential",
    "rawpunch replay crossing.txt --on sim --offset 30ms --answer rst --speed 0.5",
    "rawpunch replay capture.pcap --flow 1 --side a --target 127.0.0.1:8080",
    "rawpunch replay capture.pcap --flow 1 --side a --target 192.168.7.9:8080 --policy consented.toml",
)

_SIDES = {"a": "a", "b": "b", "both": "ab"}
_SHOWN_FLOWS = 12
_DISTURBED_NS = 2_000_000
"""Later than this, the packets may have passed each other otherwise than in the capture."""


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="A capture (several of the same traffic: several views), or a script.")
    ],
    flow: Annotated[int | None, typer.Option(min=1, help="Which flow of the capture; needed where it has several.")] = None,
    side: Annotated[str, typer.Option(help="Which side to play: a, b or both; the other host then uses its kernel.")] = "both",
    offset: Annotated[str, typer.Option(metavar="DURATION", help="Start of B after A, instead of the captured one.")] = "",
    speed: Annotated[float, typer.Option(help="How many times faster than captured.")] = 1.0,
    patience: Annotated[str, typer.Option(help="How much later than captured a packet may come before a side gives up.")] = "1s",
    scene: Annotated[Path | None, typer.Option(help="A scene file (TOML) instead of the two options below.")] = None,
    one_way: Annotated[str, typer.Option(help="One-way delay between the hosts: 20ms, 300us.")] = "20ms",
    answer: Annotated[
        str,
        typer.Option(help="What the NATs answer to an unsolicited SYN: drop, rst, icmp, stack; else what the capture shows."),
    ] = "",
    nat_a: NatOption = "",
    nat_b: NatOption = "",
    target: Annotated[
        str, typer.Option("--target", "--to", metavar="ADDRESS:PORT", help="Play one side against this, from here, without lab.")
    ] = "",
    policy: Annotated[
        Path | None,
        typer.Option(
            help="Who consented to be a target (TOML; ~/.config/rawpunch/policy.toml if there is one): "
            "[[target]] with address, ports, consent, expires, packets_per_s, observer. `rawpunch observe` has to run there."
        ),
    ] = None,
    on: Annotated[str, typer.Option(help="Where: lab (kernel hosts and NATs) or sim (virtual time, no privileges).")] = "lab",
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="How often.")] = 1,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless pattern and outcome are as captured.")] = False,
    seed: SeedOption = None,
    keep: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Keep a run below this data folder.")] = None,
    json: JsonOption = False,
) -> None:
    """Play a captured flow again, one side or both, with its timing, and compare it packet by packet."""
    from rawpunch.rng import draw_seed
    from rawpunch.study.replaying import Replay
    from rawpunch.units import parse_duration_ns

    script = _script(files, flow)
    if side not in _SIDES:
        raise BadParameter(f"{side!r} is no side of a flow", todo="one of a, b, both")
    replay = Replay(
        script,
        _SIDES[side],
        parse_duration_ns(offset) if offset else None,
        speed,
        parse_duration_ns(patience),
    )
    drawn = draw_seed() if seed is None else seed
    run: Path | None = None
    if target:
        compared, causes = _against(replay, target, drawn, policy)
    else:
        from rawpunch.replay.middle import middle_of
        from rawpunch.study.replaying import play_and_keep

        middle = middle_of(script)
        if scene is None and not answer:  # sides that had no NAT get none, unless one is asked for
            nat_a, nat_b = nat_a or ("" if "a" in middle.nats else "none"), nat_b or ("" if "b" in middle.nats else "none")
        nats, makers = makes(nat_a, nat_b)
        declared = _scene(scene, one_way, answer or middle.answer).model_copy(
            update={f"nat_{end}": nat for end, nat in nats.items()}
        )
        output.say(f"{script.name}: {script.told.pattern}, {len(script.a.lines)} and {len(script.b.lines)} packets, seed {drawn}")
        made, run = play_and_keep(replay, declared, seed=drawn, repeats=repeat, root=keep, on=on, nats=makers)
        compared = [replayed.comparison for replayed in made]
        causes = [end.cause for replayed in made for end in (replayed.done.a, replayed.done.b) if end.cause]
    if json:
        output.document(SCHEMA, _document(replay, compared, causes, drawn, run))
    else:
        _print(compared, causes)
        if run is not None:
            output.data(f"run: {run}")
    if check and not all(comparison.same_outcome for comparison in compared):
        raise typer.Exit(1)


def _script(files: list[Path], flow: int | None) -> Script:
    from rawpunch.replay.flows import Captures
    from rawpunch.replay.text import is_text, read_text

    if len(files) == 1 and is_text(files[0]):
        if flow is not None and flow != 1:
            raise BadParameter(f"{files[0]} is a script", why="a script has one flow", todo="leave --flow out")
        return read_text(files[0])
    captures = Captures(files)
    for reason, count in captures.skipped.items():
        output.detail(f"skipped {count}: {reason}")
    if flow is None and len(captures) > 1:
        raise UsageError(
            f"{' '.join(map(str, files))} has {len(captures)} flows",
            why="; ".join(_listed(captures)),
            todo="choose one: --flow N",
        )
    return captures.script(flow or 1)


def _listed(captures: Captures) -> list[str]:
    rows = captures.classified.rows(0, _SHOWN_FLOWS)
    lines = [f"{number} is {row['flow']} ({row['pattern']})" for number, row in enumerate(rows, 1)]
    return [*lines, "..."] if len(captures) > len(rows) else lines


def _scene(path: Path | None, one_way: str, answer: str) -> Scene:
    from rawpunch.scene import Scene, UnsolicitedAnswer
    from rawpunch.units import parse_duration_ns

    if path is not None:
        return Scene.read(path)
    if answer not in list(UnsolicitedAnswer):
        raise BadParameter(f"{answer!r} is not an answer to an unsolicited SYN", todo="one of drop, rst, icmp, stack")
    return Scene.symmetric(parse_duration_ns(one_way), UnsolicitedAnswer(answer))


def _against(replay: Replay, target: str, seed: int, policy: Path | None) -> tuple[list[Comparison], list[str]]:
    """One side, from here, against a live target."""
    from rawpunch.live.replay_alone import check_target, play_alone
    from rawpunch.replay.compare import compare
    from rawpunch.replay.script import script_of
    from rawpunch.rng import stream
    from rawpunch.wire.endpoint import Endpoint

    endpoint = Endpoint.parse(target)
    check_target(endpoint, policy)
    parts = replay.parts()
    if len(parts) != 1:
        raise BadParameter("a target takes the place of one side", todo="say which side to play: --side a, or --side b")
    ((side, part),) = parts.items()
    dice = stream(seed, "replay")
    local_port, iss = dice.randrange(20_000, 60_000), dice.randrange(1 << 28, 1 << 32)
    player, cause = play_alone(part, endpoint, local_port=local_port, iss=iss, policy=policy)
    seen = script_of("replay", [player.view()])
    return [compare(replay.script, seen, speed=replay.speed, sides=side)], [cause] if cause else []


def _document(replay: Replay, compared: list[Comparison], causes: list[str], seed: int, run: Path | None) -> dict[str, Any]:
    return {
        "script": replay.script.name,
        "sides": replay.sides,
        "speed": replay.speed,
        "start_ns": replay.start_ns,
        "seed": seed,
        "run": run,
        "same_outcome": all(comparison.same_outcome for comparison in compared),
        "causes": causes,
        "timing_error_ns": _timing(compared),
        "replays": [comparison.to_document() for comparison in compared],
    }


def _timing(compared: list[Comparison]) -> dict[str, Any]:
    import numpy as np

    errors = [error for comparison in compared for error in comparison.errors_ns]
    if not errors:
        return {"n": 0, "p50": None, "p99": None}
    p50, p99 = np.percentile(np.abs(errors), [50, 99])
    return {"n": len(errors), "p50": int(p50), "p99": int(p99)}


def _print(compared: list[Comparison], causes: list[str]) -> None:
    from rawpunch.units import format_duration

    first = compared[0]
    output.table(
        ["at ms", "host", "", "packet", "captured", "replayed", "fate", "late us"],
        [
            (
                f"{row.at_ns / 1e6:.3f}",
                row.side.upper(),
                "sent" if row.sent else "got",
                row.kind,
                "-" if row.number is None else f"#{row.number}",
                "-" if row.replayed_number is None else f"#{row.replayed_number}",
                "; ".join((row.fate.value, *row.fields)),
                "" if row.error_ns is None else f"{row.error_ns / 1e3:.0f}",
            )
            for row in first.rows
        ],
        right=["at ms", "captured", "replayed", "late us"],
    )
    output.data("")
    if len(compared) > 1:
        same = sum(comparison.same_outcome for comparison in compared)
        output.data(f"the first of {len(compared)} replays; {same} ended as captured")
    document = first.to_document()
    for name in ("captured", "replayed"):
        output.data(f"{name}: {document[name]['pattern']}, {document[name]['outcome'] or 'outcome not shown'}")
    output.data(f"packets: {', '.join(f'{count} {fate}' for fate, count in first.totals.items() if count)}")
    output.data(f"first difference: {document['first_difference'] or 'none'}")
    for cause in dict.fromkeys(causes):
        output.data(f"given up: {cause}")
    timing = _timing(compared)
    if timing["n"]:
        output.data(
            f"timing error: p50 {format_duration(timing['p50'])}, p99 {format_duration(timing['p99'])}, n = {timing['n']} packets"
        )
        if timing["p99"] > _DISTURBED_NS:
            late = format_duration(timing["p99"])
            output.warn(f"a packet left {late} off its instant: the machine was busy, so play it again")
