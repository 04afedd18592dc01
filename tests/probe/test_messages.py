"""The observer's own protocol: lines and values, and nothing but Malformed for lines that are none."""

from __future__ import annotations

import json
import random
import types
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.probe import messages
from rawpunch.probe.messages import (
    Answer,
    Arrival,
    Arrivals,
    Arrived,
    Connect,
    Connected,
    Craft,
    Held,
    Hello,
    Hold,
    Mapped,
    Mappings,
    Outcome,
    Place,
    Prove,
    Proved,
    Refusal,
    Refused,
    Release,
    Released,
    Request,
    SendPacket,
    Sent,
    Welcome,
    Where,
    encode,
    parse_answer,
    parse_request,
)
from rawpunch.wire import codec
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment

MUTATIONS = 10_000
HERE, THERE = Endpoint("192.0.2.66", 3478), Endpoint("198.51.100.2", 40_000)
SYN = codec.encode(Segment(THERE, HERE, Flags.SYN, 7))

REQUESTS: list[Request] = [
    Hello(id=1),
    Prove(id=2, nonce="n", session="s"),
    Where(),
    Hold(id=3, address=1, port=4_000, answer=Craft.SYN, ttl=3),
    Release(endpoint=HERE),
    Connect(address=1, port=3479, to=THERE, wait_ms=5),
    SendPacket(kind=Craft.ICMP, source=HERE, to=Endpoint("2001:db8::1", 5), seq=2**32 - 1, icmp_type=11, icmp_code=0),
    Arrivals(after=9, at=HERE, limit=2, wait_ms=10),
    Mapped(),
]
ANSWERS: list[Answer] = [
    Welcome(nonce="n", you=THERE, here=HERE, addresses=["192.0.2.66"], ports=[3478], raw=True),
    Proved(session="s", addresses=["198.51.100.2"]),
    Place(you=THERE, here=HERE),
    Held(endpoint=HERE),
    Released(endpoint=HERE),
    Connected(source=HERE, outcome=Outcome.SILENT, took_ns=3),
    Sent(at_ns=2**60, octets=40),
    Arrived(packets=[Arrival(number=1, at_ns=2, octets=SYN.hex())], next=2, lost=0),
    Mappings(rows=[(1, 2, "198.51.100.2", 3)], next=4, lost=1),
    Refused(word=Refusal.TOO_FAST, why="w", retry_ms=3),
]


def _kinds(union: object) -> set[type]:
    assert isinstance(union, types.UnionType)
    return set(get_args(union))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda value: value.tag)
def test_a_request_survives_its_line(request_: Request) -> None:
    """What is asked is what is read, in one line that the observer takes."""
    line = encode(request_)
    assert line.index(b"\n") == len(line) - 1 < messages.MAX_REQUEST
    assert line.startswith(b"{")  # which no STUN message does
    assert parse_request(line) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda value: value.tag)
def test_an_answer_survives_its_line(answer: Answer) -> None:
    """What is answered is what is read."""
    line = encode(answer)
    assert line.index(b"\n") == len(line) - 1
    assert parse_answer(line) == answer


def test_every_kind_is_tested() -> None:
    """The examples above hold one of each."""
    assert {type(request) for request in REQUESTS} == _kinds(Request)
    assert {type(answer) for answer in ANSWERS} == _kinds(Answer)


def test_the_longest_answer_fits() -> None:
    """As many packets as may be asked for, each as long as is kept, stay below what a client reads."""
    packet = Arrival(number=10**9, at_ns=2**62, octets="ff" * messages.SNAP)
    answer = Arrived(id=2**52, packets=[packet] * messages.MAX_ROWS, next=10**9, lost=10**9)
    assert len(encode(answer)) < messages.MAX_ANSWER


def test_an_arrival_holds_its_packet() -> None:
    """The octets are those of the packet; what is none is Malformed."""
    assert Arrival(number=1, at_ns=2, octets=SYN.hex()).packet == codec.decode(SYN)
    for octets in ("zz", "45", ""):
        with pytest.raises(Malformed):
            _ = Arrival(number=1, at_ns=2, octets=octets).packet


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b'{"do":"dance"}',
        b'{"do":"hello","surprise":1}',
        b'{"do":"hello","id":-1}',
        b'{"do":"hello","id":"1"}',
        b'{"do":"hold","address":2}',
        b'{"do":"hold","port":70000}',
        b'{"do":"hold","answer":"flood"}',
        b'{"do":"connect","to":"192.0.2.1"}',
        b'{"do":"connect","to":"192.0.2.1:70000"}',
        b'{"do":"connect","to":["192.0.2.1",1]}',
        b'{"do":"connect","to":"fe80::1%eth0:1"}',
        b'{"do":"connect","to":"192.0.2.1:1","wait_ms":60000}',
        b'{"do":"send","kind":"syn","source":"192.0.2.66:1","to":"192.0.2.1:1","seq":4294967296}',
        b'{"do":"send","kind":"icmp","source":"192.0.2.66:1","to":"192.0.2.1:1","icmp_type":5}',
        b'{"do":"prove","nonce":"\\ud800"}',
        b'{"do":"arrivals","limit":1000000}',
        b"[" * 2_000,
        b'{"do":"hello","id":1' + b" " * messages.MAX_REQUEST + b"}",
    ],
)
def test_what_is_no_request_is_malformed(line: bytes) -> None:
    """Unknown words and fields, values out of range, other shapes, and lines that are too long."""
    with pytest.raises(Malformed):
        parse_request(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=80))
def test_any_octets_are_malformed_or_a_message(octets: bytes) -> None:
    """Noise raises nothing but Malformed."""
    _read(octets)


@given(st.sampled_from([*REQUESTS, *ANSWERS]), st.data())
def test_any_value_in_any_field_is_malformed_or_a_message(message: Request | Answer, data: st.DataObject) -> None:
    """A proper message with one field replaced by anything that JSON can say."""
    fields: dict[str, Any] = json.loads(encode(message))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(json_values)
    _read(json.dumps(fields).encode())


def test_mutated_lines_are_malformed_or_a_message() -> None:
    """Proper lines with octets changed, cut off, or put in; many, with a fixed seed."""
    dice = random.Random(4)
    seeds = [encode(message) for message in (*REQUESTS, *ANSWERS)]
    for _ in range(MUTATIONS):
        line = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(line)) if line else 0
            line[at : at + dice.randint(0, 2)] = dice.choice((b"", b"9", b'"', b"{", b"\xff", b"-", dice.randbytes(2)))
        _read(bytes(line))


def _read(line: bytes) -> None:
    for parse in (parse_request, parse_answer):
        try:
            value = parse(line)
        except Malformed:
            continue
        assert parse(encode(value)) == value
