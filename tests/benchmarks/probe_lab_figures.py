"""How often the probe is right in the lab: every persona, every realisation, several seeds.

    python tests/benchmarks/probe_lab_figures.py [--seeds 20] [--jobs 4] [--only PERSONA ...] [--made nft box cmd] [--loss 0.1]
        [--first-seed 0] [--minutes 30]

Prints what was wrong or not determined, a confusion table by axis, the share of findings that were not determined, and how long
a probe takes. To be run on a quiet machine; a job is a lab of its own and mostly waits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from rawpunch.errors import RawpunchError
from rawpunch.lab import wiring
from rawpunch.lab.nat_rules import inexpressible
from rawpunch.nat import personas
from rawpunch.probe.confusion import Match, compare
from rawpunch.scene import Nat
from rawpunch.study.probing import probe_in_lab, scene_for
from rawpunch.units import MS, SECOND

MADE = (wiring.RULES, wiring.BOX, "cmd")


@dataclass(frozen=True)
class Task:
    """One probe."""

    persona: str
    made: str
    seed: int
    one_way_ns: int
    loss: float


@dataclass(frozen=True)
class Done:
    """What came of it."""

    task: Task
    rows: tuple[tuple[str, str, str, str, str], ...] = ()
    """Axis, truth, found, match, why."""
    took_ns: int = 0
    error: str = ""
    broken_off: str = ""


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """All probes, seed by seed, so that a run that is cut short has seen everything."""
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for persona in options.only or personas.names():
            nat = Nat(persona=persona)
            for made in options.made:
                if made == wiring.RULES and inexpressible(nat):
                    continue
                if made == "cmd" and nat.behavior.external_addresses > 1:
                    continue  # a program gets one address
                yield Task(persona, made, seed, round(options.one_way_ms * MS), options.loss)


def carry_out(task: Task) -> Done:
    """Probe in a lab of its own."""
    program = f"{wiring.PROGRAM}{sys.executable} -m rawpunch.lab.box_program {task.persona} {task.seed}"
    made = program if task.made == "cmd" else task.made
    # a program is given what any NAT is given: the lab does not know what it is
    nat = Nat() if task.made == "cmd" else Nat(persona=task.persona)
    scene = scene_for(nat, one_way_ns=task.one_way_ns, loss=task.loss)
    try:
        probed = probe_in_lab(scene, nats={"a": made}, seed=task.seed)
    except RawpunchError as error:
        return Done(task, error=f"{error.what}; {error.why}")
    found = tuple(
        (row.axis, row.truth, row.found, row.match.value, probed.report.findings[row.axis].why)
        if row.axis in probed.report.findings
        else (row.axis, row.truth, row.found, row.match.value, "")
        for row in compare(probed.report, Nat(persona=task.persona).behavior)
    )
    return Done(task, found, probed.took_ns, broken_off=probed.report.broken_off)


def show(done: list[Done], elapsed_s: float) -> int:
    """Print the figures; returns the number of wrong findings and failed probes."""
    matches: Counter[str] = Counter()
    by_axis: dict[str, Counter[tuple[str, str]]] = {}
    for probe in done:
        name = f"{probe.task.persona} by {probe.task.made}, seed {probe.task.seed}"
        if probe.error or probe.broken_off:
            print(f"{'FAILED' if probe.error else 'BROKEN OFF':<15} {name}: {probe.error or probe.broken_off}")
        for axis, truth, found, match, why in probe.rows:
            matches[match] += 1
            if match != Match.NOT_TESTED:
                shown = (truth, found) if match != Match.RIGHT else (truth, "right")
                by_axis.setdefault(axis, Counter())[shown] += 1
            if match in (Match.WRONG, Match.NOT_DETERMINED):
                print(f"{match.upper():<15} {name}: {axis} is {truth}, found {found} ({why})")
    print("\nconfusion (truth -> found: times)")
    for axis, counts in by_axis.items():
        print(f"  {axis}")
        for (truth, found), count in sorted(counts.items()):
            print(f"    {truth:<28} -> {found:<28} {count}")
    decided = sum(count for match, count in matches.items() if match != Match.NOT_TESTED)
    undetermined = matches[Match.NOT_DETERMINED]
    print(f"\nprobes {len(done)}, failed {sum(bool(probe.error) for probe in done)}, in {elapsed_s:.0f} s")
    print(f"findings tested {decided}: right {matches[Match.RIGHT]}, wrong {matches[Match.WRONG]}, ", end="")
    print(f"not determined {undetermined} ({undetermined / max(1, decided):.2%}); not tested {matches[Match.NOT_TESTED]}")
    times = sorted(probe.took_ns / SECOND for probe in done if probe.took_ns)
    if times:
        print(f"duration of a probe: p50 {statistics.median(times):.1f} s, max {times[-1]:.1f} s")
    return matches[Match.WRONG] + sum(bool(probe.error) for probe in done)


def main() -> int:
    """Carry out all probes and print the figures; 1 if any finding is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="begin no probe after that time")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--only", nargs="*", default=[], metavar="PERSONA")
    parser.add_argument("--made", nargs="*", default=list(MADE), choices=MADE)
    parser.add_argument("--one-way-ms", type=float, default=20.0)
    parser.add_argument("--loss", type=float, default=0.0)
    options = parser.parse_args()
    began = time.monotonic()
    done: list[Done] = []
    todo = list(tasks(options))
    with ProcessPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(carry_out, task) for task in todo]
        for future in as_completed(futures):
            if future.cancelled():
                continue
            done.append(future.result())
            if options.minutes and time.monotonic() > began + 60 * options.minutes:
                for waiting in futures:
                    waiting.cancel()
            if sys.stderr.isatty():
                print(f"\r{len(done)}/{len(todo)} ", end="", file=sys.stderr)
    return 1 if show(sorted(done, key=lambda probe: str(probe.task)), time.monotonic() - began) else 0


if __name__ == "__main__":
    sys.exit(main())
