"""Figures of a NAT in user space: packets it passes without loss, and the time that it adds. Run it on a quiet machine.

    ./dev run python tests/benchmarks/box_figures.py [rootless|root] [PERSONA ...]

Ready frames leave hostA at a steady rate for an observer, whose kernel drops them. What came to the box, left it and reached the
observer is counted by the kernel at the devices; the added latency is the time between the capture time stamps of a packet at the
box's two devices.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from rawpunch.capture.columns import read_capture
from rawpunch.lab.boxes import OVERRUN
from rawpunch.lab.lab import Lab
from rawpunch.scene import OBSERVERS, Nat, Scene
from rawpunch.units import MS

RATE: Final = 20_000
"""Packets/s that are to pass without loss."""
SECONDS: Final = 3
CALM: Final = 1_000
"""Packets/s at which the added latency is measured."""
ESTABLISHED: Final = 64
"""Connections that established traffic is spread over; the kernels of both hosts open them, ready frames follow."""
PERSONAS: Final = ("linux-masquerade", "rfc5382-model", "sequence-rewriter")

SEND: Final = """
import json, socket, sys, time
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.options import Mss, Nop, SackPermitted, Timestamps, WindowScale

kind, header, remote, rate, count, first = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
ports = range(1024, 64_024)
open_ports = range(64_100 + first, 64_100 + first + %d)
held = []
if kind == "traffic":
    for port in open_ports:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        sock.settimeout(5)
        sock.bind(("10.1.0.2", port))
        sock.connect((remote, 6000))
        held.append(sock)

def segment(number):
    if kind == "new":
        options = (Mss(1460), SackPermitted(), Timestamps(number, 0), Nop(), WindowScale(7))
        there = Endpoint(remote, 7000 + number // len(ports))
        return Segment(Endpoint("10.1.0.2", ports[number % len(ports)]), there, Flags.SYN, 1_000_000 + number, options=options)
    if kind == "traffic":
        mine = Endpoint("10.1.0.2", open_ports[number % len(open_ports)])
        stamps = (Nop(), Nop(), Timestamps(number, number))
        return Segment(mine, Endpoint(remote, 6000), Flags.ACK, 1_000_000 + number, 5, options=stamps, payload=bytes(100))
    raise SystemExit(kind)

frames = [header + encode(segment(number)) for number in range(first, first + count)]
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
out.bind(("eth0", 0x0800))
start = time.perf_counter()
sent = 0
while sent < count:
    due = min(count, int((time.perf_counter() - start) * rate) + 1)
    while sent < due:
        out.send(frames[sent])
        sent += 1
    time.sleep(0.0002)
print(json.dumps({"rate": count / (time.perf_counter() - start)}))
""".replace("%d", str(ESTABLISHED))

QUIET: Final = """
table ip quiet {
  chain prerouting {
    type filter hook prerouting priority raw; policy drop;
    tcp dport 6000 ip length < 100 accept
  }
}
"""
"""What the observer's kernel sees: handshakes to its port 6000, nothing of what is counted."""

COUNTED: Final = (("natA", "in", "rx"), ("natA", "out", "tx"), ("obs1", "eth0", "rx"))


def _counts(lab: Lab) -> list[int]:
    """Packets that came to the box, left it, and reached the observer, as the kernel counts them."""
    found = []
    for node, device, way in COUNTED:
        (told,) = json.loads(lab.run(node, ["ip", "-s", "-j", "link", "show", "dev", device]))
        found.append(int(told["stats64"][way]["packets"]))
    return found


def _send(lab: Lab, kind: str, rate: int, count: int, first: int) -> float:
    """Have hostA send; returns the rate that it reached, in packets/s."""
    header = "0200000000010200000000020800"
    (link,) = json.loads(lab.run("hostA", ["ip", "-j", "link", "show", "dev", "eth0"]))
    (router,) = json.loads(lab.run("natA", ["ip", "-j", "link", "show", "dev", "in"]))
    header = f"{router['address']}{link['address']}0800".replace(":", "")
    words = [kind, header, OBSERVERS["obs1"][0], str(rate), str(count), str(first)]
    told = json.loads(lab.run("hostA", [sys.executable, "-c", SEND, *words]))
    return float(told["rate"])


def _settled(lab: Lab) -> list[int]:
    """The counts once nothing is on its way any more."""
    counts = _counts(lab)
    while True:
        time.sleep(0.5)
        if (again := _counts(lab)) == counts:
            return counts
        counts = again


def passed(lab: Lab, kind: str, rate: int, first: int) -> int:
    """Send at a rate, and print what was lost where; returns what the box lost."""
    before, knew = _settled(lab), Counter(lab.refusals("a"))
    reached = _send(lab, kind, rate, rate * SECONDS, first)
    came, left, arrived = (now - then for now, then in zip(_settled(lab), before, strict=True))
    refused = Counter(lab.refusals("a")) - knew
    overrun = refused.pop(OVERRUN, 0)
    lost = came - left - refused.total()
    print(
        f"{kind} at {reached:.0f} packets/s for {SECONDS} s: {came} came to the box, {left} left it, {refused.total()} refused "
        f"{dict(refused)}, {lost} lost ({overrun} since it was behind); {arrived} reached the observer"
    )
    return lost


def latency(lab: Lab, kind: str, rate: int, first: int) -> float:
    """Send slowly, and print the time between the box's devices; returns its median in us."""
    lab.flush(None)
    _send(lab, kind, rate, rate * SECONDS, first)
    _settled(lab)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.pcapng"
        lab.flush(path)
        frame: pd.DataFrame = read_capture(path)
    mine = frame[(frame.kind == "SYN") & (frame.destination_port > 6000) | (frame.payload_length == 100)]
    came = mine[(mine.interface == "natA:in") & (mine.direction == "in")].sort_values("number")
    left = mine[(mine.interface == "natA:out") & (mine.direction == "out")].sort_values("number")
    if len(came) != len(left):
        print(f"{kind} at {rate} packets/s: {len(came)} came to the box and {len(left)} left it: no latency can be told")
        return float("inf")
    # a box passes packets in their order
    added_us = (left.time_ns.to_numpy() - came.time_ns.to_numpy()) / 1000
    p50, p99 = np.percentile(added_us, [50, 99])
    print(f"{kind} at {rate} packets/s: added latency p50 {p50:.0f} us, p99 {p99:.0f} us, n = {len(added_us)}")
    return float(p50)


def main() -> None:
    """All figures; the exit code says whether they reach the bar."""
    words = sys.argv[1:]
    personas = [word for word in words if word not in {"root", "rootless"}] or PERSONAS
    missed = []
    for persona in personas:
        scene = Scene.between(Nat(persona=persona), None, 2 * MS)
        with Lab(scene, rootless="root" not in words, nats={"a": "box"}) as lab:
            lab.run("obs1", ["nft", "-f", "-"], QUIET)
            server = {"addresses": [OBSERVERS["obs1"][0]], "ports": [6000], "raw": False}
            lab.start("obs1", "rawpunch.live.observer:serve", server).receive()
            print(f"\n{persona}, {'rootless' if lab.rootless else 'root'}")
            lost = passed(lab, "new", RATE, 0) + passed(lab, "traffic", RATE, 0)
            lab.record()
            slow = max(latency(lab, "new", CALM, RATE * SECONDS), latency(lab, "traffic", CALM, 2 * ESTABLISHED))
            missed += [persona] * (lost > 0 or slow > 150)
    print(f"\nbar: {RATE} packets/s without loss, p50 <= 150 us: {'missed by ' + ', '.join(missed) if missed else 'reached'}")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
