"""Figures of the spray: its rate, its cost in CPU seconds beside hping3's in the same run, and whether each SYN is accounted for.

    ./dev run python tests/benchmarks/spray_figures.py [SYNs]

Two network namespaces joined by a veth pair; in the far one nft counts and drops what comes. Nothing outside them is touched.
Without hping3 (a Debian package) its line is left out, and said so.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from rawpunch.lab.namespaces import become_root_inside, new_network
from rawpunch.live.sampling import Connection, send, syns
from rawpunch.live.spray import Sprayer, volley
from rawpunch.scene import LAB_HARDWARE
from rawpunch.wire.endpoint import Endpoint

NEAR, FAR = "192.0.2.1", "192.0.2.2"
RULES = "table ip count {\n chain in {\n type filter hook prerouting priority raw\n tcp dport 1-65535 counter drop\n }\n}\n"
FLOOD_S = 2.0
ROUNDS = 7


def _run(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, input=text, text=True, check=True, capture_output=True).stdout


class Far:
    """The far namespace: a child process that lives in it and counts."""

    def __init__(self) -> None:
        reader, self._answers = os.pipe()
        self._reader, writer = os.pipe()
        orders, self._orders = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            self._live(orders, writer)
            os._exit(0)
        os.close(orders)
        os.close(writer)
        os.close(reader)
        self._wait()

    def _live(self, orders: int, writer: int) -> None:
        new_network()
        os.write(writer, b"up\n")
        while order := os.read(orders, 1):
            if order == b"s":
                _run("ip", "addr", "add", f"{FAR}/24", "dev", "v1")
                _run("ip", "link", "set", "v1", "up")
                _run("nft", "-f", "-", text=RULES)
                os.write(writer, b"set\n")
            else:
                rules = json.loads(_run("nft", "-j", "list", "ruleset"))["nftables"]
                counts = [e["counter"]["packets"] for r in rules for e in r.get("rule", {}).get("expr", []) if "counter" in e]
                os.write(writer, f"{counts[0]}\n".encode())

    def _wait(self) -> str:
        return os.read(self._reader, 100).decode().strip()

    def set_up(self) -> None:
        """Give its device an address and rules."""
        os.write(self._orders, b"s")
        self._wait()

    def seen(self) -> int:
        """SYNs that came, so far."""
        os.write(self._orders, b"?")
        return int(self._wait())

    def close(self) -> None:
        """End it; its namespace goes with it."""
        os.close(self._orders)
        os.waitpid(self.pid, 0)


def _cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _measured(name: str, far: Far, what: Callable[[], int], asked: int) -> None:
    before, cpu_s, began = far.seen(), _cpu_s(), time.perf_counter()
    sent = what()
    took_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_s
    time.sleep(0.2)
    came = far.seen() - before
    print(
        f"{name:34} {asked:7} asked, {sent:7} sent, {came:7} seen there; {sent / took_s:9,.0f} SYN/s, "
        f"{sent / cpu_s:10,.0f} per CPU second"
    )


def _ports(count: int) -> list[int]:
    return [1024 + number % 64_000 for number in range(count)]


def _sprayed(sprayer: Sprayer, count: int, per_s: int = 0) -> int:
    """Made and sent."""
    packets = volley(NEAR, [40_000], FAR, np.array(_ports(count), np.uint16))
    return sprayer.fire(packets, per_s=per_s).sent


def _by_one_call_each(count: int) -> int:
    source = Endpoint(NEAR, 40_000)
    send(syns([Connection(number, source, Endpoint(FAR, port)) for number, port in enumerate(_ports(count), 1)]))
    return count


def _hping3(far: Far) -> None:
    if shutil.which("hping3") is None:
        print("hping3 is not installed, so it is not measured (apt install hping3)")
        return
    before, cpu_s, began = far.seen(), _cpu_s(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = ["hping3", "-q", "--flood", "-S", "-s", "40000", "-k", "-p", "++1024", FAR]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as flood:
        time.sleep(FLOOD_S)
        flood.send_signal(signal.SIGINT)
    took_s, cpu_s = time.perf_counter() - began, _cpu_s(resource.RUSAGE_CHILDREN) - cpu_s
    time.sleep(0.2)
    came = far.seen() - before
    print(f"{'hping3 --flood':34} {came:39} seen there; {came / took_s:9,.0f} SYN/s, {came / cpu_s:10,.0f} per CPU second")


def main() -> None:
    """Measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    if os.getuid() != 0:
        become_root_inside()
    far = Far()
    new_network()
    mine = f"{LAB_HARDWARE.hex(chr(58))}:0a:01"  # of a lab's making, which is what lets it be sprayed through
    _run("ip", "link", "add", "v0", "address", mine, "type", "veth", "peer", "name", "v1", "netns", str(far.pid))
    _run("ip", "addr", "add", f"{NEAR}/24", "dev", "v0")
    _run("ip", "link", "set", "v0", "up")
    far.set_up()
    time.sleep(0.2)
    with Sprayer(FAR) as sprayer:
        _sprayed(sprayer, 64)  # learns the neighbour's address
        for _ in range(3):
            _measured("ring (spray)", far, lambda: _sprayed(sprayer, count), count)
            _measured("raw socket, a call each (samples)", far, lambda: _by_one_call_each(count), count)
            _hping3(far)
        _measured("ring, at 100,000 a second", far, lambda: _sprayed(sprayer, count, per_s=100_000), count)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            sent = _sprayed(sprayer, 1024)
            times.append((time.perf_counter() - began) * 1e3)
            assert sent == 1024
        print(f"1,024 SYNs made and sent: median {statistics.median(times):.2f} ms, worst of {ROUNDS} {max(times):.2f} ms")
    far.close()


if __name__ == "__main__":
    main()
