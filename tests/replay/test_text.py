"""Scripts by hand: what they mean, that they read back, and that a mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import Malformed, Unreadable
from rawpunch.record.words import Pattern
from rawpunch.replay.compare import Fate, compare
from rawpunch.replay.script import script_of
from rawpunch.replay.text import format_text, is_text, parse_text, read_text
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment
from tests.replay.stage import opened, played

CROSSING = """
# two SYNs that cross
A = 192.0.2.1:4000
B = 192.0.2.2:5000
0       A > B  SYN      seq 1000000 <mss 1460>
+5ms    B > A  SYN      seq 7000000 <mss 1460>   # before A's has come
+0.015  A > B  SYN-ACK  seq 1000000 ack 7000001
+5ms    B > A  SYN-ACK  seq 7000000 ack 1000001
+1us    B > A  ACK      seq 7000001 ack 1000001 win 500
"""


def test_a_script_says_what_each_side_sends_and_when() -> None:
    """Times count from the line before or from the start, and each side has its own lines."""
    script = parse_text(CROSSING)
    assert [(line.at_ns, line.packet.kind, line.number) for line in script.a.sent] == [(0, "SYN", 5), (20 * MS, "SYN-ACK", 7)]
    assert [line.at_ns for line in script.b.sent] == [5 * MS, 25 * MS, 25 * MS + 1000]
    assert script.a.local == Endpoint("192.0.2.1", 4000)
    assert script.offset_ns == 5 * MS
    absolute = parse_text("1s A > B SYN seq 5\n1.5 B > A SYN seq 6")
    assert [absolute.a.first_ns, absolute.b.first_ns] == [1000 * MS, 1500 * MS]


def test_a_script_is_played_at_its_own_times() -> None:
    """On a path that is fast enough, every segment leaves at the instant that its line says."""
    script = parse_text(CROSSING)
    replay, _, _ = played(script, one_way_ns=(15 * MS, 15 * MS))
    found = compare(script, replay)
    assert [line.at_ns for line in replay.a.sent] == [0, 20 * MS]
    assert [line.at_ns for line in replay.b.sent] == [5 * MS, 25 * MS, 25 * MS + 1000]
    assert replay.told.pattern is Pattern.SIMULTANEOUS
    assert set(found.errors_ns) == {0}
    assert not [row for row in found.rows if row.sent and row.fate is not Fate.AS_CAPTURED]


def test_an_acknowledgement_is_not_sent_before_what_it_acknowledges() -> None:
    """On a slow path the SYN-ACKs wait for the SYNs."""
    replay, _, _ = played(parse_text(CROSSING), one_way_ns=(100 * MS, 100 * MS))
    assert replay.a.sent[1].at_ns == 105 * MS
    assert replay.b.sent[1].at_ns == 100 * MS


@pytest.mark.parametrize("offset_ns", [0, 7 * MS, -3 * MS, None])
def test_a_capture_as_text_reads_back(offset_ns: int | None) -> None:
    """Segments and times survive, endpoints too; arrivals do not, and are found again from numbers."""
    script = script_of("made", opened(offset_ns=offset_ns))
    again = parse_text(format_text(script))
    for before, after in ((script.a, again.a), (script.b, again.b)):
        assert [line.packet for line in after.sent] == [line.packet for line in before.sent]
        assert (after.local, after.starts) == (before.local, before.starts)
    starts = [min(track.first_ns or 0 for track in (found.a, found.b)) for found in (script, again)]
    assert [line.at_ns - starts[1] for line in again.b.sent] == [line.at_ns - starts[0] for line in script.b.sent]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A > B SYN seq 1", "line 1: 'A > B SYN seq 1' is not a time and a segment"),
        ("0 A > B SYN seq 1\n\n# fine\n+1ms A > B SIN seq 2", "line 4"),
        ("0 A > B SYN seq 1 <mss x>", "line 1: 'mss x' is not a TCP option"),
        ("0 A > B SYN seq 99999999999", "line 1: sequence numbers"),
        ("0 A > C SYN seq 1", "line 1: 'C' is not an endpoint"),
        ("+1d A > B SYN seq 1", "line 1"),
        ("5ms A > B SYN seq 1\n4ms B > A SYN seq 1", "line 2: its time lies before that of the line above"),
        ("0 A > B SYN seq 1\n+1 A > 1.2.3.4:5 SYN seq 1", "line 2: .* is another flow"),
        ("A = nonsense", "line 1: 'nonsense' is not an endpoint"),
        ("", "has no SYN"),
        ("0 A > B ACK seq 1 ack 2", "has no SYN"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, says: str) -> None:
    """What is wrong, in which line, and what to write instead."""
    with pytest.raises(Malformed, match=says) as caught:
        parse_text(text)
    assert caught.value.todo or caught.value.why


@given(st.text(max_size=60))
def test_any_text_is_a_script_or_malformed(text: str) -> None:
    """Nothing but `Malformed` comes of nonsense."""
    try:
        parse_text(text)
    except Malformed as error:
        assert str(error)  # noqa: PT017 - either way is right


def test_files_are_told_apart(tmp_path: Path) -> None:
    """A script is text, a capture is not; what is neither there nor readable is said so."""
    script, capture = tmp_path / "s.txt", tmp_path / "c.pcap"
    script.write_text(CROSSING)
    capture.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
    assert is_text(script)
    assert not is_text(capture)
    assert isinstance(read_text(script).a.sent[0].packet, Segment)
    with pytest.raises(Unreadable):
        is_text(tmp_path / "absent")
    with pytest.raises(Unreadable):
        read_text(capture)
    script.write_text("#" * (1 << 20) + "\n" + CROSSING)
    with pytest.raises(Unreadable, match="too long"):
        read_text(script)
