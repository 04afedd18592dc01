"""A packet changed in place says what the changed segment says, and keeps what no segment tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from rawpunch.errors import Malformed
from rawpunch.wire.codec import decode, encode, internet_checksum
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, Option, Sack, Timestamps
from rawpunch.wire.rewriting import rewrite
from rawpunch.wire.segment import Flags, Segment

addresses = st.ip_addresses(v=4).map(str)
endpoints = st.builds(Endpoint, addresses, st.integers(0, 65_535))
numbers = st.sampled_from([0, 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
option_lists: st.SearchStrategy[tuple[Option, ...]] = st.sampled_from(
    [(), (Mss(1460),), (Nop(), Nop(), Timestamps(1, 2)), (Nop(), Nop(), Sack(((5, 6),)))]
)
segments = st.builds(
    Segment,
    endpoints,
    endpoints,
    st.integers(0, 0x1FF).map(Flags),
    numbers,
    numbers,
    st.integers(0, 65_535),
    option_lists,
    st.binary(max_size=5),
    ttl=st.integers(0, 255),
)


def _changes(segment: Segment) -> st.SearchStrategy[tuple[Segment, Segment]]:
    """A segment, and what a NAT may make of it."""
    blocks = st.tuples(numbers, numbers).map(lambda block: (Nop(), Nop(), Sack((block,))))
    shifted = blocks if any(isinstance(option, Sack) for option in segment.options) else st.just(segment.options)
    return st.builds(
        lambda **fields: (segment, replace(segment, **fields)),
        source=endpoints,
        destination=endpoints,
        seq=numbers,
        ack=numbers,
        ttl=st.integers(0, 255),
        options=shifted,
    )


translations = segments.flatmap(_changes)


@given(translations)
def test_it_is_what_making_it_anew_gives(pair: tuple[Segment, Segment]) -> None:
    """Octet by octet, checksums included, where the packet has nothing that a segment does not tell."""
    before, after = pair
    assert rewrite(encode(before), before, after) == encode(after)


@given(translations, st.integers(0, 255), st.integers(0, 65_535), st.binary(max_size=4))
def test_what_no_segment_tells_stays(pair: tuple[Segment, Segment], tos: int, identification: int, padding: bytes) -> None:
    """Type of service and identification survive, padding of the link does not, and both checksums are right."""
    before, after = pair
    data = bytearray(encode(before))
    data[1], data[4:6] = tos, identification.to_bytes(2, "big")
    data[10:12] = b"\0\0"
    data[10:12] = internet_checksum(bytes(data[:20])).to_bytes(2, "big")
    out = rewrite(bytes(data) + padding, before, after)
    assert (out[1], out[4:6], decode(out)) == (tos, identification.to_bytes(2, "big"), after)
    assert internet_checksum(out[:20]) == 0
    assert internet_checksum(out[12:20] + b"\0\6" + (len(out) - 20).to_bytes(2, "big") + out[20:]) == 0


def _with_ip_options() -> bytes:
    made: Any = IP(src="10.1.0.2", dst="192.0.2.2", options=[("NOP")] * 4, flags="DF") / TCP(
        sport=1, dport=2, urgptr=7, reserved=5
    )
    return bytes(made)


def test_ip_options_and_odd_bits_survive() -> None:
    """IP options, an urgent pointer, reserved bits: scapy reads all as it was, and the sums are right."""
    data = _with_ip_options()
    before = decode(data)
    assert isinstance(before, Segment)
    out = rewrite(data, before, replace(before, source=Endpoint("198.51.100.2", 4000), ttl=9))
    told, made = IP(out), IP(data)
    assert (told.src, told.ttl, told[TCP].sport) == ("198.51.100.2", 9, 4000)
    assert (told.options, told[TCP].urgptr, told[TCP].reserved) == (made.options, 7, 5)
    sums = told.chksum, told[TCP].chksum
    del told.chksum, told[TCP].chksum
    anew = IP(bytes(told))
    assert sums == (anew.chksum, anew[TCP].chksum)


def test_a_wrong_checksum_stays_wrong() -> None:
    """What was damaged on its way is not mended behind its receiver's back."""
    before = Segment(Endpoint("10.1.0.2", 1), Endpoint("192.0.2.2", 2), Flags.ACK, 5, payload=b"data")
    damaged = encode(before)[:-1] + b"?"
    out = rewrite(damaged, before, replace(before, source=Endpoint("198.51.100.2", 9), payload=before.payload))
    assert internet_checksum(out[12:20] + b"\0\6" + (len(out) - 20).to_bytes(2, "big") + out[20:]) != 0


def test_another_packet_is_made_anew() -> None:
    """An answer is no translation: with other flags it is what `encode` makes; one that was cut short cannot be sent."""
    syn = Segment(Endpoint("10.1.0.2", 1), Endpoint("192.0.2.2", 2), Flags.SYN, 5, options=(Mss(1460),))
    reset = Segment(syn.destination, syn.source, Flags.RST | Flags.ACK, 0, 6, window=0)
    assert rewrite(encode(syn), syn, reset) == encode(reset)
    other = replace(syn, options=(Mss(1400), Nop(), Nop(), Timestamps(1, 2)))
    assert rewrite(encode(syn), syn, other) == encode(other)
    sixth = Segment(Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2), Flags.SYN, 5)
    assert rewrite(encode(sixth), sixth, replace(sixth, ttl=3)) == encode(replace(sixth, ttl=3))
    cut = replace(syn, payload_length=9)
    with pytest.raises(Malformed, match="cut short"):
        rewrite(encode(syn), cut, replace(cut, ttl=3))
