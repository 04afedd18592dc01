"""NATs of three makes: nft rules, the NAT machine as a box, any program. The same scene, the same behaviour."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.errors import BadParameter, LabBroken
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.scene import EXTERNAL, SHARED, Nat, Scene
from rawpunch.units import MS

pytestmark = pytest.mark.lab

ONE_WAY_NS = 4 * MS

SYNS = """
import socket
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for port, remote in {flows}:
    segment = Segment(Endpoint("10.1.0.2", port), Endpoint(*remote), Flags.SYN, 1_000_000 + port)
    out.sendto(encode(segment), (remote[0], 0))
"""
OBS1, OBS2 = ("192.0.2.2", 7000), ("192.0.2.66", 7000)


def _mapped(lab: Lab, path: Path, flows: list[tuple[int, tuple[str, int]]]) -> list[int]:
    """The external ports that natA gave to these flows, in their order."""
    lab.flush(None)
    lab.run("hostA", [sys.executable, "-c", SYNS.format(flows=flows)])
    time.sleep(0.1)
    lab.flush(path / "syns.pcapng")
    frame: pd.DataFrame = read_capture(path / "syns.pcapng")
    out = frame[(frame.interface == "natA:out") & (frame.direction == "out") & (frame.kind == "SYN")].sort_values("number")
    assert set(out.source_address) == {"198.51.100.2"}
    return [int(port) for port in out.source_port]


def _scene(persona: str) -> Scene:
    return Scene.between(Nat(persona=persona), Nat(), ONE_WAY_NS)


@pytest.fixture(params=["nft", "box"])
def made(request: pytest.FixtureRequest) -> str:
    """Each make that the toolkit has itself."""
    make: str = request.param
    return make


PORTS = [(5000 + number, OBS1) for number in range(8)]
PEERS = [(5100, OBS1), (5100, OBS2), (5100, ("192.0.2.67", 7000)), (5100, ("192.0.2.2", 7001))]


def test_preserving(made: str, tmp_path: Path) -> None:
    """Linux masquerade keeps the port, for every remote endpoint."""
    with Lab(_scene("linux-masquerade"), nats={"a": made}) as lab:
        lab.record()
        assert _mapped(lab, tmp_path, PORTS) == [port for port, _ in PORTS]
        assert _mapped(lab, tmp_path, PEERS) == [5100] * 4
        assert lab.private_leaks() == 0


def test_sequential(made: str, tmp_path: Path) -> None:
    """A sequential NAT gives each connection the next port, whoever asks and wherever it goes."""
    with Lab(_scene("linux-sequential"), nats={"a": made}) as lab:
        lab.record()
        ports = _mapped(lab, tmp_path, PORTS + PEERS)
    assert [after - before for before, after in itertools.pairwise(ports)] == [1] * (len(ports) - 1)


def test_random(made: str, tmp_path: Path) -> None:
    """A random NAT gives each connection a port of its own that says nothing."""
    with Lab(_scene("linux-masquerade-random"), nats={"a": made}) as lab:
        lab.record()
        ports = _mapped(lab, tmp_path, PORTS + PEERS)
    assert len(set(ports)) == len(ports)
    assert len({after - before for before, after in itertools.pairwise(ports)}) > len(ports) // 2


def test_a_band_is_kept_to(made: str, tmp_path: Path) -> None:
    """Banded: random in the band, and the same port for every remote endpoint while the mapping lives."""
    with Lab(_scene("linux-masquerade-band"), nats={"a": made}) as lab:
        lab.record()
        ports = _mapped(lab, tmp_path, PORTS)
        assert all(10_000 <= port <= 14_095 for port in ports)
        assert len(set(_mapped(lab, tmp_path, PEERS))) == 1


@pytest.fixture
def full_cone() -> Iterator[Lab]:
    """A NAT that rules cannot be."""
    with Lab(_scene("full-cone")) as lab:
        yield lab


def test_what_rules_cannot_be_is_a_box(full_cone: Lab, tmp_path: Path) -> None:
    """The lab chooses by itself, says so, and what the box refuses has a reason."""
    assert full_cone.describe()["nats"] == {"a": "box", "b": "nft"}
    full_cone.record()
    assert len(set(_mapped(full_cone, tmp_path, PEERS))) == 1
    with pytest.raises(BadParameter, match="nft rules cannot"), Lab(_scene("full-cone"), nats={"a": "nft"}):
        pass


def test_a_box_becomes_another_nat(tmp_path: Path) -> None:
    """A scene changes under a standing lab, from rules to a box and from one box to another."""
    with Lab(_scene("linux-masquerade")) as lab:
        lab.record()
        assert _mapped(lab, tmp_path, PORTS[:2]) == [5000, 5001]
        lab.change(_scene("symmetric-sequential"))
        first, second = _mapped(lab, tmp_path, [(6000, OBS1), (6000, OBS2)])
        assert second == first + 1
        lab.change(_scene("port-restricted"))
        assert _mapped(lab, tmp_path, [(6100, OBS1), (6100, OBS2)]) == [6100, 6100]


BURST = 6_000


def test_a_box_that_is_behind_loses_nothing() -> None:
    """Thousands of SYNs within some hundredths of a second, more than a socket's buffer holds, wait in its ring."""
    flows = f"((1024 + number, {OBS1}) for number in range({BURST}))"
    with Lab(_scene("linux-masquerade"), nats={"a": "box"}) as lab:
        lab.run("obs1", ["nft", "-f", "-"], "table ip q { chain p { type filter hook prerouting priority raw; policy drop; }; }")
        lab.run("hostA", [sys.executable, "-c", SYNS.format(flows=flows)])
        deadline = time.monotonic() + 20
        while (left := _left(lab)) < BURST and not lab.refusals("a") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (left, lab.refusals("a")) == (BURST, {})


def _left(lab: Lab) -> int:
    """Packets that left natA, as the kernel counts them."""
    (told,) = json.loads(lab.run("natA", ["ip", "-s", "-j", "link", "show", "dev", "out"]))
    return int(told["stats64"]["tx"]["packets"])


def test_any_program_can_be_the_nat(tmp_path: Path) -> None:
    """A user's own program finds devices and addresses in its environment; one that fails is named with its status."""
    program = (
        'nft "add table ip mine; add chain ip mine post { type nat hook postrouting priority srcnat; }; '
        'add rule ip mine post oifname $RAWPUNCH_OUTSIDE_DEVICE meta l4proto tcp masquerade to :30000-30100"'
    )
    with Lab(_scene("linux-masquerade"), nats={"a": f"cmd:PATH=$PATH:/usr/sbin; {program}"}) as lab:
        lab.record()
        assert all(30_000 <= port <= 30_100 for port in _mapped(lab, tmp_path, PORTS))
    with pytest.raises(LabBroken, match="status 3"), Lab(_scene("linux-masquerade"), nats={"a": "cmd:exit 3"}):
        pass


def _running(words: str) -> bool:
    """Whether a process has been started with these words."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if words.encode() in path.read_bytes().replace(b"\0", b" "):
                return True
    return False


def test_a_program_ends_with_its_lab_children_and_all() -> None:
    """Nothing of it is left, though its shell was not the one that did the work."""
    with Lab(_scene("linux-masquerade"), nats={"a": "cmd:sleep 77.25 & sleep 77.125; true"}) as lab:
        assert _running("sleep 77.25")
        assert _running("sleep 77.125")
        assert lab.ended_programs() == {}
        lab.check()
    end = time.monotonic() + 5
    while (_running("sleep 77.25") or _running("sleep 77.125")) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _running("sleep 77.25")
    assert not _running("sleep 77.125")


@pytest.mark.parametrize(("program", "how"), [("sleep 0.5; exit 3", "with status 3"), ("sleep 0.5; kill -SEGV $$", "by SIGSEGV")])
def test_a_program_that_dies_later_is_named(program: str, how: str) -> None:
    """The check says which program it was and how it ended."""
    with Lab(_scene("linux-masquerade"), nats={"a": f"cmd:{program}"}) as lab:
        end = time.monotonic() + 5
        while not lab.ended_programs() and time.monotonic() < end:
            time.sleep(0.05)
        assert list(lab.ended_programs().values()) == [how]
        with pytest.raises(LabBroken, match=f"natA ended {how}"):
            lab.check()


@pytest.mark.parametrize("make", ["nft", "box"])
def test_two_nats_in_a_row(make: str, tmp_path: Path) -> None:
    """Packets pass both, by a shared address in between, and nothing of it leaks into the core."""
    scene = Scene(carrier_a=Nat(persona="linux-masquerade-band"))
    with Lab(scene, nats={wiring.CARRIER: make}) as lab:
        lab.record()
        lab.run("hostA", [sys.executable, "-c", SYNS.format(flows=PORTS)])
        time.sleep(0.1)
        lab.flush(tmp_path / "syns.pcapng")
        frame = read_capture(tmp_path / "syns.pcapng")
        between = frame[(frame.interface == "natA:out") & (frame.kind == "SYN")]
        outside = frame[(frame.interface == "core:a") & (frame.kind == "SYN") & (frame.direction == "in")]
        assert [(row.source_address, row.source_port) for row in between.itertuples()] == [(SHARED, port) for port, _ in PORTS]
        assert set(outside.source_address) == {EXTERNAL["a"]}
        assert len(set(outside.source_port)) == len(PORTS)
        assert all(10_000 <= port <= 14_095 for port in outside.source_port)
        assert lab.private_leaks() == 0
        assert lab.describe()["nats"] == {"a": "nft", "b": "nft", "carrier_a": make}
