"""The NAT box: what passes and how it looks then, what is answered, what is refused and why, and how long anything lasts."""

from __future__ import annotations

import random

import pytest

from rawpunch.errors import BadParameter
from rawpunch.machine import Arrived, Open
from rawpunch.nat.behavior import (
    Allocation,
    Behavior,
    Filtering,
    Hairpinning,
    Invalid,
    Mapping,
    Pick,
    Ports,
    Refresh,
    SessionState,
    Timers,
    UnsolicitedAnswer,
    WhenFull,
)
from rawpunch.nat.box import NatBox
from rawpunch.units import SECOND
from rawpunch.wire.notation import parse_segment
from tests.nat.nat_bench import NAMES, Table

ISS, IRS = 2_000_000_000, 3_000_000_000
OPTIONS = "<mss 1460,sackOK,ts 7/0,nop,wscale 7>"


def _established(table: Table, port: int = 4000) -> Table:
    table.inside(f"A:{port} > R:80 SYN seq {ISS}")
    table.outside(f"R:80 > X:{port} SYN-ACK seq {IRS} ack {ISS + 1}")
    table.inside(f"A:{port} > R:80 ACK seq {ISS + 1} ack {IRS + 1}")
    return table


# --- translation ---


def test_a_packet_is_the_same_but_for_its_address_and_hop_count() -> None:
    """Source out, destination in; options, numbers, window and payload stay."""
    table = Table(Behavior(ports=Ports(allocation=Allocation.SEQUENTIAL, start=6000), mapping=Mapping.PER_CONNECTION))
    assert table.inside(f"A:4000 > R:80 SYN seq {ISS} win 1000 {OPTIONS}") == [
        f"outside: X:6000 > R:80 SYN seq {ISS} win 1000 ttl 63 {OPTIONS}"
    ]
    assert table.outside(f"R:80 > X:6000 SYN-ACK seq {IRS} ack {ISS + 1} len 3") == [
        f"inside: R:80 > A:4000 SYN-ACK seq {IRS} ack {ISS + 1} len 3 ttl 63"
    ]


def test_a_rewritten_sequence_number_is_rewritten_everywhere() -> None:
    """In what goes out, in the acknowledgements and SACK blocks that come in, and in what ICMP errors quote."""
    table = Table(Behavior(rewrites_sequence=True))
    (out,) = table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    seen = int(out.split("seq ")[1].split()[0])
    assert abs(seen - ISS) > 1 << 20
    (back,) = table.outside(f"R:80 > X:4000 SYN-ACK seq {IRS} ack {seen + 1}")
    assert f"seq {IRS} ack {ISS + 1}" in back
    (back,) = table.outside(f"R:80 > X:4000 ACK seq {IRS + 1} ack {seen + 1} <nop,nop,sack {seen}:{seen + 1}>")
    assert f"sack {ISS}:{ISS + 1}" in back
    (told,) = table.error("outside", "S", "X:4000 > R:80", seq=seen)
    assert told.endswith(f"seq {ISS}")
    assert table.outside(f"R:80 > X:4000 RST-ACK seq {IRS + 1} ack {seen + 1}")


def test_two_sessions_are_shifted_differently() -> None:
    """The shift is drawn per session."""
    table = Table(Behavior(rewrites_sequence=True))
    seqs = {table.inside(f"A:{port} > R:80 SYN seq {ISS}")[0].split("seq ")[1] for port in (1, 2, 3)}
    assert len(seqs) == 3


@pytest.mark.parametrize(
    ("side", "line"), [("inside", "A:4000 > R:80 SYN seq 5 ttl 1"), ("outside", "R:80 > X:4000 ACK seq 6 ttl 1")]
)
def test_a_packet_whose_time_is_over_is_reported_to_its_sender(side: str, line: str) -> None:
    """A router's duty (RFC 1812, 5.3.1); a SYN that dies in the NAT itself opens nothing."""
    table = Table()
    if side == "outside":
        _established(table)
    (told,) = getattr(table, side)(line)
    assert told.startswith(f"{side}: ")
    assert "ICMP 11/0 about" in told
    assert table.refused == ["ttl_expired"]
    assert len(table.box.sessions) == (side == "outside")


def test_a_packet_for_somebody_else_is_refused() -> None:
    """From outside only its own addresses are its business."""
    table = Table()
    assert table.outside("R:80 > S:4000 SYN seq 1") == []
    assert table.refused == ["not_ours"]


# --- filtering ---


@pytest.mark.parametrize(
    ("filtering", "let_in"),
    [
        (Filtering.ENDPOINT_INDEPENDENT, {"R:80", "R:81", "S:80"}),
        (Filtering.ADDRESS_DEPENDENT, {"R:80", "R:81"}),
        (Filtering.ADDRESS_AND_PORT_DEPENDENT, {"R:80"}),
    ],
)
def test_the_filter_lets_in_whom_it_says(filtering: Filtering, let_in: set[str]) -> None:
    """RFC 5382, REQ-3; from the very endpoint that a SYN went to, it is a crossing SYN."""
    seen = set()
    for remote in ("R:80", "R:81", "S:80"):
        table = Table(Behavior(filtering=filtering, ports=Ports()))
        table.inside(f"A:4000 > R:80 SYN seq {ISS}")
        out = table.outside(f"{remote} > X:4000 SYN seq {IRS}")
        if out:
            seen.add(remote)
            assert out[0].startswith(f"inside: {remote} > A:4000 SYN")
        else:
            assert table.refused == ["filtered"]
    assert seen == let_in


def test_a_connection_from_outside_is_followed_as_one() -> None:
    """An inside host can be a server behind a NAT that lets everybody in."""
    table = Table(Behavior(filtering=Filtering.ENDPOINT_INDEPENDENT, ports=Ports()))
    table.inside(f"A:4000 > S:80 SYN seq {ISS}")
    table.outside(f"R:9 > X:4000 SYN seq {IRS}")
    assert table.inside(f"A:4000 > R:9 SYN-ACK seq {ISS} ack {IRS + 1}") == [
        f"outside: X:4000 > R:9 SYN-ACK seq {ISS} ack {IRS + 1} ttl 63"
    ]
    table.outside(f"R:9 > X:4000 ACK seq {IRS + 1} ack {ISS + 1}")
    assert table.state("A:4000", "R:9") == "ESTABLISHED"


def test_only_a_syn_begins_a_connection_from_outside() -> None:
    """A stray SYN-ACK to an open mapping is not let in."""
    table = Table(Behavior(filtering=Filtering.ENDPOINT_INDEPENDENT, ports=Ports()))
    table.inside(f"A:4000 > S:80 SYN seq {ISS}")
    assert table.outside(f"R:9 > X:4000 SYN-ACK seq {IRS} ack 7") == []
    assert table.refused == ["invalid"]


# --- what is not expected ---


@pytest.mark.parametrize(
    ("answer", "code", "expected"),
    [
        (UnsolicitedAnswer.DROP, 13, []),
        (UnsolicitedAnswer.RST, 13, ["outside: X:4000 > R:80 RST-ACK ack 8 win 0"]),
        (UnsolicitedAnswer.STACK, 13, ["outside: X:4000 > R:80 RST-ACK ack 8 win 0"]),
        (UnsolicitedAnswer.ICMP, 13, ["outside: X > R ICMP 3/13 about R:80 > X:4000 seq 7"]),
        (UnsolicitedAnswer.ICMP, 3, ["outside: X > R ICMP 3/3 about R:80 > X:4000 seq 7"]),
    ],
)
def test_an_unsolicited_syn_gets_its_answer(answer: UnsolicitedAnswer, code: int, expected: list[str]) -> None:
    """And is refused, with the reason, in any case."""
    table = Table(Behavior(unsolicited=answer, unsolicited_icmp_code=code))
    assert [line.replace("seq 0 ", "") for line in table.outside("R:80 > X:4000 SYN seq 7")] == expected
    assert table.refused == ["no_mapping"]


def test_a_rst_is_never_answered() -> None:
    """Or two of them would go on for ever."""
    table = Table(Behavior(unsolicited=UnsolicitedAnswer.RST))
    assert table.outside("R:80 > X:4000 RST seq 7") == []


def test_a_held_syn_is_answered_when_its_time_has_come() -> None:
    """RFC 5382, REQ-4: not before 6 s, once, however often it was sent."""
    table = Table(Behavior(unsolicited=UnsolicitedAnswer.RST, unsolicited_hold_ns=6 * SECOND))
    assert table.outside("R:80 > X:4000 SYN seq 7") == []
    assert table.pass_time(3 * SECOND) == []
    assert table.outside("R:80 > X:4000 SYN seq 7") == []
    assert table.pass_time(3 * SECOND - 1) == []
    assert len(table.pass_time(1)) == 1
    assert table.pass_time(60 * SECOND) == []


def test_an_outbound_syn_silences_a_held_one() -> None:
    """RFC 5382, REQ-4: the simultaneous open that it belonged to goes on."""
    table = Table(Behavior(unsolicited=UnsolicitedAnswer.RST, unsolicited_hold_ns=6 * SECOND))
    table.outside("R:80 > X:4000 SYN seq 7")
    table.outside("R:81 > X:4000 SYN seq 7")
    table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    assert [line.split(" ")[3] for line in table.pass_time(10 * SECOND)] == ["R:81"]


@pytest.mark.parametrize(
    "line", ["A:4000 > R:80 SYN-ACK seq 5 ack 6", "A:4000 > R:80 RST seq 5", "A:4000 > R:80 FIN-ACK seq 5 ack 6"]
)
def test_a_segment_from_inside_that_opens_nothing_is_refused(line: str) -> None:
    """Only a SYN, or an ACK that is picked up, begins a session."""
    table = Table()
    assert table.inside(line) == []
    assert table.refused == ["no_session"]


def test_an_ack_without_a_session_is_picked_up_or_not() -> None:
    """Conntrack's tcp_loose: a NAT that was restarted keeps the connections it knows nothing of."""
    line = "A:4000 > R:80 ACK seq 5 ack 6"
    assert Table().inside(line) == ["outside: X:4000 > R:80 ACK seq 5 ack 6 ttl 63"]
    table = Table(Behavior(picks_up=False))
    assert table.inside(line) == []
    assert table.refused == ["no_session"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Invalid.DROP, []),
        (Invalid.TRANSLATE, [f"outside: X:4000 > R:80 ACK seq {ISS + 1} ack 6 ttl 63"]),
        (Invalid.LEAK, [f"outside: A:4000 > R:80 ACK seq {ISS + 1} ack 6 ttl 63"]),
    ],
)
def test_a_bare_ack_is_invalid(policy: Invalid, expected: list[str]) -> None:
    """Measured on Linux: without a rule that drops it, it leaves with its private source address."""
    table = Table(Behavior(invalid=policy))
    table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    assert table.inside(f"A:4000 > R:80 ACK seq {ISS + 1} ack 6") == expected
    assert policy is Invalid.TRANSLATE or table.refused == ["invalid"]


def test_a_late_syn_from_outside_is_for_the_box_itself() -> None:
    """It belongs to no state of its session, so a resetting NAT answers it as any other that it does not expect."""
    table = _established(Table(Behavior(unsolicited=UnsolicitedAnswer.RST)))
    (answer,) = table.outside(f"R:80 > X:4000 SYN seq {IRS}")
    assert answer.startswith("outside: X:4000 > R:80 RST-ACK")
    assert table.refused == ["invalid"]
    assert table.state("A:4000", "R:80") == "ESTABLISHED"


# --- time ---

_TIMERS = Timers(
    syn_sent_ns=10,
    syn_recv_ns=20,
    established_ns=30,
    fin_wait_ns=40,
    close_wait_ns=50,
    last_ack_ns=60,
    time_wait_ns=70,
    close_ns=80,
)


@pytest.mark.parametrize(
    ("steps", "state", "lasts_ns"),
    [
        (0, "SYN_SENT", 10),
        (1, "SYN_RECV", 20),
        (2, "ESTABLISHED", 30),
        (3, "FIN_WAIT", 40),
        (4, "CLOSE_WAIT", 50),
        (5, "LAST_ACK", 60),
        (6, "TIME_WAIT", 70),
    ],
)
def test_each_state_lasts_as_long_as_its_timer(steps: int, state: str, lasts_ns: int) -> None:
    """To the nanosecond; then session and mapping are gone."""
    table = Table(Behavior(timers=_TIMERS))
    table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    life = [
        ("outside", f"R:80 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}"),
        ("inside", f"A:4000 > R:80 ACK seq {ISS + 1} ack {IRS + 1}"),
        ("inside", f"A:4000 > R:80 FIN-ACK seq {ISS + 1} ack {IRS + 1}"),
        ("outside", f"R:80 > X:4000 ACK seq {IRS + 1} ack {ISS + 2}"),
        ("outside", f"R:80 > X:4000 FIN-ACK seq {IRS + 1} ack {ISS + 2}"),
        ("inside", f"A:4000 > R:80 ACK seq {ISS + 2} ack {IRS + 2}"),
    ]
    for side, line in life[:steps]:
        table.now += 1
        getattr(table, side)(line)
    assert table.state("A:4000", "R:80") == state
    table.pass_time(lasts_ns - 1)
    assert table.state("A:4000", "R:80") == state
    table.pass_time(1)
    assert table.state("A:4000", "R:80") == "NONE"
    assert list(table.box.bindings) == []
    assert table.changes[-1].rule == "expired"


def test_a_late_driver_sees_no_ghosts() -> None:
    """A session whose time is over is over, even if nobody woke the box."""
    table = Table(Behavior(timers=_TIMERS))
    table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    table.now = 11
    assert table.outside(f"R:80 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}") == []
    assert table.refused == ["no_mapping"]


@pytest.mark.parametrize(("policy", "lives"), [(Refresh.BOTH, True), (Refresh.OUTBOUND, False)])
def test_inbound_packets_refresh_only_where_the_nat_says_so(policy: Refresh, lives: bool) -> None:
    """RFC 4787, REQ-6: outbound refresh always, inbound refresh may be."""
    table = _established(Table(Behavior(timers=_TIMERS, refreshed_by=policy)))
    for _ in range(3):
        table.pass_time(20)
        table.outside(f"R:80 > X:4000 ACK seq {IRS + 1} ack {ISS + 1}")
    assert (table.state("A:4000", "R:80") == "ESTABLISHED") == lives


def test_a_repeated_syn_does_not_make_the_session_younger() -> None:
    """conntrack: a SYN that nobody answers cannot keep its entry for ever."""
    table = Table(Behavior(timers=_TIMERS))
    for _ in range(3):
        table.inside(f"A:4000 > R:80 SYN seq {ISS}")
        table.pass_time(4)
    assert [change.rule for change in table.changes] == ["open-out", "expired"]


def test_a_closed_session_ends_after_its_own_time() -> None:
    """A RST shortens five days to ten seconds."""
    table = _established(Table())
    table.inside(f"A:4000 > R:80 RST seq {ISS + 1}")
    assert table.state("A:4000", "R:80") == "CLOSE"
    table.pass_time(10 * SECOND)
    assert table.state("A:4000", "R:80") == "NONE"


@pytest.mark.parametrize(
    ("mapping", "same"), [(Mapping.ADDRESS_AND_PORT_DEPENDENT, True), (Mapping.PER_CONNECTION, False)], ids=str
)
def test_a_connection_that_opens_again_is_a_new_one(mapping: Mapping, same: bool) -> None:
    """A SYN after a close begins a new session; whether it keeps its port is what the mapping rule says."""
    ports = Ports(allocation=Allocation.SEQUENTIAL)
    table = Table(Behavior(mapping=mapping, ports=ports))
    first = table.mapped("A:4000", "R:80")
    table.outside(f"R:80 > {first} SYN-ACK seq {IRS} ack 1001")
    table.inside("A:4000 > R:80 RST seq 1001")
    assert table.state("A:4000", "R:80") == "CLOSE"
    assert (table.mapped("A:4000", "R:80", seq=9_000_000) == first) == same
    assert table.state("A:4000", "R:80") == "SYN_SENT"
    assert "syn-anew" in [change.rule for change in table.changes]


# --- a full table ---


@pytest.mark.parametrize(
    ("policy", "refused", "left"),
    [
        (WhenFull.REFUSE, ["table_full"], [1, 2]),
        (WhenFull.EVICT_OLDEST, [], [2, 3]),
        (WhenFull.EVICT_UNREPLIED, [], [1, 3]),
    ],
)
def test_a_full_table(policy: WhenFull, refused: list[str], left: list[int]) -> None:
    """Of two sessions the older one is established; a third one comes."""
    table = Table(Behavior(capacity=2, when_full=policy))
    _established(table, 1)
    table.inside(f"A:2 > R:80 SYN seq {ISS}")
    table.inside(f"A:3 > R:80 SYN seq {ISS}")
    assert table.refused == refused
    assert [session.internal.port for session in table.box.sessions] == left


def test_established_sessions_are_not_evicted_for_new_ones() -> None:
    """Conntrack's early drop spares what is assured."""
    table = _established(Table(Behavior(capacity=1)))
    assert table.inside("A:2 > R:80 SYN seq 1") == []
    assert table.refused == ["table_full"]


def test_without_a_free_port_the_connection_is_refused() -> None:
    """Nothing is sent with a port that somebody else has."""
    table = Table(Behavior(ports=Ports(fallback=Pick.NONE)))
    table.inside("A:4000 > R:80 SYN seq 1")
    assert table.inside("C:4000 > R:80 SYN seq 1") == []
    assert table.refused == ["no_port"]


# --- hairpins ---


def _server(hairpinning: Hairpinning) -> Table:
    table = Table(Behavior(filtering=Filtering.ENDPOINT_INDEPENDENT, ports=Ports(), hairpinning=hairpinning))
    table.inside("C:7000 > S:80 SYN seq 1")
    return table


@pytest.mark.parametrize(
    ("hairpinning", "expected"),
    [
        (Hairpinning.NONE, []),
        (Hairpinning.REFUSED, ["inside: X:7000 > A:4000 RST-ACK seq 0 ack 8 win 0"]),
        (Hairpinning.EXTERNAL_SOURCE, ["inside: X:4000 > C:7000 SYN seq 7 ttl 63"]),
        (Hairpinning.INTERNAL_SOURCE, ["inside: A:4000 > C:7000 SYN seq 7 ttl 63"]),
    ],
)
def test_hairpinning(hairpinning: Hairpinning, expected: list[str]) -> None:
    """RFC 5382, REQ-8: from inside to the external endpoint of another inside host."""
    assert _server(hairpinning).inside("A:4000 > X:7000 SYN seq 7") == expected


def test_a_whole_connection_can_go_through_a_hairpin() -> None:
    """Both directions are translated twice, and both sessions are established."""
    table = _server(Hairpinning.EXTERNAL_SOURCE)
    table.inside("A:4000 > X:7000 SYN seq 7")
    assert table.inside("C:7000 > X:4000 SYN-ACK seq 90 ack 8") == ["inside: X:7000 > A:4000 SYN-ACK seq 90 ack 8 ttl 63"]
    assert table.inside("A:4000 > X:7000 ACK seq 8 ack 91") == ["inside: X:4000 > C:7000 ACK seq 8 ack 91 ttl 63"]
    assert table.state("A:4000", "X:7000") == table.state("C:7000", "X:4000") == "ESTABLISHED"


def test_a_hairpin_to_nobody_is_answered_to_the_inside_host() -> None:
    """The NAT's own answer to an unsolicited SYN comes back through the hairpin."""
    ports, answer = Ports(), UnsolicitedAnswer.RST
    table = Table(Behavior(hairpinning=Hairpinning.EXTERNAL_SOURCE, ports=ports, unsolicited=answer))
    assert table.inside("A:4000 > X:9 SYN seq 7") == ["inside: X:9 > A:4000 RST-ACK seq 0 ack 8 win 0 ttl 63"]


# --- ICMP errors ---


def test_an_error_from_outside_is_translated_with_what_it_quotes() -> None:
    """RFC 5382, REQ-9, and REQ-10: the session stays."""
    table = Table(Behavior(ports=Ports(allocation=Allocation.SEQUENTIAL, start=6000), mapping=Mapping.PER_CONNECTION))
    table.inside("A:4000 > R:80 SYN seq 7")
    assert table.error("outside", "S", "X:6000 > R:80", seq=7) == ["inside: S > A ICMP 11/0 about A:4000 > R:80 seq 7"]
    assert table.state("A:4000", "R:80") == "SYN_SENT"


def test_an_error_from_inside_hides_who_sends_it() -> None:
    """RFC 5508, REQ-5: the source becomes the external address, and so does what is quoted."""
    table = _established(Table())
    assert table.error("inside", "A", "R:80 > A:4000", kind=(3, 3), seq=IRS + 1) == [
        f"outside: X > R ICMP 3/3 about R:80 > X:4000 seq {IRS + 1}"
    ]


@pytest.mark.parametrize("port", ["inside", "outside"])
def test_an_error_about_nothing_is_refused(port: str) -> None:
    """It quotes no session."""
    table = Table()
    assert table.error(port, "S", "X:6000 > R:80") == []
    assert table.refused == ["icmp_strange"]


def test_a_nat_may_keep_errors_to_itself() -> None:
    """Against REQ-9."""
    table = Table(Behavior(icmp_translated=False))
    table.inside("A:4000 > R:80 SYN seq 7")
    assert table.error("outside", "S", "X:4000 > R:80", seq=7) == []
    assert table.refused == ["icmp_untranslated"]


def test_a_nat_may_end_a_session_on_an_error() -> None:
    """Against REQ-10: in SYN_SENT it is gone at once, as after a RST."""
    table = Table(Behavior(icmp_closes=(SessionState.SYN_SENT,)))
    table.inside("A:4000 > R:80 SYN seq 7")
    assert table.error("outside", "S", "X:4000 > R:80", seq=7)
    assert table.state("A:4000", "R:80") == "NONE"


# --- the contract ---


def test_a_box_wants_as_many_addresses_as_its_behaviour_has() -> None:
    """A scene that promises two addresses and gives one is refused."""
    with pytest.raises(BadParameter):
        NatBox(Behavior(external_addresses=2), ["198.51.100.2"], dice=random.Random(1))


def test_a_box_has_two_ports_and_takes_packets_only() -> None:
    """What is for an endpoint is a mistake of the driver's."""
    box = Table().box
    with pytest.raises(BadParameter):
        box.step(Open(), now=0)
    with pytest.raises(BadParameter):
        box.step(Arrived(parse_segment("A:1 > R:2 SYN", NAMES), ""), now=0)
