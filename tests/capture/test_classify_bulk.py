"""The bulk forms say what the pure ones say: splitting into attempts, telling patterns and outcomes, tracing deciding packets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rawpunch.capture.classify import classify
from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Segment
from tests.capture.agreement import agree, splits_alike

ROOT = Path(__file__).parents[2]
CAPTURES = sorted(
    path for folder in (ROOT / ".." / "shared" / "captures", ROOT / "data" / "captures") for path in folder.glob("**/*.pcap*")
)
START_NS = 1_700_000_000 * SECOND
ENDS = (Endpoint("10.1.0.2", 1000), Endpoint("10.2.0.2", 2000), Endpoint("203.0.113.1", 1000), Endpoint("203.0.113.2", 2000))
VANTAGES = ("hostA:eth0", "natA:out", "hostB:eth0")

# Few values, so that they often meet; some ISNs lie at the edge where numbers wrap.
ISNS = (100, 101, 5000, 2**32 - 1)
flags = st.sampled_from([0x02, 0x02, 0x02, 0x12, 0x12, 0x10, 0x10, 0x04, 0x14, 0x11, 0x18, 0x00, 0x03, 0x06])
numbers = st.sampled_from([*ISNS, *((isn + 1) % 2**32 for isn in ISNS), 0, 70_000, 2**30 + 100])
waits = st.sampled_from([0, 1, 10 * MS, 10 * MS, 300 * MS, 2 * SECOND, 7 * SECOND, 70 * SECOND])
packets = st.tuples(
    st.integers(0, len(VANTAGES) - 1),
    st.sampled_from([(0, 3), (3, 0), (0, 3), (3, 0), (2, 3), (3, 2), (2, 1), (1, 2), (0, 0)]),
    flags,
    numbers,
    numbers,
    st.sampled_from([0, 0, 0, 3]),
    st.sampled_from([64, 63, 62]),
    waits,
    st.sampled_from([False] * 9 + [True]),
)
Drawn = tuple[int, tuple[int, int], int, int, int, int, int, int, bool]


def write(path: Path, drawn: list[Drawn]) -> Path:
    """A capture of these packets."""
    recorded = []
    time_ns = START_NS
    for vantage, (sender, receiver), bits, seq, ack, payload, ttl, wait, icmp in drawn:
        time_ns += wait
        segment = Segment(ENDS[sender], ENDS[receiver], Flags(bits), seq, ack, payload=b"x" * payload, ttl=ttl)
        data = encode(segment)
        if icmp:
            told = Flow(segment.source, segment.destination)
            data = encode_icmp_error(IcmpError("198.51.100.9", segment.source.address, 3, 1, told, seq), data)
        recorded.append(Recorded(time_ns, vantage, data, len(data)))
    return write_pcapng(path, [Interface(name, RAW_IP) for name in VANTAGES], recorded)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(drawn=st.lists(packets, max_size=14))
@example(drawn=[(0, (0, 3), 0x02, 100, 0, 0, 64, 0, False), (0, (0, 3), 0x02, 101, 0, 0, 64, 0, False)])
def test_any_packets(tmp_path: Path, drawn: list[Drawn]) -> None:
    """Whatever packets three vantage points saw."""
    path = write(tmp_path / "any.pcapng", drawn)
    found = classify(path)
    agree(found)
    splits_alike(path, found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(drawn=st.lists(packets, max_size=24))
@example(drawn=[(0, (0, 0), 0x02, 100, 0, 0, 64, 0, False), (0, (0, 0), 0x02, 101, 0, 0, 64, 2 * SECOND, False)])
@example(drawn=[(0, (0, 0), 0x02, 100, 0, 0, 64, 0, False), (0, (0, 0), 0x02, 101, 0, 0, 64, MS, False)])
@example(drawn=[(0, (0, 0), 0x02, 100, 0, 0, 64, 0, False), (0, (1, 0), 0x02, 101, 0, 0, 64, 2 * SECOND, False)])
def test_one_tuple(tmp_path: Path, drawn: list[Drawn]) -> None:
    """One 4-tuple at one vantage point, used again and again."""
    ends = {0: (0, 3), 1: (3, 0)}
    path = write(tmp_path / "any.pcapng", [(0, ends[each[1][0] % 2], *each[2:]) for each in drawn])
    found = classify(path)
    agree(found)
    splits_alike(path, found)


story = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["S", "SA", "A", "R", "RA", "I"]), waits), max_size=8)
hops = st.sampled_from([0, 0, 1, 3 * MS])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(story=story, lost=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 2))), hop_ns=hops)
@example(story=[("a", "S", 0), ("a", "I", MS), ("b", "SA", MS)], lost=set(), hop_ns=MS)
@example(story=[("a", "S", 0), ("b", "SA", MS), ("a", "I", MS)], lost=set(), hop_ns=MS)
@example(story=[("a", "S", 0), ("b", "RA", MS)], lost={(1, 1)}, hop_ns=0)
@example(story=[("a", "S", 0), ("b", "SA", MS), ("a", "A", MS)], lost=set(), hop_ns=0)
def test_sensible_packets_through_a_nat(
    tmp_path: Path, story: list[tuple[str, str, int]], lost: set[tuple[int, int]], hop_ns: int
) -> None:
    """Segments that answer each other, seen before a NAT, behind it and at the other end, some of them lost on the way."""
    isn = {"a": 1000, "b": 2**32 - 5}
    bits = {"S": 0x02, "SA": 0x12, "A": 0x10, "R": 0x04, "RA": 0x14, "I": 0x02}
    drawn: list[Drawn] = []
    for number, (sender, word, wait) in enumerate(story):
        mine, theirs = isn[sender], isn["b" if sender == "a" else "a"]
        seq = mine if word in {"S", "SA", "I"} else 0 if word == "RA" else mine + 1
        ack = 0 if word in {"S", "R", "I"} else theirs + 1
        way = [(0, (0, 3)), (1, (2, 3)), (2, (2, 3))] if sender == "a" else [(2, (3, 2)), (1, (3, 2)), (0, (3, 0))]
        for hop, (vantage, ends) in enumerate(way):
            if (number, vantage) not in lost:
                wait_ns = wait if hop == 0 else hop_ns
                drawn.append((vantage, ends, bits[word], seq % 2**32, ack % 2**32, 0, 64 - hop, wait_ns, word == "I"))
    path = write(tmp_path / "any.pcapng", drawn)
    found = classify(path)
    agree(found)
    splits_alike(path, found)


@pytest.mark.skipif(not CAPTURES, reason="the captures for trying things out are not here (../shared/captures)")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_captures(path: Path) -> None:
    """Every capture for trying things out, and the project's own."""
    found = classify(path)
    agree(found)
    splits_alike(path, found)
