"""The table of sessions has no gap, and follows connections as Linux conntrack does."""

from __future__ import annotations

from collections import Counter

import pytest

from rawpunch.nat.behavior import Behavior, CrossingSyn, NumberCheck, SessionState, SynAckOut
from rawpunch.nat.sessions import FLAG_BITS, TABLE, Course, Kind, Verdict, kind_of, rows_for
from tests.nat.nat_bench import Table

ISS, IRS = 2_000_000_000, 3_000_000_000

VARIANTS = [
    Behavior(),
    Behavior(number_check=NumberCheck.NONE, rst_closes=()),
    *(Behavior(crossing_syn=word) for word in CrossingSyn),
    *(Behavior(syn_ack_out=word) for word in SynAckOut),
]


@pytest.mark.parametrize("behavior", VARIANTS)
def test_every_combination_ends_in_a_row_that_fires(behavior: Behavior) -> None:
    """For any state, course and control bits there are rows, and the last one has no guard."""
    for by_course in rows_for(behavior).values():
        for course in Course:
            for flags in range(FLAG_BITS + 1):
                rows = by_course[course][flags]
                assert rows
                assert rows[-1].guard is None
                assert {row.kind for row in rows} == {kind_of(flags)}


def test_each_row_can_fire_for_some_nat() -> None:
    """A row that no NAT has, or that always stands behind another, would be dead text."""
    alive = {
        row.id for behavior in VARIANTS for by_course in rows_for(behavior).values() for c in by_course for f in c for row in f
    }
    assert alive == {row.id for row in TABLE}


def test_rows_that_refuse_say_why_and_others_do_not() -> None:
    """A reason belongs to a refusal."""
    assert all((row.reason is not None) == (row.verdict is Verdict.REFUSE) for row in TABLE)


def test_a_name_is_one_rule() -> None:
    """Rows of one name differ in the state or kind that they are for, not in what they do."""
    by_name: dict[str, set[object]] = {}
    for row in TABLE:
        by_name.setdefault(row.id, set()).add((row.verdict, row.to, row.reason, row.guard))
    assert [name for name, kinds in by_name.items() if len(kinds) > 1] == []
    assert max(Counter(row.id for row in TABLE if row.kind is Kind.SYN).values()) <= 2


def _told(table: Table) -> list[tuple[str, str]]:
    return [(change.rule, change.after) for change in table.changes]


def test_a_simultaneous_open_as_conntrack_follows_it() -> None:
    """SYN_SENT, SYN_SENT2, SYN_RECV, ESTABLISHED: measured on Linux with both ends in one crossing."""
    table = Table()
    table.crossed()
    assert table.inside(f"A:4000 > R:5000 SYN-ACK seq {ISS} ack {IRS + 1}")
    assert table.outside(f"R:5000 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}")
    assert table.outside(f"R:5000 > X:4000 ACK seq {IRS + 1} ack {ISS + 1}")
    assert table.inside(f"A:4000 > R:5000 ACK seq {ISS + 1} ack {IRS + 1}")
    assert _told(table) == [
        ("open-out", "SYN_SENT"),
        ("crossing", "SYN_SENT2"),
        ("syn-ack-out", "SYN_RECV"),
        ("ack-crossed", "ESTABLISHED"),
    ]
    assert all(str(change.flow) == "10.1.0.2:4000 > 203.0.113.2:5000" for change in table.changes)


def test_an_ordinary_opening_and_close() -> None:
    """SYN, SYN-ACK, ACK; FIN, ACK, FIN, ACK."""
    table = Table()
    for side, line in (
        ("inside", f"A:4000 > R:80 SYN seq {ISS}"),
        ("outside", f"R:80 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}"),
        ("inside", f"A:4000 > R:80 ACK seq {ISS + 1} ack {IRS + 1}"),
        ("inside", f"A:4000 > R:80 FIN-ACK seq {ISS + 1} ack {IRS + 1}"),
        ("outside", f"R:80 > X:4000 ACK seq {IRS + 1} ack {ISS + 2}"),
        ("outside", f"R:80 > X:4000 FIN-ACK seq {IRS + 1} ack {ISS + 2}"),
        ("inside", f"A:4000 > R:80 ACK seq {ISS + 2} ack {IRS + 2}"),
    ):
        assert getattr(table, side)(line), line
    assert [after for _, after in _told(table)] == [
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "LAST_ACK",
        "TIME_WAIT",
    ]


def test_the_ack_of_a_server_does_not_establish_an_ordinary_opening() -> None:
    """Only after a crossing does an ACK in the reply direction complete it (IP_CT_TCP_SIMULTANEOUS_OPEN)."""
    table = Table()
    table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    table.outside(f"R:80 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}")
    assert table.outside(f"R:80 > X:4000 ACK seq {IRS + 1} ack {ISS + 1}")
    assert table.state("A:4000", "R:80") == "SYN_RECV"


def test_a_rst_with_the_right_ack_in_syn_sent_destroys_the_session_at_once() -> None:
    """Measured on Linux; and the RST itself passes, so that the host knows."""
    table = Table()
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.outside(f"R:5000 > X:4000 RST-ACK seq 0 ack {ISS + 1}")
    assert table.box.sessions == ()
    assert list(table.box.bindings) == []


@pytest.mark.parametrize(("ahead", "passes"), [(0, True), (-1, True), (-(1 << 30), True), (1, False), (1 << 30, False)])
def test_a_syn_ack_may_lie_behind_the_syn_before_it_but_not_ahead(ahead: int, passes: bool) -> None:
    """A listener answers with a number of its own after a SYN made by hand. Measured on Linux: it passes half of the time."""
    table = Table()
    table.crossed()
    number = (ISS + ahead) % (1 << 32)
    assert bool(table.inside(f"A:4000 > R:5000 SYN-ACK seq {number} ack {IRS + 1}")) is passes
    if not passes:
        assert table.refused[-1] == "bad_numbers"


@pytest.mark.parametrize("ack", [ISS + 2, ISS + 1 - 70_000])
def test_a_rst_with_a_wrong_ack_in_syn_sent_is_ignored(ack: int) -> None:
    """Measured on Linux: it neither ends the session nor reaches the host."""
    table = Table()
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.outside(f"R:5000 > X:4000 RST-ACK seq 0 ack {ack}") == []
    assert table.refused == ["bad_numbers"]
    assert table.state("A:4000", "R:5000") == "SYN_SENT"


def test_a_nat_that_does_not_check_believes_any_rst() -> None:
    """What a RST-killer is."""
    table = Table(Behavior(number_check=NumberCheck.NONE))
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.outside("R:5000 > X:4000 RST-ACK seq 0 ack 77")
    assert table.state("A:4000", "R:5000") == "NONE"


@pytest.mark.parametrize("acked", [False, True])
def test_after_the_crossing_a_rst_of_sequence_number_zero_no_longer_hurts(acked: bool) -> None:
    """Measured on Linux: the answer of a resetting NAT to the first SYN comes too late."""
    table = Table()
    table.crossed()
    if acked:
        table.inside(f"A:4000 > R:5000 SYN-ACK seq {ISS} ack {IRS + 1}")
    assert table.outside(f"R:5000 > X:4000 RST-ACK seq 0 ack {ISS + 1}") == []
    assert table.state("A:4000", "R:5000") == ("SYN_RECV" if acked else "SYN_SENT2")


def test_after_the_crossing_a_rst_in_the_window_ends_it() -> None:
    """It goes to CLOSE, and passes."""
    table = Table()
    table.crossed()
    table.inside(f"A:4000 > R:5000 SYN-ACK seq {ISS} ack {IRS + 1}")
    assert table.outside(f"R:5000 > X:4000 RST-ACK seq {IRS + 1} ack {ISS + 1}")
    assert table.state("A:4000", "R:5000") == "CLOSE"


def test_with_small_sequence_numbers_a_rst_of_zero_looks_right() -> None:
    """Why replays use large ones: facts measured on Linux."""
    table = Table()
    table.inside("A:4000 > R:5000 SYN seq 1000")
    table.outside("R:5000 > X:4000 SYN seq 9000")
    table.inside("A:4000 > R:5000 SYN-ACK seq 1000 ack 9001")
    assert table.outside("R:5000 > X:4000 RST-ACK seq 0 ack 1001")
    assert table.state("A:4000", "R:5000") == "CLOSE"


def test_a_nat_may_keep_its_session_through_a_rst() -> None:
    """The RST passes; the mapping stays."""
    table = Table(Behavior(rst_closes=(SessionState.ESTABLISHED,)))
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.outside(f"R:5000 > X:4000 RST-ACK seq 0 ack {ISS + 1}")
    assert table.state("A:4000", "R:5000") == "SYN_SENT"


@pytest.mark.parametrize(
    ("word", "unasked", "asked"),
    [(SynAckOut.AFTER_SYN, False, True), (SynAckOut.ALWAYS, True, True), (SynAckOut.NEVER, False, False)],
)
def test_a_syn_ack_from_inside_passes_as_the_nat_says(word: SynAckOut, unasked: bool, asked: bool) -> None:
    """In SYN_SENT Linux calls it INVALID; after the peer's SYN came in, it is what a simultaneous open needs."""
    line = f"A:4000 > R:5000 SYN-ACK seq {ISS} ack {IRS + 1}"
    table = Table(Behavior(syn_ack_out=word))
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert bool(table.inside(line)) == unasked
    table = Table(Behavior(syn_ack_out=word))
    table.crossed()
    assert bool(table.inside(line)) == asked
    assert asked or table.refused == ["syn_ack_out"]


def test_a_nat_without_syn_ack_out_still_lets_the_peers_in() -> None:
    """So one such NAT does not spoil a true crossing."""
    table = Table(Behavior(syn_ack_out=SynAckOut.NEVER))
    table.crossed()
    assert table.outside(f"R:5000 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}")
    assert table.inside(f"A:4000 > R:5000 ACK seq {ISS + 1} ack {IRS + 1}")
    assert table.state("A:4000", "R:5000") == "ESTABLISHED"


def test_a_blocked_crossing_syn_leaves_room_for_a_syn_ack() -> None:
    """It is dropped, and that is all."""
    table = Table(Behavior(crossing_syn=CrossingSyn.BLOCKED))
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.outside(f"R:5000 > X:4000 SYN seq {IRS}") == []
    assert table.refused == ["crossing_syn"]
    assert table.outside(f"R:5000 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}")


def test_a_poisoned_session_lets_nothing_in() -> None:
    """As measured with conntracks of the pf family: after a crossing SYN nothing helps, and the host can go on sending."""
    table = Table(Behavior(crossing_syn=CrossingSyn.POISONS))
    table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.outside(f"R:5000 > X:4000 SYN seq {IRS}") == []
    assert table.outside(f"R:5000 > X:4000 SYN-ACK seq {IRS} ack {ISS + 1}") == []
    assert table.refused == ["poisoned"]
    assert table.inside(f"A:4000 > R:5000 SYN seq {ISS}")
    assert table.state("A:4000", "R:5000") == "POISONED"


def test_a_syn_ack_for_what_was_never_sent_is_refused() -> None:
    """Its acknowledgement lies beyond the SYN."""
    table = Table()
    table.inside(f"A:4000 > R:80 SYN seq {ISS}")
    assert table.outside(f"R:80 > X:4000 SYN-ACK seq {IRS} ack {ISS + 2}") == []
    assert table.refused == ["bad_numbers"]
