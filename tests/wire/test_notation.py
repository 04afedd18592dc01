"""The notation: every segment can be written and read back, and other lines are Malformed."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.notation import format_options, format_segment, parse_options, parse_segment
from rawpunch.wire.options import End, FastOpen, Mss, Nop, Sack, SackPermitted, Timestamps, Unknown, WindowScale
from rawpunch.wire.segment import Flags, Segment
from tests.wire.packets_strategies import segments

A, B = Endpoint("192.0.2.1", 4000), Endpoint("198.51.100.2", 5000)
NAMES = {"A": A.address, "B": B.address}
ADDRESSES = {address: name for name, address in NAMES.items()}


@given(segments(payload=st.integers(0, 60).map(bytes)))
def test_a_written_segment_is_read_back(segment: Segment) -> None:
    """All survives but the payload's octets (written as a length, read as zeroes) and an ACK number without its bit."""
    expected = segment if segment.has_ack else replace(segment, ack=0)
    assert parse_segment(format_segment(segment)) == expected


@given(segments(payload=st.just(b"")))
def test_names_stand_for_addresses(segment: Segment) -> None:
    """With a table of names the line is shorter and means the same."""
    names = {segment.source.address: "client"}
    line = format_segment(segment, names)
    assert line.startswith(f"client:{segment.source.port} > ")
    assert parse_segment(line, {"client": segment.source.address}).flow == segment.flow


def test_the_example_of_the_module_means_what_it_says() -> None:
    """The line in the module's docstring, field by field."""
    line = "A:4000 > B:5000  SYN-ACK  seq 100 ack 301 win 65535 len 0 ttl 64 <mss 1460,sackOK,ts 7/3,nop,wscale 7>"
    options = (Mss(1460), SackPermitted(), Timestamps(7, 3), Nop(), WindowScale(7))
    segment = Segment(A, B, Flags.SYN | Flags.ACK, 100, 301, options=options)
    assert parse_segment(line, NAMES) == segment
    assert format_segment(segment, ADDRESSES) == (
        "A:4000 > B:5000  SYN-ACK  seq 100 ack 301 <mss 1460,sackOK,ts 7/3,nop,wscale 7>"
    )


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("SYN+ECE+CWR seq 1", Flags.SYN | Flags.ECE | Flags.CWR),
        ("DATA+PSH seq 1 ack 2 len 3", Flags.ACK | Flags.PSH),
        ("RST-ACK seq 0 ack 2 win 0", Flags.RST | Flags.ACK),
        ("SYN+FIN seq 1", Flags.SYN | Flags.FIN),
        ("NONE seq 1", Flags.NONE),
    ],
)
def test_flags_beyond_the_kinds_are_added_by_plus(text: str, flags: Flags) -> None:
    """A kind with more flags is written with them, and read with them."""
    segment = parse_segment(f"A:1 > B:2  {text}", NAMES)
    assert segment.flags == flags
    assert parse_segment(format_segment(segment, ADDRESSES), NAMES) == segment


def test_every_option_has_a_word() -> None:
    """Also the rare ones: several SACK blocks, an empty and a full cookie, an unknown kind, the end."""
    options = (
        Sack(((1, 2), (3, 4))),
        FastOpen(b""),
        FastOpen(b"\x01\xab"),
        Unknown(254, b""),
        Unknown(253, b"\xff"),
        End(),
    )
    text = "sack 1:2 3:4,tfo -,tfo 01ab,opt 254 -,opt 253 ff,eol"
    assert format_options(options) == text
    assert parse_options(text) == options


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "A:1 > B:2",
        "A:1 > B:2  SYN-FIN seq 1",
        "A:1 > B:2  SYN+FOO seq 1",
        "A:1 > B:2  SYN seq -1",
        "A:1 > B:2  SYN seq 4294967296",
        "A:1 > B:2  SYN seq 1 win 70000",
        "A:1 > B:70000  SYN seq 1",
        "C:1 > B:2  SYN seq 1",
        "A:1 > B:2  SYN seq 1 <mss>",
        "A:1 > B:2  SYN seq 1 <mss many>",
        "A:1 > B:2  SYN seq 1 <ts 1>",
        "A:1 > B:2  SYN seq 1 <wibble 3>",
        "A:1 > B:2  SYN seq 1 <sack 1:2:3>",
    ],
)
def test_other_lines_are_malformed(line: str) -> None:
    """A line that is not of the notation says so."""
    with pytest.raises(Malformed):
        parse_segment(line, NAMES)


@given(st.text(max_size=60))
def test_any_text_is_malformed_or_a_segment(text: str) -> None:
    """Noise never raises anything but Malformed."""
    with contextlib.suppress(Malformed):
        parse_segment(text, NAMES)


@given(st.data())
def test_mutated_lines_are_malformed_or_a_segment(data: st.DataObject) -> None:
    """Nor does a line with some of its characters changed."""
    line = list("A:4000 > B:5000  SYN-ACK  seq 100 ack 301 win 65535 len 0 <mss 1460,sack 1:2,ts 7/3,opt 9 ff,wscale 7>")
    for _ in range(data.draw(st.integers(1, 5))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.characters())
    with contextlib.suppress(Malformed):
        parse_segment("".join(line), NAMES)
