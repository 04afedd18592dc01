"""The probe against the truth in the simulator: every persona, many seeds, the confusion table.

./dev run python tests/benchmarks/probe_figures.py [SEEDS] [LOSS] [PERSONA ...]
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from rawpunch.nat import personas
from rawpunch.probe.confusion import Match, Row, compare
from rawpunch.probe.run import probe
from rawpunch.scene import Leg, Nat, Scene
from rawpunch.sim.probing import SimGround
from rawpunch.units import MS, SECOND

ONE_WAY_NS = 20 * MS
SEEDS = 20


def probed(persona: str, seed: int, loss: float = 0) -> tuple[list[Row], int]:
    """The rows of one probe, and how long it took in virtual time (ns)."""
    nat = Nat(persona=persona)
    scene = Scene(nat_a=nat, nat_b=None, leg_a=Leg(up_ns=ONE_WAY_NS, down_ns=ONE_WAY_NS, loss=loss))
    ground = SimGround(scene, seed=seed)
    began = ground.now()
    report = ground.run(probe(ground))
    return compare(report, nat.behavior), ground.now() - began


def table(seeds: int, loss: float, names: list[str]) -> None:
    """Print what was found for each truth, axis by axis, and the shares."""
    counts: Counter[Row] = Counter()
    wrong: list[str] = []
    longest_ns, began = 0, time.perf_counter()
    for persona in names:
        for seed in range(seeds):
            rows, took_ns = probed(persona, seed, loss)
            longest_ns = max(longest_ns, took_ns)
            counts.update(rows)
            wrong += [
                f"{persona} seed {seed}: {row.axis} is {row.truth}, found {row.found}" for row in rows if row.match is Match.WRONG
            ]
    print(f"{'axis':18} {'truth':28} {'found':28} {'':15} n")
    for row, count in sorted(counts.items(), key=lambda item: (item[0].axis, item[0].truth, item[0].found)):
        print(f"{row.axis:18} {row.truth:28} {row.found:28} {row.match:15} {count}")
    total, by_match = counts.total(), Counter(dict.fromkeys(Match, 0))
    for row, count in counts.items():
        by_match[row.match] += count
    tested = total - by_match[Match.NOT_TESTED]
    print(f"\n{len(names)} personas x {seeds} seeds, loss {loss:g}: {tested} findings in {time.perf_counter() - began:.0f} s")
    for match in (Match.RIGHT, Match.WRONG, Match.NOT_DETERMINED):
        print(f"  {match:15} {by_match[match]:6} {by_match[match] / max(1, tested):8.3%}")
    print(f"  {'not tested':15} {by_match[Match.NOT_TESTED]:6}  longest probe {longest_ns / SECOND:.1f} s at 20 ms one way")
    for line in wrong:
        print("WRONG", line)


if __name__ == "__main__":
    given = sys.argv[1:]
    table(
        int(given[0]) if given else SEEDS,
        float(given[1]) if len(given) > 1 else 0,
        given[2:] or list(personas.names()),
    )
