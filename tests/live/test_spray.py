"""Sprays: their packets are right, their limits hold, and how the next node is found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawpunch.errors import BadParameter, MachineCannot, PolicyRefused
from rawpunch.live.sampling import Connection, syns
from rawpunch.live.spray import Consent, Sprayer, volley
from rawpunch.live.tx_ring import Counters, Hop, next_hop
from rawpunch.punch.consent import MOST_PACKETS
from rawpunch.wire.codec import decode, internet_checksum
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

ports = st.integers(1, 65_535)
addresses = st.integers(1 << 24, (1 << 32) - 1).map(lambda number: ".".join(str(number >> bits & 255) for bits in (24, 16, 8, 0)))


@settings(max_examples=60)
@given(addresses, addresses, st.lists(ports, min_size=1, max_size=30), ports, st.integers(0, 1 << 31))
def test_a_volley_is_what_the_codec_would_make(source: str, target: str, many: list[int], one: int, number: int) -> None:
    """Octet for octet, both checksums included, whichever side has the many ports."""
    for mine, theirs in ((many, [one]), ([one], many)):
        sources, targets = mine * (len(many) if len(mine) == 1 else 1), theirs * (len(many) if len(theirs) == 1 else 1)
        connections = [
            Connection(number + place, Endpoint(source, a), Endpoint(target, b))
            for place, (a, b) in enumerate(zip(sources, targets, strict=True))
        ]
        assert (volley(source, mine, target, theirs, first_number=number) == syns(connections)).all()


def test_times_to_live_and_sequence_numbers_are_as_wished() -> None:
    """A SYN that is to die on the way says so, and its checksums still hold."""
    (octets,) = volley("192.0.2.1", [5000], "192.0.2.2", [80], ttl=2, isn=1 << 31, first_number=7)
    segment = decode(octets.tobytes())
    assert isinstance(segment, Segment)
    assert (segment.ttl, segment.seq, segment.flow.source.port) == (2, (1 << 31) + 7, 5000)
    assert internet_checksum(octets[:20].tobytes()) == 0


def test_ports_go_together() -> None:
    """As many of one as of the other, or one; and IPv4."""
    with pytest.raises(BadParameter):
        volley("192.0.2.1", [1, 2, 3], "192.0.2.2", [1, 2])
    with pytest.raises(BadParameter):
        volley("192.0.2.1", [], "192.0.2.2", [])
    with pytest.raises(BadParameter, match="IPv4"):
        volley("2001:db8::1", [1], "2001:db8::2", [2])


@pytest.mark.parametrize("consent", [None, Consent("9.9.9.10", 100, "somebody else")])
def test_nobody_is_sprayed_who_did_not_agree(consent: Consent | None) -> None:
    """Before a socket is opened: no consent, or that of another address."""
    with pytest.raises(PolicyRefused, match="may not be sprayed"):
        Sprayer("9.9.9.9", consent)


def test_consent_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a peer agrees to, there is a most, and what it agreed to is nobody else's. Before anything is sent."""
    monkeypatch.setattr("rawpunch.live.spray.next_hop", lambda target: Hop("none", target, b""))
    with Sprayer("9.9.9.9", Consent("9.9.9.9", 10**6, "the peer, by the room's token")) as generous:
        with pytest.raises(PolicyRefused, match="too many"):
            generous.fire(volley("10.0.0.1", [7], "9.9.9.9", range(1, MOST_PACKETS + 2)))
        with pytest.raises(PolicyRefused, match="somebody else"):
            generous.fire(volley("10.0.0.1", [7], "9.9.9.8", [1]))
    with Sprayer("9.9.9.9", Consent("9.9.9.9", 3, "the same")) as sparing, pytest.raises(PolicyRefused, match="too many"):
        sparing.fire(volley("10.0.0.1", [7], "9.9.9.9", [1, 2, 3, 4]))


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t0101010A\t0003\t0\t0\t50\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth2\t000200C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
NEIGHBOURS = """IP address       HW type     Flags       HW address            Mask     Device
10.1.1.1         0x1         0x2         02:00:00:00:00:01     *        eth1
10.1.1.1         0x1         0x2         02:00:00:00:00:02     *        eth0
10.0.0.7         0x1         0x0         00:00:00:00:00:00     *        eth0
"""


@pytest.mark.parametrize(
    ("target", "hop"),
    [
        ("8.8.8.8", Hop("eth1", "10.1.1.1", bytes.fromhex("020000000001"))),  # the cheaper of two default routes
        ("10.0.0.7", Hop("eth0", "10.0.0.7", b"")),  # a neighbour that has not answered
        ("192.0.2.9", Hop("eth1", "10.1.1.1", bytes.fromhex("020000000001"))),  # that route is down
        ("127.0.0.5", Hop("lo", "127.0.0.5", bytes(6))),
    ],
)
def test_the_next_node_is_the_kernels(target: str, hop: Hop) -> None:
    """The longest mask wins, then the smallest metric; routes that are down do not count."""
    assert next_hop(target, routes=ROUTES, neighbours=NEIGHBOURS) == hop


def test_without_a_route_there_is_an_error() -> None:
    """In one sentence."""
    with pytest.raises(MachineCannot, match="no route leads to"):
        next_hop("8.8.8.8", routes=ROUTES.splitlines()[0], neighbours="")


def test_counters_are_read_from_the_device_table() -> None:
    """Packets sent and dropped; a device that is not there is an error."""
    text = "Inter-| Receive\n face |bytes\n  v0: 1 2 0 0 0 0 0 0 900 12 0 3 0 0 0 0\n"
    assert Counters.of("v0", text) - Counters(2, 1) == Counters(10, 2)
    with pytest.raises(MachineCannot):
        Counters.of("v1", text)
