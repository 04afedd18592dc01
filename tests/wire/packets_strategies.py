"""Hypothesis strategies for anything that the wire floor can hold."""

from __future__ import annotations

from hypothesis import strategies as st

from rawpunch.wire.codec import ICMP_ERRORS, ICMPV6_ERRORS
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import (
    FastOpen,
    Mss,
    Nop,
    Option,
    Sack,
    SackPermitted,
    Timestamps,
    Unknown,
    WindowScale,
    encode_options,
)
from rawpunch.wire.segment import Flags, IcmpError, Segment
from rawpunch.wire.seq import MODULUS

u8 = st.integers(0, 255)
u16 = st.integers(0, 65_535)
u32 = st.integers(0, MODULUS - 1)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str)
flags = st.integers(0, 0x1FF).map(Flags)

TYPED = {0, 1, 2, 3, 4, 5, 8, 34}
SCAPYS = {14, 15, 19, 25, 28, 29}
"""Kinds that scapy reads in its own way, and misreads when they are malformed."""
option: st.SearchStrategy[Option] = st.one_of(
    st.builds(Mss, u16),
    st.builds(WindowScale, u8),
    st.just(SackPermitted()),
    st.just(Nop()),
    st.lists(st.tuples(u32, u32), min_size=1, max_size=4).map(lambda blocks: Sack(tuple(blocks))),
    st.builds(Timestamps, u32, u32),
    st.builds(FastOpen, st.binary(max_size=16)),
    st.builds(Unknown, u8.filter(lambda kind: kind not in TYPED | SCAPYS), st.binary(max_size=12)),
)


def _fits(options: tuple[Option, ...]) -> bool:
    return sum(len(encode_options((one,))) if not isinstance(one, Nop) else 1 for one in options) <= 40


options = st.lists(option, max_size=6).map(tuple).filter(_fits)


def segments(payload: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[Segment]:
    """Any segment, over IPv4 or IPv6."""

    def over(address: st.SearchStrategy[str]) -> st.SearchStrategy[Segment]:
        endpoint = st.builds(Endpoint, address, u16)
        return st.builds(
            Segment,
            endpoint,
            endpoint,
            flags,
            u32,
            u32,
            u16,
            options,
            payload if payload is not None else st.binary(max_size=60),
            ttl=u8,
        )

    return st.one_of(over(ipv4), over(ipv6))


def _errors(address: st.SearchStrategy[str], kinds: frozenset[int]) -> st.SearchStrategy[IcmpError]:
    endpoint = st.builds(Endpoint, address, u16)
    flow = st.builds(Flow, endpoint, endpoint)
    return st.builds(IcmpError, address, address, st.sampled_from(sorted(kinds)), u8, flow, u32, u8)


icmp_errors = _errors(ipv4, ICMP_ERRORS)
icmpv6_errors = _errors(ipv6, ICMPV6_ERRORS)
