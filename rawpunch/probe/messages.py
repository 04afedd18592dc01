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

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from rawpunch.errors import Malformed
from rawpunch.wire.codec import decode
from rawpunch.wire.lines import EndpointText, Line, encode_line, parse_line
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


class Hello(Line):
    """Ask for a nonce, and for what there is."""

    do: Literal["hello"] = "hello"


class Prove(Line):
    """Echo the nonce: whoever reads what is sent to this connection's address is who writes here."""

    do: Literal["prove"] = "prove"
    nonce: str = Field(max_length=64)
    session: str = Field(default="", max_length=64)
    """A session to join with this connection's address, where a NAT has several; "" for a new one."""


class Where(Line):
    """The mapping query: from where does this connection come, seen from here?"""

    do: Literal["where"] = "where"


class Hold(Line):
    """Take a port that answers nothing by itself: the probe decides what is sent from it, and learns what comes to it."""

    do: Literal["hold"] = "hold"
    address: int = Field(default=0, ge=0, le=1)
    """Which of the observer's addresses."""
    port: int = Field(default=0, ge=0, le=65_535)
    """Which port; 0 for any."""
    answer: Craft | None = None
    """What to send back at once to each SYN that comes to it; None for nothing."""
    ttl: int = Field(default=64, ge=1, le=255)
    """Of that answer."""


class Release(Line):
    """Give a held port back."""

    do: Literal["release"] = "release"
    endpoint: EndpointText


class Connect(Line):
    """Open a connection back with the observer's kernel: works without raw sockets, and from the ports that listen."""

    do: Literal["connect"] = "connect"
    address: int = Field(default=0, ge=0, le=1)
    """Which of the observer's addresses it comes from."""
    port: int = Field(default=0, ge=0, le=65_535)
    """Which of the observer's ports it comes from; 0 for any other port."""
    to: EndpointText
    wait_ms: int = Field(default=1_000, ge=1, le=MAX_WAIT_MS)


class SendPacket(Line):
    """Send one crafted packet from a held port to a proved address."""

    do: Literal["send"] = "send"
    kind: Craft
    source: EndpointText
    """A held endpoint; for an ICMP error, the one whose packet is quoted as refused."""
    to: EndpointText
    seq: int = Field(default=0, ge=0, lt=2**32)
    """SEG.SEQ; of an ICMP error, that of the segment quoted."""
    ack: int = Field(default=0, ge=0, lt=2**32)
    ttl: int = Field(default=64, ge=1, le=255)
    window: int = Field(default=65_535, ge=0, le=65_535)
    icmp_type: Literal[3, 11] = 3
    """Destination unreachable, or time exceeded (RFC 792)."""
    icmp_code: int = Field(default=1, ge=0, le=15)


class Arrivals(Line):
    """What has come from the proved addresses: SYNs to ports that listen, all to held ones, and ICMP errors about these."""

    do: Literal["arrivals"] = "arrivals"
    after: int = Field(default=0, ge=0)
    """Only packets with a number of at least this; `next` of an earlier answer."""
    at: EndpointText | None = None
    """Only packets to (or quoting) this endpoint of the observer."""
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)
    wait_ms: int = Field(default=0, ge=0, le=MAX_WAIT_MS)
    """How long to wait for a first one."""


class Mapped(Line):
    """The same, shorter: only SYNs, and of each when it came, its ISN and the endpoint it came from."""

    do: Literal["mapped"] = "mapped"
    after: int = Field(default=0, ge=0)
    at: EndpointText | None = None
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)
    wait_ms: int = Field(default=0, ge=0, le=MAX_WAIT_MS)


Request = Hello | Prove | Where | Hold | Release | Connect | SendPacket | Arrivals | Mapped


# --- answers ---


class Welcome(Line):
    """What there is, and the nonce to echo."""

    kind: Literal["welcome"] = Field(default="welcome", alias="is")
    nonce: str
    you: EndpointText
    """The mapped endpoint: where this connection comes from."""
    here: EndpointText
    """Where it has come to."""
    addresses: list[str]
    ports: list[int]
    raw: bool
    """Whether packets can be held, crafted and reported."""


class Proved(Line):
    """The address is proved."""

    kind: Literal["proved"] = Field(default="proved", alias="is")
    session: str
    addresses: list[str]
    """All that this session has proved."""


class Place(Line):
    """Answer to `Where`."""

    kind: Literal["place"] = Field(default="place", alias="is")
    you: EndpointText
    here: EndpointText


class Held(Line):
    """Answer to `Hold`."""

    kind: Literal["held"] = Field(default="held", alias="is")
    endpoint: EndpointText


class Released(Line):
    """Answer to `Release`."""

    kind: Literal["released"] = Field(default="released", alias="is")
    endpoint: EndpointText


class Outcome(enum.StrEnum):
    """How a connection back ended."""

    CONNECTED = "connected"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"


class Connected(Line):
    """Answer to `Connect`."""

    kind: Literal["connected"] = Field(default="connected", alias="is")
    source: EndpointText
    outcome: Outcome
    took_ns: int
    cause: str = ""


class Sent(Line):
    """Answer to `SendPacket`."""

    kind: Literal["sent"] = Field(default="sent", alias="is")
    at_ns: int
    octets: int


class Arrival(BaseModel):
    """A packet as it came, from its IP header on, at most `SNAP` octets of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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


class Arrived(Line):
    """Answer to `Arrivals`."""

    kind: Literal["arrivals"] = Field(default="arrivals", alias="is")
    packets: list[Arrival]
    next: int
    """What to ask for next."""
    lost: int
    """Packets that came after `after` and were pushed out by later ones before they were asked for."""
    dropped: int = 0
    """Packets, of anybody, that the observer's kernel dropped because the observer was late, since it began."""


class Mappings(Line):
    """Answer to `Mapped`."""

    kind: Literal["mappings"] = Field(default="mappings", alias="is")
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


class Refused(Line):
    """Instead of any answer: why not."""

    kind: Literal["refused"] = Field(default="refused", alias="is")
    word: Refusal
    why: str = ""
    retry_ms: int = 0
    """When it may be tried again, where that is the reason."""


Answer = Welcome | Proved | Place | Held | Released | Connected | Sent | Arrived | Mappings | Refused

_REQUESTS: Final[TypeAdapter[Request]] = TypeAdapter(Annotated[Request, Field(discriminator="do")])
_ANSWERS: Final[TypeAdapter[Answer]] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def encode(line: Request | Answer) -> bytes:
    """A request or answer as a line, newline included."""
    return encode_line(line)


def parse_request(line: bytes) -> Request:
    """The request in a line.

    Raises:
        Malformed: it is none.
    """
    return parse_line(_REQUESTS, line, MAX_REQUEST)


def parse_answer(line: bytes) -> Answer:
    """The answer in a line.

    Raises:
        Malformed: it is none.
    """
    return parse_line(_ANSWERS, line, MAX_ANSWER)
