"""From a hole to a socket in the lab: two peers behind NATs meet at a server, begin together, and talk without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.channel import Channel
from rawpunch.lab.lab import Lab
from rawpunch.scene import EXTERNAL, OBSERVERS, Scene
from rawpunch.units import MS
from tests.live.test_handover_lab import HOSTS, Pair

pytestmark = pytest.mark.lab

ONE_WAY_NS = 10 * MS
SERVER = f"{OBSERVERS['obs1'][0]}:7800"
TRIES = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """Two hosts and a server between them."""

    pair: Pair
    server: Channel


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One lab for all tests of this file."""
    with Lab(Scene.symmetric(ONE_WAY_NS)) as lab:
        lab.record()
        server = lab.start(
            "obs1", "rawpunch.live.rendezvous_server:serve", {"addresses": [OBSERVERS["obs1"][0]], "ports": [7800]}
        )
        assert server.receive()[0] == {"ready": True}
        yield Stage(Pair(lab), server)


@pytest.mark.parametrize("clock", [True, False], ids=["instant", "go"])
@pytest.mark.parametrize("method", ["raw", "kernel"])
def test_peers_meet_and_connect_from_the_same_ports(stage: Stage, tmp_path: Path, method: str, clock: bool) -> None:
    """The server names the NATs' endpoints, both begin within the error it states, and a direct connection carries their data.

    What a stall of the machine delayed is done again.
    """
    pair, late = stage.pair, []
    for _ in range(TRIES):
        port = pair.port()
        pair.lab.flush(None)
        told = [
            pair.tell(
                side, do="meet", server=SERVER, local=f"{HOSTS[side]}:{port}", method=method, clock=clock, first=side == "a"
            )
            for side in "ab"
        ]
        met = {side: pair.answer(one) for side, one in zip("ab", told, strict=True)}
        time.sleep(4 * ONE_WAY_NS / 1e9)  # both have left the server, and it knows
        before = stage.server.ask({})
        talked_a, talked_b = pair.both(do="exchange", port=port, count=100_000)
        assert (talked_a["came"], talked_b["came"]) == (talked_b["sent"], talked_a["sent"])
        assert stage.server.ask({}) == before
        pair.both(do="close", port=port)
        pair.lab.flush(tmp_path / "part.pcapng")
        frame = read_capture(tmp_path / "part.pcapng")
        for side, found in met.items():
            assert found["you"] == f"{EXTERNAL[side]}:{port}"
            assert found["method"] == method
            assert found["carried"] < 2_000
        server_segments = frame[(frame.interface == "core:a") & (frame.destination_port == 7800)]
        assert server_segments.payload_length.sum() < 2_000
        syns = frame[(frame.kind == "SYN") & (frame.direction == "out") & (frame.destination_port == port)]
        sent = [syns[syns.interface == f"host{side}:eth0"].time_ns.min() for side in "AB"]
        apart_ns = abs(sent[0] - sent[1])
        if apart_ns <= met["a"]["error_ns"] + 2 * MS:
            return
        late.append(apart_ns)
    pytest.fail(f"the starts were {late} ns apart in {TRIES} tries of {TRIES}")
