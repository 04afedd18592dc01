"""Packets are put to their attempts at every vantage point, through NATs that keep ports and NATs that do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import Plan, Zone, assign, endpoints_of, views
from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.errors import BadParameter, Malformed
from rawpunch.record.pattern import tell
from rawpunch.record.words import Pattern
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Segment

ZONES: dict[str, Zone] = {
    "hostA:eth0": "inside_a",
    "natA:in": "inside_a",
    "natA:out": "outside",
    "core:a": "outside",
    "core:b": "outside",
    "natB:out": "outside",
    "natB:in": "inside_b",
    "hostB:eth0": "inside_b",
}
PATH = list(ZONES)
HOP_NS = [0, 20_000, 5_000, 10 * MS, 100_000, 10 * MS, 5_000, 20_000]
"""Time to each vantage point from the one before it, on the way from A to B."""
SYN, SYN_ACK, ACK = Flags.SYN, Flags.SYN | Flags.ACK, Flags.ACK
RST_ACK = Flags.RST | Flags.ACK


@dataclass
class Lab:
    """A pretend lab: where A and B are, what their NATs make of them, and what was captured."""

    local_a: Endpoint
    local_b: Endpoint
    external_a: Endpoint
    external_b: Endpoint
    recorded: list[Recorded]

    def as_seen(self, zone: Zone, segment: Segment) -> Segment:
        """A segment between the external endpoints, as it looks in a zone."""
        inside = {"inside_a": {self.external_a: self.local_a}, "inside_b": {self.external_b: self.local_b}, "outside": {}}[zone]
        return replace(
            segment,
            source=inside.get(segment.source, segment.source),
            destination=inside.get(segment.destination, segment.destination),
        )

    def send(self, segment: Segment, at_ns: int, start: str, stop: str) -> int:
        """Record a segment, given between external endpoints, on its way; the instant of its arrival."""
        first, last = PATH.index(start), PATH.index(stop)
        step = 1 if last >= first else -1
        for place in range(first, last + step, step):
            if place != first:
                at_ns += HOP_NS[place if step > 0 else place + 1]
            data = encode(self.as_seen(ZONES[PATH[place]], segment))
            self.recorded.append(Recorded(at_ns, place, data, len(data), outgoing=True))
        return at_ns

    def crossing(self, start_ns: int, isn: int) -> None:
        """A true simultaneous open."""
        a, b = self.external_a, self.external_b
        host_a, host_b = PATH[0], PATH[-1]
        in_b = self.send(Segment(a, b, SYN, isn), start_ns, host_a, host_b)
        in_a = self.send(Segment(b, a, SYN, isn + 7), start_ns + MS, host_b, host_a)
        self.send(Segment(a, b, SYN_ACK, isn, isn + 8), in_a + 9_000, host_a, host_b)
        self.send(Segment(b, a, SYN_ACK, isn + 7, isn + 1), in_b + 9_000, host_b, host_a)


def lab(port_a: int = 30_000, port_b: int = 40_000, *, shift: int = 0) -> Lab:
    """A lab whose NATs add `shift` to every port."""
    return Lab(
        Endpoint("10.1.0.2", port_a),
        Endpoint("10.2.0.2", port_b),
        Endpoint("203.0.113.1", port_a + shift),
        Endpoint("203.0.113.2", port_b + shift),
        [],
    )


def plan_of(world: Lab, attempt: str = "one", **window: int) -> Plan:
    """The plan of peers that know each other's external endpoints."""
    return Plan(
        attempt=attempt,
        local_a=world.local_a,
        remote_a=world.external_b,
        local_b=world.local_b,
        remote_b=world.external_a,
        **window,
    )


@pytest.fixture
def captured(tmp_path: Path) -> Callable[[Iterable[Recorded]], pd.DataFrame]:
    """Write packets to a capture file in order of time, and read it."""

    def through_a_file(recorded: Iterable[Recorded]) -> pd.DataFrame:
        interfaces = [Interface(name, RAW_IP) for name in PATH]
        ordered = sorted(recorded, key=lambda packet: packet.time_ns)
        return read_capture(write_pcapng(tmp_path / "lab.pcapng", interfaces, ordered))

    return through_a_file


Captured = Callable[[Iterable[Recorded]], pd.DataFrame]


@pytest.mark.parametrize("shift", [0, 5000])
def test_a_crossing_is_seen_everywhere(captured: Captured, shift: int) -> None:
    """Every packet at every vantage point is found, whether the NATs keep the ports or not, and all views agree."""
    world = lab(shift=shift)
    world.crossing(SECOND, 1000)
    assigned = assign(captured(world.recorded), [plan_of(world)], ZONES)
    assert (assigned.packets["attempt"] == "one").all()
    seen = views(assigned, plan_of(world), ZONES)
    assert [view.vantage for view in seen] == PATH
    assert [view.at for view in seen] == ["a", "", "", "", "", "", "", "b"]
    assert {len(view.seen) for view in seen} == {4}
    for view in seen:
        assert tell([replace(view, at="")]).pattern is Pattern.SIMULTANEOUS
    told = tell(seen)
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.SIMULTANEOUS,) * 3
    assert told.decided_at in ("hostA:eth0", "hostB:eth0")


def test_mappings_are_learned_from_packets(captured: Captured) -> None:
    """Each NAT's mapping is told by what went in and what came out."""
    world = lab(shift=5000)
    world.crossing(SECOND, 1000)
    mappings = assign(captured(world.recorded), [plan_of(world)], ZONES).mappings
    assert mappings.to_dict("records") == [
        {
            "attempt": "one",
            "nat": "natA",
            "internal": "10.1.0.2:30000",
            "external": "203.0.113.1:35000",
            "remote": "203.0.113.2:45000",
            "time_ns": SECOND + 25_000,
        },
        {
            "attempt": "one",
            "nat": "natB",
            "internal": "10.2.0.2:40000",
            "external": "203.0.113.2:45000",
            "remote": "203.0.113.1:35000",
            "time_ns": SECOND + MS + 25_000,
        },
    ]


def test_peers_that_aimed_at_the_wrong_ports(captured: Captured) -> None:
    """NATs that change ports and peers that do not know: both SYNs are followed out, and the RST is traced to B's NAT."""
    world = lab(shift=5000)
    wrong_b, wrong_a = Endpoint("203.0.113.2", 40_000), Endpoint("203.0.113.1", 30_000)
    plan = Plan(attempt="one", local_a=world.local_a, remote_a=wrong_b, local_b=world.local_b, remote_b=wrong_a)
    arrived = world.send(Segment(world.external_a, wrong_b, SYN, 70_000), SECOND, "hostA:eth0", "natB:out")
    world.send(Segment(wrong_b, world.external_a, RST_ACK, 0, 70_001), arrived + 9_000, "natB:out", "hostA:eth0")
    world.send(Segment(world.external_b, wrong_a, SYN, 90_000), SECOND, "hostB:eth0", "natA:out")
    assigned = assign(captured(world.recorded), [plan], ZONES)
    assert assigned.packets["attempt"].notna().all()
    assert assigned.external["one"] == (world.external_a, world.external_b)
    told = tell(views(assigned, plan, ZONES))
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.REFUSED, Pattern.REFUSED, Pattern.UNANSWERED)
    assert told.decided_at == "natB:out"
    assert told.decided_by is not None
    assert told.decided_by.packet.kind == "RST-ACK"


def test_a_reset_from_the_peers_own_nat_reaches_b(captured: Captured) -> None:
    """The RST that A's NAT sends to B for a wrong port is known again behind B's NAT."""
    world = lab(shift=5000)
    wrong_a = Endpoint("203.0.113.1", 30_000)
    plan = replace(plan_of(world), remote_b=wrong_a)
    arrived = world.send(Segment(world.external_b, wrong_a, SYN, 90_000), SECOND, "hostB:eth0", "natA:out")
    world.send(Segment(wrong_a, world.external_b, RST_ACK, 0, 90_001), arrived + 9_000, "natA:out", "hostB:eth0")
    told = tell(views(assign(captured(world.recorded), [plan], ZONES), plan, ZONES))
    assert (told.pattern, told.decided_at) == (Pattern.REFUSED, "natA:out")


def test_icmp_errors_are_followed_by_the_ports_they_quote(captured: Captured) -> None:
    """An ICMP error comes from a router's address; it belongs to the attempt whose segment it quotes."""
    world = lab(shift=5000)
    syn = Segment(world.external_a, world.external_b, SYN, 70_000)
    world.send(syn, SECOND, "hostA:eth0", "core:a")
    for place, delay_ns in (("core:a", 20 * MS), ("natA:out", 30 * MS), ("natA:in", 31 * MS), ("hostA:eth0", 32 * MS)):
        quoted = world.as_seen(ZONES[place], syn)
        error = IcmpError("198.51.100.9", quoted.source.address, 3, 13, Flow(quoted.source, quoted.destination), quoted.seq)
        data = encode_icmp_error(error, encode(quoted))
        world.recorded.append(Recorded(SECOND + delay_ns, PATH.index(place), data, len(data)))
    assigned = assign(captured(world.recorded), [plan_of(world)], ZONES)
    assert assigned.packets["attempt"].notna().all()
    told = tell(views(assigned, plan_of(world), ZONES))
    assert (told.pattern, told.at_a, told.decided_at) == (Pattern.ICMP_ENDED, Pattern.ICMP_ENDED, "core:a")


def test_ports_used_again_are_told_apart_by_time(captured: Captured) -> None:
    """The same four-tuple, twice in a capture: each packet goes to the attempt that had begun last."""
    world = lab(shift=7)
    world.crossing(SECOND, 1000)
    world.crossing(5 * SECOND, 90_000)
    first = plan_of(world, "first", not_before_ns=SECOND - MS)
    second = plan_of(world, "second", not_before_ns=5 * SECOND - MS)
    assigned = assign(captured(world.recorded), [second, first], ZONES)
    assert assigned.packets.groupby("attempt", observed=True).size().to_dict() == {"first": 32, "second": 32}
    for plan in (first, second):
        assert tell(views(assigned, plan, ZONES)).pattern is Pattern.SIMULTANEOUS


def test_packets_outside_the_window_belong_to_nobody(captured: Captured) -> None:
    """What comes before an attempt begins or after it is over is not put to it."""
    world = lab()
    world.crossing(SECOND, 1000)
    plan = plan_of(world, not_before_ns=2 * SECOND, not_after_ns=3 * SECOND)
    assigned = assign(captured(world.recorded), [plan], ZONES)
    assert assigned.packets["attempt"].isna().all()
    assert tell(views(assigned, plan, ZONES)).pattern is Pattern.TRUNCATED


def test_strangers_and_unknown_vantage_points_belong_to_nobody(captured: Captured) -> None:
    """Other flows, and vantage points without a zone, are left alone; so is a capture with nothing in it."""
    world = lab()
    world.crossing(SECOND, 1000)
    stranger = lab(31_000, 41_000)
    stranger.crossing(SECOND, 5000)
    frame = captured(world.recorded + stranger.recorded)
    some: dict[str, Zone] = {vantage: zone for vantage, zone in ZONES.items() if not vantage.startswith("core")}
    assigned = assign(frame, [plan_of(world)], some)
    assert assigned.packets["attempt"].notna().sum() == 4 * 6
    nothing = assign(frame.iloc[:0], [plan_of(world)], ZONES)
    assert tell(views(nothing, plan_of(world), ZONES)).decided_by is None
    assert assign(frame, [], ZONES).packets["attempt"].isna().all()


def test_names_of_attempts_are_unique(captured: Captured) -> None:
    """Two plans of one name would mix their packets."""
    world = lab()
    world.crossing(SECOND, 1000)
    with pytest.raises(BadParameter, match="same name"):
        assign(captured(world.recorded), [plan_of(world), plan_of(world)], ZONES)


def test_endpoints_of_an_empty_capture(captured: Captured) -> None:
    """There is nobody to name."""
    with pytest.raises(Malformed):
        endpoints_of(captured([]))


def test_a_thousand_attempts_in_time(captured: Captured) -> None:
    """A thousand attempts, 32,000 packets: far below the time the attempts themselves take."""
    worlds = [lab(20_000 + i, 30_000 + i, shift=1500) for i in range(1000)]
    for i, world in enumerate(worlds):
        world.crossing(SECOND + i * MS, 1000 * i)
    frame = captured(packet for world in worlds for packet in world.recorded)
    plans = [plan_of(world, f"attempt {i}") for i, world in enumerate(worlds)]
    began = time.process_time()
    assigned = assign(frame, plans, ZONES)
    patterns = {tell(views(assigned, plan, ZONES)).pattern for plan in plans}
    assert patterns == {Pattern.SIMULTANEOUS}
    assert time.process_time() - began < 10
    assert assigned.packets["attempt"].notna().all()
