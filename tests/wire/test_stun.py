"""STUN: what is written is read back, by us and by another implementation, and nothing but Malformed comes of garbage."""

from __future__ import annotations

import random
from typing import Any

import aioice.stun
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import (
    CREDENTIALS,
    Attribute,
    ChangeRequest,
    ErrorCode,
    Kind,
    MappedAddress,
    Message,
    Opaque,
    OtherAddress,
    ResponseOrigin,
    Software,
    Type,
    UnknownAttributes,
    XorMappedAddress,
    decode,
    encode,
    framed_length,
)

HERE = Endpoint("192.0.2.1", 32853)
HERE6 = Endpoint("2001:db8:1234:5678:11:2233:4455:6677", 32853)
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
MUTATIONS = 20_000
"""Mutated messages per test run, each read once."""

RFC_5769_REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
RFC_5769_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c3"
    "8c7489f92af9ba53f06be7d780280004c07d4c96"
)
RFC_5769_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)

endpoints = st.builds(Endpoint, st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)), st.integers(0, 65_535))
texts = st.text(st.characters(codec="utf-8"), max_size=60)
opaques = st.builds(Opaque, st.integers(0, 65_535).filter(lambda kind: kind not in list(Type)), st.binary(max_size=70))
attributes: st.SearchStrategy[Attribute] = st.one_of(
    endpoints.map(MappedAddress),
    endpoints.map(XorMappedAddress),
    endpoints.map(OtherAddress),
    endpoints.map(ResponseOrigin),
    st.builds(ChangeRequest, st.booleans(), st.booleans()),
    texts.map(Software),
    st.builds(ErrorCode, st.integers(300, 699), texts),
    st.lists(st.integers(0, 65_535), max_size=9).map(tuple).map(UnknownAttributes),
    opaques,
)
messages = st.builds(
    Message,
    st.sampled_from(Kind),
    st.binary(min_size=12, max_size=12),
    st.lists(attributes, max_size=6).map(tuple),
    st.integers(0, 0xFFF),
    st.booleans(),
)


@given(messages)
def test_a_message_survives_its_octets(message: Message) -> None:
    """Whatever a message holds, its octets say the same, and their number is what the header announces."""
    octets = encode(message)
    assert decode(octets) == message
    assert framed_length(octets) == len(octets)


# --- against the specification and another implementation ---


@pytest.mark.parametrize(("octets", "endpoint"), [(RFC_5769_IPV4, HERE), (RFC_5769_IPV6, HERE6)])
def test_the_sample_responses_of_rfc_5769_are_read(octets: bytes, endpoint: Endpoint) -> None:
    """Sections 2.2 and 2.3: the mapped endpoint, IPv4 and IPv6, padding of blanks, and a right FINGERPRINT."""
    message = decode(octets)
    assert (message.kind, message.method, message.transaction) == (Kind.SUCCESS, 1, TRANSACTION)
    assert message.mapped == endpoint
    assert message.attribute(Software) == Software("test vector")
    assert message.fingerprint


def test_the_sample_request_of_rfc_5769_is_read() -> None:
    """Section 2.1: PRIORITY is the one attribute that we would have to understand and do not."""
    message = decode(RFC_5769_REQUEST)
    assert (message.kind, message.fingerprint, message.attribute(Software)) == (Kind.REQUEST, True, Software("STUN test client"))
    assert message.not_understood == (0x0024,)
    assert {found.type for found in message.attributes if isinstance(found, Opaque)} & CREDENTIALS == {0x0006, 0x0008}


def _as_aioice(message: Message) -> dict[str, Any]:
    """The attributes as the other implementation names them; what it does not know it drops."""
    found: dict[str, Any] = {}
    for attribute in message.attributes:
        match attribute:
            case XorMappedAddress(endpoint):
                found["XOR-MAPPED-ADDRESS"] = (endpoint.address, endpoint.port)
            case MappedAddress(endpoint):
                found["MAPPED-ADDRESS"] = (endpoint.address, endpoint.port)
            case OtherAddress(endpoint):
                found["OTHER-ADDRESS"] = (endpoint.address, endpoint.port)
            case ResponseOrigin(endpoint):
                found["RESPONSE-ORIGIN"] = (endpoint.address, endpoint.port)
            case ChangeRequest(address, port):
                found["CHANGE-REQUEST"] = 4 * address + 2 * port
            case Software(text):
                found["SOFTWARE"] = text
            case ErrorCode(code, reason):
                found["ERROR-CODE"] = (code, reason)
    return found


known = st.lists(attributes.filter(lambda found: not isinstance(found, Opaque | UnknownAttributes)), unique_by=type, max_size=6)


@given(st.sampled_from(Kind), st.binary(min_size=12, max_size=12), known.map(tuple), st.booleans())
def test_another_implementation_reads_and_writes_the_same(
    kind: Kind, transaction: bytes, found: tuple[Attribute, ...], fingerprint: bool
) -> None:
    """The other one (aioice) understands our octets as we meant them, and makes the same octets from the same values."""
    message = Message(kind, transaction, found, fingerprint=fingerprint)
    theirs = aioice.stun.parse_message(encode(message))
    assert int(theirs.message_class) == (kind & 2) << 7 | (kind & 1) << 4
    assert theirs.transaction_id == transaction
    assert {name: value for name, value in theirs.attributes.items() if name != "FINGERPRINT"} == _as_aioice(message)
    again = aioice.stun.Message(theirs.message_method, theirs.message_class, transaction, _as_aioice(message))
    if fingerprint:
        again.add_fingerprint()
    assert bytes(again) == encode(message)


# --- garbage ---


@given(st.binary(max_size=120))
@example(b"")
@example(bytes(20))
@example(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12))
def test_any_octets_are_malformed_or_a_message(octets: bytes) -> None:
    """Noise, bare and behind a proper header, raises nothing but Malformed."""
    headed = b"\x01\x01" + (len(octets) & 0xFFFC).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TRANSACTION + octets
    for candidate in (octets, headed, headed[: 20 + (len(octets) & 0xFFFC)]):
        _read(candidate)


def _read(octets: bytes) -> None:
    """Read, as a datagram and as the beginning of a stream; what is a message can be written again and says the same."""
    try:
        framed_length(octets[:8])
        message = decode(octets)
    except Malformed:
        return
    assert repr(message)
    assert decode(encode(message)) == message


def test_mutated_messages_are_malformed_or_a_message() -> None:
    """Real messages with octets changed, cut off, doubled or put in, many of them, with a fixed seed."""
    dice = random.Random(5)
    seeds = [
        RFC_5769_REQUEST,
        RFC_5769_IPV6,
        encode(Message(Kind.REQUEST, TRANSACTION, (ChangeRequest(address=True, port=True), Software("x")))),
        encode(Message(Kind.ERROR, TRANSACTION, (ErrorCode(420, "why"), UnknownAttributes((1, 2))), fingerprint=True)),
        encode(Message(Kind.SUCCESS, TRANSACTION, (XorMappedAddress(HERE), OtherAddress(HERE6), ResponseOrigin(HERE)))),
    ]
    for _ in range(MUTATIONS):
        octets = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(octets) + 1)
            match dice.randrange(5):
                case 0:
                    octets[at : at + 1] = bytes((dice.randrange(256),))
                case 1:
                    octets[at:] = b""
                case 2:
                    octets[at:at] = dice.randbytes(dice.randint(1, 8))
                case 3:
                    octets[at : at + 1] = bytes((octets[at] ^ 1 << dice.randrange(8),)) if at < len(octets) else b""
                case _:
                    octets += octets[at : at + 16]
            if dice.random() < 0.7 and len(octets) >= 24:  # so that more than the length check is reached
                del octets[20 + (len(octets) - 20 & ~3) :]
                octets[2:4] = (len(octets) - 20).to_bytes(2, "big")
        _read(bytes(octets))


@settings(max_examples=50)
@given(messages, st.data())
def test_a_stream_is_cut_where_messages_end(message: Message, data: st.DataObject) -> None:
    """From four octets on the length is known, whatever follows; a beginning says nothing yet and is no error."""
    octets = encode(message) + data.draw(st.binary(max_size=30))
    for count in range(21):
        assert framed_length(octets[:count]) == (None if count < 4 else len(encode(message)))


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n12", "zero bits"),
        (b"\x00\x01\x00\x00\x00\x00\x00\x00" + bytes(12), "cookie"),
        (b"\x00\x01\x00\x02\x21\x12\xa4\x42" + bytes(14), "multiple"),
        (b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12), "length"),
        (b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"\x00\x20\x00\x08", "past"),
        (b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x20\x00\x04\x00\x03\x00\x00", "family"),
        (b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x09\x00\x04\x00\x00\x02\x00", "class"),
        (b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x80\x22\x00\x01\xff\x00\x00\x00", "UTF-8"),
        (RFC_5769_IPV4[:-1] + b"\x00", "FINGERPRINT is wrong"),
    ],
)
def test_what_is_wrong_is_said(octets: bytes, why: str) -> None:
    """Each mistake has its own words."""
    with pytest.raises(Malformed, match=why):
        decode(octets)


@pytest.mark.parametrize(
    "attribute",
    [
        ErrorCode(299, ""),
        ErrorCode(700, ""),
        Software("x" * 764),
        Software("\ud800"),
        Opaque(65_536, b""),
        UnknownAttributes((-1,)),
    ],
)
def test_what_has_no_octets_is_not_written(attribute: Attribute) -> None:
    """A value that does not fit its field is Malformed when it is written."""
    with pytest.raises(Malformed):
        encode(Message(Kind.REQUEST, TRANSACTION, (attribute,)))


def test_a_message_that_cannot_be_is_not_made() -> None:
    """A transaction ID of another length, a method of thirteen bits, 64 KiB of attributes."""
    with pytest.raises(Malformed):
        Message(Kind.REQUEST, b"short")
    with pytest.raises(Malformed):
        Message(Kind.REQUEST, TRANSACTION, method=0x1000)
    with pytest.raises(Malformed):
        encode(Message(Kind.REQUEST, TRANSACTION, (Opaque(0x9000, bytes(40_000)),) * 2))


def test_the_first_of_equal_attributes_counts() -> None:
    """Section 14: later ones of the same type are ignored; XOR-MAPPED-ADDRESS goes before MAPPED-ADDRESS."""
    message = Message(Kind.SUCCESS, TRANSACTION, (MappedAddress(HERE6), XorMappedAddress(HERE), XorMappedAddress(HERE6)))
    assert decode(encode(message)).mapped == HERE
    assert Message(Kind.SUCCESS, TRANSACTION, (MappedAddress(HERE6),)).mapped == HERE6
    assert Message(Kind.SUCCESS, TRANSACTION).mapped is None
