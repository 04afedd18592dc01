"""Sprays through the lab's NATs: every SYN is accounted for, and exactly those hit that aim at a port that is open."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawpunch.channel import Channel
from rawpunch.errors import LabBroken
from rawpunch.lab.lab import Lab
from rawpunch.live.sampling import Arrivals
from rawpunch.punch.birthday import without_repetition
from rawpunch.scene import EXTERNAL, Nat, Scene
from rawpunch.units import MS, SECOND

pytestmark = pytest.mark.lab

LOW, HIGH = 30_720, 32_767
OPENED, TRIED = 128, 256
HELD = range(20_000, 20_000 + OPENED)
TRYING = 40_000


class Hosts:
    """Sprayers on both hosts, and watches before and behind A's NAT."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._folder = folder
        self.a, self.b = lab.scene.host_address("a"), lab.scene.host_address("b")
        self.sprays = {node: lab.start(node, "rawpunch.live.spray:serve", {}) for node in ("hostA", "hostB")}
        self.watches = {
            name: lab.start(node, "rawpunch.live.sampling:watch", {"device": device})
            for name, node, device in (("core", "core", "a"), ("a", "hostA", "eth0"))
        }
        for channel in (*self.sprays.values(), *self.watches.values()):
            channel.receive()

    def fire(self, node: str, **volley: Any) -> dict[str, Any]:
        """Fire, and see that all was sent."""
        answer = _asked(self.sprays[node], volley)
        assert answer["sent"] == answer["asked"] <= answer["counted"]
        assert answer["dropped"] == 0
        return answer

    def arrivals(self, where: str, wanted: int) -> Arrivals:
        """What came there, once it is that many or a while has passed."""
        rows: list[Arrivals] = []
        for _ in range(40):
            path = self._folder / "rows.npy"
            answer = _asked(self.watches[where], {"arrivals": str(path)})
            assert answer["lost"] == 0
            rows.append(np.load(path))
            if sum(map(len, rows)) >= wanted:
                break
            time.sleep(0.05)
        return np.concatenate(rows)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A NAT that draws from 2,048 ports in front of A, and none in front of B."""
    with Lab(Scene.between(Nat(persona="carrier-grade-band"), None, 2 * MS), seed=3) as lab:
        yield Hosts(lab, tmp_path_factory.mktemp("spray"))


def _asked(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    return dict(channel.ask(message))


def test_hits_are_the_ports_that_are_open(hosts: Hosts) -> None:
    """128 ports opened by SYNs that die behind the NAT, 256 tried: those come in that name an open one, and no others."""
    hosts.fire("hostA", source=hosts.a, source_ports=list(HELD), target=hosts.b, target_ports=[TRYING], first_number=1, ttl=2)
    came = hosts.arrivals("core", OPENED)
    open_ports = {int(port): int(number) for port, number in zip(came["port"], came["number"], strict=True)}
    assert len(came) == len(open_ports) == OPENED
    assert all(LOW <= port <= HIGH for port in open_ports)
    aims = random.Random(7).sample(range(LOW, HIGH + 1), TRIED)
    hosts.fire("hostB", source=hosts.b, source_ports=[TRYING], target=EXTERNAL["a"], target_ports=aims, first_number=10_000)
    expected = {open_ports[port] for port in aims if port in open_ports}
    hits = hosts.arrivals("a", len(expected))
    assert {int(port) - HELD.start + 1 for port in hits["remote_port"]} == expected
    assert len(expected) > 0
    assert without_repetition(OPENED, TRIED, HIGH - LOW + 1) > 0.9999


def test_a_rate_is_kept_and_somebody_else_refused(hosts: Hosts) -> None:
    """200 SYNs at 2,000 a second take a tenth of a second; a private address of the host's own net is not the lab's to spray."""
    ports = list(range(30_000, 30_200))
    answer = hosts.fire("hostA", source=hosts.a, source_ports=ports, target=hosts.b, target_ports=[9], per_s=2000)
    assert answer["last_ns"] - answer["first_ns"] > 0.09 * SECOND
    with pytest.raises(LabBroken, match="may not be sprayed"):
        hosts.fire("hostA", source=hosts.a, source_ports=[1], target="10.1.0.1", target_ports=[1])


def test_a_neighbour_that_is_not_there(hosts: Hosts) -> None:
    """Nobody answers for its address: an error within a second or two, and no hang."""
    with pytest.raises(LabBroken, match="nobody answers for"):
        hosts.fire("hostB", source=hosts.b, source_ports=[1], target=hosts.b.rpartition(".")[0] + ".99", target_ports=[1])
