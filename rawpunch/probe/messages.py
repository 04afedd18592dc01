r"""What a probe and an observer say to each other: one JSON object a line, over TCP, on the ports that also speak STUN.

A probe first proves that it is where its packets seem to come from; only then does anything beyond plain answers go its way:

    probe     {"do": "hello", "id": 1}
    observer  {"is": "welcome", "id": 1, "nonce": "...", "you": "198.51.100.2:40000", ...}
    probe     {"do": "prove", "id": 2, "nonce": "..."}
    observer  {"is": "proved", "id": 2, "session": "...", "addresses": ["198.51.100.2"]}
    probe     {"do": "hold", "id": 3, "address": 1}
    observer  {"is": "held", "id": 3, "endpoint": "192.0.2.67:41234"}
    probe     {"do": "send", "id": 4, "kind": "syn", "source": "192.0.2.67:41234", "to": "198.51.100.2:40000"}
    observer  {"is": "sent", "id": 4, "at_ns": ..., "octets": 52}
    probe     {"do": "arrivals", "id": 5, "wait_ms": 500}
    observer  {"is": "arrivals", "id": 5, "packets": [...], "next": 7, "lost": 0}

Answers carry their request's id and may overtake each other. The first octet of a message tells it from STUN, which begins with
two zero bits. A line has at most `MAX_REQUEST` octets. Whatever the octets, reading them gives a value or raises `Malformed`.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, Literal

from msgspec import Meta

from rawpunch.errors import Malformed
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.lines import AnswerLine, Protocol, RequestLine, Value, encode_line
from rawpunch.wire.segment import Packet

MAX_REQUEST: Final = 2048
"""Octets of a request, its newline included."""
MAX_ANSWER: Final = 1 << 20
"""Octets of an answer, its newline included."""
MAX_WAIT_MS: Final = 10_000
MAX_ROWS: Final = 2_000
"""Packets in one answer."""
SNAP: Final = 128
"""Octets that are kept of a packet that arrived: all headers, and the quotation of an ICMP error."""


class Craft(enum.StrEnum):
    """The packets that an observer makes."""

    SYN = "syn"
    SYN_ACK = "syn_ack"
    ACK = "ack"
    RST = "rst"
    RST_ACK = "rst_ack"
    ICMP = "icmp"


# --- requests ---


class Hello(RequestLine, frozen=True):
    """Ask for a nonce, and for what there is."""


class Prove(RequestLine, frozen=True):
    """Echo the nonce: whoever reads what is sent to this connection's address is who writes here."""

    nonce: Annotated[str, Meta(max_length=64)]
    session: Annotated[str, Meta(max_length=64)] = ""
    """A session to join with this connection's address, where a NAT has several; "" for a new one."""


class Where(RequestLine, frozen=True):
    """The mapping query: from where does this connection come, seen from here?"""


class Hold(RequestLine, frozen=True):
    """Take a port that answers nothing by itself: the probe decides what is sent from it, and learns what comes to it."""

    address: Annotated[int, Meta(ge=0, le=1)] = 0
    """Which of the observer's addresses."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """Which port; 0 for any."""
    answer: Craft | None = None
    """What to send back at once to each SYN that comes to it; None for nothing."""
    ttl: Annotated[int, Meta(ge=1, le=255)] = 64
    """Of that answer."""


class Release(RequestLine, frozen=True):
    """Give a held port back."""

    endpoint: Endpoint


class Connect(RequestLine, frozen=True, kw_only=True):
    """Open a connection back with the observer's kernel: works without raw sockets, and from the ports that listen."""

    address: Annotated[int, Meta(ge=0, le=1)] = 0
    """Which of the observer's addresses it comes from."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """Which of the observer's ports it comes from; 0 for any other port."""
    to: Endpoint
    wait_ms: Annotated[int, Meta(ge=1, le=MAX_WAIT_MS)] = 1_000


class SendPacket(RequestLine, frozen=True, tag="send"):
    """Send one crafted packet from a held port to a proved address."""

    kind: Craft
    source: Endpoint
    """A held endpoint; for an ICMP error, the one whose packet is quoted as refused."""
    to: Endpoint
    seq: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    """SEG.SEQ; of an ICMP error, that of the segment quoted."""
    ack: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    ttl: Annotated[int, Meta(ge=1, le=255)] = 64
    window: Annotated[int, Meta(ge=0, le=65_535)] = 65_535
    icmp_type: Literal[3, 11] = 3
    """Destination unreachable, or time exceeded (RFC 792)."""
    icmp_code: Annotated[int, Meta(ge=0, le=15)] = 1


class Arrivals(RequestLine, frozen=True):
    """What has come from the proved addresses: SYNs to ports that listen, all to held ones, and ICMP errors about these."""

    after: Annotated[int, Meta(ge=0)] = 0
    """Only packets with a number of at least this; `next` of an earlier answer."""
    at: Endpoint | None = None
    """Only packets to (or quoting) this endpoint of the observer."""
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = MAX_ROWS
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0
    """How long to wait for a first one."""


class Mapped(RequestLine, frozen=True):
    """The same, shorter: only SYNs, and of each when it came, its ISN and the endpoint it came from."""

    after: Annotated[int, Meta(ge=0)] = 0
    at: Endpoint | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = MAX_ROWS
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0


Request = Hello | Prove | Where | Hold | Release | Connect | SendPacket | Arrivals | Mapped


# --- answers ---


class Welcome(AnswerLine, frozen=True):
    """What there is, and the nonce to echo."""

    nonce: str
    you: Endpoint
    """The mapped endpoint: where this connection comes from."""
    here: Endpoint
    """Where it has come to."""
    addresses: list[str]
    ports: list[int]
    raw: bool
    """Whether packets can be held, crafted and reported."""


class Proved(AnswerLine, frozen=True):
    """The address is proved."""

    session: str
    addresses: list[str]
    """All that this session has proved."""


class Place(AnswerLine, frozen=True):
    """Answer to `Where`."""

    you: Endpoint
    here: Endpoint


class Held(AnswerLine, frozen=True):
    """Answer to `Hold`."""

    endpoint: Endpoint


class Released(AnswerLine, frozen=True):
    """Answer to `Release`."""

    endpoint: Endpoint


class Outcome(enum.StrEnum):
    """How a connection back ended."""

    CONNECTED = "connected"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"


class Connected(AnswerLine, frozen=True):
    """Answer to `Connect`."""

    source: Endpoint
    outcome: Outcome
    took_ns: int
    cause: str = ""


class Sent(AnswerLine, frozen=True):
    """Answer to `SendPacket`."""

    at_ns: int
    octets: int


class Arrival(Value, frozen=True):
    """A packet as it came, from its IP header on, at most `SNAP` octets of it."""

    number: int
    at_ns: int
    octets: str
    """In hexadecimal."""

    @property
    def packet(self) -> Packet:
        """The segment or ICMP error.

        Raises:
            Malformed: it is neither; an observer reports none such.
        """
        try:
            return decode(bytes.fromhex(self.octets))
        except ValueError as error:
            raise Malformed("octets that are not hexadecimal") from error


class Arrived(AnswerLine, frozen=True, tag="arrivals"):
    """Answer to `Arrivals`."""

    packets: list[Arrival]
    next: int
    """What to ask for next."""
    lost: int
    """Packets that came after `after` and were pushed out by later ones before they were asked for."""
    dropped: int = 0
    """Packets, of anybody, that the observer's kernel dropped because the observer was late, since it began."""


class Mappings(AnswerLine, frozen=True):
    """Answer to `Mapped`."""

    rows: list[tuple[int, int, str, int]]
    """When it came (ns), the ISN, and the address and port it came from."""
    next: int
    lost: int
    dropped: int = 0


class Refusal(enum.StrEnum):
    """Why a request was not carried out."""

    MALFORMED = "malformed"
    NOT_PROVED = "not_proved"
    WRONG_NONCE = "wrong_nonce"
    NO_SESSION = "no_session"
    NOT_YOURS = "not_yours"
    """The target is no address that this session has proved, or the source no port that it holds."""
    NO_RAW = "no_raw"
    """This observer may not open raw sockets, or has no such thing for IPv6."""
    NO_SUCH_ADDRESS = "no_such_address"
    PORT_IN_USE = "port_in_use"
    TOO_MANY = "too_many"
    TOO_FAST = "too_fast"
    NOT_SENT = "not_sent"


class Refused(AnswerLine, frozen=True):
    """Instead of any answer: why not."""

    word: Refusal
    why: str = ""
    retry_ms: int = 0
    """When it may be tried again, where that is the reason."""


Answer = Welcome | Proved | Place | Held | Released | Connected | Sent | Arrived | Mappings | Refused

_REQUESTS: Final[Protocol[Request]] = Protocol(Request, MAX_REQUEST)
_ANSWERS: Final[Protocol[Answer]] = Protocol(Answer, MAX_ANSWER)


def encode(line: Request | Answer) -> bytes:
    """A request or answer as a line, newline included."""
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
