"""Branches of an opening: their notation, the prober that plays them, and what the table does in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.ending import Ending
from rawpunch.errors import Malformed
from rawpunch.machine import Abort, Arrived, Concluded, Open, Send, Woke
from rawpunch.tcp import State
from rawpunch.tcp.branches import GAP_NS, PAUSE_NS, Prober, Put, parse_branch, walk
from rawpunch.tcp.profiles import LINUX, LINUX_BEFORE_6_12, PROFILES, RFC9293
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.relative import said
from rawpunch.wire.segment import Flags, IcmpError, Segment

HERE, STACK = Endpoint("198.18.1.2", 4000), Endpoint("198.18.2.2", 5000)
ISS, PEER = 100, 0xFFFF_FFF0


def test_a_branch_is_read_packet_by_packet() -> None:
    """Kinds, relative numbers, text and ICMP errors; an empty branch puts nothing."""
    assert parse_branch("") == ()
    assert parse_branch("SYN 0; RST 9; ICMP 3/1 0") == (
        Put(Flags.SYN),
        Put(Flags.RST, 9),
        Put(None, 0, icmp=(3, 1)),
    )
    assert Put.parse("SYN-ACK -4000 1 len 5") == Put(Flags.SYN | Flags.ACK, -4000, 1, 5)
    assert Put.parse("SYN+FIN 0").flags == Flags.SYN | Flags.FIN


@pytest.mark.parametrize("text", ["SYNC 0", "SYN zero", "ACK 1 1 1", "ICMP 3 0", "SYN+FINE 0", "RST 9999999", "ACK 1 1 len -1"])
def test_what_is_no_branch_is_refused(text: str) -> None:
    """With the text that is wrong."""
    with pytest.raises(Malformed):
        parse_branch(f"SYN 0; {text}")


def test_numbers_count_from_the_initial_ones() -> None:
    """Sequence numbers from the prober's, acknowledgements from the stack's, modulo 2**32; ICMP errors quote the stack."""
    ack = Put.parse("ACK 1 17").packet(HERE, STACK, ISS, PEER)
    assert isinstance(ack, Segment)
    assert (ack.seq, ack.ack, ack.flow.source, ack.flow.destination) == (101, 1, HERE, STACK)
    error = Put.parse("ICMP 3/1 2").packet(HERE, STACK, ISS, PEER)
    assert isinstance(error, IcmpError)
    assert (error.quoted.source, error.quoted_seq, error.destination) == (STACK, PEER + 2, STACK.address)


def test_the_prober_waits_for_the_stack_and_then_keeps_time() -> None:
    """It puts its packets after a pause and at a distance, and concludes when the last one has had its time."""
    prober = Prober(HERE, STACK, iss=ISS, puts=parse_branch("SYN 0; ACK 1 1"))
    assert prober.step(Open(), now=0) == []
    before = prober.deadline
    prober.step(Arrived(Segment(STACK, HERE, Flags.SYN, PEER)), now=7 * MS)
    assert (before, prober.deadline) == (None, 7 * MS + PAUSE_NS)
    assert prober.step(Woke(), now=8 * MS) == []
    (syn,) = prober.step(Woke(), now=7 * MS + PAUSE_NS)
    assert isinstance(syn, Send)
    assert syn.packet.kind == "SYN"
    (ack,) = prober.step(Woke(), now=7 * MS + PAUSE_NS + GAP_NS)
    assert isinstance(ack, Send)
    assert isinstance(ack.packet, Segment)
    assert ack.packet.ack == PEER + 1
    assert prober.step(Woke(), now=7 * MS + PAUSE_NS + 2 * GAP_NS) == [Concluded(Ending.ESTABLISHED)]
    assert prober.deadline is None


def test_the_prober_stops_when_told() -> None:
    """Nothing is put after an abort, whatever comes."""
    prober = Prober(HERE, STACK, iss=ISS, puts=parse_branch("SYN 0"))
    prober.step(Abort(), now=0)
    assert prober.step(Arrived(Segment(STACK, HERE, Flags.SYN, PEER)), now=1) == []
    assert prober.deadline is None


def _walk(branch: str, profile: str = "rfc9293") -> tuple[str, str, str]:
    walked = walk(parse_branch(branch), PROFILES[profile], one_way_ns=4 * MS, give_up_ns=600 * MS)
    return walked.said, walked.ending.value, walked.state.value


def test_the_table_is_walked_as_figure_7_has_it() -> None:
    """SYN, SYN, SYN-ACK, SYN-ACK opens; but not on a Linux before 6.12, which waits for an ACK."""
    assert _walk("SYN 0; SYN-ACK 0 1") == ("SYN 0, SYN-ACK 0 1, ACK 1 1", "established", "ESTABLISHED")
    assert _walk("SYN 0; SYN-ACK 0 1", "linux")[1] == "established"
    assert _walk("SYN 0; SYN-ACK 0 1", "linux-before-6.12")[1:] == ("timed_out", "SYN-RECEIVED")
    assert _walk("SYN 0; SYN-ACK 0 1; ACK 1 1", "linux-before-6.12")[1] == "established"


def test_a_walk_names_the_rows_it_fired() -> None:
    """The last one is what the branch is about."""
    walked = walk(parse_branch("SYN 0; RST 9"), RFC9293, one_way_ns=4 * MS, give_up_ns=600 * MS)
    assert [row.id for row in walked.rows] == ["sent-syn", "received-rst-inside"]
    assert "RFC 5961" in walked.rows[-1].source


def test_what_is_not_answered_in_time_is_sent_again() -> None:
    """A walk goes on until the stack gives up."""
    walked = walk((), LINUX, one_way_ns=4 * MS, give_up_ns=3_500 * MS)
    assert walked.said == "SYN 0, SYN 0, SYN 0, SYN 0"
    assert (walked.ending, walked.state) == (Ending.TIMED_OUT, State.SYN_SENT)


KINDS = ("SYN", "SYN-ACK", "ACK", "RST", "RST-ACK", "FIN", "FIN-ACK", "NONE")
PUTS = st.builds(
    lambda kind, seq, ack, length: f"{kind} {seq} {ack} len {length}",
    st.sampled_from(KINDS),
    st.integers(-70_000, 70_000),
    st.integers(-3, 3),
    st.integers(0, 9),
)


@given(st.lists(PUTS, max_size=4))
def test_any_branch_ends(puts: list[str]) -> None:
    """Whatever is put, the stack's first word is its SYN, and every profile comes to an end with a reason."""
    for table in (RFC9293, LINUX, LINUX_BEFORE_6_12):
        walked = walk(parse_branch("; ".join(puts)), table, one_way_ns=4 * MS, give_up_ns=600 * MS)
        assert walked.said.split(", ")[0] == "SYN 0"
        assert (walked.ending is Ending.ESTABLISHED) or walked.state is not State.ESTABLISHED


def test_what_was_said_is_told_in_relative_numbers() -> None:
    """A number near neither initial one is written as it is; without the peer's SYN its numbers are not known."""
    syn = Segment(STACK, HERE, Flags.SYN, PEER)
    answer = Segment(STACK, HERE, Flags.ACK, 5, ISS + 1, payload=b"abc")
    rootless = Segment(STACK, HERE, Flags.RST | Flags.ACK, 1 << 30, ISS)
    heard = Segment(HERE, STACK, Flags.SYN, ISS)
    assert (
        said([(True, syn), (False, heard), (True, answer), (True, rootless)]) == f"SYN 0, DATA 21 1 len 3, RST-ACK ={1 << 30} 0"
    )
    assert said([(True, syn), (True, answer)]) == f"SYN 0, DATA 21 ={ISS + 1} len 3"
