"""Retries on the loopback until two programs that dial each other are connected, and until one has dialled itself.

    ./dev run python -m tests.benchmarks.loopback_figures [RUNS]

There is no delay on a loopback: a SYN is answered before `connect` returns, by RST where the other one is between two tries. The
two programs are on processors of their own and try as fast as they can, each from a bound port to the other's. A program that
does not bind, and dials a port of the ephemeral range, is given that very port as its own one time in some 28 000, and then
connects to itself.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from rawpunch.analysis.statistics import ecdf

HERE = "127.0.0.1"
PATIENCE_S = 5.0
FIRST_PORT = 21_000


def dial(mine: int, theirs: int, cpu: int, done: Connection) -> None:
    """Try until connected or out of patience; tells tries, seconds and whether it was connected."""
    os.sched_setaffinity(0, {cpu})
    done.send("ready")
    done.recv()
    began = time.monotonic()
    tries, connected = 0, False
    while not connected and time.monotonic() - began < PATIENCE_S:
        tries += 1
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.settimeout(0.2)
            try:
                sock.bind((HERE, mine))
                sock.connect((HERE, theirs))
                connected = True
                done.send((tries, time.monotonic() - began, True))
                done.recv()  # hold it until both have told
            except OSError:
                continue
    if not connected:
        done.send((tries, time.monotonic() - began, False))


def pair(number: int) -> tuple[int, float, bool]:
    """Two programs that dial each other; tries of both together, seconds, and whether they were connected."""
    ports = FIRST_PORT + 2 * number, FIRST_PORT + 2 * number + 1
    cpus = sorted(os.sched_getaffinity(0))
    ends = []
    for (mine, theirs), cpu in zip((ports, ports[::-1]), (cpus[0], cpus[-1]), strict=True):
        ours, its = Pipe()
        process = Process(target=dial, args=(mine, theirs, cpu, its))
        process.start()
        ours.recv()
        ends.append((process, ours))
    for _, ours in ends:
        ours.send("go")
    told = [ours.recv() for _, ours in ends]
    for process, ours in ends:
        ours.send("done")
        process.join()
    return sum(tries for tries, _, _ in told), max(seconds for _, seconds, _ in told), all(ok for _, _, ok in told)


def itself(port: int) -> tuple[int, float, bool]:
    """One program that dials a port nobody listens at, without binding, until it got itself (even ones are given out first)."""
    began, tries = time.monotonic(), 0
    while time.monotonic() - began < 4 * PATIENCE_S:
        tries += 1
        with socket.socket() as sock:
            try:
                sock.connect((HERE, port))
            except OSError:
                continue
            return tries, time.monotonic() - began, sock.getsockname() == sock.getpeername()
    return tries, time.monotonic() - began, False


def show(name: str, found: list[tuple[int, float, bool]]) -> None:
    """Median tries with those that gave up counted as longer."""
    good = [tries for tries, _, ok in found if ok]
    print(f"{name}: {len(good)} of {len(found)} connected")
    if good:
        curve = ecdf([float(tries) for tries in good], [float(tries) for tries, _, ok in found if not ok])
        print(f"  tries: median {curve.quantile(0.5):.0f}, least {min(good)}, most {max(good)}")
    print(f"  seconds: median {statistics.median(seconds for _, seconds, _ in found):.3f}")


def main(runs: int) -> None:
    """Measure both and print."""
    show("two programs, bound ports", [pair(number) for number in range(runs)])
    show("one program, itself", [itself(40_000 + 2 * number) for number in range(max(runs // 4, 3))])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
