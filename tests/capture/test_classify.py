"""What is said of real captures, of attempts that share a 4-tuple, and of several views of the same attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rawpunch.capture.classified import COLUMNS, Classified
from rawpunch.capture.classify import classify
from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.errors import UnknownName, Unreadable
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Segment

SHARED = Path(__file__).parents[2] / ".." / "shared" / "captures"
START_NS = 1_700_000_000 * SECOND
A, B = Endpoint("10.1.0.2", 1000), Endpoint("198.51.100.7", 2000)
OUTSIDE = Endpoint("203.0.113.1", 61_000)
SYN, SYN_ACK, ACK, RST, RST_ACK, FIN_ACK = (Flags(bits) for bits in (0x02, 0x12, 0x10, 0x04, 0x14, 0x11))


@dataclass(frozen=True)
class Sent:
    """A packet on its way."""

    at_ms: float
    segment: Segment
    icmp: tuple[int, int] | None = None
    """Type and code, for an error about the segment."""


def line(at_ms: float, source: Endpoint, destination: Endpoint, flags: Flags, seq: int, ack: int = 0, **more: Any) -> Sent:
    """A segment that was seen at an instant."""
    return Sent(at_ms, Segment(source, destination, flags, seq % 2**32, ack % 2**32, **more))


def three_way(at_ms: float, a: Endpoint, b: Endpoint, isn_a: int, isn_b: int, hop_ms: float = 1) -> list[Sent]:
    """An ordinary open."""
    return [
        line(at_ms, a, b, SYN, isn_a),
        line(at_ms + hop_ms, b, a, SYN_ACK, isn_b, isn_a + 1),
        line(at_ms + 2 * hop_ms, a, b, ACK, isn_a + 1, isn_b + 1),
    ]


def through(packets: Sequence[Sent], inside: Endpoint, outside: Endpoint, late_ms: float, hops: int) -> list[Sent]:
    """The same packets behind a NAT that turns `inside` into `outside`; A's come later there, B's were there earlier."""
    other = {inside: outside}
    seen = []
    for sent in packets:
        segment = sent.segment
        from_a = segment.source == inside
        seen.append(
            replace(
                sent,
                at_ms=sent.at_ms + (late_ms if from_a else -late_ms),
                segment=replace(
                    segment,
                    source=other.get(segment.source, segment.source),
                    destination=other.get(segment.destination, segment.destination),
                    ttl=segment.ttl + (-hops if from_a else hops),
                ),
            )
        )
    return seen


def captured(path: Path, **views: Sequence[Sent]) -> Path:
    """A capture in which each keyword is an interface."""
    recorded = []
    for index, packets in enumerate(views.values()):
        for sent in packets:
            data = encode(sent.segment)
            if sent.icmp:
                told = Flow(sent.segment.source, sent.segment.destination)
                error = IcmpError("192.0.2.99", told.source.address, *sent.icmp, told, sent.segment.seq)
                data = encode_icmp_error(error, data)
            recorded.append(Recorded(START_NS + round(sent.at_ms * MS), index, data, len(data)))
    recorded.sort(key=lambda packet: packet.time_ns)
    names = [Interface(name.replace("_", ":"), RAW_IP) for name in views]
    return write_pcapng(path, names, recorded)


def one(path: Path, packets: Sequence[Sent]) -> list[dict[str, Any]]:
    """What is said of a capture from one place."""
    return classify(captured(path, eth0=packets)).rows()


def words(found: Classified) -> list[tuple[str, str | None]]:
    """Pattern and outcome of each attempt."""
    return [(row["pattern"], row["outcome"]) for row in found.rows()]


# --- real captures ---

THREE_WAY, REFUSED, UNANSWERED = ("three_way", "established"), ("refused", "refused"), ("unanswered", "timed_out")
TRUNCATED = ("truncated", None)

EXPECTED: dict[str, list[tuple[str, str | None]]] = {
    "lab-crossing-A.pcap": [("simultaneous", "established")],
    "lab-crossing-B.pcap": [("simultaneous", "established")],
    # behind the NATs' outer devices, FINs that left untranslated are flows of their own, of which no SYN was seen
    "lab-crossing-NA.pcap": [("simultaneous", "established"), TRUNCATED, TRUNCATED],
    "lab-crossing-NB.pcap": [("simultaneous", "established"), TRUNCATED, TRUNCATED],
    "lab-late-syn-reset-A.pcap": [REFUSED],
    "lab-late-syn-reset-B.pcap": [REFUSED],
    "lab-late-syn-reset-NA.pcap": [REFUSED],
    "lab-late-syn-reset-NB.pcap": [REFUSED],
    "suricata-split-handshake-4whs.pcap": [("split", "established")],
    "suricata-rst-with-data.pcap": [THREE_WAY],
    "suricata-syn-retransmit-with-ts.pcap": [THREE_WAY],
    "suricata-tfo.pcap": [THREE_WAY, THREE_WAY],
    "suricata-rdp-rst-retries.pcap": [THREE_WAY, REFUSED],
    "zeek-handshake-reorder.pcap": [THREE_WAY],
    "zeek-syn-synack.pcap": [TRUNCATED],
    "zeek-syn-then-rst.pcap": [UNANSWERED],  # the caller's own RST: nothing came back
    "zeek-syn-bad.pcap": [UNANSWERED],
    "zeek-payload-syn.pcap": [THREE_WAY],
    "zeek-options.pcap": [THREE_WAY],
    "zeek-smtp-icmp-errors.pcap": [THREE_WAY, TRUNCATED, THREE_WAY, TRUNCATED, TRUNCATED, THREE_WAY],
    "ndpi-tcp-scan.pcapng": [
        THREE_WAY,
        THREE_WAY,
        REFUSED,
        REFUSED,
        TRUNCATED,
        TRUNCATED,
        TRUNCATED,
    ],  # the last three are FIN scans
    "ndpi-multiple-synack-different-seq.pcapng": [TRUNCATED],  # begins with a SYN-ACK
    "tcpdump-bgp-retries-rst.pcap": [REFUSED, THREE_WAY, REFUSED, THREE_WAY, REFUSED],
    "ppa-nowebaccess2.pcapng": [REFUSED],
}
COUNTED: dict[str, dict[str, int]] = {
    "zeek-nmap-vsn.pcap": {"three_way": 3, "refused": 6, "unanswered": 8},
    "ndpi-gnutella.pcap": {"three_way": 56, "refused": 7, "reset_midway": 5, "icmp_ended": 2, "unanswered": 67},
    "ppa-gnutella.pcap": {"three_way": 5, "refused": 98, "unanswered": 140},
    "ppa-http-syn-retransmits.pcapng": {"three_way": 7, "unanswered": 9},
}
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the captures for trying things out are not here (../shared/captures)"
)


@needs_shared
@pytest.mark.parametrize("name", EXPECTED)
def test_small_captures(name: str) -> None:
    """Each attempt of each small capture, as its README and a look at its packets say."""
    assert words(classify(SHARED / name)) == EXPECTED[name]


@needs_shared
@pytest.mark.parametrize("name", COUNTED)
def test_large_captures(name: str) -> None:
    """How often each pattern occurs in the captures that have many flows."""
    assert classify(SHARED / name).by_pattern() == COUNTED[name]


@needs_shared
def test_every_capture_is_expected() -> None:
    """None is left out above."""
    assert {path.name for path in SHARED.glob("*.pcap*")} == {*EXPECTED, *COUNTED}


# --- several files of the same traffic ---


def shared(*names: str) -> list[Path]:
    """Some of those captures."""
    return [SHARED / f"lab-{name}.pcap" for name in names]


@needs_shared
def test_four_views_of_a_crossing_are_one_attempt() -> None:
    """Translated or not, also packets that escaped a NAT untranslated: each packet counts once, the first view of it decides."""
    rows = classify(shared("crossing-A", "crossing-NA", "crossing-NB", "crossing-B")).rows()
    assert len(rows) == 1
    assert rows[0] == {
        "flow": "10.2.0.2:40056 > 203.0.113.1:30056",  # its SYN left a microsecond before the other
        "pattern": "simultaneous",
        "outcome": "established",
        "syn": 2,
        "syn_ack": 2,
        "rst": 2,
        "syn_retransmissions": 0,
        "icmp_errors": 0,
        "segments": 18,
        "first_ns": 1795207507925877000,
        "established_ns": 1795207508026359000,  # A's file, packet 4; B was complete 69 us before
        "decided_by": "lab-crossing-B#3",  # where that packet left
    }


@needs_shared
def test_the_order_of_the_files_changes_nothing() -> None:
    """Whoever names them in whatever order learns the same."""
    names = ("crossing-A", "crossing-NA", "crossing-NB", "crossing-B", "late-syn-reset-NA", "late-syn-reset-A")
    assert classify(shared(*names)).rows() == classify(shared(*reversed(names))).rows()


@needs_shared
def test_two_hosts_without_the_nats_between() -> None:
    """Nothing but the initial sequence numbers shows that the two flows are one."""
    rows = classify(shared("crossing-A", "crossing-B")).rows()
    assert [(row["pattern"], row["syn"], row["syn_ack"]) for row in rows] == [("simultaneous", 2, 2)]


@needs_shared
def test_the_late_half_of_an_attempt_belongs_to_it() -> None:
    """B's SYN, 100 ms after A was refused, is the other half of one attempt; the RST that B's NAT sent first decided it."""
    rows = classify(shared("late-syn-reset-A", "late-syn-reset-NA", "late-syn-reset-NB", "late-syn-reset-B")).rows()
    assert [(row["pattern"], row["outcome"], row["syn"], row["rst"]) for row in rows] == [("refused", "refused", 2, 2)]
    assert rows[0]["decided_by"] == "lab-late-syn-reset-NB#2"


def test_a_nat_that_changes_ports(tmp_path: Path) -> None:
    """Inside and outside of a NAT are one attempt, in two interfaces of a file or in two files."""
    inside = three_way(0, A, B, 1000, 5000)
    outside = through(inside, A, OUTSIDE, 0.1, 1)
    together = classify(captured(tmp_path / "both.pcapng", natA_in=inside, natA_out=outside)).rows()
    apart = classify([captured(tmp_path / "in.pcapng", a=inside), captured(tmp_path / "out.pcapng", b=outside)]).rows()
    for rows in (together, apart):
        assert [(row["flow"], row["pattern"], row["segments"]) for row in rows] == [(f"{A} > {B}", "three_way", 3)]
    assert together[0]["decided_by"] == "natA:in#5"
    assert apart[0]["decided_by"] == "in#3"


def test_a_nat_seen_from_one_place(tmp_path: Path) -> None:
    """A capture on all of a NAT's devices at once sees each packet twice, the second time translated and one hop older."""
    inside = three_way(0, A, B, 1000, 5000)
    rows = one(tmp_path / "any.pcapng", [*inside, *through(inside, A, OUTSIDE, 0.1, 1)])
    assert [(row["pattern"], row["syn"], row["segments"]) for row in rows] == [("three_way", 1, 3)]


def test_a_scanner_sends_one_isn_to_all(tmp_path: Path) -> None:
    """Probes of equal ISN to many ports are as many flows, though two vantage points saw them; each merged with its own."""
    inside = [line(port / 10, A, Endpoint(B.address, port), SYN, 77) for port in range(1, 20)]
    inside += [line(port / 10 + 1, Endpoint(B.address, port), A, RST_ACK, 0, 78) for port in range(1, 20)]
    outside = through(inside, A, OUTSIDE, 0.01, 1)
    rows = classify(captured(tmp_path / "scan.pcapng", natA_in=inside, natA_out=outside)).rows()
    assert [(row["flow"], row["pattern"], row["segments"]) for row in rows] == [
        (f"{A} > {B.address}:{port}", "refused", 2) for port in range(1, 20)
    ]


def test_the_same_isn_at_another_time_is_another_attempt(tmp_path: Path) -> None:
    """Two hosts may draw the same number; an hour lies between."""
    other = Endpoint("10.9.9.9", 5), Endpoint("198.51.100.99", 6)
    later = three_way(3_600_000, *other, 1000, 6000)
    found = classify(captured(tmp_path / "some.pcapng", a_x=three_way(0, A, B, 1000, 5000), b_x=later))
    assert words(found) == [THREE_WAY, THREE_WAY]


def test_a_retransmission_lost_behind_the_nat(tmp_path: Path) -> None:
    """The view that saw most of equal packets says how often they were sent."""
    inside = [line(at, A, B, SYN, 1000) for at in (0, 1000, 3000)]
    outside = through(inside[1:], A, OUTSIDE, 0.1, 1)
    rows = classify(captured(tmp_path / "some.pcapng", natA_in=inside, natA_out=outside)).rows()
    assert [(row["pattern"], row["syn"], row["syn_retransmissions"]) for row in rows] == [("unanswered", 3, 2)]


def test_an_ack_that_never_arrives_leaves_it_half_open(tmp_path: Path) -> None:
    """A is open, and B's own record ends with its SYN-ACK."""
    host_a = three_way(0, A, B, 1000, 5000, hop_ms=20)
    host_b = [line(10, A, B, SYN, 1000, ttl=63), line(10.01, B, A, SYN_ACK, 5000, 1001)]
    host_a = [replace(host_a[0]), replace(host_a[1], segment=replace(host_a[1].segment, ttl=63)), host_a[2]]
    found = classify(captured(tmp_path / "some.pcapng", hostA_eth0=host_a, hostB_eth0=host_b))
    assert words(found) == [("three_way", "half_open")]


# --- one 4-tuple, several attempts ---


def test_a_tuple_used_twice_is_two_attempts(tmp_path: Path) -> None:
    """Closed by FIN or RST, or not at all: the next SYN with a new ISN begins anew."""
    first = three_way(0, A, B, 1000, 5000)
    closings: tuple[list[Sent], ...] = (
        [line(10, A, B, FIN_ACK, 1001, 5001), line(11, B, A, FIN_ACK, 5001, 1002)],
        [line(10, B, A, RST, 5001)],
        [],
    )
    for number, closing in enumerate(closings):
        rows = one(tmp_path / f"{number}.pcapng", [*first, *closing, *three_way(50, A, B, 90_000, 95_000)])
        assert [(row["pattern"], row["syn"]) for row in rows] == [("three_way", 1), ("three_way", 1)]


def test_a_retransmitted_syn_begins_nothing(tmp_path: Path) -> None:
    """However often and however late it comes, also after a RST, which some stacks do not believe."""
    syns = [line(at, A, B, SYN, 1000) for at in (0, 1000, 3000, 130_000)]
    rows = one(tmp_path / "some.pcapng", [*syns, *(line(sent.at_ms + 1, B, A, RST_ACK, 0, 1001) for sent in syns)])
    assert [(row["pattern"], row["syn"], row["rst"], row["syn_retransmissions"]) for row in rows] == [("refused", 4, 4, 3)]


def test_a_new_isn_before_the_end_begins_nothing(tmp_path: Path) -> None:
    """An end whose SYN was not yet answered sent another one, of a new ISN, at once: one attempt, with whatever came of it."""
    packets = [line(0, A, B, SYN, 1000), line(1, A, B, SYN, 2000), *three_way(2, A, B, 2000, 7000)]
    rows = one(tmp_path / "some.pcapng", packets)
    assert [(row["pattern"], row["syn"], row["syn_retransmissions"]) for row in rows] == [("three_way", 3, 1)]


def test_giving_up_silently_ends_an_attempt(tmp_path: Path) -> None:
    """A socket that was closed while it waited leaves no packet; the next one's ISN shows it."""
    rows = one(tmp_path / "some.pcapng", [line(0, A, B, SYN, 1000), line(3000, A, B, SYN, 2000)])
    assert [row["pattern"] for row in rows] == ["unanswered", "unanswered"]


def test_dialling_back_much_later_is_another_attempt(tmp_path: Path) -> None:
    """B calls A on the 4-tuple on which A was refused a minute ago."""
    packets = [line(0, A, B, SYN, 1000), line(1, B, A, RST_ACK, 0, 1001), *three_way(50_000, B, A, 5000, 9000)]
    rows = one(tmp_path / "some.pcapng", packets)
    assert [(row["flow"], row["pattern"]) for row in rows] == [(f"{A} > {B}", "refused"), (f"{B} > {A}", "three_way")]


def test_the_tail_of_an_older_connection_is_its_own(tmp_path: Path) -> None:
    """The capture begins inside a connection; the next SYN is another attempt."""
    tail = [line(0, A, B, ACK, 70_000, 80_000), line(1, B, A, ACK, 80_000, 70_000), line(2, A, B, FIN_ACK, 70_000, 80_000)]
    rows = one(tmp_path / "some.pcapng", [*tail, *three_way(5, A, B, 1000, 5000)])
    assert [row["pattern"] for row in rows] == ["truncated", "three_way"]


# --- what a capture may lack ---


def test_packets_out_of_order(tmp_path: Path) -> None:
    """A SYN that stands behind its answers is still their SYN."""
    packets = three_way(0, A, B, 1000, 5000)
    for order in ((1, 0, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1)):
        mixed = [replace(packets[index], at_ms=place) for place, index in enumerate(order)]
        assert [row["pattern"] for row in one(tmp_path / "some.pcapng", mixed)] == ["three_way"]


def test_times_out_of_order_in_the_file(tmp_path: Path) -> None:
    """Packets are put in order of their time stamps first: several queues write into one file."""
    octets = [encode(sent.segment) for sent in three_way(0, A, B, 1000, 5000)]
    recorded = [Recorded(START_NS + at, 0, octets[at], len(octets[at])) for at in (2, 0, 1)]
    path = write_pcapng(tmp_path / "some.pcapng", [Interface("eth0", RAW_IP)], recorded)
    assert [(row["flow"], row["pattern"], row["decided_by"]) for row in classify(path).rows()] == [
        (f"{A} > {B}", "three_way", "some#1")
    ]


def test_one_side_only(tmp_path: Path) -> None:
    """A capture of one direction shows that something was acknowledged, and not what: truncated, not unanswered."""
    both = three_way(0, A, B, 1000, 5000)
    from_a = one(tmp_path / "a.pcapng", [both[0], both[2]])
    from_b = one(tmp_path / "b.pcapng", [both[1]])
    assert [(row["flow"], row["pattern"], row["outcome"]) for row in (*from_a, *from_b)] == [
        (f"{A} > {B}", "truncated", None)
    ] * 2


def test_both_one_sided_captures_together(tmp_path: Path) -> None:
    """Two captures of one direction each, merged, are read as each alone; together they count every packet."""
    both = three_way(0, A, B, 1000, 5000)
    files = [captured(tmp_path / "a.pcapng", x=[both[0], both[2]]), captured(tmp_path / "b.pcapng", x=[both[1]])]
    assert [(row["syn"], row["syn_ack"], row["segments"]) for row in classify(files).rows()] == [(1, 1, 3)]


def test_icmp_errors_go_to_the_segment_they_quote(tmp_path: Path) -> None:
    """A dials three peers from one port to one port; the router's error ends the right one."""
    peers = [Endpoint(f"198.51.100.{last}", 2000) for last in (1, 2, 3)]
    packets = [line(at, A, peer, SYN, 1000) for at, peer in enumerate(peers)]
    error = Sent(9, packets[1].segment, icmp=(3, 13))
    rows = one(tmp_path / "some.pcapng", [*packets, error])
    assert [(row["pattern"], row["outcome"], row["icmp_errors"]) for row in rows] == [
        ("unanswered", "timed_out", 0),
        ("icmp_ended", "unreachable", 1),
        ("unanswered", "timed_out", 0),
    ]


def test_an_icmp_error_alone(tmp_path: Path) -> None:
    """The segment that it quotes was not captured: its flow is named all the same, and nothing is concluded."""
    rows = one(tmp_path / "some.pcapng", [Sent(0, line(0, A, B, SYN, 1000).segment, icmp=(3, 1))])
    assert [(row["flow"], row["pattern"], row["segments"], row["icmp_errors"]) for row in rows] == [
        (f"{A} > {B}", "truncated", 0, 1)
    ]


def test_a_self_connect(tmp_path: Path) -> None:
    """Source and destination are one endpoint."""
    own = Endpoint("127.0.0.1", 4000)
    packets = [line(0, own, own, SYN, 5), line(0.01, own, own, SYN_ACK, 5, 6)]
    rows = one(tmp_path / "some.pcapng", packets)
    assert [(row["pattern"], row["outcome"], row["decided_by"]) for row in rows] == [("self_connect", "established", "some#2")]


def test_ipv6(tmp_path: Path) -> None:
    """The flow is written with brackets; two files know the same addresses by the same keys."""
    a, b = Endpoint("2001:db8::1", 1000), Endpoint("2001:db8:1::2", 2000)
    other = three_way(1000, Endpoint("2001:db8::9", 1), b, 5, 6)
    files = [
        captured(tmp_path / "a.pcapng", x=[*other, *three_way(2000, a, b, 1000, 5000)]),
        captured(tmp_path / "b.pcapng", x=three_way(2000, a, b, 1000, 5000)),
    ]
    rows = classify(files).rows()
    assert [row["flow"] for row in rows] == [
        "[2001:db8::9]:1 > [2001:db8:1::2]:2000",
        "[2001:db8::1]:1000 > [2001:db8:1::2]:2000",
    ]
    assert [row["segments"] for row in rows] == [3, 3]


# --- the result ---


def test_an_empty_capture(tmp_path: Path) -> None:
    """No packets, no attempts, and nothing raises."""
    found = classify(captured(tmp_path / "none.pcapng", x=[]))
    assert (len(found), found.rows(), found.by_pattern(), found.segments) == (0, [], {}, 0)
    assert list(found.flows.columns) == list(COLUMNS)
    with pytest.raises(UnknownName, match="no flow 1"):
        found.packets_of(0)


def test_what_is_no_capture(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "text").write_text("not a capture")
    with pytest.raises(Unreadable, match="text is not a capture file"):
        classify(tmp_path / "text")


def test_flows_as_a_data_frame(tmp_path: Path) -> None:
    """The same as the rows, with nulls where the rows have None."""
    packets = [*three_way(0, A, B, 1000, 5000), line(50, A, Endpoint("192.0.2.1", 1), SYN, 5)]
    found = classify(captured(tmp_path / "some.pcapng", x=packets))
    frame = found.flows
    assert frame["pattern"].tolist() == ["three_way", "unanswered"]
    assert frame["established_ns"].isna().tolist() == [False, True]
    assert frame["established_ns"].dtype == "Int64"
    assert found.rows(1) == found.rows()[1:]
    assert found.rows(0, 1) == found.rows()[:1]


def test_the_packets_of_an_attempt(tmp_path: Path) -> None:
    """All its packets in order of time, each with its vantage point, its sender and whether that is the sender's own host."""
    inside = three_way(0, A, B, 1000, 5000)
    inside = [replace(sent, segment=replace(sent.segment, ttl=64 if sent.segment.source == A else 60)) for sent in inside]
    outside = through(inside, A, OUTSIDE, 0.1, 1)
    noise = three_way(0.5, Endpoint("10.1.0.9", 9), B, 1, 2)
    found = classify(captured(tmp_path / "some.pcapng", hostA_eth0=[*inside, *noise], natA_out=outside))
    frame = found.packets_of(0)
    assert frame["vantage"].tolist() == ["hostA:eth0", "natA:out", "natA:out", "hostA:eth0", "hostA:eth0", "natA:out"]
    assert frame["from_a"].tolist() == [True, True, False, False, True, True]
    assert frame["kind"].tolist() == ["SYN", "SYN", "SYN-ACK", "SYN-ACK", "ACK", "ACK"]
    assert frame.groupby("vantage")["at"].first().to_dict() == {"hostA:eth0": "a", "natA:out": ""}
    views = found.views_of(0)
    assert [(view.vantage, view.a, view.b, view.at) for view in views] == [
        ("hostA:eth0", A, B, "a"),
        ("natA:out", OUTSIDE, B, ""),
    ]
