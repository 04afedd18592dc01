"""What an observer answers to STUN, and what it crafts: RFC 8489, RFC 5780 and RFC 9293 as functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import BadParameter, Malformed
from rawpunch.probe.crafting import answer_to, crafted
from rawpunch.probe.messages import Craft, SendPacket
from rawpunch.probe.site import Site, binding_answers
from rawpunch.wire import codec, stun
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Segment
from rawpunch.wire.stun import (
    PADDING,
    ChangeRequest,
    ErrorCode,
    Kind,
    Message,
    Opaque,
    OtherAddress,
    ResponseOrigin,
    UnknownAttributes,
)

TWO = Site(("192.0.2.66", "192.0.2.67"), (3478, 3479, 3480))
ONE = Site(("192.0.2.66",), (3478,))
HERE = Endpoint("192.0.2.66", 3478)
SOURCE = Endpoint("198.51.100.2", 40_000)
TRANSACTION = b"twelve bytes"


def _ask(site: Site, *attributes: stun.Attribute, stream: bool = False, **fields: object) -> tuple[Endpoint, tuple[Message, ...]]:
    request = Message(Kind.REQUEST, TRANSACTION, attributes, **fields)  # type: ignore[arg-type]
    found = binding_answers(site, HERE, SOURCE, request, stream=stream)
    assert found is not None
    return found


def test_the_full_answer_holds_what_rfc_5780_wants() -> None:
    """The mapped endpoint twice, where the answer comes from, and the endpoint that differs in both address and port."""
    origin, (full, short) = _ask(TWO)
    assert origin == HERE
    assert full.mapped == short.mapped == SOURCE
    assert full.attribute(ResponseOrigin) == ResponseOrigin(HERE)
    assert full.attribute(OtherAddress) == OtherAddress(Endpoint("192.0.2.67", 3479))
    assert len(stun.encode(short)) == 32 < len(stun.encode(full))


@given(st.sampled_from(TWO.endpoints), st.booleans(), st.booleans())
def test_a_change_changes_what_was_wished_and_nothing_else(here: Endpoint, address: bool, port: bool) -> None:
    """From every endpoint, and the other address is what both changes together give."""
    changed = TWO.changed(here, ChangeRequest(address, port))
    assert changed in TWO.endpoints
    assert ((changed.address != here.address), (changed.port != here.port)) == (address, port)
    assert TWO.other(here) == TWO.changed(here, ChangeRequest(address=True, port=True))


def test_what_cannot_be_changed_is_not_understood() -> None:
    """A site of one endpoint has no other address; a changed origin is 420 there, and always over TCP."""
    assert ONE.other(HERE) is None
    for site, stream in ((ONE, False), (TWO, True)):
        for change in (ChangeRequest(address=True, port=False), ChangeRequest(address=False, port=True)):
            origin, (error,) = _ask(site, change, stream=stream)
            assert (origin, error.kind) == (HERE, Kind.ERROR)
            assert error.attribute(ErrorCode) == ErrorCode(420, "Unknown Attribute")
            assert error.attribute(UnknownAttributes) == UnknownAttributes((3,))
    assert _ask(TWO, ChangeRequest(address=False, port=False), stream=True)[1][0].mapped == SOURCE


def test_unknown_attributes_are_named_and_optional_ones_ignored() -> None:
    """RFC 8489 section 6.3.1; credentials that nobody asked for do no harm."""
    _, (error,) = _ask(TWO, Opaque(0x0027, b""), Opaque(0x0027, b""), Opaque(0x7FFF, b"x"))
    assert error.attribute(UnknownAttributes) == UnknownAttributes((0x0027, 0x7FFF))
    assert _ask(TWO, Opaque(0x8029, bytes(8)), Opaque(0x0006, b"me"), Opaque(0x0008, bytes(20)))[1][0].kind is Kind.SUCCESS


def test_padding_is_understood() -> None:
    """RFC 5780 section 7.6: clients that do not send again pad their request, so that it earns the whole answer."""
    assert _ask(TWO, Opaque(PADDING, bytes(1500)))[1][0].mapped == SOURCE


def test_other_methods_are_bad_requests_and_answers_are_not_answered() -> None:
    """Allocate is 400, with its own method; indications and answers get nothing, so that no two servers can talk for ever."""
    _, (error,) = _ask(TWO, method=3)
    assert (error.method, error.attribute(ErrorCode)) == (3, ErrorCode(400, "Bad Request"))
    for kind in (Kind.INDICATION, Kind.SUCCESS, Kind.ERROR):
        assert binding_answers(TWO, HERE, SOURCE, Message(kind, TRANSACTION), stream=True) is None


def test_a_fingerprint_is_answered_with_one() -> None:
    """Whoever tells STUN from other traffic by it needs one in the answer too."""
    assert [answer.fingerprint for answer in _ask(TWO, fingerprint=True)[1]] == [True, False]


@pytest.mark.parametrize(
    ("addresses", "ports"),
    [
        ((), (1,)),
        (("192.0.2.1", "192.0.2.2", "192.0.2.3"), (1,)),
        (("192.0.2.1", "192.0.2.1"), (1,)),
        (("192.0.2.1", "2001:db8::1"), (1,)),
        (("192.0.2.1",), ()),
        (("192.0.2.1",), (0,)),
        (("192.0.2.1",), (5, 5)),
        (("192.0.2.1",), (70_000,)),
    ],
)
def test_a_site_that_cannot_be_is_refused(addresses: tuple[str, ...], ports: tuple[int, ...]) -> None:
    """None, too many, twice the same, two families, impossible ports."""
    with pytest.raises(BadParameter):
        Site(addresses, ports)
    with pytest.raises(Malformed):
        Site(("example.org",), (1,))


# --- crafted packets ---

SYN = Segment(SOURCE, HERE, Flags.SYN, 2**32 - 1)


@pytest.mark.parametrize(
    ("kind", "said", "seq", "ack"),
    [
        (Craft.SYN, "SYN", 77, 0),
        (Craft.SYN_ACK, "SYN-ACK", 77, 0),
        (Craft.ACK, "ACK", 77, 0),
        (Craft.RST, "RST", 77, 0),
        (Craft.RST_ACK, "RST-ACK", 0, 0),
    ],
)
def test_an_answer_has_the_numbers_of_a_peer(kind: Craft, said: str, seq: int, ack: int) -> None:
    """It goes back to where the SYN came from, and acknowledges it, where it does, across the end of sequence space."""
    answer = codec.decode(answer_to(SYN, kind, iss=77, ttl=5))
    assert isinstance(answer, Segment)
    assert (answer.kind, answer.seq, answer.ack, answer.ttl, answer.flow) == (said, seq, ack, 5, SYN.flow.reverse)


def test_an_icmp_error_quotes_the_syn_and_comes_from_its_target() -> None:
    """No source is forged: the error is the observer's own, about a segment that was sent to it."""
    answer = codec.decode(answer_to(SYN, Craft.ICMP, iss=77, ttl=5))
    assert answer == IcmpError(HERE.address, SOURCE.address, 3, 1, Flow(SOURCE, HERE), SYN.seq, 5)


@given(st.sampled_from(Craft), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_a_wish_is_crafted_as_it_says(kind: Craft, seq: int, ack: int, ttl: int) -> None:
    """Numbers, TTL, window and endpoints are those of the wish."""
    packet = codec.decode(crafted(SendPacket(kind=kind, source=HERE, to=SOURCE, seq=seq, ack=ack, ttl=ttl, window=99)))
    if isinstance(packet, IcmpError):
        assert (packet.quoted_seq, packet.ttl, packet.quoted) == (seq, ttl, Flow(SOURCE, HERE))
    else:
        assert (packet.seq, packet.ack, packet.ttl, packet.window) == (seq, ack, ttl, 99)
        assert packet.flow == Flow(HERE, SOURCE)
