r"""What peers and a rendezvous server say to each other: one JSON object a line, over TCP, on the port that also speaks STUN.

    alice   {"do": "register", "id": 1, "room": "...", "name": "alice", "inside": "10.1.0.2:4000", "findings": {...}}
    server  {"is": "registered", "id": 1, "number": 7, "you": "198.51.100.2:4000", "peers": [], ...}
    bob     {"do": "register", "id": 1, "room": "...", "meet": true, ...}
    server  {"is": "joined", "peer": {"number": 8, "name": "bob", "endpoint": "203.0.113.2:4000", ...}}
    server  {"is": "introduced", "pair": 4, "side": "a", "peer": {...}}       to both, to arrive at one instant

With that both may begin. Or one asks for whom it wants, and both for a start that they agree on more closely:

    alice   {"do": "introduce", "id": 2, "to": 9}
    server  {"is": "introducing", "id": 2, "pair": 5}
    server  {"is": "introduced", "pair": 5, "side": "a", "peer": {...}}       to both
    alice   {"do": "clock", "id": 3, "at_ns": ...}                            both, a few times
    server  {"is": "time", "id": 3, "at_ns": ..., "came_ns": ..., "left_ns": ...}
    alice   {"do": "ready", "id": 4, "pair": 5, "error_ns": 300000, "tolerance_ns": 5000000}          both
    server  {"is": "start", "pair": 5, "at_ns": ..., "error_ns": ...}          to both, or, where clocks are too vague
    server  {"is": "go", "pair": 5, "error_ns": ...}                           to both, to arrive at one instant

A peer connects from the very port that it will punch from, so what the server sees is the endpoint that others can send to, as
far as the NAT maps alike for all. Answers carry their request's id; what the server says of itself carries none. The first octet
tells a line from STUN. No message has room for users' data, and a room is named by a digest of its token (`room_name`): peers can
prove the token to each other later without the server ever having known it.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field

from rawpunch.errors import Malformed
from rawpunch.punch.consent import Consent
from rawpunch.punch.proof import NONCE_OCTETS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.lines import AnswerLine, Protocol, RequestLine, Value, encode_line

VERSION: Final = 1
MAX_REQUEST: Final = 4_096
"""Octets of a request, its newline included."""
MAX_ANSWER: Final = 1 << 18
MAX_PORTS_SEEN: Final = 64
RTT_AXIS: Final = "rendezvous_rtt"
"""Among the findings: how far away a peer is from the server; no axis of a NAT."""

_ROOM_OCTETS: Final = 16
_DAY_NS: Final = 86_400 * 10**9

Word = Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,40}\Z")]
Name = Annotated[str, Meta(max_length=32)]
Nonce = Annotated[str, Meta(pattern=rf"^([0-9a-f]{{{2 * NONCE_OCTETS}}})?\Z")]
Side = Literal["a", "b"]


def room_name(token: str) -> str:
    """The name of the room that belongs to a token: all that a server is told of it."""
    return hashlib.sha256(b"rawpunch room\0" + token.encode()).hexdigest()[: 2 * _ROOM_OCTETS]


class Finding(Value, frozen=True, forbid_unknown_fields=False):
    """What a probe found out about one axis of a NAT, as its report has it; what else a report says is left behind."""

    klass: Word | None = field(default=None, name="class")
    detail: Annotated[dict[Word, Any], Meta(max_length=8)] = field(default_factory=dict)
    """Whatever JSON there is."""
    status: Word | None = None


# --- requests ---


class Register(RequestLine, frozen=True, kw_only=True):
    """Enter a room; the first request of a connection."""

    version: int = VERSION
    room: Annotated[str, Meta(pattern=rf"^[0-9a-f]{{{2 * _ROOM_OCTETS}}}\Z")]
    """Digest of the room's token."""
    meet: bool = False
    """Whether to be introduced at once to whoever came last, if somebody is there."""
    name: Name = ""
    inside: Endpoint | None = None
    """The endpoint that the peer is bound to, for one behind the same NAT."""
    findings: Annotated[dict[Word, Finding], Meta(max_length=24)] = field(default_factory=dict)
    """What is known of its NAT, by axis."""
    seen: Annotated[list[Annotated[int, Meta(ge=1, le=65_535)]], Meta(max_length=MAX_PORTS_SEEN)] = field(default_factory=list)
    """External ports that its NAT allocated after this connection's, the last one last, for prediction."""
    consent: Consent | None = None
    """To be sprayed, for the other peers of the room."""
    nonce: Nonce = ""
    """Fresh, in hexadecimal, for the proof on the connection (`proof`); "" to say it there."""


class Clock(RequestLine, frozen=True):
    """What time is it?"""

    at_ns: int
    """When this left, by the peer's own clock."""


class Introduce(RequestLine, frozen=True):
    """Introduce me to a peer of my room."""

    to: Annotated[int, Meta(ge=1)]


class Ready(RequestLine, frozen=True):
    """I can begin."""

    pair: Annotated[int, Meta(ge=1)]
    error_ns: Annotated[int, Meta(ge=0, lt=_DAY_NS)] | None = None
    """By how much my idea of the server's clock may be wrong at most; None if I have none."""
    tolerance_ns: Annotated[int, Meta(ge=0, lt=_DAY_NS)] = 0
    """By how much the two starts may differ for my plan to work."""


class Account(RequestLine, frozen=True):
    """How many octets has this connection carried?"""


Request = Register | Clock | Introduce | Ready | Account


# --- answers, and what the server says unasked ---


class Peer(Value, frozen=True):
    """Somebody in the room."""

    number: int
    endpoint: Endpoint
    """Where its connection comes from, as the server sees it."""
    name: Name = ""
    inside: Endpoint | None = None
    findings: dict[Word, Finding] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)
    consent: Consent | None = None
    nonce: Nonce = ""


class Registered(AnswerLine, frozen=True):
    """Answer to `Register`."""

    number: int
    you: Endpoint
    """The public endpoint: where this connection comes from."""
    here: Endpoint
    peers: list[Peer]
    expires_ms: int
    """A peer who says nothing for this long is forgotten."""


class Time(AnswerLine, frozen=True):
    """Answer to `Clock`: RFC 5905's four time stamps, but for the last one, which the peer takes."""

    at_ns: int
    came_ns: int
    left_ns: int


class Introducing(AnswerLine, frozen=True):
    """Answer to `Introduce`: both are told, and asked to say when they are ready."""

    pair: int


class Waiting(AnswerLine, frozen=True):
    """Answer to `Ready`."""

    pair: int


class Accounted(AnswerLine, frozen=True):
    """Answer to `Account`."""

    came: int
    """Octets from this peer, this request included."""
    went: int
    """Octets to it, this answer not included."""


class Joined(AnswerLine, frozen=True):
    """Somebody has entered the room."""

    peer: Peer


class Left(AnswerLine, frozen=True):
    """Somebody has left it."""

    number: int


class Introduced(AnswerLine, frozen=True):
    """Here is whom you are to connect with; both are told at one instant, as far as their round trips tell, and may begin."""

    pair: int
    side: Side
    """Which side of the plan is yours: both make the same one."""
    peer: Peer


class Start(AnswerLine, frozen=True):
    """Begin at an instant of the server's clock."""

    pair: int
    at_ns: int
    error_ns: int
    """By how much the two starts may differ."""


class Go(AnswerLine, frozen=True):
    """Begin on receipt."""

    pair: int
    error_ns: int
    """By how much the two starts may differ."""


class Over(AnswerLine, frozen=True):
    """Nothing will come of this pair."""

    pair: int
    why: str


class Refused(AnswerLine, frozen=True):
    """Instead of any answer: why not."""

    word: Literal["malformed", "not_registered", "registered_already", "no_such_room", "no_such_peer", "no_such_pair", "full"]
    why: str = ""


Answer = Registered | Time | Introducing | Waiting | Accounted | Joined | Left | Introduced | Start | Go | Over | Refused

_REQUESTS: Final[Protocol[Request]] = Protocol(Request, MAX_REQUEST)
_ANSWERS: Final[Protocol[Answer]] = Protocol(Answer, MAX_ANSWER)


def encode(line: Request | Answer) -> bytes:
    """A message as a line, newline included."""
    return encode_line(line)


def parse_request(line: bytes) -> Request:
    """The request in a line.

    Raises:
        Malformed: it is none.
    """
    return _REQUESTS.parse(line)


def parse_answer(line: bytes) -> Answer:
    """The answer in a line.

    Raises:
        Malformed: it is none.
    """
    return _ANSWERS.parse(line)


# --- the plain mode: a minimal broker's list ---

_PLAIN: Final = struct.Struct("!4sH")
MAX_PLAIN: Final = 255


def encode_plain(peers: list[Endpoint]) -> bytes:
    """A list of IPv4 endpoints: their count in one octet, then six octets each, address and port in network order.

    Raises:
        Malformed: there are more than 255, or one is IPv6.
    """
    if len(peers) > MAX_PLAIN or any(peer.is_ipv6 for peer in peers):
        raise Malformed(f"a plain list holds {MAX_PLAIN} IPv4 endpoints at most")
    packed = (_PLAIN.pack(bytes(map(int, peer.address.split("."))), peer.port) for peer in peers)
    return bytes([len(peers)]) + b"".join(packed)


def decode_plain(octets: bytes) -> list[Endpoint]:
    """The endpoints in such a list.

    Raises:
        Malformed: its length is not what its count says.
    """
    if not octets or len(octets) != 1 + _PLAIN.size * octets[0]:
        raise Malformed(f"{len(octets)} octets are no list of {octets[0] if octets else 'no'} endpoints")
    return [Endpoint(".".join(map(str, address)), port) for address, port in _PLAIN.iter_unpack(octets[1:])]
