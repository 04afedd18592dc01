"""Samples: SYNs made all at once are the SYNs made one by one, and each one sent is mapped or lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.live.sampling import OCTETS, Connection, _rows, matched, syns
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Endpoint

endpoints = st.builds(Endpoint, st.ip_addresses(v=4).map(str), st.integers(0, 65_535))
connections = st.lists(
    st.builds(Connection, st.integers(0, 2**31), endpoints, endpoints), min_size=1, max_size=20, unique_by=lambda c: c.number
)


@given(connections)
def test_made_at_once_they_are_what_the_codec_makes(wanted: list[Connection]) -> None:
    """Octet by octet, checksums included."""
    made = syns(wanted)
    assert made.shape == (len(wanted), OCTETS)
    assert [bytes(packet) for packet in made] == [encode(connection.segment()) for connection in wanted]
    assert decode(bytes(made[0])) == wanted[0].segment()


@given(connections, st.data())
def test_each_is_mapped_or_lost(wanted: list[Connection], data: st.DataObject) -> None:
    """Whatever comes through, in whatever order, twice or not at all, among strangers."""
    arriving = data.draw(st.lists(st.sampled_from(wanted)))
    packets = syns([*arriving, Connection(2**31 + 1, Endpoint("203.0.113.9", 9), Endpoint("192.0.2.2", 9))])
    rows = _rows(list(range(len(packets))), packets.tobytes())
    sample = matched(wanted, rows)
    came = {connection.number for connection in arriving}
    assert set(sample.mapped) == came
    assert {connection.number for connection in sample.lost} == {connection.number for connection in wanted} - came
    first = {connection.number: place for place, connection in reversed(list(enumerate(arriving)))}
    assert {number: at for number, (at, _) in sample.mapped.items()} == first
    assert all(end == next(c.source for c in wanted if c.number == number) for number, (_, end) in sample.mapped.items())


def test_nothing_sent_and_nothing_come() -> None:
    """An empty sample is one."""
    sample = matched([], _rows([], b""))
    assert (sample.mapped, sample.lost) == ({}, [])
    assert isinstance(_rows([], b""), np.ndarray)
