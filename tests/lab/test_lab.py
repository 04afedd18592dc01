"""The lab on this kernel: it does what its scene says, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.errors import LabBroken
from rawpunch.lab import features
from rawpunch.lab.lab import Lab
from rawpunch.lab.nat_rules import LOST_COUNTER, TABLE
from rawpunch.scene import EXTERNAL, Leg, Scene, UnsolicitedAnswer
from rawpunch.units import MS

pytestmark = pytest.mark.lab

KNOCK = """
import socket, sys
s = socket.socket(); s.settimeout(0.5)
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
except TimeoutError:
    print("silence")
except OSError as error:
    print(type(error).__name__, error.errno)
"""


def _knock(lab: Lab, node: str, address: str) -> str:
    return lab.run(node, [sys.executable, "-c", KNOCK, address, "4321"]).strip()


@pytest.fixture(params=[True, False], ids=["rootless", "root"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab by each privilege this process has."""
    rootless: bool = request.param
    reason = features.user_namespaces() if rootless else features.root_namespaces()
    if reason:
        pytest.skip(f"not possible here: {reason}")
    with Lab(Scene.symmetric(4 * MS), rootless=rootless) as built:
        yield built


def test_packets_cross_delayed_translated_and_nothing_private_leaks(lab: Lab) -> None:
    """A SYN from hostA is seen at every vantage point on its way, translated, held for its delay, and dropped by natB."""
    lab.record()
    assert _knock(lab, "hostA", EXTERNAL["b"]) == "silence"
    path = Path(f"/tmp/rawpunch-test-{os.getpid()}.pcapng")  # noqa: S108  the recorder's process must reach it
    try:
        packets, dropped = lab.flush(path)
        frame = read_capture(path)
    finally:
        path.unlink(missing_ok=True)
    assert (packets, dropped) == (len(frame), 0)
    first = frame.groupby("interface", observed=True).first()
    assert set(first.index) == {"hostA:eth0", "natA:in", "natA:out", "core:a", "core:b", "natB:out"}
    assert first.source_address["natA:in"] == "10.1.0.2"
    assert first.source_address["natA:out"] == EXTERNAL["a"]
    held = first.time_ns["core:b"] - first.time_ns["core:a"]
    assert 4 * MS <= held < 54 * MS
    assert lab.private_leaks() == 0


def test_the_answer_to_an_unsolicited_syn_is_the_declared_one(lab: Lab) -> None:
    """Each of the four answers reaches the knocking observer as the kernel should see it."""
    expected = {
        UnsolicitedAnswer.DROP: "silence",
        UnsolicitedAnswer.RST: "ConnectionRefusedError 111",
        UnsolicitedAnswer.ICMP: "OSError 113",
        UnsolicitedAnswer.STACK: "ConnectionRefusedError 111",
    }
    for answer, words in expected.items():
        lab.change(Scene.symmetric(4 * MS, answer))
        for address in EXTERNAL.values():
            assert _knock(lab, "obs1", address) == words, answer


SYNS = """
import socket
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for port in range(400):
    source = Endpoint("10.1.0.3" if port % 2 else "10.1.0.2", 5000 + port)
    out.sendto(encode(Segment(source, Endpoint("192.0.2.2", 7000), Flags.SYN, 1 << 30)), ("192.0.2.2", 0))
"""


def test_a_leg_loses_what_it_says_from_both_inside_hosts(lab: Lab, tmp_path: Path) -> None:
    """Half of 400 SYNs are lost on the way, and half of the RSTs that answer the others: 300, with a standard deviation of 9."""
    lossy = Leg(up_ns=2 * MS, down_ns=2 * MS, loss=0.5)
    lab.change(lab.scene.model_copy(update={"leg_a": lossy}))
    lab.record()
    lab.run("hostA", [sys.executable, "-c", SYNS])
    time.sleep(0.1)
    lab.flush(tmp_path / "syns.pcapng")
    frame = read_capture(tmp_path / "syns.pcapng")
    syns = frame[(frame.interface == "core:a") & (frame.kind == "SYN")]
    assert len(syns) == len(frame[(frame.interface == "natA:in") & (frame.kind == "SYN")]) == 400
    counter = lab.run("core", ["nft", "list", "counter", "ip", TABLE, LOST_COUNTER]).split()
    assert 240 <= int(counter[counter.index("packets") + 1]) <= 360


def test_a_lost_device_is_named(lab: Lab) -> None:
    """When a NAT's device goes, the check says which."""
    lab.check()
    lab.run("natB", ["ip", "link", "delete", "dev", "out"])
    with pytest.raises(LabBroken, match="natB:out"):
        lab.check()


def test_a_failing_command_is_reported_with_its_words(lab: Lab) -> None:
    """The user sees what the program said, not a traceback; the lab goes on."""
    with pytest.raises(LabBroken, match="nft"):
        lab.run("core", ["nft", "-f", "-"], "nonsense")
    with pytest.raises(LabBroken, match="no node"):
        lab.run("hostC", ["true"])
    with pytest.raises(LabBroken, match="not installed"):
        lab.run("hostA", ["no-such-program"])
    assert lab.run("hostA", ["echo", "alive"]) == "alive\n"


def _children_of(pid: int) -> set[int]:
    found = {pid}
    while True:
        more = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) in found and fields[0] != "Z":
                more.add(int(stat.parent.name))
        if more <= found:
            return found - {pid}
        found |= more


def _gone(pids: set[int]) -> bool:
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
        except OSError:
            continue
    return True


HOLD = """
import sys, time
from rawpunch.lab.lab import Lab
from rawpunch.scene import Scene
with Lab(Scene()) as lab:
    lab.record()
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("victim", ["owner", "keeper"])
def test_kill_9_leaves_no_process_behind(victim: str) -> None:
    """Whoever is killed, every process of the lab ends, and with the last one the namespaces."""
    owner = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        processes = _children_of(owner.pid)
        assert len(processes) >= 3  # the keeper, the delay line, the recorder
        os.kill(owner.pid if victim == "owner" else min(processes), signal.SIGKILL)
        end = time.monotonic() + 5
        while not _gone(processes):
            assert time.monotonic() < end, f"still there: {processes}"
            time.sleep(0.01)
    finally:
        owner.kill()
        owner.wait()
        if owner.stdout:
            owner.stdout.close()


def test_the_hosts_own_namespace_is_untouched() -> None:
    """Devices, rules and forwarding of the host are the same before, during and after."""

    def host() -> tuple[str, str]:
        forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
        devices = [line.split(":")[0] for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
        return forward, " ".join(devices)

    before = host()
    with Lab(Scene()):
        assert host() == before
    assert host() == before
