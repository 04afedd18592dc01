"""The table, walked row by row: every row of every profile has a conversation here that fires it."""

from __future__ import annotations

import pytest

from rawpunch.errors import BadParameter
from rawpunch.tcp import PROFILES, TABLE, On, State
from rawpunch.units import SECOND
from tests.tcp.conversation import Conversation

WALKS: dict[str, str] = {
    # --- segments of others, and segments without a connection ---
    "not-ours": """
        in SYN-SENT
        B:5001 > A:4000  SYN-ACK seq 3000 ack 1001
        B:5000 > A:4001  RST seq 0
        state SYN-SENT
        """,
    "closed-rst": """
        B > A  RST seq 0
        state CLOSED
        """,
    "closed-any": """
        B > A  ACK seq 7 ack 99
        A > B  RST seq 99 win 0
        B > A  SYN seq 7
        A > B  RST-ACK seq 0 ack 8 win 0
        B > A  SYN+FIN seq 7 len 2
        A > B  RST-ACK seq 0 ack 11 win 0
        state CLOSED
        """,
    # --- LISTEN ---
    "listen-rst": """
        in LISTEN
        B > A  RST-ACK seq 0 ack 1001
        state LISTEN
        """,
    "listen-ack": """
        in LISTEN
        B > A  SYN-ACK seq 3000 ack 1001
        A > B  RST seq 1001 win 0
        state LISTEN
        """,
    "listen-syn": """
        in LISTEN
        B > A  SYN seq 3000 len 4 <mss 1460>
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>   # the text is not acknowledged, so it comes again
        state SYN-RECEIVED
        """,
    "listen-other": """
        in LISTEN
        B > A  FIN seq 3000
        state LISTEN
        """,
    "linux-listen-syn-fin": """
        in LISTEN
        B > A  SYN+FIN seq 3000
        state LISTEN
        """,
    # --- SYN-SENT ---
    "sent-bad-ack-rst": """
        in SYN-SENT
        B > A  RST-ACK seq 0 ack 1000
        B > A  RST-ACK seq 0 ack 1002
        state SYN-SENT
        """,
    "sent-bad-ack": """
        in SYN-SENT
        B > A  ACK seq 5 ack 1000
        A > B  RST seq 1000 win 0
        B > A  SYN-ACK seq 5 ack 1002
        A > B  RST seq 1002 win 0
        state SYN-SENT
        deadline 1s
        """,
    "linux-sent-bad-ack": """
        in SYN-SENT
        B > A  ACK seq 5 ack 77
        A > B  RST seq 77 win 0
        deadline 8ms                                   # the SYN goes out again soon
        @ 8ms
        A > B  SYN seq 1000 win 64240 <mss 1460>
        B > A  ACK seq 5 ack 77
        A > B  RST seq 77 win 0
        deadline 1008ms                                # and only once so soon
        state SYN-SENT
        """,
    "linux-sent-bad-ack-rst": """
        in SYN-SENT
        B > A  RST-ACK seq 0 ack 77
        deadline 8ms                                   # it is not believed, and yet the SYN goes out again soon
        state SYN-SENT
        """,
    "sent-refused": """
        in SYN-SENT
        B > A  RST-ACK seq 0 ack 1001
        state CLOSED
        ends refused
        deadline never
        """,
    "sent-rst-without-ack": """
        in SYN-SENT
        B > A  RST seq 3000
        state SYN-SENT
        """,
    "sent-syn-ack": """
        in SYN-SENT
        B > A  SYN-ACK seq 3000 ack 1001
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        ends established
        deadline never
        """,
    "sent-syn-ack-and-more": """
        in SYN-SENT
        B > A  SYN-ACK seq 3000 ack 1001 len 5
        A > B  ACK seq 1001 ack 3006
        delivers 5
        state ESTABLISHED
        ends established
        """,
    "sent-syn": """
        in SYN-SENT
        B > A  SYN seq 3000 <mss 1460>
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>    # the ISS of our SYN
        state SYN-RECEIVED
        deadline 1s
        """,
    "sent-other": """
        in SYN-SENT
        B > A  ACK seq 3001 ack 1001
        B > A  NONE seq 3001
        state SYN-SENT
        """,
    # --- SYN-RECEIVED ---
    "received-rst-outside": """
        in SYN-RECEIVED
        B > A  RST seq 0                               # the late answer of a NAT to our SYN
        B > A  RST-ACK seq 3000 ack 1001
        state SYN-RECEIVED
        """,
    "received-rst-from-listen": """
        in SYN-RECEIVED-FROM-LISTEN
        B > A  RST seq 3001
        state LISTEN
        ends
        """,
    "received-rst": """
        in SYN-RECEIVED
        B > A  RST seq 3001
        state CLOSED
        ends reset
        """,
    "received-rst-inside": """
        in SYN-RECEIVED
        B > A  RST seq 3002
        A > B  ACK seq 1001 ack 3001
        state SYN-RECEIVED
        """,
    "received-crossing-syn-ack": """
        in SYN-RECEIVED
        B > A  SYN-ACK seq 3000 ack 1001
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        ends established
        deadline never
        """,
    "received-crossing-syn-ack-and-more": """
        in SYN-RECEIVED
        B > A  SYN-ACK seq 3000 ack 1001 len 3
        A > B  ACK seq 1001 ack 3004
        delivers 3
        state ESTABLISHED
        """,
    "linux-received-crossing-syn-ack": """
        in SYN-RECEIVED
        B > A  SYN-ACK seq 3000 ack 1001
        A > B  ACK seq 1001 ack 3001 win 64240         # no DSACK, as SACK was not agreed
        state ESTABLISHED
        ends established
        """,
    "linux-received-ack-of-iss": """
        in SYN-RECEIVED
        B > A  ACK seq 3001 ack 1000
        state ESTABLISHED
        ends established
        """,
    "linux-received-crossing-syn-ack-and-more": """
        in SYN-RECEIVED
        B > A  SYN-ACK seq 3000 ack 1001 len 3
        A > B  ACK seq 1001 ack 3001 win 64240
        state SYN-RECEIVED
        """,
    "linux-old-received-crossing-syn-ack": """
        in SYN-RECEIVED
        B > A  SYN-ACK seq 3000 ack 1001
        A > B  ACK seq 1001 ack 3001 win 64240
        state SYN-RECEIVED
        B > A  ACK seq 3001 ack 1001                   # the peer's challenge ACK completes it
        state ESTABLISHED
        """,
    "received-syn-again": """
        in SYN-RECEIVED
        B > A  SYN seq 3000
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>
        state SYN-RECEIVED
        """,
    "linux-received-syn-again": """
        in SYN-RECEIVED
        B > A  SYN seq 3000
        A > B  ACK seq 1001 ack 3001 win 64240
        state SYN-RECEIVED
        """,
    "linux-received-syn-again-from-listen": """
        in SYN-RECEIVED-FROM-LISTEN
        B > A  SYN seq 3000
        A > B  SYN-ACK seq 1000 ack 3001 win 64240 <mss 1460>
        state SYN-RECEIVED
        """,
    "received-outside": """
        in SYN-RECEIVED
        B > A  ACK seq 2999 ack 1001
        A > B  ACK seq 1001 ack 3001
        B > A  ACK seq 2999 ack 1001                   # too soon for another one (RFC 5961, 10)
        state SYN-RECEIVED
        """,
    "received-syn-from-listen": """
        in SYN-RECEIVED-FROM-LISTEN
        B > A  SYN seq 3005
        state LISTEN
        """,
    "received-syn": """
        in SYN-RECEIVED
        B > A  SYN seq 3005
        A > B  ACK seq 1001 ack 3001
        state SYN-RECEIVED
        """,
    "received-no-ack": """
        in SYN-RECEIVED
        B > A  FIN seq 3001
        state SYN-RECEIVED
        """,
    "received-ack": """
        in SYN-RECEIVED
        B > A  FIN-ACK seq 3001 ack 1001 len 4         # text and FIN ride on the completing ACK
        A > B  ACK seq 1001 ack 3006
        delivers 4
        state CLOSE-WAIT
        ends established
        """,
    "received-bad-ack": """
        in SYN-RECEIVED
        B > A  ACK seq 3001 ack 1000
        A > B  RST seq 1000 win 0
        B > A  ACK seq 3001 ack 1002
        A > B  RST seq 1002 win 0
        state SYN-RECEIVED
        """,
    # --- synchronized states ---
    "rst-outside": """
        in ESTABLISHED
        B > A  RST seq 3000
        B > A  RST seq 68536                           # the first number behind the window
        state ESTABLISHED
        """,
    "fin-again": """
        in TIME-WAIT
        @ 100s
        B > A  FIN-ACK seq 3001 ack 1002
        A > B  ACK seq 1002 ack 3002
        deadline 340s
        state TIME-WAIT
        """,
    "outside": """
        in ESTABLISHED
        B > A  SYN-ACK seq 3000 ack 1001               # our ACK was lost
        A > B  ACK seq 1001 ack 3001
        @ 1s
        B > A  ACK seq 2000 ack 1001 len 10
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        """,
    "rst-at-the-end": """
        in LAST-ACK
        B > A  RST seq 3002
        state CLOSED
        ends closed
        """,
    "rst": """
        in ESTABLISHED
        B > A  RST-ACK seq 3001 ack 1001
        state CLOSED
        ends reset
        """,
    "rst-inside": """
        in ESTABLISHED
        B > A  RST seq 3002
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        """,
    "syn": """
        in ESTABLISHED
        B > A  SYN seq 3050
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        """,
    "no-ack": """
        in ESTABLISHED
        B > A  FIN seq 3001
        state ESTABLISHED
        """,
    "ack-ahead": """
        in ESTABLISHED
        B > A  ACK seq 3001 ack 1002
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        """,
    "ack-ancient": """
        in ESTABLISHED
        B > A  ACK seq 3001 ack 4294900000
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        """,
    "fin-acked": """
        in FIN-WAIT-1
        B > A  FIN-ACK seq 3001 ack 1002               # FIN and the ACK of ours in one
        A > B  ACK seq 1002 ack 3002
        state TIME-WAIT
        deadline 240s
        """,
    "closing-acked": """
        in CLOSING
        B > A  ACK seq 3002 ack 1002
        state TIME-WAIT
        """,
    "last-ack-acked": """
        in LAST-ACK
        B > A  ACK seq 3002 ack 1002
        state CLOSED
        ends closed
        """,
    "fin-established": """
        in ESTABLISHED
        B > A  FIN-ACK seq 3001 ack 1001
        A > B  ACK seq 1001 ack 3002
        state CLOSE-WAIT
        """,
    "fin-fin-wait-1": """
        in FIN-WAIT-1
        B > A  FIN-ACK seq 3001 ack 1001
        A > B  ACK seq 1002 ack 3002
        state CLOSING
        """,
    "fin-fin-wait-2": """
        in FIN-WAIT-2
        B > A  FIN-ACK seq 3001 ack 1002 len 2
        A > B  ACK seq 1002 ack 3004
        delivers 2
        state TIME-WAIT
        """,
    "text": """
        in ESTABLISHED
        B > A  DATA seq 3001 ack 1001 len 10
        A > B  ACK seq 1001 ack 3011
        delivers 10
        B > A  DATA seq 3006 ack 1001 len 10           # half of it is known
        A > B  ACK seq 1001 ack 3016
        delivers 5
        """,
    "gap": """
        in ESTABLISHED
        B > A  DATA seq 3002 ack 1001 len 10
        A > B  ACK seq 1001 ack 3001
        delivers 0
        B > A  FIN-ACK seq 3002 ack 1001
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        """,
    "ack": """
        in CLOSE-WAIT
        B > A  ACK seq 3002 ack 1001
        state CLOSE-WAIT
        """,
    # --- where Linux differs by sequence numbers ---
    "linux-sent-syn-ack-and-more": """
        in SYN-SENT
        B > A  SYN-ACK seq 3000 ack 1001 len 5
        A > B  ACK seq 1001 ack 3001 win 64240         # the text is not taken
        delivers 0
        state ESTABLISHED
        """,
    "linux-received-rst-outside": """
        in SYN-RECEIVED
        B > A  RST-ACK seq 3000 ack 1001
        B > A  RST seq 0
        state SYN-RECEIVED
        B > A  SYN+RST seq 3000                        # it ends at RCV.NXT
        A > B  ACK seq 1001 ack 3001 win 64240
        """,
    "linux-received-outside": """
        in SYN-RECEIVED
        B > A  ACK seq 3000 ack 1001
        A > B  ACK seq 1001 ack 3001 win 64240
        state SYN-RECEIVED
        """,
    "linux-bare": """
        in SYN-RECEIVED
        B > A  NONE seq 2999
        B > A  FIN seq 3001
        state SYN-RECEIVED
        """,
    "linux-rst-outside": """
        in ESTABLISHED
        B > A  RST seq 3000
        state ESTABLISHED
        """,
    "linux-outside": """
        in ESTABLISHED
        B > A  DATA seq 2000 ack 1001 len 1000
        A > B  ACK seq 1001 ack 3001 win 64240
        B > A  FIN-ACK seq 3000 ack 1001               # it ends at RCV.NXT
        A > B  ACK seq 1001 ack 3001 win 64240
        state ESTABLISHED
        """,
    "linux-ack-ancient": """
        in ESTABLISHED
        B > A  ACK seq 3001 ack 1000
        B > A  ACK seq 3001 ack 999
        A > B  ACK seq 1001 ack 3001 win 64240
        state ESTABLISHED
        """,
    # --- ICMP errors ---
    "icmp-idle": """
        in LISTEN
        ICMP 3/3 seq 1000
        state LISTEN
        """,
    "icmp-hard": """
        in SYN-SENT
        ICMP 3/2 seq 1000
        state CLOSED
        ends unreachable
        """,
    "icmp-soft": """
        in SYN-SENT
        ICMP 3/1 seq 1000                              # host unreachable
        ICMP 3/4 seq 1000                              # fragmentation needed
        ICMP 3/13 seq 1000                             # administratively prohibited
        ICMP 11/0 seq 1000                             # the TTL was too low
        ICMP 3/3 seq 999                               # a hard one, but not about a segment of ours
        ICMP 3/3 seq 1002
        state SYN-SENT
        """,
    "linux-icmp-opening": """
        in SYN-RECEIVED
        ICMP 3/4 seq 1000
        ICMP 3/13 seq 999
        state SYN-RECEIVED
        ICMP 3/13 seq 1000
        state CLOSED
        ends unreachable
        """,
    # --- the user's calls ---
    "open": """
        OPEN
        A > B  SYN seq 1000 <mss 1460>
        state SYN-SENT
        deadline 1s
        """,
    "listen": """
        LISTEN
        state LISTEN
        deadline never
        """,
    "close-opening": """
        in SYN-SENT
        CLOSE
        state CLOSED
        ends closed
        """,
    "close": """
        in ESTABLISHED
        CLOSE
        A > B  FIN-ACK seq 1001 ack 3001
        state FIN-WAIT-1
        deadline 1s
        """,
    "close-too": """
        in CLOSE-WAIT
        CLOSE
        A > B  FIN-ACK seq 1001 ack 3002
        state LAST-ACK
        """,
    "close-closed": """
        in TIME-WAIT
        CLOSE
        state TIME-WAIT
        """,
    "abort-closed": """
        ABORT
        state CLOSED
        ends
        """,
    "abort-silently": """
        in SYN-SENT
        ABORT
        state CLOSED
        ends closed
        """,
    "abort": """
        in SYN-RECEIVED
        ABORT
        A > B  RST-ACK seq 1001 ack 3001 win 0
        state CLOSED
        ends closed
        """,
    # --- timers ---
    "time-wait-over": """
        in TIME-WAIT
        deadline 240s
        @ 240s
        state CLOSED
        ends closed
        """,
    "timed-out": """
        in SYN-SENT
        @ 255s
        state CLOSED
        ends timed_out
        deadline never
        """,
    "linux-request-timed-out": """
        in SYN-RECEIVED-FROM-LISTEN
        @ 63s
        state LISTEN
        ends
        """,
    "retransmit": """
        in SYN-RECEIVED
        @ 1s
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>
        deadline 3s
        """,
    "too-early": """
        in SYN-SENT
        @ 999ms
        deadline 1s
        """,
}
RAISING = {"open-unspecified", "open-existing", "listen-existing"}
"""Rows that tell the caller of its mistake; they have a test of their own."""


def played_by(row: str) -> Conversation:
    """A conversation with a machine of the first profile whose table has that row."""
    return Conversation(next(profile for profile in PROFILES.values() if any(row == other.id for other in profile.table)))


@pytest.mark.parametrize("row", WALKS)
def test_walk(row: str) -> None:
    """The conversation goes as it is written, and fires the row that it is named after."""
    assert row in played_by(row).play(WALKS[row]).fired


def test_every_row_is_walked() -> None:
    """No profile has a row without a walk, and no walk is of a row that is gone."""
    assert {row.id for profile in PROFILES.values() for row in profile.table} == WALKS.keys() | RAISING


@pytest.mark.parametrize(
    ("state", "call", "row"),
    [
        ("SYN-SENT", "OPEN", "open-existing"),
        ("ESTABLISHED", "OPEN", "open-existing"),
        ("LISTEN", "LISTEN", "listen-existing"),
        ("TIME-WAIT", "LISTEN", "listen-existing"),
    ],
)
def test_a_second_opening_is_a_mistake_of_the_caller(state: str, call: str, row: str) -> None:
    """OPEN and LISTEN on a connection that exists raise, and change nothing."""
    conversation = Conversation().play(f"in {state}")
    with pytest.raises(BadParameter, match="already exists"):
        conversation.play(call)
    assert conversation.machine.state.value == state
    assert any(row == other.id for other in TABLE)


def test_an_opening_needs_a_remote_endpoint() -> None:
    """An active OPEN to nowhere raises (row open-unspecified), also in advance."""
    conversation = Conversation(remote=None)
    with pytest.raises(BadParameter, match="remote"):
        conversation.play("OPEN")
    with pytest.raises(BadParameter, match="remote"):
        conversation.machine.prepare_syn(0)


@pytest.mark.parametrize("name", PROFILES)
def test_tables_are_total_and_without_dead_rows(name: str) -> None:
    """For every state and stimulus the last row, and only that, has no guard: one row always fires. Ids are unique."""
    profile = PROFILES[name]
    for (state, on), rows in profile.lookup.items():
        assert [bool(row.guards) for row in rows] == [True] * (len(rows) - 1) + [False], (state, on)
    assert len({row.id for row in profile.table}) == len(profile.table)


@pytest.mark.parametrize("name", PROFILES)
def test_rows_that_go_on_move_forward(name: str) -> None:
    """A row that takes the stimulus up again changes the state, and never back to one that does the same: a step ends."""
    profile = PROFILES[name]
    onward = {(state, row.to) for row in profile.table if row.go_on for state in row.states}
    assert all(after is not None and before is not after for before, after in onward)
    sources = {before for before, _ in onward}
    assert not {after for _, after in onward} & sources
    assert all(row.on is On.SEGMENT for row in profile.table if row.go_on)


def test_every_row_has_its_citation() -> None:
    """Rows cite a document, overrides give evidence, and an override of a row that does not exist is refused."""
    for profile in PROFILES.values():
        assert all(row.source for row in profile.table)
        assert all(override.evidence for override in profile.overrides)
    rows = [row for row in TABLE if row.id != "too-early"]
    assert all("RFC" in row.source for row in rows)


def test_ways_lead_where_they_say() -> None:
    """The ordinary ways into the states, on which the walks stand, lead there in every profile."""
    for profile in PROFILES.values():
        for state in State:
            Conversation(profile).play(f"in {state}\nstate {state}")


def test_a_listener_to_anybody_forgets_a_peer_that_reset() -> None:
    """Back in LISTEN, a machine without a given remote endpoint takes another peer, with the user's patience still counting."""
    Conversation(remote=None, give_up_ns=9 * SECOND).play("""
        LISTEN
        deadline 9s
        B > A  SYN seq 3000
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>
        B > A  RST seq 3001
        state LISTEN
        deadline 9s
        B:6000 > A:4000  SYN seq 77
        A:4000 > B:6000  SYN-ACK seq 1000 ack 78 <mss 1460>
        state SYN-RECEIVED
        """)
