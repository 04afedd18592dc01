"""What one rendezvous server bears: peers registered, introductions a second, memory. Run it on a quiet machine.

./dev run python tests/benchmarks/rendezvous_figures.py [PEERS [SECONDS [SOAK_SECONDS]]]

The server runs in a process of its own on one core, the peers in another on another core, over the loopback from many of its
addresses. An introduction is the whole of it: one peer asks, both are told, both say that they are ready, both are told to begin.
With SOAK_SECONDS, garbage and slow clients follow for that long, and the server's memory before and after is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import socket
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from rawpunch.live.limits import RendezvousLimits
from rawpunch.live.rendezvous_server import RendezvousServer
from rawpunch.live.sockets import allow_files
from rawpunch.probe.site import Site
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.rendezvous import Go, Introduce, Introduced, Ready, Register, Registered, Start, room_name
from rawpunch.wire.endpoint import Endpoint

ADDRESSES = 200
UNDER_WAY = 64
"""Introductions at a time."""
FINDINGS = {
    axis: messages.Finding(klass="endpoint_independent", detail={"band": [1024, 65_535]})
    for axis in ("mapping", "filtering", "port_allocation", "crossing_syn", "unsolicited_syn", "syn_ack_out")
}


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(port: int, pipe: Connection) -> None:
    """The server's process: it answers every question by how many connections it has."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    limits = RendezvousLimits(
        connections_per_address=1_000, new_connections_per_s=1e6, requests_per_s=1e6, octets=1 << 40, silence_s=3_600, pair_s=60
    )

    async def run() -> None:
        async with RendezvousServer(Site(("127.0.0.1",), (port,)), limits) as server:
            pipe.send(os.getpid())
            while await asyncio.to_thread(pipe.recv):
                pipe.send((len(server.connections), server.counted.introduced, server.counted.started, server.counted.cut_off))

    asyncio.run(run())


class Peer(asyncio.Protocol):
    """One peer, as light as can be: it reads only what it waits for."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.number = 0
        self.begun: asyncio.Queue[None] = asyncio.Queue()
        self.registered = asyncio.get_running_loop().create_future()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.say(Register(id=1, room=self.room, name="peer", findings=FINDINGS))

    def say(self, request: messages.Request) -> None:
        """Send a request."""
        self.transport.write(messages.encode(request))

    def data_received(self, data: bytes) -> None:
        """Be ready as soon as it is introduced."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            match messages.parse_answer(line):
                case Registered(number=number):
                    self.number = number
                    self.registered.set_result(None)
                case Introduced(pair=pair):
                    self.say(Ready(id=2, pair=pair, error_ns=1, tolerance_ns=1_000_000))
                case Start() | Go():
                    self.begun.put_nowait(None)


async def register(port: int, count: int) -> list[tuple[Peer, Peer]]:
    """Register that many peers, two to a room."""
    loop = asyncio.get_running_loop()
    peers: list[Peer] = []
    for begin in range(0, count, 100):
        made = []
        for number in range(begin, min(begin + 100, count)):
            room = room_name(f"room {number // 2}")
            source = (f"127.0.1.{1 + number % ADDRESSES}", 0)
            made.append(loop.create_connection(lambda room=room: Peer(room), "127.0.0.1", port, local_addr=source))  # type: ignore[misc]
        peers += [protocol for _, protocol in await asyncio.gather(*made)]
        await asyncio.gather(*(peer.registered for peer in peers[begin:]))
    return list(zip(peers[::2], peers[1::2], strict=True))


async def introductions(pairs: list[tuple[Peer, Peer]], seconds: float) -> tuple[float, list[float]]:
    """Introduce as fast as it goes, so many at a time: how many a second, and how long each took."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one_after_the_other(own: list[tuple[Peer, Peer]]) -> None:
        while time.perf_counter() < until:
            for a, b in own:
                began = time.perf_counter()
                a.say(Introduce(id=3, to=b.number))
                await asyncio.gather(a.begun.get(), b.begun.get())
                took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other(pairs[number::UNDER_WAY]) for number in range(UNDER_WAY)))
    return len(took) / (time.perf_counter() - began), took


def soak(port: int, seconds: float) -> int:
    """Garbage, and clients who send slowly or read nothing; returns how many connections were made."""
    dice = random.Random(1)
    slow: list[socket.socket] = []
    made = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sock = socket.socket()
        sock.settimeout(1)
        with contextlib.suppress(OSError):
            sock.bind((f"127.0.2.{1 + made % ADDRESSES}", 0))
            sock.connect(("127.0.0.1", port))
            made += 1
            room = room_name(str(dice.random()))
            sock.send(
                dice.choice([dice.randbytes(300), b"{", messages.encode(Register(id=1, room=room)), b"\0\1\0\0", b"{}\n" * 9])
            )
        slow.append(sock)
        if len(slow) > 300:
            slow.pop(dice.randrange(len(slow))).close()
        time.sleep(0.002)
    for sock in slow:
        sock.close()
    return made


async def measure(port: int, pipe: Connection, pid: int, peers: int, seconds: float) -> None:
    """All that needs peers."""
    empty_mb = memory_mb(pid)
    began, used = time.perf_counter(), cpu_s(pid)
    pairs = await register(port, peers)
    took = time.perf_counter() - began
    pipe.send(True)
    connections, *_ = pipe.recv()
    full_mb = memory_mb(pid)
    print(
        f"{connections} peers registered in {took:.1f} s ({(cpu_s(pid) - used) / peers * 1e6:.0f} us of the server's core each);"
        f" its memory {empty_mb:.0f} MB empty, {full_mb:.0f} MB full: {(full_mb - empty_mb) / peers * 1e3:.1f} kB a peer"
    )
    used = cpu_s(pid)
    rate, took_s = await introductions(pairs, seconds)
    each_us = (cpu_s(pid) - used) / len(took_s) * 1e6
    p50, p99 = np.percentile(took_s, [50, 99]) * 1e3
    print(
        f"{rate:.0f} introductions/s with {UNDER_WAY} at a time (p50 {p50:.1f} ms, p99 {p99:.1f} ms, n = {len(took_s)});"
        f" {each_us:.0f} us of the server's core each, that is {1e6 / each_us:.0f}/s a core; memory {memory_mb(pid):.0f} MB"
    )


def main() -> None:
    """All figures."""
    peers = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10
    soak_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    allow_files(peers)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = Endpoint(*free.getsockname()).port
    here, there = multiprocessing.get_context("fork").Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(port, there), daemon=True)
    server.start()
    pid = here.recv()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    asyncio.run(measure(port, here, pid, peers, seconds))
    if soak_s:
        time.sleep(2)
        before_mb = memory_mb(pid)
        for part in range(1, 6):
            made = soak(port, soak_s / 5)
            print(f"soak {part} of 5: {made} connections of garbage, memory {memory_mb(pid) - before_mb:+.1f} MB")
        time.sleep(12)
        here.send(True)
        connections, _, _, cut_off = here.recv()
        print(f"afterwards {connections} connections, {cut_off} cut off, memory {memory_mb(pid) - before_mb:+.1f} MB")
    here.send(False)
    server.join(5)


if __name__ == "__main__":
    main()
