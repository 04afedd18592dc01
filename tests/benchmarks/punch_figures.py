"""How quick a punch is, and whether it succeeds where the oracle says so; run it when the machine is quiet.

    python tests/benchmarks/punch_figures.py first-byte [n]
    python tests/benchmarks/punch_figures.py pairs [count] [seed]

A first byte's time counts from the later of both calls to the later of both first bytes, with the interpreter and its imports
started before. Pairs of personas are drawn, none twice; each side is told the truth about its own NAT, as a complete probe would
find it.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
from typing import Any

from rawpunch.channel import Channel
from rawpunch.errors import RawpunchError
from rawpunch.lab.lab import Lab
from rawpunch.nat import personas
from rawpunch.nat.oracle import Strategy
from rawpunch.punch.known import Known
from rawpunch.punch.plan import make_plan
from rawpunch.scene import Nat, Scene
from rawpunch.units import MS
from tests.punch.report import findings_of

ONE_WAY_NS = 20 * MS
_SERVER = "192.0.2.2:7800"
_numbers = itertools.count()


def start(lab: Lab) -> list[Channel]:
    """The server, and a worker in each host."""
    server = lab.start("obs1", "rawpunch.live.rendezvous_server:serve", {"addresses": ["192.0.2.2"], "ports": [7800]})
    server.receive()
    hosts = [lab.start(host, "tests.live.punch_host:serve", {}) for host in ("hostA", "hostB")]
    for host in hosts:
        host.receive()
    return hosts


def punch(hosts: list[Channel], method: str, findings: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """Both at once."""
    number = next(_numbers)
    for host, known in zip(hosts, findings, strict=True):
        host.send({"server": _SERVER, "token": f"t{number}", "method": method, "findings": known})
    return [host.receive()[0] for host in hosts]


def first_byte(count: int) -> None:
    """Round trips to the first byte, by method."""
    with Lab(Scene.symmetric(ONE_WAY_NS)) as lab:
        hosts = start(lab)
        for method in ("kernel", "raw"):
            punch(hosts, method, ({}, {}))  # caches
            took = []
            for _ in range(count):
                found = punch(hosts, method, ({}, {}))
                began = max(one["began_ns"] for one in found)
                took.append((max(one["first_ns"] for one in found) - began) / (2 * ONE_WAY_NS))
            took.sort()
            share = sum(trips <= 6 for trips in took) / count
            print(
                f"{method}: n={count}, median {statistics.median(took):.2f} round trips of 40 ms, "
                f"p95 {took[int(0.95 * count)]:.2f}, worst {took[-1]:.2f}, {100 * share:.0f} % within 6"
            )


def pairs(count: int, seed: int) -> None:
    """Success against the oracle."""
    names = ("none", *personas.names())
    drawn = random.Random(seed).sample(list(itertools.product(names, names)), count)
    agreed = decided = 0
    for names_of in drawn:
        nats = [None if name == "none" else Nat(persona=name) for name in names_of]
        behaviors = [None if nat is None else nat.behavior for nat in nats]
        plan = make_plan(Known.of_behavior(behaviors[0]), Known.of_behavior(behaviors[1]))
        expected = plan.predicted.strategy is not Strategy.RELAY
        try:
            with Lab(Scene.between(nats[0], nats[1], ONE_WAY_NS)) as lab:
                found = punch(start(lab), "auto", (findings_of(behaviors[0]), findings_of(behaviors[1])))
        except RawpunchError as error:
            print(f"{' - '.join(names_of)}: not measured: {error.what}")
            continue
        opened = all(one.get("byte") == "!" for one in found)
        chance = plan.first.overall is not None and plan.first.overall < 1
        decided += not chance
        agreed += not chance and opened == expected
        print(
            f"{' - '.join(names_of)}: {found[0].get('strategy', 'none')}, the oracle {plan.predicted.strategy}"
            + (f", odds {100 * (plan.first.overall or 0):.1f} %" if chance else "")
            + ("" if opened == expected else f"  <- {'opened' if opened else found[0].get('failed') or found[1].get('failed')}"),
            flush=True,
        )
    print(f"{agreed} of {decided} decided pairs as the oracle says (seed {seed})")


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[2:]]
    if sys.argv[1:2] == ["pairs"]:
        pairs(*(arguments + [30, 1][len(arguments) :]))
    else:
        first_byte(*(arguments or [40]))
