"""Transfers over handed-over sockets against kernel-born ones, on one path, taking turns. Run it on a quiet machine.

./dev run python tests/benchmarks/handover_figures.py [PAIRS [OCTETS [ONE_WAY]]]

Each turn opens one connection by a simultaneous open through two NATs, by both ends raw with a handover or by both kernels, sends
octets from A to B and closes. A retransmission is called one of the handover if what it repeats had left before the first round
trip after the handover was over: later ones are the path's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rawpunch.analysis.statistics import ratio_of_medians, wilson
from rawpunch.capture.columns import read_capture
from rawpunch.lab.lab import Lab
from rawpunch.scene import Scene
from rawpunch.units import MS, parse_duration_ns
from tests.live.test_handover_lab import Pair

BAR = 0.95
METHODS = ("raw", "kernel")


@dataclass(frozen=True, slots=True)
class Turn:
    """One connection, from its first SYN until it was closed."""

    method: str
    octets_per_s: float
    retransmissions: int
    """tcpi_total_retrans of both ends."""
    early: int
    """Segments at the wire that repeat one which left in the first round trip after the opening."""
    rst: int


def turn(pair: Pair, method: str, octets: int, folder: Path) -> Turn:
    """Make one."""
    port = pair.port()
    pair.lab.flush(None)
    a, b = pair.connect(port, (method, method))
    if (a.get("method"), b.get("method")) != (method, method):
        raise SystemExit(f"no connection by {method}: {a}, {b}")
    pulled = pair.tell("b", do="pull", port=port, count=octets)
    began_ns = pair.ask("a", do="push", port=port, count=octets)["began_ns"]
    ended_ns = pair.answer(pulled)["ended_ns"]
    infos = pair.both(do="info", port=port)
    pair.both(do="close", port=port)
    one_way_ns = max(pair.lab.scene.one_way_ns)
    time.sleep(4 * one_way_ns / 1e9)
    pair.lab.flush(folder / "turn.pcapng")
    frame = read_capture(folder / "turn.pcapng")
    frame = frame[frame.interface.isin(["hostA:eth0", "hostB:eth0"]) & (frame.direction == "out")].sort_values("time_ns")
    return Turn(
        method=method,
        octets_per_s=octets / (ended_ns - began_ns) * 1e9,
        retransmissions=sum(info["retransmissions"] for info in infos),
        early=early_repeats(frame, one_way_ns),
        rst=int(frame.kind.str.startswith("RST").sum()),
    )


def early_repeats(frame: pd.DataFrame, one_way_ns: int) -> int:
    """Segments that repeat one which left before a round trip after the opening was over: SYNs and SYN-ACKs too."""
    opened_ns = frame[frame.kind == "ACK"].time_ns.min()
    held = frame[frame.payload_length > 0].drop_duplicates(["interface", "seq"])
    first = held[held.time_ns < opened_ns + 4 * one_way_ns]
    text = frame[frame.payload_length > 0]
    repeats = text[text.duplicated(["interface", "seq"])].merge(first, on=["interface", "seq"])
    opening = frame[frame.kind.isin(["SYN", "SYN-ACK"])]
    return len(repeats) + int(opening.duplicated(["interface", "kind"]).sum())


def main() -> None:
    """All figures."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    octets = int(sys.argv[2]) if len(sys.argv) > 2 else 4 << 20
    one_way_ns = parse_duration_ns(sys.argv[3]) if len(sys.argv) > 3 else 5 * MS
    turns: list[Turn] = []
    with tempfile.TemporaryDirectory() as folder, Lab(Scene.symmetric(one_way_ns)) as lab:
        lab.record()
        pair = Pair(lab)
        for number in range(pairs):
            turns += [turn(pair, method, octets, Path(folder)) for method in METHODS[:: 1 if number % 2 else -1]]
    speeds = {method: [made.octets_per_s for made in turns if made.method == method] for method in METHODS}
    ratio = ratio_of_medians(speeds["raw"], speeds["kernel"])
    print(f"{octets} octets, one way {one_way_ns / MS:g} ms, {pairs} connections each way, taking turns")
    for method in METHODS:
        mine = [made for made in turns if made.method == method]
        name = "handed over" if method == "raw" else "kernel-born"
        spread = np.percentile(speeds[method], [5, 50, 95]) / 1e6
        print(
            f"{name}: {spread[1]:.1f} MB/s (p5 {spread[0]:.1f}, p95 {spread[2]:.1f}); connections with a retransmission at all"
            f" {sum(made.retransmissions > 0 for made in mine)} of {len(mine)}, with one of the opening"
            f" {sum(made.early > 0 for made in mine)}; RSTs {sum(made.rst for made in mine)}"
        )
    clean = sum(made.early == 0 for made in turns if made.method == "raw")
    share = wilson(clean, pairs)
    print(f"handovers without a retransmission of their own: {clean} of {pairs} [{share.low:.3f}, {share.high:.3f}]")
    print(f"throughput, handed over to kernel-born: {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], bar {BAR}")


if __name__ == "__main__":
    main()
