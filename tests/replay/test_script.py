"""From what vantage points saw to what each host did: times at the hosts, and what each packet waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.record.pattern import Seen, View
from rawpunch.record.words import Pattern
from rawpunch.replay.compare import compare
from rawpunch.replay.script import Line, Script, Track, script_of
from rawpunch.units import MS
from rawpunch.wire.segment import Flags, Segment
from tests.replay.stage import A, B, opened, played

LATE = (0, 0)


def sketch(track: Track) -> list[tuple[str, str, int | None]]:
    """A track in short: who, what, and the place that it waits for."""
    return [("sent" if line.sent else "got", line.packet.kind, line.waits_for) for line in track.lines]


def from_one(view: View) -> Script:
    """The script that a vantage point alone gives, its place not known."""
    return script_of("alone", [replace(view, at="")])


def test_a_crossing_seen_at_both_hosts() -> None:
    """The SYN waits for nothing, the SYN-ACK for the SYN, the ACK for the SYN-ACK."""
    script = script_of("crossing", opened(offset_ns=7 * MS))
    for track in (script.a, script.b):
        assert sketch(track) == [
            ("sent", "SYN", None),
            ("got", "SYN", None),
            ("sent", "SYN-ACK", 1),
            ("got", "SYN-ACK", None),
            ("sent", "ACK", 3),
            ("got", "ACK", None),
        ]
        assert track.certain
        assert all(line.replies for line in track.sent[1:])
    assert script.offset_ns == 7 * MS
    assert (script.a.first_ns, script.b.first_ns) == (0, 7 * MS)


def test_a_server_waits_for_its_client() -> None:
    """B only answers: it does not start, and the flow has no offset."""
    script = script_of("three-way", opened(offset_ns=None))
    assert (script.a.starts, script.b.starts) == (True, False)
    assert script.offset_ns is None
    assert sketch(script.b)[:2] == [("got", "SYN", None), ("sent", "SYN-ACK", 0)]


def test_repeated_segments_are_sent_by_a_timer() -> None:
    """A SYN that was lost is sent again a second later, whatever came in between; it waits for nothing."""
    views = opened(offset_ns=None, losses=frozenset({LATE}), give_up_ns=3000 * MS)
    one = script_of("retransmission", views).a
    assert sketch(one)[:2] == [("sent", "SYN", None), ("sent", "SYN", None)]


@given(
    one_way=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    offset=st.integers(-80, 80),
    host=st.sampled_from([0, 1]),
)
@settings(max_examples=60)
def test_one_hosts_capture_tells_when_the_other_sent(one_way: tuple[int, int], offset: int, host: int) -> None:
    """From a capture at one host the other's times follow within half of the difference between the ways there and back."""
    there, back = one_way[0] * MS, one_way[1] * MS
    views = opened(one_way_ns=(there, back), offset_ns=offset * MS)
    both = script_of("both", views)
    alone = script_of("alone", [views[host]])
    far_both, far_alone = (both.b, alone.b) if host == 0 else (both.a, alone.a)
    assert not far_alone.certain
    near = both.track("b" if far_both.side == "a" else "a")
    heard = [line for line in near.lines if not line.sent]
    zero = near.first_ns or 0
    assert far_alone.first_ns is not None
    assert far_both.first_ns is not None
    if len(heard) == len(far_both.sent) and alone.told.pattern is Pattern.SIMULTANEOUS:
        shift = near.first_ns == 0
        wanted = far_both.first_ns - zero
        found = far_alone.first_ns - (alone.track(near.side).first_ns or 0)
        assert abs(found - wanted) <= abs(there - back) // 2 + MS, shift


@pytest.mark.parametrize("host", [0, 1])
def test_a_capture_of_one_host_replays_both(host: int) -> None:
    """What one host's capture shows of a crossing is enough to make the same crossing again."""
    views = opened(offset_ns=7 * MS)
    script = script_of("alone", [views[host]])
    replay, _, _ = played(script, one_way_ns=(20 * MS, 20 * MS))
    assert replay.told.pattern is Pattern.SIMULTANEOUS
    assert compare(script, replay).same_outcome


def test_a_split_handshake_stays_one() -> None:
    """B answers a SYN with a SYN at once: in the replay it waits for that SYN, however long the path is."""
    segments = [
        (0, Segment(A, B, Flags.SYN, 1000)),
        (1, Segment(B, A, Flags.SYN, 3000)),
        (2, Segment(A, B, Flags.SYN | Flags.ACK, 1000, 3001)),
        (3, Segment(B, A, Flags.ACK, 3001, 1001)),
    ]
    view = View("middle", A, B, "", tuple(Seen(at * MS, at + 1, segment) for at, segment in segments))
    script = script_of("split", [view])
    assert script.told.pattern is Pattern.SPLIT
    assert not script.b.starts
    replay, _, _ = played(script, one_way_ns=(150 * MS, 150 * MS))
    assert replay.told.pattern is Pattern.SPLIT


def test_a_late_syn_in_a_one_sided_view_is_no_answer() -> None:
    """B's SYN leaves long after A's must have come: A's was lost, and B waits for nothing."""
    views = opened(offset_ns=60 * MS, losses=frozenset({LATE}))
    assert script_of("half", [views[0]]).b.starts


def test_one_side_alone_gets_the_answer_that_must_have_been() -> None:
    """A capture without any packet of B: A's ACK still waits for a SYN-ACK that it acknowledges."""
    whole = opened(offset_ns=None)[0]
    own = tuple(seen for seen in whole.seen if isinstance(seen.packet, Segment) and seen.packet.source == A)
    script = script_of("one-sided", [replace(whole, seen=own)])
    assert sketch(script.a) == [("sent", "SYN", None), ("got", "SYN-ACK", None), ("sent", "ACK", 1)]
    missing = script.a.lines[1]
    assert missing.number == 0
    assert isinstance(missing.packet, Segment)
    syn, ack = (line.packet for line in script.a.sent)
    assert isinstance(syn, Segment)
    assert isinstance(ack, Segment)
    assert (missing.packet.end, missing.packet.ack) == (ack.ack, syn.end)


def test_a_silent_host_is_silent() -> None:
    """A host whose own vantage point saw nothing sends nothing, whatever others saw in its name."""
    a, b = opened(offset_ns=5 * MS, losses=frozenset((who, place) for who in (0, 1) for place in range(9)))
    script = script_of("silent", [a, replace(b, seen=())])
    assert script.b.lines == ()
    assert script.b.certain


def test_routers_are_taken_back() -> None:
    """A packet seen two hops away leaves in the replay with the TTL that it had at its host."""
    a, _ = opened(offset_ns=None)
    hops = tuple(replace(seen, packet=replace(seen.packet, ttl=seen.packet.ttl - 2)) for seen in a.seen)
    script = from_one(replace(a, seen=hops))
    assert {line.packet.ttl for track in (script.a, script.b) for line in track.sent} == {64}


def test_without_a_syn_there_is_no_script() -> None:
    """Nothing says where the sequence numbers begin: the caller is told to take another flow."""
    view = View("x", A, B, "", (Seen(0, 1, Segment(A, B, Flags.ACK, 5, 6)),))
    with pytest.raises(Malformed, match="has no SYN") as caught:
        script_of("flow 3", [view])
    assert caught.value.todo


def test_a_track_knows_its_length() -> None:
    """From first to last line, in whatever order they stand."""
    line = Line(5, True, Segment(A, B, Flags.SYN, 1), 1)
    track = Track("a", A, B, (replace(line, at_ns=9), line), certain=True)
    assert track.duration_ns == 4
    assert Track("a", A, B, (), certain=True).duration_ns == 0
