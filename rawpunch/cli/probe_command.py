"""rawpunch probe: what NAT is in front of me, or what the probe makes of a NAT that is known."""

from __future__ import annotations

import json as codec
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rawpunch.cli import output
from rawpunch.cli.hosts import resolved
from rawpunch.cli.nats import NatOption, parse_nat
from rawpunch.cli.run_command import JsonOption, SeedOption
from rawpunch.errors import BadParameter, MachineCannot, PartialData

if TYPE_CHECKING:
    from rawpunch.live.probe_run import Probed
    from rawpunch.probe.confusion import Row
    from rawpunch.scene import Nat

SCHEMA = "rawpunch.probe/1"

EXAMPLES = (
    "rawpunch probe --observer observer.example.org",
    "rawpunch probe --observer 192.0.2.66,192.0.2.67 --inside 192.168.1.77 -o found",
    "rawpunch probe --on lab --nat-a symmetric-sequential --truth",
    "rawpunch probe --on lab --nat-a box:full-cone --one-way 20ms --loss 0.1 --seed 7",
    'rawpunch probe --on lab --nat-a "cmd:python3 my_nat.py" -o found',
    "rawpunch probe --on sim --nat-a carrier-grade-band --json",
)

_REPORT: Final = "report.json"
_PACKETS: Final = "probe.pcapng"


def command(
    observer: Annotated[
        str, typer.Option(metavar="HOST[,HOST2]", help="Where `rawpunch observe` runs, outside the NAT: probe from this machine.")
    ] = "",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The observer's port.")] = 3478,
    inside: Annotated[
        str, typer.Option(metavar="ADDRESS2", help="A second address of this machine; to the NAT it is a second host.")
    ] = "",
    on: Annotated[str, typer.Option(metavar="lab|sim", help="Probe a declared NAT, in the lab or in the simulator.")] = "",
    nat_a: NatOption = "",
    carrier: Annotated[str, typer.Option(metavar="PERSONA|FILE", help="With --on: a second NAT in front of the first.")] = "",
    one_way: Annotated[str, typer.Option(help="With --on: one-way delay between host and observer.")] = "20ms",
    loss: Annotated[float, typer.Option(min=0.0, max=0.9, help="With --on: share of the packets that get lost.")] = 0.0,
    truth: Annotated[
        bool,
        typer.Option("--truth", help="With --on: compare with what the NAT was told to be; exit with 1 if anything is wrong."),
    ] = False,
    timers: Annotated[
        bool, typer.Option("--timers", help="Wait for timers of minutes and hours too: for two hours, or four.")
    ] = False,
    seed: SeedOption = None,
    keep: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Keep report.json and the packets, probe.pcapng, here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Find out what NAT is in front of this machine, or probe a known one in the lab or the simulator.

    An observer outside the NAT answers, sends packets back, and tells what arrived of ours. Each finding says how many
    observations it rests on, how sure it is, and which packets show it; what cannot be told is called not determined.
    A probe takes about 15 s and needs the right to open raw sockets.
    """
    from rawpunch.rng import draw_seed

    drawn = draw_seed() if seed is None else seed
    folder = _folder(keep)
    if observer and on:
        raise BadParameter("--observer and --on exclude each other", todo="leave one out")
    if observer:
        _only_with_on(nat_a=nat_a, carrier=carrier, truth=truth, loss=loss)
        probed, nat = _from_here(observer, port, inside, timers=timers, seed=drawn, folder=folder), None
    elif on in ("lab", "sim"):
        probed, nat = _declared(on, nat_a, carrier, one_way, loss, timers=timers, seed=drawn, folder=folder, truth=truth)
    else:
        raise BadParameter(
            f"there is no driver {on!r}" if on else "nobody is named who could look from outside",
            todo="--observer HOST, where `rawpunch observe` runs; or --on lab",
        )
    compared = _compare(probed, nat) if truth and nat is not None else []
    document = _document(probed, compared, drawn, folder)
    _keep(folder, document)
    if json:
        output.document(SCHEMA, document)
    else:
        _print(probed, compared, folder)
    _finish(probed, compared)


# --- what is probed ---


def _only_with_on(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise BadParameter(f"--{name.replace('_', '-')} goes with --on only", why="with --observer the NAT is what there is")


def _from_here(observer: str, port: int, inside: str, *, timers: bool, seed: int, folder: Path | None) -> Probed:
    import asyncio

    from rawpunch.live.probe_run import Errand, carry_out
    from rawpunch.live.probing import address_towards
    from rawpunch.probe.run import Options

    names = [name.strip() for name in observer.split(",")]
    if len(names) > 2 or not all(names):
        raise BadParameter(f"{observer!r} is not one or two hosts", todo="--observer HOST or --observer HOST,HOST2")
    endpoints = [resolved(name, port, ipv4=True)[0] for name in names]
    insiders = (address_towards(endpoints[0]), inside) if inside else ()
    if len(set(insiders)) < len(insiders):
        raise BadParameter(f"{inside} is the address that is probed from anyway", todo="give another address of this machine")
    capture = folder / _PACKETS if folder else None
    errand = Errand(endpoints[0], insiders, seed, Options(timers=timers), capture)
    output.say(f"asking {endpoints[0]}, seed {seed}")
    with _progress() as told:
        try:
            found = asyncio.run(carry_out(errand, told=told))
        except MachineCannot as error:
            raise _without_raw(error) from error
    if len(endpoints) == 2 and found.report.observer_addresses < 2:
        output.warn(f"the observer does not answer at a second address of its own; {names[1]} was of no use")
    return found


def _without_raw(error: MachineCannot) -> MachineCannot:
    """The same, with the ways out of missing raw sockets."""
    if "raw sockets" not in error.what:
        return error
    return MachineCannot(
        "a probe needs raw sockets, and this user may open none",
        why=error.why,
        todo=f"sudo {sys.executable} -m rawpunch.cli.app probe ..., or give python cap_net_raw; or --on lab, which needs none",
    )


def _declared(
    on: str,
    nat_a: str,
    carrier: str,
    one_way: str,
    loss: float,
    *,
    timers: bool,
    seed: int,
    folder: Path | None,
    truth: bool,
) -> tuple[Probed, Nat | None]:
    from rawpunch.lab.wiring import CARRIER, PROGRAM
    from rawpunch.probe.run import Options
    from rawpunch.study.probing import probe_in_lab, probe_in_sim, scene_for
    from rawpunch.units import parse_duration_ns

    nat, made = parse_nat(nat_a or "linux-masquerade")
    if truth and nat is None:
        raise BadParameter("there is no NAT to compare with", todo="leave --truth out, or name a NAT")
    second, second_made = parse_nat(carrier) if carrier else (None, "")
    if truth and (made.startswith(PROGRAM) or second is not None):
        raise BadParameter("the truth is not known", why="--truth compares with the behaviour of one declared NAT")
    if on == "sim" and PROGRAM in f"{nat_a} {carrier}":
        raise BadParameter("the simulator runs no programs", todo="--on lab")
    scene = scene_for(nat, one_way_ns=parse_duration_ns(one_way), carrier=second, loss=loss)
    options = Options(timers=timers)
    output.say(f"probing {nat_a or 'linux-masquerade'}{f' behind {carrier}' if second is not None else ''}, seed {seed}")
    capture = folder / _PACKETS if folder else None
    if on == "sim":
        return probe_in_sim(scene, seed=seed, options=options, capture=capture), nat
    nats = {"a": made} | ({CARRIER: second_made} if second is not None else {})
    with _progress() as told:
        return probe_in_lab(scene, nats=nats, seed=seed, options=options, capture=capture, told=told), nat


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A line on a terminal's stderr with the number of packets so far, gone at the end; yields the function that takes it."""
    if output.level() < 0 or not sys.stderr.isatty():
        yield lambda _: None
        return
    began = time.monotonic()

    def told(packets: int) -> None:
        sys.stderr.write(f"\r{packets} packets, {time.monotonic() - began:.0f} s ")
        sys.stderr.flush()

    try:
        yield told
    finally:
        sys.stderr.write("\r\x1b[K")


# --- what is said of it ---


def _compare(probed: Probed, nat: Nat) -> list[Row]:
    from rawpunch.probe.confusion import compare

    return compare(probed.report, nat.behavior)


def _folder(keep: Path | None) -> Path | None:
    """The folder to keep things in, made if need be.

    Raises:
        BadParameter: there is a report in it already.
        UsageError: it may not be made.
    """
    if keep is None:
        return None
    from rawpunch.dataset.files import make_folder

    if (keep / _REPORT).exists():
        raise BadParameter(f"there is a {_REPORT} in {keep} already", todo="name another folder")
    make_folder(keep)
    return keep


def _document(probed: Probed, compared: list[Row], seed: int, folder: Path | None) -> dict[str, Any]:
    capture = folder / _PACKETS if folder else None
    return {
        **probed.report.to_json(),
        "seed": seed,
        "took_ns": probed.took_ns,
        "packets": probed.packets,
        "lost": probed.lost,
        "capture": str(capture) if capture and capture.exists() else None,
        "truth": [{"axis": row.axis, "truth": row.truth, "found": row.found, "match": row.match.value} for row in compared],
    }


def _keep(folder: Path | None, document: dict[str, Any]) -> None:
    if folder is None:
        return
    from rawpunch.dataset.files import give_to_user, write_with

    text = codec.dumps({"schema": SCHEMA, **document}, indent=1, ensure_ascii=False) + "\n"
    write_with(folder / _REPORT, lambda path: _write(path, text))
    if (folder / _PACKETS).exists():
        give_to_user(folder / _PACKETS)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _print(probed: Probed, compared: list[Row], folder: Path | None) -> None:
    from rawpunch.cli import probe_text

    report = probed.report
    for line in probe_text.heading(report):
        output.data(line)
    output.data("")
    captured = folder is not None and (folder / _PACKETS).exists()
    columns = [*probe_text.COLUMNS[:-1], *(["packets"] if captured else []), probe_text.COLUMNS[-1]]
    output.table(columns, probe_text.rows(report, with_packets=captured), right=["n"])
    output.data("")
    for line in probe_text.way_out(report):
        output.data(line)
    output.data("")
    output.table(probe_text.REQUIREMENT_COLUMNS, probe_text.requirement_rows(report))
    if compared:
        output.data("")
        rows = [(probe_text.label(row.axis), row.truth, row.found, row.match.value.replace("_", " ")) for row in compared]
        output.table(["axis", "truth", "found", "match"], rows)
    output.data(f"\n{probed.packets} packets in {probed.took_ns / 1e9:.1f} s")
    if folder is not None:
        output.data(f"kept in {folder}{'; the numbers are those of the packets in ' + _PACKETS if captured else ''}")


def _finish(probed: Probed, compared: list[Row]) -> None:
    """End with the exit code that the report deserves.

    Raises:
        PartialData: the probe was broken off.
        typer.Exit: 1 if a finding is wrong.
    """
    for what, count in probed.lost.items():
        if count:
            output.warn(f"{count} packets were {what}")
    if probed.report.broken_off:
        raise PartialData(
            "the probe was broken off", why=probed.report.broken_off, todo="what it had found is above; probe again for the rest"
        )
    if any(row.match.value == "wrong" for row in compared):
        raise typer.Exit(1)
