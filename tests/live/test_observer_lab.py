"""The observer in the lab, asked from behind a NAT: what it sees, what it sends, and to whom it sends nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rawpunch.lab.lab import Lab
from rawpunch.scene import EXTERNAL, OBSERVERS, Scene, UnsolicitedAnswer
from rawpunch.units import MS

pytestmark = pytest.mark.lab

ONE_WAY_NS = 4 * MS
PORTS = [3478, 3479]
HOST = "10.1.0.2"

PROLOGUE = f"""
import asyncio, json, socket, sys
from rawpunch.errors import Malformed
from rawpunch.live.guard import Guard
from rawpunch.live.observer_client import ObserverClient
from rawpunch.live.sockets import RawPort
from rawpunch.live.stun_client import binding
from rawpunch.probe.messages import *
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.stun import OtherAddress
OBSERVER = Endpoint("{OBSERVERS["obs2"][0]}", {PORTS[0]})
HOST = "{HOST}"

def out(**found):
    print(json.dumps(found, default=str))

async def errand():
"""
EPILOGUE = """
asyncio.run(asyncio.wait_for(errand(), 20))
"""


def _errand(lab: Lab, body: str, node: str = "hostA") -> dict[str, Any]:
    """Run the body of a coroutine in a host; what it hands to `out` comes back."""
    code = PROLOGUE + "".join(f"    {line}\n" for line in body.strip("\n").splitlines()) + EPILOGUE
    found: dict[str, Any] = json.loads(lab.run(node, [sys.executable, "-c", code]).splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab with an observer on both addresses of obs2, able to craft packets."""
    with Lab(Scene.symmetric(ONE_WAY_NS)) as built:
        arguments = {"addresses": list(OBSERVERS["obs2"]), "ports": PORTS}
        ready, _ = built.start("obs2", "rawpunch.live.observer:serve", arguments).receive()
        assert ready == {"ready": True, "without_raw": ""}
        yield built


def test_the_mapped_endpoint_is_the_nats(lab: Lab) -> None:
    """STUN over TCP and the observer's own query name the NAT's external endpoint, with the port that masquerading preserves."""
    found = _errand(
        lab,
        """
answers = [await binding(Endpoint(address, port), local=Endpoint(HOST, 41000))
           for address in ("192.0.2.66", "192.0.2.67") for port in (3478, 3479)]
async with await ObserverClient.connect(OBSERVER, local=Endpoint(HOST, 41001)) as client:
    place = await client.want(Where(), Place)
out(stun=[a.mapped for a in answers], other=answers[0].attribute(OtherAddress).endpoint, you=place.you, here=place.here)
""",
    )
    assert found["stun"] == [f"{EXTERNAL['a']}:41000"] * 4
    assert found["other"] == f"{OBSERVERS['obs2'][1]}:{PORTS[1]}"
    assert (found["you"], found["here"]) == (f"{EXTERNAL['a']}:41001", f"{OBSERVERS['obs2'][0]}:{PORTS[0]}")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (UnsolicitedAnswer.DROP, "silent"),
        (UnsolicitedAnswer.RST, "refused"),
        (UnsolicitedAnswer.ICMP, "unreachable"),
    ],
)
def test_a_connection_back_ends_as_the_nat_filters(lab: Lab, answer: UnsolicitedAnswer, outcome: str) -> None:
    """From another address or port than the mapping's own the SYN meets the NAT's declared answer; the inside never sees it."""
    lab.change(Scene.symmetric(ONE_WAY_NS, answer))
    found = _errand(
        lab,
        """
tap = RawPort()
async with await ObserverClient.connect(OBSERVER, local=Endpoint(HOST, 0)) as client:
    you = (await client.begin()).you
    wishes = [Connect(address=0, port=3479, to=you, wait_ms=300), Connect(address=1, port=3478, to=you, wait_ms=300)]
    answers = await asyncio.gather(*(client.want(wish, Connected) for wish in wishes))
inside = []
for octets in tap.receive():
    try:
        packet = decode(octets)
    except Malformed:
        continue
    if isinstance(packet, Segment) and packet.kind == "SYN":
        inside.append(str(packet.source))
out(outcomes=[a.outcome for a in answers], sources=[a.source for a in answers], inside=inside)
""",
    )
    assert found["outcomes"] == [outcome] * 2
    assert found["sources"] == [f"{OBSERVERS['obs2'][0]}:{PORTS[1]}", f"{OBSERVERS['obs2'][1]}:{PORTS[0]}"]
    assert found["inside"] == []
    assert lab.private_leaks() == 0


def test_a_connection_back_to_a_public_host_arrives(lab: Lab) -> None:
    """Without a NAT in between the SYN reaches the host: a listener there takes the connection."""
    found = _errand(
        lab,
        """
came = []
server = await asyncio.start_server(lambda _, w: came.append(w.get_extra_info("peername")), "192.0.2.2", 4000)
async with await ObserverClient.connect(OBSERVER) as client:
    await client.begin()
    answer = await client.want(Connect(address=1, port=3479, to=Endpoint("192.0.2.2", 4000)), Connected)
    await asyncio.sleep(0.05)
out(outcome=answer.outcome, came=came)
""",
        node="obs1",
    )
    assert found == {"outcome": "connected", "came": [[OBSERVERS["obs2"][1], PORTS[1]]]}


def test_a_held_port_is_silent_and_tells_what_came(lab: Lab) -> None:
    """A SYN to a held port gets no answer by itself; its endpoint, TTL, ISN, options and window are reported as they arrived."""
    lab.change(Scene.symmetric(ONE_WAY_NS))
    found = _errand(
        lab,
        """
tap, local = RawPort(), Endpoint(HOST, 41100)
async with await ObserverClient.connect(OBSERVER) as client:
    await client.begin()
    held = (await client.want(Hold(address=1), Held)).endpoint
    with Guard(local):
        tap.send(encode(Segment(local, held, Flags.SYN, 0x7FFF1234, window=4321, options=(Mss(1300),), ttl=33)), held.address)
        reply = await client.arrivals(at=held, wait_ms=2000)
        rows = await client.mapped(at=held)
        await asyncio.sleep(0.05)
    syn = reply.packets[0].packet
    back = [p for p in map(decode, tap.receive()) if isinstance(p, Segment) and p.source == held]
    out(count=len(reply.packets), lost=reply.lost, source=syn.source, ttl=syn.ttl, seq=syn.seq, window=syn.window,
        options=repr(syn.options), rows=[row[1:] for row in rows.rows], back=len(back))
""",
    )
    assert (found["count"], found["lost"], found["back"]) == (1, 0, 0)
    assert (found["source"], found["ttl"]) == (f"{EXTERNAL['a']}:41100", 33 - 2)
    assert (found["seq"], found["window"], found["options"]) == (0x7FFF1234, 4321, "(Mss(value=1300),)")
    assert found["rows"] == [[0x7FFF1234, EXTERNAL["a"], 41100]]


@pytest.mark.parametrize(
    ("kind", "inside"),
    [("syn", "SYN"), ("syn_ack", "SYN-ACK"), ("rst_ack", "RST-ACK"), ("icmp", "ICMP 3/1")],
)
def test_packets_are_crafted_as_asked_and_as_set(lab: Lab, kind: str, inside: str) -> None:
    """To a port with a mapping the asked packet comes in through the NAT, once as the port's own answer and once by request."""
    found = _errand(
        lab,
        f"""
local = Endpoint(HOST, 0)
kinds, sent = [], []
async with await ObserverClient.connect(OBSERVER) as client:
    await client.begin()
    for number, answer in enumerate((Craft("{kind}"), None)):
        local = Endpoint(HOST, 41200 + number)
        held = (await client.want(Hold(answer=answer), Held)).endpoint
        tap = RawPort()
        with Guard(local):
            tap.send(encode(Segment(local, held, Flags.SYN, 1 << 30)), held.address)
            came = (await client.arrivals(at=held, wait_ms=2000)).packets[0].packet
            if answer is None:
                wish = SendPacket(kind=Craft("{kind}"), source=held, to=came.source, seq=came.seq, ack=came.seq + 1, ttl=9)
                sent.append(await client.want(wish, Sent))
            await asyncio.sleep(0.1)
        for octets in tap.receive():
            packet = decode(octets)
            here = packet.source if isinstance(packet, Segment) else packet.quoted.destination
            if here == held:
                kinds.append([packet.kind, packet.ttl])
out(kinds=kinds, octets=sent[0].octets)
""",
    )
    assert found["kinds"] == [[inside, 64 - 2], [inside, 9 - 2]]


def test_a_low_ttl_syn_dies_on_the_way_and_its_end_is_reported(lab: Lab) -> None:
    """With a TTL of 1 the router in the core answers time exceeded: the observer reports it, the NAT never sees the SYN."""
    found = _errand(
        lab,
        """
async with await ObserverClient.connect(OBSERVER) as client:
    you = (await client.begin()).you
    held = (await client.want(Hold(), Held)).endpoint
    await client.want(SendPacket(kind=Craft.SYN, source=held, to=you, ttl=1), Sent)
    error = (await client.arrivals(at=held, wait_ms=2000)).packets[0].packet
out(kind=error.kind, source=error.source, quoted=error.quoted.destination, you=you)
""",
    )
    assert (found["kind"], found["source"]) == ("ICMP 11/0", "192.0.2.65")
    assert found["quoted"] == found["you"]


def test_nothing_goes_where_no_proof_came_from(lab: Lab) -> None:
    """At hostA's word no packet and no connection goes to hostB's NAT, and none leaves a port that the session does not hold."""
    found = _errand(
        lab,
        f"""
other = Endpoint("{EXTERNAL["b"]}", 4000)
async with await ObserverClient.connect(OBSERVER) as client:
    you = (await client.begin()).you
    held = (await client.want(Hold(), Held)).endpoint
    wishes = [Connect(to=other), *(SendPacket(kind=kind, source=held, to=other) for kind in Craft),
              SendPacket(kind=Craft.RST, source=OBSERVER, to=you)]
    words = [(await client.want(wish, Refused)).word for wish in wishes]
out(words=words)
""",
    )
    assert set(found["words"]) == {"not_yours"}
    assert len(found["words"]) == 8
    devices = lab.run("natB", ["cat", "/proc/thread-self/net/dev"]).splitlines()
    outside = next(line.split() for line in devices if line.strip().startswith("out:"))
    assert outside[2] == "0"  # packets received, since the lab was built


def test_a_burst_of_mappings_is_accounted_for(lab: Lab) -> None:
    """Of SYNs from many ports each is reported with its external port, or counted as lost."""
    count = 400
    found = _errand(
        lab,
        f"""
async with await ObserverClient.connect(OBSERVER) as client:
    await client.begin()
    held = (await client.want(Hold(), Held)).endpoint
    tap = RawPort()
    for number in range({count}):
        tap.send(encode(Segment(Endpoint(HOST, 42000 + number), held, Flags.SYN, (1 << 30) + number)), held.address)
        if number % 50 == 49:
            await asyncio.sleep(0.005)
    rows, after, lost = [], 0, 0
    while len(rows) + lost < {count}:
        part = await client.mapped(after=after, at=held, wait_ms=1000)
        if not part.rows:
            break
        rows += part.rows
        after, lost = part.next, lost + part.lost
out(right=sum(row[3] - 42000 == row[1] - (1 << 30) for row in rows), rows=len(rows), lost=lost, dropped=part.dropped)
""",
    )
    assert found == {"right": count, "rows": count, "lost": 0, "dropped": 0}
