"""Figures of port sampling through the kernel's NAT, and of `scapy.send` with the same SYNs in the same run.

    ./dev run python tests/benchmarks/sampling_figures.py [rootless|root] [COUNT]

hostA sends SYNs through natA (masquerade) to an observer, whose kernel drops them behind its tap. A rate is mappings observed by
the time between the first SYN's leaving and the last one's arrival; the making of the packets and the join are timed as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from rawpunch.lab.lab import Lab
from rawpunch.live.sampling import Connection, Sample, matched
from rawpunch.scene import OBSERVERS, Nat, Scene
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

COUNT: Final = 40_000
BY_SCAPY: Final = 4_000
BAR: Final = 20_000
TIMES: Final = 8

_CONNECTIONS: Final = """
import sys, time, json
from rawpunch.live.sampling import Connection, send, syns
from rawpunch.wire.endpoint import Endpoint
remote, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connections = [
    Connection(first + n, Endpoint("10.1.0.2", 1024 + n % 60000), Endpoint(remote, 7000 + first // 100000)) for n in range(count)
]
"""
OURS: Final = (
    _CONNECTIONS
    + """
began = time.perf_counter()
packets = syns(connections)
made = time.perf_counter() - began
first_ns, last_ns = send(packets)
print(json.dumps({"made_s": made, "first_ns": first_ns, "last_ns": last_ns}))
"""
)
SCAPY: Final = (
    _CONNECTIONS
    + """
from scapy.config import conf
from scapy.layers.inet import IP, TCP
from scapy.sendrecv import send as scapy_send
began = time.perf_counter()
packets = [
    IP(src=c.source.address, dst=c.remote.address, id=0, flags="DF")
    / TCP(sport=c.source.port, dport=c.remote.port, flags="S", seq=c.isn, window=65535,
          options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (c.number, 0)), ("NOP", None), ("WScale", 7)])
    for c in connections
]
made = time.perf_counter() - began
first_ns = time.time_ns()
scapy_send(packets, verbose=0)
print(json.dumps({"made_s": made, "first_ns": first_ns, "last_ns": time.time_ns()}))
"""
)


def measured(lab: Lab, script: str, first: int, count: int, name: str) -> tuple[float, Sample]:
    """Have hostA send, and print what was observed; returns mappings/s."""
    remote = OBSERVERS["obs2"][0]
    connections = [
        Connection(first + n, Endpoint("10.1.0.2", 1024 + n % 60_000), Endpoint(remote, 7000 + first // 100_000))
        for n in range(count)
    ]
    watch = lab.start("obs2", "rawpunch.live.sampling:watch", {"device": "eth0"})
    watch.receive()
    told = json.loads(lab.run("hostA", [sys.executable, "-c", script, remote, str(first), str(count)]))
    time.sleep(1.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrivals.npy"
        lost = watch.ask({"arrivals": str(path)})["lost"]
        rows = np.load(path)
    watch.close()
    began = time.perf_counter()
    sample = matched(connections, rows)
    joined = time.perf_counter() - began
    took = (max(at for at, _ in sample.mapped.values()) - told["first_ns"]) / 1e9
    rate = len(sample.mapped) / took
    kept = sum(end.port == connections[number - first].source.port for number, (_, end) in sample.mapped.items())
    print(
        f"{name}: {count} sent in {(told['last_ns'] - told['first_ns']) / 1e9:.2f} s, {len(sample.mapped)} mapped "
        f"({kept} to their own port), {len(sample.lost)} lost, {lost} lost by the ring; {rate:.0f} mappings/s "
        f"(packets made in {told['made_s']:.2f} s before, joined in {joined:.2f} s after)"
    )
    return rate, sample


def main() -> None:
    """Both ways in one lab; the exit code says whether the bar is reached."""
    words = sys.argv[1:]
    count = next((int(word) for word in words if word.isdecimal()), COUNT)
    scene = Scene.between(Nat(persona="linux-masquerade"), None, 2 * MS)
    with Lab(scene, rootless="root" not in words, nats={"a": "nft"}) as lab:
        lab.run("obs2", ["nft", "-f", "-"], "table ip q { chain p { type filter hook prerouting priority raw; policy drop; }; }")
        slow, _ = measured(lab, SCAPY, 100_000, BY_SCAPY, "scapy.send")
        fast, sample = measured(lab, OURS, 200_000, count, "rawpunch")
    whole = len(sample.mapped) + len(sample.lost) == count
    reached = fast >= BAR and fast >= TIMES * slow and whole
    print(f"{fast / slow:.1f} times scapy.send; bar: {BAR} mappings/s, {TIMES} times: {'reached' if reached else 'missed'}")
    raise SystemExit(not reached)


if __name__ == "__main__":
    main()
