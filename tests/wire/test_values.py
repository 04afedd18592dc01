"""Endpoints, flows and segments: values that cannot be wrong, with the arithmetic of RFC 9293."""

from __future__ import annotations

import contextlib
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import Mss, Timestamps, decode_options, encode_options
from rawpunch.wire.segment import Flags, IcmpError, Segment, kind_of
from tests.wire.packets_strategies import ipv4, ipv6, options, segments, u16

A, B = Endpoint("192.0.2.1", 4000), Endpoint("198.51.100.2", 5000)


@given(st.one_of(ipv4, ipv6), u16)
def test_an_endpoint_is_read_back(address: str, port: int) -> None:
    """Its text, with brackets for IPv6, names the same endpoint."""
    endpoint = Endpoint(address, port)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert endpoint.is_ipv6 == (":" in address)


def test_an_address_has_one_spelling() -> None:
    """Two spellings of an IPv6 address are one endpoint."""
    assert Endpoint("2001:DB8:0:0::1", 1) == Endpoint("2001:db8::1", 1)
    assert len({Endpoint("2001:DB8:0:0::1", 1), Endpoint("2001:db8::1", 1)}) == 1


def test_an_endpoint_is_a_value() -> None:
    """It does not change, has an order, and can be copied."""
    endpoint = Endpoint("2001:db8::1", 80)
    with pytest.raises(AttributeError):
        endpoint.port = 81
    assert copy.deepcopy(endpoint) == endpoint
    assert repr(endpoint) == "Endpoint('2001:db8::1', 80)"
    assert endpoint != ("2001:db8::1", 80)
    assert sorted([Endpoint("192.0.2.2", 1), Endpoint("192.0.2.1", 9), Endpoint("192.0.2.1", 8)]) == [
        Endpoint("192.0.2.1", 8),
        Endpoint("192.0.2.1", 9),
        Endpoint("192.0.2.2", 1),
    ]


@pytest.mark.parametrize(
    "text", ["", ":80", "192.0.2.1", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:70000", "host:80", "2001:db8::1:80"]
)
def test_what_is_no_endpoint_is_malformed(text: str) -> None:
    """No port, no address, a name, a port too large, IPv6 without brackets."""
    with pytest.raises(Malformed):
        Endpoint.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_malformed_or_an_endpoint(text: str) -> None:
    """Noise never raises anything but Malformed."""
    with contextlib.suppress(Malformed):
        Endpoint.parse(text)


def test_a_flow_and_its_reverse_are_one_connection() -> None:
    """Both directions have the same canonical form."""
    flow = Flow(B, A)
    assert flow.reverse == Flow(A, B)
    assert flow.canonical == flow.reverse.canonical == Flow(A, B)


@given(segments())
def test_length_counts_syn_and_fin(segment: Segment) -> None:
    """SEG.LEN is the payload, and one each for SYN and FIN; the end lies that far behind SEG.SEQ."""
    assert segment.length == len(segment.payload) + segment.syn + segment.fin
    assert (segment.end - segment.seq) % 2**32 == segment.length
    assert segment.kind == kind_of(int(segment.flags), segment.payload_length)


@pytest.mark.parametrize(
    ("flags", "payload", "kind"),
    [
        (Flags.SYN, b"", "SYN"),
        (Flags.SYN | Flags.ACK, b"x", "SYN-ACK"),
        (Flags.RST | Flags.SYN, b"", "RST"),
        (Flags.RST | Flags.ACK, b"", "RST-ACK"),
        (Flags.FIN | Flags.ACK | Flags.PSH, b"x", "FIN-ACK"),
        (Flags.ACK, b"x", "DATA"),
        (Flags.ACK | Flags.ECE, b"", "ACK"),
        (Flags.PSH, b"", "NONE"),
    ],
)
def test_kinds(flags: Flags, payload: bytes, kind: str) -> None:
    """The name of a segment goes by RST, SYN, FIN, payload, ACK, in that order."""
    assert Segment(A, B, flags, 1, payload=payload).kind == kind


def test_a_segment_that_fits_no_header_cannot_be_made() -> None:
    """Numbers outside their fields, and a length shorter than the payload, are Malformed."""
    for make in (
        lambda: Segment(A, B, Flags.SYN, -1),
        lambda: Segment(A, B, Flags.SYN, 2**32),
        lambda: Segment(A, B, Flags.ACK, 0, 2**32),
        lambda: Segment(A, B, Flags.SYN, 0, window=65_536),
        lambda: Segment(A, B, Flags.SYN, 0, ttl=256),
        lambda: Segment(A, B, Flags.SYN, 0, payload=b"xy", payload_length=1),
        lambda: Endpoint("192.0.2.1", 65_536),
        lambda: Endpoint("192.0.2.256", 1),
    ):
        with pytest.raises(Malformed):
            make()


@given(options.filter(bool))
def test_options_are_read_back(some: tuple[object, ...]) -> None:
    """Any list that fits is the same after its bytes, which are padded to four."""
    data = encode_options(some)  # type: ignore[arg-type]
    assert len(data) % 4 == 0
    assert decode_options(data) == some


@given(st.binary(max_size=40))
def test_any_option_bytes_are_malformed_or_options(data: bytes) -> None:
    """Noise never raises anything but Malformed, and what is read can be written and read again."""
    try:
        some = decode_options(data)
    except Malformed:
        return
    assert decode_options(encode_options(some)) == some


def test_the_first_option_of_a_kind_counts() -> None:
    """`option` finds the first, and None where there is none."""
    segment = Segment(A, B, Flags.SYN, 0, options=(Mss(1), Mss(2)))
    assert segment.option(Mss) == Mss(1)
    assert segment.option(Timestamps) is None
    assert segment.timestamps is None


def test_an_icmp_error_is_named_by_type_and_code() -> None:
    """That is what rows and ladders call it."""
    assert IcmpError("192.0.2.9", A.address, 3, 13, Flow(A, B)).kind == "ICMP 3/13"
