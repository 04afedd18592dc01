"""Wire patterns, told from conversations written in the notation and from real captures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import endpoints_of, seen_of
from rawpunch.record.pattern import Counts, Seen, Told, View, count, tell
from rawpunch.record.words import Pattern
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.notation import parse_segment
from rawpunch.wire.segment import Flags, IcmpError, Segment

NAMES = {"A": "10.1.0.2", "B": "10.2.0.2", "NA": "203.0.113.1", "NB": "203.0.113.2"}
A, B = Endpoint("10.1.0.2", 1), Endpoint("10.2.0.2", 2)
NA, NB = Endpoint("203.0.113.1", 1), Endpoint("203.0.113.2", 2)
CAPTURES = Path(__file__).parents[2] / ".." / "shared" / "captures"
At = Literal["a", "b", ""]


def view(conversation: str, at: At = "", vantage: str = "somewhere", a: Endpoint = A, b: Endpoint = B) -> View:
    """One vantage point's view: a line is an instant in ms and a segment; short names stand for whole endpoints."""
    seen = []
    for number, line in enumerate(conversation.strip().splitlines(), 1):
        instant, _, rest = line.strip().partition(" ")
        left, _, what = rest.strip().partition("  ")
        source, _, destination = left.partition(" > ")
        if what.startswith("ICMP"):
            _, kind, seq = what.split()
            kind_type, code = map(int, kind.split("/"))
            told = a if destination == "a" else b
            peer = b if destination == "a" else a
            error = IcmpError("198.51.100.1", told.address, kind_type, code, Flow(told, peer), int(seq))
            seen.append(Seen(round(float(instant) * MS), number, error))
            continue
        ends = {"a": a, "b": b}
        segment = parse_segment(f"{ends[source]} > {ends[destination]}  {what}", NAMES)
        seen.append(Seen(round(float(instant) * MS), number, segment))
    return View(vantage, a, b, at, tuple(seen))


SIMULTANEOUS = """
    0   a > b  SYN  seq 100
    5   b > a  SYN  seq 500
    5.1 a > b  SYN-ACK  seq 100 ack 501
    15  b > a  SYN-ACK  seq 500 ack 101
    15.1 a > b  ACK  seq 101 ack 501
    25  b > a  ACK  seq 501 ack 101
"""
SPLIT = """
    0 a > b  SYN  seq 100
    1 b > a  SYN  seq 500
    2 a > b  SYN-ACK  seq 100 ack 501
    3 b > a  ACK  seq 501 ack 101
"""
THREE_WAY = """
    0 a > b  SYN  seq 100
    1 b > a  SYN-ACK  seq 500 ack 101
    2 a > b  ACK  seq 101 ack 501
"""


@pytest.mark.parametrize(
    ("conversation", "pattern", "decided_by"),
    [
        (THREE_WAY, Pattern.THREE_WAY, 3),
        (SIMULTANEOUS, Pattern.SIMULTANEOUS, 4),
        (SPLIT, Pattern.SPLIT, 4),
        ("0 a > b  SYN  seq 100\n 1000 a > b  SYN  seq 100", Pattern.UNANSWERED, None),
        ("0 a > b  SYN  seq 100 \n 1 b > a  RST-ACK  seq 0 ack 101", Pattern.REFUSED, 2),
        ("0 a > b  SYN  seq 100 len 10\n 1 b > a  RST-ACK  seq 0 ack 101", Pattern.REFUSED, 2),
        ("0 a > b  SYN  seq 100 len 10\n 1 b > a  RST-ACK  seq 0 ack 111", Pattern.REFUSED, 2),
        ("0 a > b  SYN  seq 100\n 1 b > a  SYN-ACK  seq 500 ack 101", Pattern.TRUNCATED, None),
        ("0 a > b  SYN  seq 100\n 1 b > a  SYN-ACK  seq 500 ack 101\n 2 a > b  RST  seq 101", Pattern.RESET_MIDWAY, 3),
        ("0 a > b  SYN  seq 100\n 1 b > a  SYN-ACK  seq 500 ack 101\n 2 b > a  RST  seq 501", Pattern.RESET_MIDWAY, 3),
        ("0 b > a  SYN-ACK  seq 500 ack 101\n 1 a > b  ACK  seq 101 ack 501", Pattern.TRUNCATED, None),
        ("0 a > b  ACK  seq 101 ack 501\n 1 b > a  RST  seq 501", Pattern.TRUNCATED, None),
        ("0 a > b  DATA  seq 101 ack 501 len 5", Pattern.TRUNCATED, None),
        ("0 a > b  SYN  seq 100\n 1 a > b  RST  seq 100", Pattern.UNANSWERED, None),
        ("0 a > b  SYN  seq 100\n 1 x > a  ICMP 3/13 100", Pattern.ICMP_ENDED, 2),
        ("0 a > b  SYN  seq 100\n 1 x > a  ICMP 3/13 99", Pattern.UNANSWERED, None),
        ("0 a > b  SYN  seq 100\n 3 b > a  SYN  seq 500", Pattern.UNANSWERED, None),
        ("0 a > b  SYN  seq 100\n 1 a > b  ACK  seq 101 ack 501\n 2 a > b  DATA  seq 101 ack 501 len 9", Pattern.TRUNCATED, None),
        ("", Pattern.TRUNCATED, None),
    ],
)
def test_a_single_vantage_point(conversation: str, pattern: Pattern, decided_by: int | None) -> None:
    """Each pattern by its plainest conversation, and the number of the packet that decided."""
    told = tell([view(conversation)])
    assert told.pattern is pattern
    assert (told.decided_by and told.decided_by.number) == decided_by
    assert told.decided_at == ("somewhere" if decided_by else "")
    assert (told.at_a, told.at_b) == (None, None)


def test_a_reset_that_would_not_be_believed_ends_nothing() -> None:
    """In SYN-SENT a RST must acknowledge the SYN; after a crossing a seq-0 RST is out of window."""
    wrong_ack = view("0 a > b  SYN  seq 100\n 1 b > a  RST-ACK  seq 0 ack 777\n 2 b > a  RST  seq 0")
    assert tell([wrong_ack]).pattern is Pattern.UNANSWERED
    crossing = view(
        """
        0 a > b  SYN  seq 100000
        1 b > a  SYN  seq 500000
        2 a > b  SYN-ACK  seq 100000 ack 500001
        3 b > a  RST-ACK  seq 0 ack 100001
        """
    )
    assert tell([crossing]).pattern is Pattern.TRUNCATED
    in_window = view(
        """
        0 a > b  SYN  seq 100000
        1 b > a  SYN  seq 500000
        2 a > b  SYN-ACK  seq 100000 ack 500001
        3 b > a  RST  seq 500001
        """
    )
    assert tell([in_window]).pattern is Pattern.RESET_MIDWAY


def test_an_icmp_error_that_is_survived_is_forgotten() -> None:
    """A handshake that completes after an ICMP error completed; so does one after a SYN with a low TTL."""
    survived = view(
        """
        0 a > b  SYN  seq 100 ttl 2
        1 x > a  ICMP 11/0 100
        2 b > a  SYN  seq 500
        3 a > b  SYN-ACK  seq 100 ack 501
        4 b > a  SYN-ACK  seq 500 ack 101
        """
    )
    assert tell([survived]).pattern is Pattern.SIMULTANEOUS
    answered = view("0 a > b  SYN  seq 100\n 1 x > a  ICMP 3/1 100\n 2 b > a  SYN-ACK  seq 500 ack 101")
    assert tell([answered]).pattern is Pattern.TRUNCATED


def test_order_in_the_file_does_not_matter_to_a_three_way_handshake() -> None:
    """A SYN-ACK written before its SYN is a file out of order, not another pattern."""
    lines = [line for line in THREE_WAY.splitlines() if line.strip()]
    assert tell([view("\n".join([lines[1], lines[0], lines[2]]))]).pattern is Pattern.THREE_WAY


def test_self_connect() -> None:
    """One socket that connects to itself."""
    told = tell([view("0 a > a  SYN  seq 100\n 1 a > a  SYN-ACK  seq 100 ack 101", b=A)])
    assert told.pattern is Pattern.SELF_CONNECT
    assert told.decided_by is not None
    assert told.decided_by.number == 2


def simultaneous_at_both() -> list[View]:
    """A true crossing at both ends and between the NATs."""
    at_b = """
        2   b > a  SYN  seq 500
        10  a > b  SYN  seq 100
        10.1 b > a  SYN-ACK  seq 500 ack 101
        15.2 a > b  SYN-ACK  seq 100 ack 501
        25.2 a > b  ACK  seq 101 ack 501
    """
    core = """
        3   a > b  SYN  seq 100
        4   b > a  SYN  seq 500
        9   a > b  SYN-ACK  seq 100 ack 501
        13  b > a  SYN-ACK  seq 500 ack 101
    """
    return [view(SIMULTANEOUS, "a", "hostA"), view(core, "", "core", NA, NB), view(at_b, "b", "hostB", NA, B)]


def test_a_crossing_seen_at_both_ends() -> None:
    """Both ends sent before they saw, and both answered; the packet that completed the later end is named where it came from."""
    told = tell(simultaneous_at_both())
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.SIMULTANEOUS,) * 3
    # B is complete at 15.2 ms by A's SYN-ACK, A at 15.0 ms by B's: the later one came from A's device at 5.1 ms.
    assert (told.decided_at, told.decided_by and told.decided_by.number) == ("hostA", 3)


def half_simultaneous() -> list[View]:
    """A's SYN is dropped on the way, and A answers B's."""
    at_a = """
        0  a > b  SYN  seq 100
        25 b > a  SYN  seq 500
        25 a > b  SYN-ACK  seq 100 ack 501
        45 b > a  ACK  seq 501 ack 101
    """
    at_b = """
        15 b > a  SYN  seq 500
        35 a > b  SYN-ACK  seq 100 ack 501
        35 b > a  ACK  seq 501 ack 101
    """
    return [view(at_a, "a", "hostA", A, NB), view(at_b, "b", "hostB", NA, B)]


def test_half_simultaneous_needs_both_ends() -> None:
    """A ran a simultaneous open, B an ordinary handshake; A's view alone cannot tell that from a split handshake."""
    views = half_simultaneous()
    told = tell(views)
    assert (told.pattern, told.at_a, told.at_b) == (
        Pattern.HALF_SIMULTANEOUS,
        Pattern.HALF_SIMULTANEOUS,
        Pattern.THREE_WAY,
    )
    assert (told.decided_at, told.decided_by and told.decided_by.number) == ("hostB", 3)
    alone = tell(views[:1])
    assert (alone.pattern, alone.at_a, alone.at_b) == (Pattern.SPLIT, Pattern.SPLIT, None)


def test_a_syn_that_comes_too_late_does_not_matter() -> None:
    """A's SYN, retransmitted, arrives at B when B is complete: still half-simultaneous."""
    at_a, at_b = half_simultaneous()
    late = view("50 a > b  SYN  seq 100", "b", "hostB", NA, B).seen
    told = tell([at_a, View(at_b.vantage, at_b.a, at_b.b, "b", (*at_b.seen, *late))])
    assert (told.pattern, told.at_b) == (Pattern.HALF_SIMULTANEOUS, Pattern.THREE_WAY)


def test_split_is_told_by_the_end_that_answered_with_a_syn() -> None:
    """B's own device shows A's SYN before B's: B answered with a SYN."""
    at_b = "10 a > b  SYN  seq 100\n 10 b > a  SYN  seq 500\n 30 a > b  SYN-ACK  seq 100 ack 501\n 30 b > a  ACK  seq 501 ack 101"
    told = tell([view(SPLIT, "a", "hostA"), view(at_b, "b", "hostB")])
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.SPLIT,) * 3


def test_the_first_ending_decides_and_is_named_where_it_came_from() -> None:
    """Both ends are refused; the RST that hit first was made at B's NAT, before it travelled."""
    at_a = view("0 a > b  SYN  seq 100\n 100 b > a  RST-ACK  seq 0 ack 101", "a", "hostA", A, NB)
    at_b = view("101 b > a  SYN  seq 500\n 201 a > b  RST-ACK  seq 0 ack 501", "b", "hostB", NA, B)
    out_b = view(
        """
        50  a > b  SYN  seq 100
        50.1 b > a  RST-ACK  seq 0 ack 101
        101.1 b > a  SYN  seq 500
        200 a > b  RST-ACK  seq 0 ack 501
        """,
        "",
        "natB:out",
        NA,
        NB,
    )
    told = tell([at_a, out_b, at_b])
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.REFUSED,) * 3
    assert (told.decided_at, told.decided_by and told.decided_by.number) == ("natB:out", 2)


def test_half_open_is_told_by_the_end_that_failed() -> None:
    """A believes it is connected; B got a RST before A's ACK."""
    at_b = "1 a > b  SYN  seq 100\n 1 b > a  SYN-ACK  seq 500 ack 101\n 5 a > b  RST  seq 101"
    told = tell([view(THREE_WAY, "a", "hostA"), view(at_b, "b", "hostB")])
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.RESET_MIDWAY, Pattern.THREE_WAY, Pattern.RESET_MIDWAY)
    lost_ack = "1 a > b  SYN  seq 100\n 1 b > a  SYN-ACK  seq 500 ack 101"
    told = tell([view(THREE_WAY, "a", "hostA"), view(lost_ack, "b", "hostB")])
    assert (told.pattern, told.at_b) == (Pattern.THREE_WAY, Pattern.TRUNCATED)


def test_one_end_refused_the_other_unanswered() -> None:
    """Whatever ended one end decides over silence at the other."""
    at_a = view("0 a > b  SYN  seq 100", "a", "hostA")
    at_b = view("1 b > a  SYN  seq 500\n 9 x > b  ICMP 3/13 500", "b", "hostB")
    told = tell([at_a, at_b])
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.ICMP_ENDED, Pattern.UNANSWERED, Pattern.ICMP_ENDED)
    silent = tell([at_a, view("1 b > a  SYN  seq 500", "b", "hostB")])
    assert (silent.pattern, silent.decided_by) == (Pattern.UNANSWERED, None)


def test_the_origin_of_a_retransmission_is_its_own() -> None:
    """The SYN-ACK that got through is the second one; the first one is not named for it."""
    at_a = "0 a > b  SYN  seq 100\n 30 b > a  SYN-ACK  seq 500 ack 101\n 30 a > b  ACK  seq 101 ack 501"
    at_b = """
        5  a > b  SYN  seq 100
        5  b > a  SYN-ACK  seq 500 ack 101
        25 b > a  SYN-ACK  seq 500 ack 101
    """
    told = tell([view(at_a, "a", "hostA"), view(at_b, "b", "hostB")])
    assert told.pattern is Pattern.THREE_WAY
    told = tell([view(at_a.replace("\n 30 a > b  ACK  seq 101 ack 501", "\n 30 a > b  RST  seq 101"), "a", "hostA")])
    assert (told.decided_at, told.decided_by and told.decided_by.number) == ("hostA", 3)


def test_counts() -> None:
    """What the attempts table counts per end."""
    seen = view(
        """
        0    a > b  SYN  seq 100
        1000 a > b  SYN  seq 100
        1001 b > a  RST-ACK  seq 0 ack 7
        1002 x > a  ICMP 11/0 100
        1005 b > a  SYN  seq 500
        1005.2 a > b  SYN-ACK  seq 100 ack 501
        1010 b > a  ACK  seq 501 ack 101
        1011 b > a  RST  seq 501
        """,
        "a",
    )
    assert count(seen) == Counts(2, 1, 1, 1, 1, 7, 200_000)
    at_b = View("hostB", seen.a, seen.b, "b", seen.seen)
    assert count(at_b) == Counts(1, 0, 0, 0, 0, 7, None)


# --- properties ---

ports = st.sampled_from([(A, B), (B, A)])
numbers = st.integers(98, 103) | st.integers(498, 503) | st.just(0)
segments = st.builds(
    lambda ends, flags, seq, ack, payload: Segment(ends[0], ends[1], flags, seq, ack, payload=bytes(payload)),
    ports,
    st.sampled_from(
        [Flags.SYN, Flags.SYN | Flags.ACK, Flags.ACK, Flags.RST, Flags.RST | Flags.ACK, Flags.FIN | Flags.ACK, Flags.NONE]
    ),
    numbers,
    numbers,
    st.integers(0, 2),
)
errors = st.builds(lambda ends, seq: IcmpError("198.51.100.1", ends[0].address, 3, 1, Flow(*ends), seq), ports, numbers)
anything = st.lists(segments | errors, max_size=10)


def seen(packets: list[Segment | IcmpError], at: At, vantage: str) -> View:
    """A view of these packets, a millisecond apart."""
    return View(vantage, A, B, at, tuple(Seen(i * MS, i + 1, packet) for i, packet in enumerate(packets)))


@given(anything, anything)
def test_any_packets_have_a_pattern(first: list[Segment | IcmpError], second: list[Segment | IcmpError]) -> None:
    """No conversation raises; whatever decided is one of the packets at the vantage point that is named."""
    views = [seen(first, "a", "hostA"), seen(second, "b", "hostB")]
    told = tell(views)
    assert isinstance(told, Told)
    assert isinstance(count(views[0]), Counts)
    if told.decided_by:
        assert told.decided_by in next(each for each in views if each.vantage == told.decided_at).seen
    ended = told.pattern in (Pattern.REFUSED, Pattern.RESET_MIDWAY, Pattern.ICMP_ENDED)
    if ended:
        assert told.decided_by is not None


@given(anything)
def test_names_of_the_ends_do_not_matter(packets: list[Segment | IcmpError]) -> None:
    """Calling A B and B A gives the same pattern and the same deciding packet."""
    one = View("v", A, B, "", seen(packets, "", "v").seen)
    other = View("v", B, A, "", one.seen)
    assert (tell([one]).pattern, tell([one]).decided_by) == (tell([other]).pattern, tell([other]).decided_by)


@given(st.sampled_from([SIMULTANEOUS, SPLIT, THREE_WAY]), st.data())
def test_repeated_packets_change_nothing(conversation: str, data: st.DataObject) -> None:
    """Retransmissions, of SYNs as of anything else, leave the pattern as it is."""
    packets = [each.packet for each in view(conversation).seen]
    expected = tell([seen(list(packets), "a", "v")]).pattern
    for _ in range(data.draw(st.integers(1, 3))):
        which = data.draw(st.integers(0, len(packets) - 1))
        packets.insert(data.draw(st.integers(which + 1, len(packets))), packets[which])
    assert tell([seen(list(packets), "a", "v")]).pattern is expected


@given(st.sampled_from([SIMULTANEOUS, SPLIT, THREE_WAY]), anything)
def test_nothing_after_completion_matters(conversation: str, more: list[Segment | IcmpError]) -> None:
    """Data, FIN, RST, old SYNs: a handshake that is complete keeps its pattern and its deciding packet."""
    packets = [each.packet for each in view(conversation).seen]
    before = tell([seen(list(packets), "", "v")])
    after = tell([seen([*packets, *more], "", "v")])
    assert after.pattern is before.pattern
    assert after.decided_by == before.decided_by


# --- real captures ---


def captured(name: str, at: At = "", *, swap: bool = False) -> View:
    """The single flow of a capture."""
    path = CAPTURES / name
    if not path.exists():
        pytest.skip(f"the captures for trying things out are not here ({path})")
    frame = read_capture(path).sort_values("time_ns", kind="stable")
    a, b = endpoints_of(frame)
    if swap:
        a, b = b, a
    return View(path.stem.removeprefix("lab-crossing-").removeprefix("lab-late-syn-reset-"), a, b, at, seen_of(frame))


@pytest.mark.parametrize("where", ["A", "NA", "NB", "B"])
def test_the_crossing_of_two_kernels_from_each_place(where: str) -> None:
    """Every single vantage point of a true crossing shows a simultaneous open."""
    assert tell([captured(f"lab-crossing-{where}.pcap")]).pattern is Pattern.SIMULTANEOUS


def test_the_crossing_of_two_kernels_from_everywhere() -> None:
    """All four vantage points together: simultaneous at both ends."""
    views = [
        captured("lab-crossing-A.pcap", "a"),
        captured("lab-crossing-NA.pcap"),
        captured("lab-crossing-NB.pcap", swap=True),
        captured("lab-crossing-B.pcap", "b", swap=True),
    ]
    told = tell(views)
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.SIMULTANEOUS,) * 3
    assert told.decided_at in ("A", "B")
    assert told.decided_by is not None
    assert told.decided_by.packet.kind == "SYN-ACK"


def test_the_late_syn_is_refused_by_the_nat() -> None:
    """The RST that decided was made by B's NAT: it was first seen at NB."""
    views = [
        captured("lab-late-syn-reset-A.pcap", "a"),
        captured("lab-late-syn-reset-NA.pcap"),
        captured("lab-late-syn-reset-NB.pcap"),
        captured("lab-late-syn-reset-B.pcap", "b", swap=True),
    ]
    told = tell(views)
    assert (told.pattern, told.at_a, told.at_b) == (Pattern.REFUSED,) * 3
    assert told.decided_at == "NB"
    assert told.decided_by is not None
    assert (told.decided_by.packet.kind, told.decided_by.number) == ("RST-ACK", 2)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("suricata-split-handshake-4whs.pcap", Pattern.SPLIT),
        ("suricata-rst-with-data.pcap", Pattern.THREE_WAY),
        ("zeek-handshake-reorder.pcap", Pattern.THREE_WAY),
        ("zeek-syn-synack.pcap", Pattern.TRUNCATED),
        ("zeek-syn-bad.pcap", Pattern.UNANSWERED),
        ("zeek-syn-then-rst.pcap", Pattern.UNANSWERED),
        ("zeek-payload-syn.pcap", Pattern.THREE_WAY),
        ("zeek-options.pcap", Pattern.THREE_WAY),
        ("zeek-smtp-icmp-errors.pcap", Pattern.THREE_WAY),
        ("suricata-syn-retransmit-with-ts.pcap", Pattern.THREE_WAY),
        ("ndpi-multiple-synack-different-seq.pcapng", Pattern.TRUNCATED),
        ("ppa-nowebaccess2.pcapng", Pattern.REFUSED),
    ],
)
def test_captures_of_others(name: str, pattern: Pattern) -> None:
    """Captures that others made of odd handshakes."""
    assert tell([captured(name)]).pattern is pattern
