"""The player against another player and against the handshake machine: what was captured happens again, in other numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter
from rawpunch.machine import Abort, Arrived, Listen, Open, Send
from rawpunch.record.pattern import View
from rawpunch.record.words import Pattern
from rawpunch.replay.compare import Fate, compare
from rawpunch.replay.player import PATIENCE_NS, Player
from rawpunch.replay.script import Script, script_of
from rawpunch.tcp import LINUX, Handshake, State
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Sack, Timestamps
from rawpunch.wire.segment import Flags, Segment
from tests.replay.stage import A, B, Stage, opened, played

NUMBERS = st.integers(0, (1 << 32) - 1)
SHAPES: dict[Pattern, tuple[View, View]] = {
    Pattern.SIMULTANEOUS: opened(offset_ns=7 * MS),
    Pattern.HALF_SIMULTANEOUS: opened(offset_ns=35 * MS, losses=frozenset({(0, 0)})),
    Pattern.THREE_WAY: opened(offset_ns=None),
    Pattern.UNANSWERED: opened(offset_ns=10 * MS, losses=frozenset((who, place) for who in (0, 1) for place in range(9))),
}


def script(pattern: Pattern) -> Script:
    """A script of that pattern, from what two handshake machines did."""
    made = script_of(pattern.value, SHAPES[pattern])
    assert made.told.pattern is pattern
    return made


@pytest.mark.parametrize("pattern", SHAPES)
@given(iss=st.tuples(NUMBERS, NUMBERS), ts_shift=st.tuples(NUMBERS, NUMBERS))
@settings(max_examples=25)
def test_any_numbers_give_the_same_handshake(pattern: Pattern, iss: tuple[int, int], ts_shift: tuple[int, int]) -> None:
    """With any initial sequence numbers and timestamps every packet is as captured, and no packet leaves at another time."""
    original = script(pattern)
    losses = {
        Pattern.HALF_SIMULTANEOUS: frozenset({(0, 0)}),
        Pattern.UNANSWERED: frozenset((who, place) for who in (0, 1) for place in range(9)),
    }.get(pattern, frozenset())
    replay, players, _ = played(original, one_way_ns=(20 * MS, 20 * MS), iss=iss, ts_shift=ts_shift, losses=losses)
    found = compare(original, replay)
    assert {row.fate for row in found.rows} == {Fate.AS_CAPTURED}
    assert found.same_outcome
    assert found.first_difference is None
    assert set(found.errors_ns) <= {0}
    assert [player.waiting_for for player in players] == ["", ""]
    first = next(line.packet for line in players[0].seen if line.sent)
    assert isinstance(first, Segment)
    assert first.seq == iss[0]


@given(iss=st.tuples(NUMBERS, NUMBERS), ts_shift=st.tuples(NUMBERS, NUMBERS))
@settings(max_examples=25)
def test_acknowledgements_and_echoes_are_of_what_was_really_sent(iss: tuple[int, int], ts_shift: tuple[int, int]) -> None:
    """Whatever a player acknowledges, echoes or reports by SACK is something that the other one sent."""
    _, players, _ = played(script(Pattern.SIMULTANEOUS), one_way_ns=(20 * MS, 20 * MS), iss=iss, ts_shift=ts_shift)
    for one, other in (players, players[::-1]):
        theirs = [line.packet for line in other.seen if line.sent and isinstance(line.packet, Segment)]
        stamps = {packet.timestamps.value for packet in theirs if packet.timestamps}
        edges = {packet.seq for packet in theirs} | {packet.end for packet in theirs}
        mine = [line.packet for line in one.seen if line.sent and isinstance(line.packet, Segment)]
        assert all(packet.ack in edges for packet in mine if packet.has_ack)
        assert all(packet.timestamps.echo in stamps for packet in mine if packet.has_ack and packet.timestamps)
        blocks = [edge for packet in mine for sack in [packet.option(Sack)] if sack for block in sack.blocks for edge in block]
        assert blocks
        assert set(blocks) <= edges


@given(
    one_way=st.tuples(st.integers(1, 200 * MS), st.integers(1, 200 * MS)),
    speed=st.sampled_from([0.25, 1.0, 3.0]),
    pattern=st.sampled_from([Pattern.SIMULTANEOUS, Pattern.THREE_WAY]),
)
@settings(max_examples=40)
def test_on_any_path_both_end_and_all_is_sent(one_way: tuple[int, int], speed: float, pattern: Pattern) -> None:
    """Other delays than the captured ones shift answers, but nothing is left out, and both ends are established."""
    original = script(pattern)
    replay, _, stage = played(original, one_way_ns=one_way, speed=speed)
    found = compare(original, replay, speed=speed)
    assert not [row for row in found.rows if row.fate is not Fate.AS_CAPTURED and row.sent]
    assert stage.endings == ([Ending.ESTABLISHED], [Ending.ESTABLISHED])
    assert set(found.errors_ns) <= {0}


def test_offset_decides_whether_syns_cross() -> None:
    """The same script, B moved beyond the one-way delay: no crossing, as on the real wire, and the comparison says so."""
    original = script(Pattern.SIMULTANEOUS)
    replay, _, _ = played(original, one_way_ns=(20 * MS, 20 * MS), offset_ns=30 * MS)
    found = compare(original, replay, offset_ns=30 * MS)
    assert [track.first_ns for track in (replay.a, replay.b)] == [0, 30 * MS]
    assert set(found.errors_ns) <= {0}
    assert found.replayed.pattern is Pattern.SPLIT
    assert not found.same_outcome


def test_a_nat_may_move_the_peer() -> None:
    """The endpoints of the replay are others than captured, and B's NAT gives it another port than A was told."""
    here, there = Endpoint("192.0.2.7", 7), Endpoint("198.51.100.9", 9)
    original = script(Pattern.THREE_WAY)
    a = Player(original.a, local=here, remote=Endpoint("203.0.113.1", 1))
    b = Player(original.b, local=there, remote=here)
    stage = Stage(
        (a, b), (5 * MS, 5 * MS), ends=(here, there), moved=(Endpoint("203.0.113.77", 4242), Endpoint("203.0.113.1", 1))
    )
    stage.run((0, 1, Open()), (0, 0, Open()))
    assert stage.endings == ([Ending.ESTABLISHED], [Ending.ESTABLISHED])
    assert b.remote == Endpoint("203.0.113.77", 4242)


@given(iss=NUMBERS)
@settings(max_examples=25)
def test_one_side_against_a_live_stack(iss: int) -> None:
    """A replayed client is believed by a stack that knows nothing of the capture, whatever ISN that one draws."""
    original = script(Pattern.THREE_WAY)
    server = Handshake(B, None, iss=iss, profile=LINUX)
    player = Player(original.a, local=A, remote=B, iss=iss ^ 0xDEADBEEF)
    stage = Stage((player, server), (20 * MS, 20 * MS))
    stage.run((0, 1, Listen()), (0, 0, Open()))
    assert server.state is State.ESTABLISHED
    assert stage.endings[0] == [Ending.ESTABLISHED]
    assert compare(original, script_of("replay", stage.views()), sides="a").same_outcome


@pytest.mark.parametrize("who", [0, 1])
def test_one_side_of_a_crossing_against_a_live_stack(who: int) -> None:
    """Either side of a crossing open, against a stack that opens at the same time."""
    original = script(Pattern.SIMULTANEOUS)
    track = (original.a, original.b)[who]
    local, remote = (A, B) if who == 0 else (B, A)
    player = Player(track, local=local, remote=remote)
    stack = Handshake(remote, local, iss=77, profile=LINUX)
    stage = Stage((player, stack) if who == 0 else (stack, player), (20 * MS, 20 * MS))
    stage.run((0, 0, Open()), (0, 1, Open()))
    assert stack.state is State.ESTABLISHED
    assert stage.endings[who] == [Ending.ESTABLISHED]


def test_what_never_comes_is_given_up_and_named() -> None:
    """A's SYN-ACK waits for B's SYN; nobody is there: A sends its SYN and no more, and says what it waited for."""
    original = script(Pattern.SIMULTANEOUS)
    player = Player(original.a, local=A, remote=B)
    silent = Player(replace(original.b, lines=()), local=B, remote=A)
    stage = Stage((player, silent), (20 * MS, 20 * MS))
    stage.run((0, 0, Open()))
    assert stage.endings[0] == [Ending.TIMED_OUT]
    assert player.waiting_for.startswith("SYN (")
    assert [line.packet.kind for line in player.seen if line.sent] == ["SYN"]
    assert stage.now - player.seen[0].at_ns == PATIENCE_NS + 27 * MS  # B's SYN came 27 ms after A's in the capture
    assert player.deadline is None


def test_a_repeated_segment_is_not_two() -> None:
    """A duplicate of B's SYN moves nothing on that waits for B's SYN-ACK."""
    original = script(Pattern.SIMULTANEOUS)
    player = Player(original.a, local=A, remote=B)
    player.step(Open(), now=0)
    syn = next(line.packet for line in original.a.lines if not line.sent)
    kinds = []
    for at in (10, 11, 12):
        kinds += [effect.packet.kind for effect in player.step(Arrived(syn), now=at * MS) if isinstance(effect, Send)]
    assert kinds == ["SYN-ACK"]


@given(
    flags=st.integers(0, 0x1FF),
    seq=NUMBERS,
    ack=NUMBERS,
    payload=st.binary(max_size=3),
    stamp=st.one_of(st.none(), st.tuples(NUMBERS, NUMBERS)),
    opened_first=st.booleans(),
)
def test_no_segment_harms_a_player(
    flags: int, seq: int, ack: int, payload: bytes, stamp: tuple[int, int] | None, opened_first: bool
) -> None:
    """Any segment at any time is recorded and survived."""
    player = Player(script(Pattern.SIMULTANEOUS).a, local=A, remote=B)
    if opened_first:
        player.step(Open(), now=0)
    odd = Segment(B, A, Flags(flags), seq, ack, 1, (Timestamps(*stamp),) if stamp else (), payload)
    player.step(Arrived(odd), now=1)
    player.step(Arrived(odd), now=2)
    assert [line.packet for line in player.seen if not line.sent] == [odd, odd]


@pytest.mark.parametrize(("speed", "patience_ns"), [(0.0, 1), (-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, -1)])
def test_impossible_speeds_are_refused(speed: float, patience_ns: int) -> None:
    """A speed that is no speed is the caller's mistake."""
    with pytest.raises(BadParameter):
        Player(script(Pattern.THREE_WAY).a, local=A, remote=B, speed=speed, patience_ns=patience_ns)


def test_an_abort_stops_a_player() -> None:
    """After ABORT nothing is sent, whatever comes, and no deadline is left."""
    original = script(Pattern.SIMULTANEOUS)
    player = Player(original.a, local=A, remote=B)
    player.step(Open(), now=0)
    player.step(Abort(), now=1)
    assert player.deadline is None
    syn = next(line.packet for line in original.a.lines if not line.sent)
    assert not player.step(Arrived(syn), now=2)


def test_what_comes_next_is_known_beforehand() -> None:
    """The upcoming segment is the one that is sent, from the first on; none while something is waited for."""
    original = script(Pattern.SIMULTANEOUS)
    player = Player(original.a, local=A, remote=B, iss=99)
    first = player.upcoming()
    assert [effect.packet for effect in player.step(Open(), now=0) if isinstance(effect, Send)] == [first]
    assert player.upcoming() is None
    syn = next(line.packet for line in original.a.lines if not line.sent)
    (answer,) = player.step(Arrived(syn), now=27 * MS)
    assert isinstance(answer, Send)
    assert answer.packet.kind == "SYN-ACK"
    assert player.upcoming() is None


def test_what_it_expects_and_when() -> None:
    """The arrival that its next packet answers, at the captured distance by the speed; nothing before the start or after it."""
    track = script(Pattern.THREE_WAY).a
    syn, syn_ack = (line for line in track.lines[:2])
    player = Player(track, local=A, remote=B, iss=7, speed=2)
    found = [player.expected_ns]
    player.step(Open(), now=1_000)
    found.append(player.expected_ns)
    expected_ns = 1_000 + (syn_ack.at_ns - syn.at_ns) // 2
    assert isinstance(syn_ack.packet, Segment)
    player.step(Arrived(replace(syn_ack.packet, ack=8)), now=expected_ns + 5)
    found.append(player.expected_ns)
    assert found == [None, expected_ns, None]
