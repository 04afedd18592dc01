"""Figures of the lab itself: up and down, delay, capture. Prints one line per figure; run it on a quiet machine.

./dev run python tests/benchmarks/lab_figures.py [rootless|root]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from rawpunch.capture.columns import read_capture
from rawpunch.lab.features import choose_delay_way
from rawpunch.lab.lab import Lab
from rawpunch.scene import Scene
from rawpunch.units import MS

ONE_WAY_NS = 20 * MS
CORE = ("core:a", "in"), ("core:b", "out")
INSIDE = ("hostA:eth0", "out"), ("natA:in", "in")

SEND = """
import socket, sys, time
from rawpunch.clock import spin_until, now_ns
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
count, gap_ns = int(sys.argv[1]), int(sys.argv[2])
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
a, b = Endpoint("10.1.0.2", 4000), Endpoint("203.0.113.2", 5000)
packets = [encode(Segment(a, b, Flags.SYN, 1_000_000 + number)) for number in range(count)]
start = now_ns() + 1_000_000
for number, packet in enumerate(packets):
    at = start + number * gap_ns
    if gap_ns > 500_000:
        time.sleep(max(at - now_ns(), 0) / 1e9)
    else:
        spin_until(at)
    out.sendto(packet, ("203.0.113.2", 0))
print((now_ns() - start) / count)
"""


def up_and_down(rootless: bool) -> None:
    """Build a lab and take it down, from the first system call until the last process is gone."""
    took = []
    for _ in range(21):
        start = time.perf_counter()
        with Lab(Scene.symmetric(ONE_WAY_NS), rootless=rootless):
            up = time.perf_counter()
        took.append((up - start, time.perf_counter() - up))
    up_ms, down_ms = np.median(np.array(took[1:]), axis=0) * 1000
    worst_ms = max(map(sum, took[1:])) * 1000
    print(f"lab up {up_ms:.0f} ms, down {down_ms:.0f} ms; together {up_ms + down_ms:.0f} ms median, {worst_ms:.0f} ms worst")


def delay(lab: Lab, count: int, gap_ns: int, *, inside: bool = False) -> None:
    """Hold packets for 20 ms, in the core or between host and NAT, and compare what the devices before and behind saw."""
    frame = _sent(lab, count, gap_ns)
    (before, came), (behind, went) = INSIDE if inside else CORE
    entered = frame[(frame.interface == before) & (frame.direction == came)].set_index("seq").time_ns
    left = frame[(frame.interface == behind) & (frame.direction == went)].set_index("seq").time_ns
    error_us = (left - entered - ONE_WAY_NS).dropna().to_numpy() / 1000
    p50, p99 = np.percentile(error_us, [50, 99])
    rate = 1e9 / gap_ns
    where = "between host and NAT" if inside else "in the core"
    found = f"error p50 {p50:.0f} us, p99 {p99:.0f} us, n = {len(error_us)} of {count}"
    print(f"delay of 20 ms {where} at {rate:.0f} packets/s: {found}")


def capture(lab: Lab, count: int, gap_ns: int) -> None:
    """Send fast, and count what each vantage point recorded."""
    frame = _sent(lab, count, gap_ns)
    seen = frame[frame.direction.isin(["out", "in"])].groupby("interface", observed=True).size().to_dict()
    rate = 1e9 / gap_ns
    print(f"capture at {rate:.0f} packets/s: {count} sent, {frame.attrs.get('lost')} lost, seen at {seen}")


def _sent(lab: Lab, count: int, gap_ns: int) -> pd.DataFrame:
    lab.flush(None)
    lab.run("hostA", [sys.executable, "-c", SEND, str(count), str(gap_ns)])
    time.sleep(0.2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.pcapng"
        _, lost = lab.flush(path)
        frame = read_capture(path)
    frame.attrs["lost"] = lost
    return frame


def main() -> None:
    """All figures."""
    rootless = "root" not in sys.argv[1:]
    choose_delay_way()
    up_and_down(rootless)
    with Lab(Scene.symmetric(ONE_WAY_NS), rootless=rootless) as lab:
        print(f"{'rootless' if lab.rootless else 'root'}, delay by {lab.way}, priority {lab.delay_priority}")
        lab.record()
        delay(lab, 1_000, 10 * MS)
        delay(lab, 5_000, 1 * MS)
        capture(lab, 60_000, 50_000)
    with Lab(Scene.symmetric(ONE_WAY_NS, inside_ns=ONE_WAY_NS), rootless=rootless) as lab:
        lab.record()
        for inside in (True, False):
            delay(lab, 1_000, 10 * MS, inside=inside)
            delay(lab, 5_000, 1 * MS, inside=inside)
        capture(lab, 60_000, 50_000)
    help_ms = []
    for _ in range(11):
        start = time.perf_counter()
        subprocess.run([str(Path(sys.executable).with_name("rawpunch")), "--help"], stdout=subprocess.DEVNULL, check=True)
        help_ms.append((time.perf_counter() - start) * 1000)
    print(f"rawpunch --help: {np.median(help_ms[1:]):.0f} ms")


if __name__ == "__main__":
    main()
