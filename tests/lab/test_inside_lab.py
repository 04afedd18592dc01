"""A delay between host and NAT is kept by real packets, whatever makes the NAT, and is no hop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.lab import features, wiring
from rawpunch.lab.lab import Lab
from rawpunch.scene import EXTERNAL, Inside, Nat, Scene, UnsolicitedAnswer
from rawpunch.units import MS

pytestmark = pytest.mark.lab

UP_NS, DOWN_NS, CORE_NS = 7 * MS, 3 * MS, 4 * MS
CORE = (CORE_NS // 2, CORE_NS // 2)
"""A delay on either leg between the NATs."""
NEAR_UP_NS, NEAR_DOWN_NS = 2 * MS, 5 * MS
TOLERANCE_NS = MS // 2
"""By how much the median packet may be late for each delay on its way; a busy machine was seen to take 0.66 ms more for three."""
PACKETS = 8
TRIES = 5

KNOCKS = """
import socket, sys, time
for port in range(int(sys.argv[3])):
    s = socket.socket(); s.settimeout(0.1)
    try:
        s.connect((sys.argv[1], int(sys.argv[2]) + port))
    except OSError:
        pass
    s.close()
"""


def _scene(**changes: object) -> Scene:
    away = Inside(up_ns=UP_NS, down_ns=DOWN_NS)
    return Scene.between(Nat(), Nat(), CORE_NS).model_copy(update={"inside_a": away, **changes})


def _knocked(lab: Lab, folder: Path, address: str = "192.0.2.2") -> pd.DataFrame:
    """What is seen of connections to closed ports."""
    lab.flush(None)
    lab.run("hostA", [sys.executable, "-c", KNOCKS, address, "4000", str(PACKETS)])
    time.sleep(0.05)
    path = folder / "knocks.pcapng"
    lab.flush(path)
    return read_capture(path)


def _took(frame: pd.DataFrame, kind: str, start: str, end: str) -> pd.Series:
    """How long packets of a kind took from one vantage point to another, in ns; each is known by its sequence numbers."""
    mine = frame[frame.kind == kind].fillna({"ack": 0})
    at = {name: mine[mine.interface == name].groupby(["seq", "ack"]).time_ns.min() for name in (start, end)}
    return (at[end] - at[start]).dropna()


def _undisturbed(measure: Callable[[], list[tuple[pd.Series, tuple[int, ...]]]]) -> None:
    """Each packet takes at least what is declared, and the median one no more than a tolerance for each delay above it.

    A stall of the machine makes a measurement worthless, and it is made again; a wrong delay stays wrong.
    """
    for attempt in range(TRIES):
        found = measure()
        for took, delays in found:
            assert len(took) == PACKETS
            assert took.min() >= sum(delays)
        if all(took.median() <= sum(delays) + max(len(delays), 1) * TOLERANCE_NS for took, delays in found):
            return
        assert attempt + 1 < TRIES, [(took.describe(), delays) for took, delays in found]


@pytest.fixture(scope="module", params=[True, False], ids=["rootless", "root"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab by each privilege this process has, natA by rules and hostA away from it."""
    rootless: bool = request.param
    reason = features.user_namespaces() if rootless else features.root_namespaces()
    if reason:
        pytest.skip(f"not possible here: {reason}")
    with Lab(_scene(), rootless=rootless) as built:
        built.record()
        yield built


def _each_way(lab: Lab, folder: Path) -> Callable[[], list[tuple[pd.Series, tuple[int, ...]]]]:
    def measure() -> list[tuple[pd.Series, tuple[int, ...]]]:
        frame = _knocked(lab, folder)
        up, down = lab.scene.inside_a.up_ns, lab.scene.inside_a.down_ns
        return [
            (_took(frame, "SYN", "hostA:eth0", "natA:in"), (up,)),
            (_took(frame, "RST-ACK", "natA:in", "hostA:eth0"), (down,)),
            (_took(frame, "SYN", "natA:in", "natA:out"), ()),
        ]

    return measure


def test_each_way_takes_as_long_as_declared(lab: Lab, tmp_path: Path) -> None:
    """To the NAT and from it, each its own delay; the NAT itself passes a packet at once."""
    lab.change(_scene())
    _undisturbed(_each_way(lab, tmp_path))


def test_the_delay_changes_with_the_scene(lab: Lab, tmp_path: Path) -> None:
    """The same lab, hosts nearer."""
    lab.change(_scene(inside_a=Inside(up_ns=NEAR_UP_NS, down_ns=NEAR_DOWN_NS)))
    _undisturbed(_each_way(lab, tmp_path))


def test_what_is_on_its_way_arrives_by_the_delay_with_which_it_left(lab: Lab, tmp_path: Path) -> None:
    """A scene that changes meanwhile loses nothing and hurries nothing."""
    slow_ns = 400 * MS
    lab.change(_scene(inside_a=Inside(up_ns=slow_ns)))
    lab.flush(None)
    lab.run("hostA", [sys.executable, "-c", KNOCKS, "192.0.2.2", "4000", "1"])
    lab.change(_scene(inside_a=Inside(up_ns=MS)))
    time.sleep(0.5)
    path = tmp_path / "slow.pcapng"
    lab.flush(path)
    took = _took(read_capture(path), "SYN", "hostA:eth0", "natA:in")
    assert len(took) == 1
    assert took.min() >= slow_ns


def test_a_line_is_no_hop_and_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    """A SYN comes to the NAT with the time to live and the bytes with which it left; the lab finds all devices in place."""
    lab.change(_scene(inside_a=Inside(up_ns=MS)))
    frame = _knocked(lab, tmp_path)
    syns = frame[frame.kind == "SYN"].groupby("interface", observed=True)
    left, came = syns.get_group("hostA:eth0"), syns.get_group("natA:in")
    columns = ["source_address", "source_port", "destination_port", "seq", "window", "options", "ttl"]
    assert left[columns].to_numpy().tolist() == came[columns].to_numpy().tolist()
    assert len(left) == PACKETS
    lab.check()
    assert lab.private_leaks() == 0


def test_from_host_to_host_it_takes_all_of_it(lab: Lab, tmp_path: Path) -> None:
    """Both inside delays and the legs, as `one_way_ns` says; through natA to a public host B, which is away from its router."""
    scene = _scene(nat_b=None, inside_b=Inside(up_ns=NEAR_UP_NS, down_ns=NEAR_DOWN_NS))
    delays = (UP_NS, *CORE, NEAR_DOWN_NS)
    assert sum(delays) == scene.one_way_ns[0]
    with Lab(scene, rootless=lab.rootless) as built:
        built.record()
        _undisturbed(
            lambda: [
                (
                    _took(_knocked(built, tmp_path, address=scene.host_address("b")), "SYN", "hostA:eth0", "hostB:eth0"),
                    delays,
                )
            ]
        )


@pytest.mark.parametrize("made", [wiring.BOX, wiring.RULES])
def test_a_nat_of_either_make_answers_itself_at_its_own_place(lab: Lab, tmp_path: Path, made: str) -> None:
    """A RST of natB's reaches natA after the way between the NATs, and hostA after the way inside."""
    answering = Nat(unsolicited=UnsolicitedAnswer.RST)
    scene = _scene(nat_b=answering)
    nats = dict.fromkeys("ab", made)
    with Lab(scene, rootless=lab.rootless, nats=nats) as built:
        built.record()

        def measure() -> list[tuple[pd.Series, tuple[int, ...]]]:
            frame = _knocked(built, tmp_path, address=EXTERNAL["b"])
            return [
                (_took(frame, "SYN", "hostA:eth0", "natB:out"), (UP_NS, *CORE)),
                (_took(frame, "RST-ACK", "natB:out", "natA:in"), CORE),
                (_took(frame, "RST-ACK", "natB:out", "hostA:eth0"), (*CORE, DOWN_NS)),
            ]

        _undisturbed(measure)


def test_a_lossy_inside_loses_its_share(lab: Lab, tmp_path: Path) -> None:
    """All of it, or none."""
    lab.change(_scene(inside_a=Inside(up_ns=MS, loss=1.0)))
    frame = _knocked(lab, tmp_path)
    assert set(frame.interface) == {"hostA:eth0"}


def test_without_a_delay_there_is_no_line() -> None:
    """The lab is as it would be if scenes knew of no inside."""
    with Lab(Scene.symmetric(CORE_NS)) as built:
        assert not any(name.startswith("line") for name in built.nodes)
