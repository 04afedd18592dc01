"""Punches between two hosts behind NATs: as quick as the ways allow, by raw packets and the kernel, and nothing left behind."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.channel import Channel
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.punch.consent import MOST_PACKETS, PER_S
from rawpunch.scene import EXTERNAL, Leg, Nat, Scene
from rawpunch.units import MS
from tests.punch.report import Findings, findings_of

pytestmark = pytest.mark.lab

ONE_WAY_NS = 20 * MS
ROUND_TRIPS = 6
"""From both calls to the first byte, at most."""
TRIES = 6
"""A stall of this machine disturbs one; as quick as that it has to be in one of them."""


class Pair:
    """Two hosts that punch, and a server."""

    def __init__(self, lab: Lab, **how: Any) -> None:
        self.lab = lab
        self.server = lab.start("obs1", "rawpunch.live.rendezvous_server:serve", {"addresses": ["192.0.2.2"], "ports": [7800]})
        self.server.receive()
        self.hosts = [lab.start(host, "tests.live.punch_host:serve", how) for host in ("hostA", "hostB")]
        for host in self.hosts:
            host.receive()
        self._tokens = itertools.count()

    @contextmanager
    def other_host(self, **how: Any) -> Iterator[Channel]:
        """In place of A's, a worker that is something else."""
        usual, special = self.hosts[0], self.lab.start("hostA", "tests.live.punch_host:serve", how)
        special.receive()
        self.hosts[0] = special
        try:
            yield special
        finally:
            self.hosts[0] = usual
            special.close()

    def punch(
        self,
        methods: tuple[str, str],
        *,
        tokens: tuple[str, str] = ("", ""),
        findings: tuple[Findings, Findings] = ({}, {}),
        wait_s: float = 5.0,
        **more: Any,
    ) -> list[dict[str, Any]]:
        """Both punch at once; what each says."""
        number = next(self._tokens)
        for host, method, token, known in zip(self.hosts, methods, tokens, findings, strict=True):
            message = {"server": "192.0.2.2:7800", "token": f"{token}{number}", "method": method}
            host.send(message | {"findings": known, "wait_s": wait_s} | more)
        return [host.receive()[0] for host in self.hosts]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A lab of two silent NATs, 20 ms one way."""
    with Lab(Scene.symmetric(ONE_WAY_NS)) as lab:
        yield Pair(lab)


@pytest.mark.parametrize("methods", [("raw", "raw"), ("kernel", "kernel"), ("auto", "kernel")])
def test_the_first_byte_comes_within_six_round_trips(pair: Pair, methods: tuple[str, str]) -> None:
    """From both calls to the later first byte, in processes that run; nothing stays behind in the hosts."""
    took = []
    for _ in range(TRIES):
        found = pair.punch(methods)
        assert [one.get("byte") for one in found] == ["!", "!"], found
        assert [one["method"] for one in found] == ["raw" if method == "auto" else method for method in methods]
        assert all(one["listening"] == 0 for one in found)
        began = max(one["began_ns"] for one in found)
        took.append(max(one["first_ns"] for one in found) - began)
        if took[-1] <= ROUND_TRIPS * 2 * ONE_WAY_NS:
            break
    assert min(took) <= ROUND_TRIPS * 2 * ONE_WAY_NS, [round(ns / MS) for ns in took]


@pytest.mark.parametrize(
    ("lacks", "why"),
    [
        ("TCP_REPAIR", "TCP_REPAIR: Protocol not available"),
        ("raw sockets", "raw sockets: Operation not permitted"),
        ("packet sockets", "packet sockets: Address family not supported by protocol"),
        ("all rights", "raw sockets: Operation not permitted"),
    ],
)
def test_what_raw_packets_lack_the_kernel_makes_good(pair: Pair, lacks: str, why: str) -> None:
    """A host without it punches by its kernel, and says why in one line; who insists on raw is told what is missing, at once."""
    with pair.other_host(lacks=lacks) as lacking:
        for _ in range(TRIES):
            one, other = pair.punch(("auto", "raw"))
            if one.get("byte") == other.get("byte") == "!":
                break
        assert (one.get("byte"), other.get("byte")) == ("!", "!"), (one, other)
        assert (one["method"], one["why"], other["method"]) == ("kernel", why, "raw")
        assert any(why in note for note in one["notes"])
        assert one["listening"] == 0
        lacking.send({"server": "192.0.2.2:7800", "token": "insists", "method": "raw"})
        refused = lacking.receive()[0]
        assert why in refused["failed"]
        assert "--auto or --kernel" in refused["failed"]
        assert refused["cannot"]


def test_other_tokens_and_nobody(pair: Pair) -> None:
    """Who has another token, or nobody to meet, is told within its time; no file and no socket stays."""
    before = [one["files"] for one in pair.punch(("kernel", "raw"))]
    found = pair.punch(("kernel", "raw"), tokens=("x", "y"), wait_s=0.5)
    assert all("nobody came within 0.5 s" in one["failed"] for one in found)
    assert [one["files"] for one in found] <= before
    assert all(one["listening"] == 0 for one in found)


@pytest.mark.parametrize(
    ("nats", "strategy"),
    [
        (("rst-sender", "linux-masquerade-random"), "spray"),
        (("linux-sequential", "port-restricted"), "prediction"),
        (("full-cone", "symmetric-random"), "reversal"),
    ],
)
def test_what_is_known_of_the_nats_decides_the_strategy(pair: Pair, nats: tuple[str, str], strategy: str) -> None:
    """Both make the plan that the oracle predicts, and it leads to the peer; a spray whose SYNs die early too."""
    one, other = (Nat(persona=name) for name in nats)
    pair.lab.change(Scene.between(one, other, ONE_WAY_NS))
    for _ in range(TRIES):
        found = pair.punch(("auto", "auto"), findings=(findings_of(one.behavior), findings_of(other.behavior)))
        if all(one.get("byte") == "!" for one in found):
            break
    assert [one.get("byte") for one in found] == ["!", "!"], found
    assert {one["strategy"] for one in found} == {one["predicted"] for one in found} == {strategy}


def test_both_are_introduced_at_one_instant(pair: Pair) -> None:
    """Though one is farther from the server: the nearer one is told later, and with that both begin."""
    far = Leg(up_ns=30 * MS, down_ns=30 * MS)
    pair.lab.change(Scene.symmetric(ONE_WAY_NS).model_copy(update={"leg_b": far}))
    apart = []
    for _ in range(TRIES):
        found = pair.punch(("kernel", "kernel"))
        assert [one.get("byte") for one in found] == ["!", "!"], found
        introduced = [one["began_ns"] + one["steps"]["introduced_ns"] for one in found]
        assert introduced == [one["began_ns"] + one["steps"]["start_ns"] for one in found]
        apart.append(abs(introduced[0] - introduced[1]))
        if apart[-1] <= 10 * MS:
            break
    assert min(apart) <= 10 * MS, apart  # the ways differ by 20 ms


def test_clocks_that_are_minutes_apart_make_no_difference(pair: Pair) -> None:
    """Where both have to begin at one instant, it is agreed by measured offsets, whatever either takes the time to be."""
    nat = Nat(persona="rst-sender")
    pair.lab.change(Scene.between(nat, nat, ONE_WAY_NS))
    with pair.other_host(ahead_s=300):
        for _ in range(TRIES):
            found = pair.punch(("kernel", "kernel"), findings=(findings_of(nat.behavior), findings_of(nat.behavior)))
            if all(one.get("byte") == "!" for one in found):
                break
    assert [one.get("byte") for one in found] == ["!", "!"], found
    assert {one["strategy"] for one in found} == {"simultaneous"}
    assert any("clock is 300 s behind" in note for note in found[0]["notes"])
    assert any("clock is" in note and "300 s" not in note for note in found[1]["notes"])


def test_a_nat_that_terminates_tcp_is_suspected() -> None:
    """Nothing is known of it beforehand: it answers in the peer's place, proves nothing, and is named; nothing stays behind."""
    proxy = f"{wiring.PROGRAM}{sys.executable} {Path(__file__).with_name('tcp_proxy.py')}"
    with Lab(Scene.symmetric(ONE_WAY_NS), nats={"a": proxy}) as lab:
        found = Pair(lab, tries=1).punch(("kernel", "kernel"))
    assert "something on the way that terminates TCP" in found[0]["failed"]
    assert "did not prove to be the peer" in found[0]["failed"]
    assert found[0]["listening"] == 0


POLICY = """
[[target]]
address = "{}"
ports = ["1024-65535"]
consent = "the test itself, for the other side"
expires = 2099-01-01
packets_per_s = 1000
"""


def test_outside_a_spray_takes_the_peers_word_and_our_own_policy(pair: Pair, tmp_path: Path) -> None:
    """As if the lab were the world: with both it hits, within what was agreed; without one of them not one SYN of it leaves."""
    nats = Nat(persona="port-restricted"), Nat(persona="linux-masquerade-band-random")
    pair.lab.change(Scene.between(*nats, ONE_WAY_NS))
    findings = (findings_of(nats[0].behavior), findings_of(nats[1].behavior))
    policy = tmp_path / "policy.toml"
    policy.write_text("".join(map(POLICY.format, EXTERNAL.values())), encoding="utf-8")
    pair.lab.record()

    def tried(**more: Any) -> tuple[list[dict[str, Any]], pd.DataFrame]:
        pair.lab.flush(None)
        found = pair.punch(("auto", "auto"), findings=findings, outside=True, **more)
        pair.lab.flush(tmp_path / "part.pcapng")
        frame = read_capture(tmp_path / "part.pcapng")
        towards = frame.destination_address.isin(EXTERNAL.values()) & frame.interface.isin(["hostA:eth0", "hostB:eth0"])
        return found, frame[towards & (frame.kind == "SYN") & (frame.direction == "out")]

    for more, why in (({"policy": str(policy)}, "did not agree"), ({"accept_spray": MOST_PACKETS}, "no entry for its address")):
        found, syns = tried(**more)
        assert [why in one["failed"] for one in found] == [True, True], found
        assert len(syns) == 0
    for _ in range(TRIES):
        found, syns = tried(policy=str(policy), accept_spray=MOST_PACKETS)
        if all(one.get("byte") == "!" for one in found):
            break
    assert [one.get("byte") for one in found] == ["!", "!"], found
    assert {one["strategy"] for one in found} == {"spray"}
    for _, sent in syns.groupby("interface"):
        assert len(sent) <= MOST_PACKETS
        seconds = pd.Series(1, index=pd.to_datetime(sent.time_ns)).sort_index().rolling("1s").sum()
        assert seconds.max() <= PER_S
    assert all(one["listening"] == 0 for one in found)
