"""The rendezvous protocol: what is written is read again, what is not of it is refused, and there is no room for users' data."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.rendezvous import Peer, Register, decode_plain, encode, encode_plain, parse_answer, parse_request, room_name
from rawpunch.wire.endpoint import Endpoint

HERE, THERE = Endpoint("198.51.100.2", 4000), Endpoint("2001:db8::1", 4001)
FINDING = messages.Finding("endpoint_independent", {"band": [1, 2]}, "certain")
PEER = Peer(number=3, endpoint=HERE, name="bob", inside=THERE, findings={"mapping": FINDING}, seen=[40_000, 40_002])

REQUESTS = [
    Register(id=1, room=room_name("token"), name="alice", inside=HERE, findings={"mapping": FINDING}, seen=[1, 65_535]),
    Register(id=1, room=room_name("token"), meet=True, nonce="0f" * 32),
    Register(id=1, room=room_name("")),
    messages.Clock(id=2, at_ns=-5),
    messages.Introduce(id=3, to=9),
    messages.Ready(id=4, pair=7, error_ns=12, tolerance_ns=3),
    messages.Ready(id=5, pair=7),
    messages.Account(id=6),
]
ANSWERS = [
    messages.Registered(id=1, number=1, you=HERE, here=THERE, peers=[PEER], expires_ms=5),
    messages.Time(id=2, at_ns=1, came_ns=2, left_ns=3),
    messages.Introducing(id=3, pair=7),
    messages.Waiting(id=4, pair=7),
    messages.Accounted(id=6, came=1, went=2),
    messages.Joined(peer=PEER),
    messages.Left(number=4),
    messages.Introduced(pair=7, side="b", peer=PEER),
    messages.Start(pair=7, at_ns=10**18, error_ns=5),
    messages.Go(pair=7, error_ns=5),
    messages.Over(pair=7, why="gone"),
    messages.Refused(id=1, word="full", why="16 peers"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda line: line.tag)
def test_a_request_survives_its_line(request_: messages.Request) -> None:
    """One line, ended by a newline, equal when read again."""
    line = encode(request_)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse_request(line) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda line: line.tag)
def test_an_answer_survives_its_line(answer: messages.Answer) -> None:
    """The same for answers and for what the server says unasked."""
    assert parse_answer(encode(answer)) == answer


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    """Whatever comes, `Malformed` is the only error."""
    for parse in (parse_request, parse_answer):
        with pytest.raises(Malformed):
            parse(octets)


@given(st.sampled_from([*REQUESTS]), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists), st.data())
def test_a_field_of_another_kind_is_refused(request_: messages.Request, value: object, data: st.DataObject) -> None:
    """Any field may hold anything: it is read as what it should be, or refused."""
    document: dict[str, Any] = json.loads(encode(request_))
    document[data.draw(st.sampled_from(sorted(document)))] = value
    with contextlib.suppress(Malformed):
        again = parse_request(json.dumps(document).encode())
        assert parse_request(encode(again)) == again


@pytest.mark.parametrize(
    "more",
    [
        {"text": "hello"},
        {"name": "x" * 33},
        {"room": "secret"},
        {"room": "A" * 32},
        {"findings": {"a finding": {}}},
        {"findings": {f"axis{number}": {} for number in range(25)}},
        {"seen": [0]},
        {"seen": [1] * 65},
        {"seen": ["1"]},
        {"inside": "example.org:80"},
        {"id": -1},
        {"nonce": "0f" * 31},
        {"nonce": "0F" * 32},
        {"nonce": "0f" * 32 + "\n"},
    ],
)
def test_there_is_no_room_for_anything_else(more: dict[str, Any]) -> None:
    """Unknown fields, long names, rooms that are no digest, and lists without end are refused."""
    document = {"do": "register", "id": 1, "room": room_name("token")} | more
    with pytest.raises(Malformed):
        parse_request(json.dumps(document).encode())


def test_free_text_of_a_finding_stays_behind() -> None:
    """A probe's report explains itself in words; the server does not pass them on."""
    document = {"do": "register", "room": room_name("t"), "findings": {"mapping": {"class": "none", "why": "because I say so"}}}
    request = parse_request(json.dumps(document).encode())
    assert b"because" not in encode(request)


def test_a_line_has_an_end() -> None:
    """A request that is too long is refused before it is looked at."""
    with pytest.raises(Malformed, match="longer"):
        parse_request(b" " * (messages.MAX_REQUEST + 1))


def test_a_room_does_not_tell_its_token() -> None:
    """The name is a digest: 32 hexadecimal digits, the same for all who know the token, and never changing between versions."""
    assert room_name("correct-horse") == room_name("correct-horse") != room_name("correct-horsf")
    assert room_name("correct-horse") == "46d4555395b26e7650b390739be49503"
    assert "correct" not in room_name("correct-horse")


def test_plain_lists_are_a_count_and_six_octets_each() -> None:
    """Address and port in network order, as a broker of a page of C writes them."""
    peers = [HERE, Endpoint("203.0.113.9", 258)]
    assert encode_plain(peers) == b"\x02" + bytes([198, 51, 100, 2, 0x0F, 0xA0]) + bytes([203, 0, 113, 9, 1, 2])
    assert decode_plain(encode_plain(peers)) == peers
    assert encode_plain([]) == b"\0"
    assert decode_plain(b"\0") == []


@pytest.mark.parametrize("peers", [[HERE] * 256, [THERE]])
def test_plain_lists_have_their_limits(peers: list[Endpoint]) -> None:
    """255 endpoints, and IPv4."""
    with pytest.raises(Malformed):
        encode_plain(peers)


@given(st.binary(max_size=40))
def test_any_plain_list_is_read_or_refused(octets: bytes) -> None:
    """A list whose length is what its count says is written again as it was; any other is refused."""
    if octets and len(octets) == 1 + 6 * octets[0]:
        assert encode_plain(decode_plain(octets)) == octets
    else:
        with pytest.raises(Malformed):
            decode_plain(octets)


def test_values_are_frozen() -> None:
    """A message is a value."""
    with pytest.raises(AttributeError):
        PEER.name = "eve"  # type: ignore[misc]  # that is what fails
