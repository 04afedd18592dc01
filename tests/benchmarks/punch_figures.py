"""How quick a punch is, and whether it succeeds where the oracle says so; run it when the machine is quiet.

    python tests/benchmarks/punch_figures.py first-byte [n]
    python tests/benchmarks/punch_figures.py commands [n]
    python tests/benchmarks/punch_figures.py pairs [count] [seed]      # a count of 0: all of them

A first byte's time counts from the later of both calls to the later of both first bytes, with the interpreter and its imports
started before; of commands, from the later start of both processes, interpreter and all, and beside it in the same run what two
commands of Typer's take that do nothing at all. Pairs of personas (and of no NAT at all)
are drawn, none twice, or all are taken; each side is told the truth about its own NAT, as a complete probe would find it, and
each pair punches by raw packets and by the kernel.
"""

from __future__ import annotations

import itertools
import random
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.errors import RawpunchError
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.nat import personas
from rawpunch.nat.oracle import Strategy
from rawpunch.punch.known import Known
from rawpunch.punch.plan import make_plan
from rawpunch.scene import Nat, Scene
from rawpunch.units import MS
from tests.punch.report import findings_of

ONE_WAY_NS = 20 * MS
_PORTS = [range(first, first + 16) for first in range(7800, 7928, 16)]
"""Of as many servers, a port for each punch in turn: for a minute the last one is at TIME-WAIT there, with external ports that a
NAT made anew gives again."""
METHODS = ("raw", "kernel")
_NOTHING = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None)
@app.command()
def nothing() -> None: pass
app()
"""
_TRIES = 3
_numbers = itertools.count()
_servers = itertools.cycle(f"192.0.2.2:{port}" for ports in _PORTS for port in ports)


def serve(lab: Lab) -> None:
    """Have rendezvous servers run outside."""
    for ports in _PORTS:
        server = lab.start("obs1", "rawpunch.live.rendezvous_server:serve", {"addresses": ["192.0.2.2"], "ports": list(ports)})
        server.receive()


def start(lab: Lab, *, blind: bool = False) -> tuple[list[Channel], list[Channel]]:
    """The server, and a worker in each host; if `blind`, also one in each that makes the first try of a plan and no other."""
    serve(lab)
    both = [
        [lab.start(host, "tests.live.punch_host:serve", {"tries": tries}) for host in ("hostA", "hostB")]
        for tries in ((0, 1) if blind else (0,))
    ]
    for host in itertools.chain(*both):
        host.receive()
    return both[0], both[-1]


def punch(hosts: list[Channel], method: str, findings: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """Both at once."""
    number, server = next(_numbers), next(_servers)
    for host, known in zip(hosts, findings, strict=True):
        host.send({"server": server, "token": f"t{number}", "method": method, "findings": known})
    return [host.receive()[0] for host in hosts]


def nothing() -> float:
    """Round trips that two commands take that do nothing, started at once, to the later end."""
    began_ns = now_ns()
    both = [subprocess.Popen([sys.executable, "-c", _NOTHING]) for _ in range(2)]
    for process in both:
        process.wait()
    return (now_ns() - began_ns) / (2 * ONE_WAY_NS)


def first_byte(count: int, *, commands: bool = False) -> None:
    """Round trips to the first byte, by method: of calls in processes that run already, or of commands."""
    with Lab(Scene.symmetric(ONE_WAY_NS)) as lab:
        if commands:
            serve(lab)
            hosts = [lab.start(host, "tests.benchmarks.command_host:serve", {}) for host in ("hostA", "hostB")]
            for host in hosts:
                host.receive()
        else:
            hosts, _ = start(lab)
        for method in ("kernel", "raw"):
            punch(hosts, method, ({}, {}))  # caches
            took, idle = [], []
            for _ in range(count):
                if commands:
                    idle.append(nothing())
                found = punch(hosts, method, ({}, {}))
                if any(one.get("byte") != "!" for one in found):
                    raise SystemExit(f"a punch failed: {found}")
                began = max(one["began_ns"] for one in found)
                took.append((max(one["first_ns"] for one in found) - began) / (2 * ONE_WAY_NS))
            took.sort()
            share = sum(trips <= 6 for trips in took) / count
            print(
                f"{method}: n={count}, median {statistics.median(took):.2f} round trips of 40 ms, "
                f"p95 {took[int(0.95 * count)]:.2f}, worst {took[-1]:.2f}, {100 * share:.0f} % within 6"
                + (f"; two commands that do nothing: median {statistics.median(idle):.2f}" if commands else "")
            )


@dataclass(slots=True)
class Tally:
    """How often one method did as the oracle says."""

    agreed: int = 0
    decided: int = 0
    hits: int = 0
    chances: int = 0
    odds: float = 0.0


def pairs(count: int, seed: int) -> None:
    """Success against the oracle, by both methods: of a pair that chance has no part in, and of the others together.

    A pair that did not open though it should have is tried again, twice at most: a stall of the machine may have spoiled it. One
    that opened though it should not have counts at once. Told the truth, two who need a relay would try nothing at all; so they
    are told nothing, and open simultaneously once.
    """
    names = ("none", *personas.names())
    drawn = list(itertools.combinations_with_replacement(names, 2))
    if count:
        drawn = random.Random(seed).sample(drawn, count)
    tallies = {method: Tally() for method in METHODS}
    with ExitStack() as labs:
        lab: Lab | None = None
        hosts: list[Channel] = []
        blind: list[Channel] = []
        for names_of in drawn:
            nats = [None if name == "none" else Nat(persona=name) for name in names_of]
            scene = Scene.between(nats[0], nats[1], ONE_WAY_NS)
            try:
                if lab is None or wiring.cables(lab.scene) != wiring.cables(scene):
                    labs.close()
                    lab = labs.enter_context(Lab(scene))
                    hosts, blind = start(lab, blind=True)
                else:
                    lab.change(scene)
                for method in METHODS:
                    _pair(hosts, blind, method, names_of, nats, tallies[method])
            except RawpunchError as error:
                print(f"{' - '.join(names_of)}: not measured: {error.what}", flush=True)
                labs.close()  # whatever it was, the next one gets a lab of its own
                lab = None
    drawn_how = f"{count} drawn, seed {seed}" if count else "all pairs"
    for method, tally in tallies.items():
        print(
            f"{method}: {tally.agreed} of {tally.decided} decided pairs as the oracle says; of {tally.chances} that chance has a "
            f"part in {tally.hits} opened, {tally.odds:.1f} were expected ({drawn_how})"
        )


def _pair(
    hosts: list[Channel], blind: list[Channel], method: str, names: tuple[str, str], nats: list[Nat | None], tally: Tally
) -> None:
    one, other = (None if nat is None else nat.behavior for nat in nats)
    plan = make_plan(Known.of_behavior(one), Known.of_behavior(other))
    expected = plan.predicted.strategy is not Strategy.RELAY
    overall = plan.first.overall
    for _ in range(_TRIES):
        told = (findings_of(one), findings_of(other)) if expected else ({}, {})
        found = punch(hosts if expected else blind, method, told)
        opened = all(said.get("byte") == "!" for said in found)
        if opened or not expected or (overall is not None and overall < 1):
            break
    word = f"{method}: {' - '.join(names)}: {found[0].get('strategy', 'none')}, the oracle {plan.predicted.strategy}"
    if overall is not None and overall < 1:
        tally.chances += 1
        tally.hits += opened
        tally.odds += overall
        print(f"{word}, odds {100 * overall:.1f} %, {'opened' if opened else 'did not open'}", flush=True)
        return
    tally.decided += 1
    tally.agreed += opened == expected
    why = "opened" if opened else found[0].get("failed") or found[1].get("failed")
    print(word + ("" if opened == expected else f"  <- {why}"), flush=True)


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[2:]]
    if sys.argv[1:2] == ["pairs"]:
        pairs(*(arguments + [30, 1][len(arguments) :]))
    else:
        first_byte(*(arguments or [40]), commands=sys.argv[1:2] == ["commands"])
