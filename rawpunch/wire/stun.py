"""STUN messages and their bytes (RFC 8489), with the attributes of NAT behaviour discovery (RFC 5780).

    0                   1                   2                   3
    0 0| message type     | message length                |   20 octets of header, then attributes,
       | magic cookie 0x2112A442                          |   each of type, length, value and padding
       | transaction ID, 96 bits                          |   to a multiple of four octets

Over UDP a datagram is one message. Over TCP messages follow each other without further framing (section 6.2.2); `framed_length`
says where one ends. Reading is tolerant of what a later RFC may add (unknown attributes are kept, padding may hold anything) and
strict about what would make two readers disagree (lengths, the cookie, a wrong FINGERPRINT). Whatever the octets, reading them
returns a message or raises `Malformed`.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeVar

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint

MAGIC_COOKIE: Final = 0x2112A442
HEADER_OCTETS: Final = 20
TRANSACTION_OCTETS: Final = 12
MAX_OCTETS: Final = HEADER_OCTETS + 0xFFFC
BINDING: Final = 0x001
"""The one method of RFC 8489."""
MAX_METHOD: Final = 0xFFF
MAX_TEXT: Final = 763
"""Octets of SOFTWARE and of a reason phrase (sections 14.8 and 14.14)."""

_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_COOKIE: Final = MAGIC_COOKIE.to_bytes(4, "big")
_FINGERPRINT_XOR: Final = 0x5354554E
_FINGERPRINT_OCTETS: Final = 8
_CHANGE_ADDRESS: Final = 0x4
_CHANGE_PORT: Final = 0x2


class Kind(enum.IntEnum):
    """The four classes of a message (section 5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


class Type(enum.IntEnum):
    """Attribute types (RFC 8489 section 18.3, RFC 5780 section 9.1); a reader must understand those below 0x8000."""

    MAPPED_ADDRESS = 0x0001
    CHANGE_REQUEST = 0x0003
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    XOR_MAPPED_ADDRESS = 0x0020
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C


CREDENTIALS: Final = frozenset({0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E})
"""USERNAME, MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM, USERHASH: whoever wants no
credentials may ignore them."""
PADDING: Final = 0x0026
"""Makes a request longer and says nothing (RFC 5780 section 7.6); a client gets longer answers for it."""


@dataclass(frozen=True, slots=True)
class MappedAddress:
    """The client's endpoint as the server sees it, in clear (section 14.1); NATs have been known to rewrite it."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class XorMappedAddress:
    """The client's endpoint as the server sees it, hidden from meddlers (section 14.2)."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class OtherAddress:
    """Where an answer would come from if both address and port were changed (RFC 5780 section 7.4)."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class ResponseOrigin:
    """Where this answer was sent from (RFC 5780 section 7.3)."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """The wish that the answer come from another address or port of the server (RFC 5780 section 7.2)."""

    address: bool
    port: bool


@dataclass(frozen=True, slots=True)
class Software:
    """What the sender is (section 14.14)."""

    text: str


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Why a request failed: 300 .. 699 and a phrase (section 14.8)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class UnknownAttributes:
    """The types that the server did not understand and should have (section 14.13)."""

    types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """Any other attribute, kept as it was."""

    type: int
    value: bytes


Attribute = (
    MappedAddress
    | XorMappedAddress
    | OtherAddress
    | ResponseOrigin
    | ChangeRequest
    | Software
    | ErrorCode
    | UnknownAttributes
    | Opaque
)
_A = TypeVar("_A", bound=Attribute)

_IN_CLEAR: Final[dict[int, type[MappedAddress | OtherAddress | ResponseOrigin]]] = {
    Type.MAPPED_ADDRESS: MappedAddress,
    Type.OTHER_ADDRESS: OtherAddress,
    Type.RESPONSE_ORIGIN: ResponseOrigin,
}


@dataclass(frozen=True, slots=True)
class Message:
    """A STUN message. It cannot be wrong: every field is checked when it is made."""

    kind: Kind
    transaction: bytes
    """12 octets that tie an answer to its request."""
    attributes: tuple[Attribute, ...] = ()
    method: int = BINDING
    fingerprint: bool = False
    """Whether it ends with a FINGERPRINT (section 14.7)."""

    def __post_init__(self) -> None:
        if len(self.transaction) != TRANSACTION_OCTETS:
            raise Malformed(f"a STUN transaction ID has 12 octets, not {len(self.transaction)}")
        if not 0 <= self.method <= MAX_METHOD:
            raise Malformed(f"STUN method {self.method} does not fit into 12 bits")

    def attribute(self, kind: type[_A]) -> _A | None:
        """The first attribute of a kind, or None; later ones of the same kind do not count (section 14)."""
        return next((attribute for attribute in self.attributes if isinstance(attribute, kind)), None)

    @property
    def mapped(self) -> Endpoint | None:
        """The client's endpoint as the server sees it: XOR-MAPPED-ADDRESS, or else MAPPED-ADDRESS."""
        found = self.attribute(XorMappedAddress) or self.attribute(MappedAddress)
        return found.endpoint if found else None

    @property
    def not_understood(self) -> tuple[int, ...]:
        """Types that must be understood and are not (section 6.3.1).

        Credentials do not count, nobody asked for them; nor does padding, there is nothing in it to understand.
        """
        opaque = (attribute.type for attribute in self.attributes if isinstance(attribute, Opaque))
        return tuple(dict.fromkeys(kind for kind in opaque if kind < 0x8000 and kind not in {*CREDENTIALS, PADDING}))


# --- writing ---


def encode(message: Message) -> bytes:
    """The octets of a message.

    Raises:
        Malformed: an attribute does not fit its field, or the message is too long.
    """
    body = b"".join(_encode_attribute(attribute, message.transaction) for attribute in message.attributes)
    length = len(body) + _FINGERPRINT_OCTETS * message.fingerprint
    if HEADER_OCTETS + length > MAX_OCTETS:
        raise Malformed(f"a STUN message of {length} octets is too long")
    out = _HEADER.pack(_message_type(message.kind, message.method), length, MAGIC_COOKIE, message.transaction) + body
    if message.fingerprint:
        out += _ATTRIBUTE.pack(Type.FINGERPRINT, 4) + _fingerprint(out).to_bytes(4, "big")
    return out


def _message_type(kind: Kind, method: int) -> int:
    """The class's two bits lie inside the method's twelve (figure 3)."""
    return (method & 0xF80) << 2 | (kind & 2) << 7 | (method & 0x70) << 1 | (kind & 1) << 4 | method & 0xF


def _fingerprint(before: bytes) -> int:
    return zlib.crc32(before) ^ _FINGERPRINT_XOR


def _encode_attribute(attribute: Attribute, transaction: bytes) -> bytes:
    match attribute:
        case XorMappedAddress(endpoint):
            kind, value = int(Type.XOR_MAPPED_ADDRESS), _encode_endpoint(endpoint, _COOKIE + transaction)
        case MappedAddress(endpoint):
            kind, value = Type.MAPPED_ADDRESS, _encode_endpoint(endpoint)
        case OtherAddress(endpoint):
            kind, value = Type.OTHER_ADDRESS, _encode_endpoint(endpoint)
        case ResponseOrigin(endpoint):
            kind, value = Type.RESPONSE_ORIGIN, _encode_endpoint(endpoint)
        case ChangeRequest(address, port):
            kind, value = Type.CHANGE_REQUEST, (_CHANGE_ADDRESS * address | _CHANGE_PORT * port).to_bytes(4, "big")
        case Software(text):
            kind, value = Type.SOFTWARE, _encode_text(text)
        case ErrorCode(code, reason):
            if not 300 <= code <= 699:
                raise Malformed(f"STUN error code {code} is not in 300..699")
            kind, value = Type.ERROR_CODE, bytes((0, 0, code // 100, code % 100)) + _encode_text(reason)
        case UnknownAttributes(types):
            kind, value = Type.UNKNOWN_ATTRIBUTES, _encode_types(types)
        case Opaque(kind, value):
            pass
    if not 0 <= kind <= 0xFFFF or len(value) > 0xFFFF:
        raise Malformed(f"STUN attribute {kind:#x} of {len(value)} octets does not fit its fields")
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _encode_endpoint(endpoint: Endpoint, pad: bytes = bytes(16)) -> bytes:
    """Family, port and address; the port is hidden by the cookie's first half, the address by cookie and transaction ID."""
    packed = ip_address(endpoint.address.partition("%")[0]).packed
    return bytes((0, 1 if len(packed) == 4 else 2)) + _xor(endpoint.port.to_bytes(2, "big"), pad) + _xor(packed, pad)


def _encode_text(text: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise Malformed("text that is not Unicode cannot be sent") from error
    if len(raw) > MAX_TEXT:
        raise Malformed(f"text of {len(raw)} octets is longer than {MAX_TEXT}")
    return raw


def _encode_types(types: Iterable[int]) -> bytes:
    try:
        return b"".join(kind.to_bytes(2, "big") for kind in types)
    except OverflowError as error:
        raise Malformed("an attribute type does not fit into 16 bits") from error


def _xor(data: bytes, pad: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(data, pad, strict=False))


# --- reading ---


def framed_length(head: bytes) -> int | None:
    """How many octets the message takes that a stream begins with; None as long as too few of them have come to tell.

    Raises:
        Malformed: what has come is no beginning of a STUN message.
    """
    if head and head[0] & 0xC0:
        raise Malformed("a STUN message begins with two zero bits")
    if not _COOKIE.startswith(head[4:8]):
        raise Malformed("the STUN magic cookie is missing")
    if len(head) < 4:
        return None
    length = int.from_bytes(head[2:4], "big")
    if length % 4:
        raise Malformed(f"a STUN length of {length} is no multiple of four")
    return HEADER_OCTETS + length


def decode(data: bytes) -> Message:
    """The message in these octets, all of them.

    Raises:
        Malformed: they are no STUN message, or one whose attributes or FINGERPRINT are wrong.
    """
    if len(data) < HEADER_OCTETS:
        raise Malformed(f"{len(data)} octets are too few for a STUN message")
    if framed_length(data[:8]) != len(data):
        raise Malformed(f"the STUN length does not match the {len(data)} octets that came")
    kind, _, _, transaction = _HEADER.unpack_from(data)
    attributes: list[Attribute] = []
    at = HEADER_OCTETS
    while at < len(data):
        if at + 4 > len(data):
            raise Malformed("a STUN attribute's header is cut short")
        which, length = _ATTRIBUTE.unpack_from(data, at)
        end = at + 4 + length
        if end > len(data):
            raise Malformed(f"STUN attribute {which:#x} runs past the message's end")
        if which == Type.FINGERPRINT:
            _check_fingerprint(data, at, length)
            return _message(kind, transaction, attributes, fingerprint=True)
        attributes.append(_decode_attribute(which, data[at + 4 : end], transaction))
        at = end + -length % 4
    return _message(kind, transaction, attributes, fingerprint=False)


def _message(kind: int, transaction: bytes, attributes: list[Attribute], *, fingerprint: bool) -> Message:
    method = (kind & 0x3E00) >> 2 | (kind & 0xE0) >> 1 | kind & 0xF
    return Message(Kind((kind & 0x100) >> 7 | (kind & 0x10) >> 4), transaction, tuple(attributes), method, fingerprint)


def _check_fingerprint(data: bytes, at: int, length: int) -> None:
    if length != 4 or at + _FINGERPRINT_OCTETS != len(data):
        raise Malformed("a FINGERPRINT has four octets and is the last attribute")
    if int.from_bytes(data[at + 4 :], "big") != _fingerprint(data[:at]):
        raise Malformed("the FINGERPRINT is wrong")


def _decode_attribute(which: int, value: bytes, transaction: bytes) -> Attribute:
    match which:
        case Type.XOR_MAPPED_ADDRESS:
            return XorMappedAddress(_decode_endpoint(value, _COOKIE + transaction))
        case Type.MAPPED_ADDRESS | Type.OTHER_ADDRESS | Type.RESPONSE_ORIGIN:
            return _IN_CLEAR[which](_decode_endpoint(value))
        case Type.CHANGE_REQUEST:
            if len(value) != 4:
                raise Malformed(f"a CHANGE-REQUEST has four octets, not {len(value)}")
            return ChangeRequest(bool(value[3] & _CHANGE_ADDRESS), bool(value[3] & _CHANGE_PORT))
        case Type.SOFTWARE:
            return Software(_decode_text(value))
        case Type.ERROR_CODE:
            if len(value) < 4:
                raise Malformed("an ERROR-CODE is cut short")
            code = (value[2] & 7) * 100 + value[3]
            if not 300 <= code <= 699 or value[3] > 99:
                raise Malformed(f"STUN error class {value[2] & 7}, number {value[3]} does not exist")
            return ErrorCode(code, _decode_text(value[4:]))
        case Type.UNKNOWN_ATTRIBUTES:
            if len(value) % 2:
                raise Malformed("UNKNOWN-ATTRIBUTES has an odd length")
            return UnknownAttributes(tuple(kind for (kind,) in struct.iter_unpack("!H", value)))
        case _:
            return Opaque(which, value)


def _decode_endpoint(value: bytes, pad: bytes = bytes(16)) -> Endpoint:
    family = value[1] if len(value) >= 4 else 0
    if (family, len(value)) not in {(1, 8), (2, 20)}:
        raise Malformed(f"a STUN address of family {family} and {len(value)} octets does not exist")
    packed = _xor(value[4:], pad)
    address = IPv4Address(packed) if family == 1 else IPv6Address(packed)
    return Endpoint(str(address), int.from_bytes(_xor(value[2:4], pad), "big"))


def _decode_text(value: bytes) -> str:
    if len(value) > MAX_TEXT:
        raise Malformed(f"text of {len(value)} octets is longer than {MAX_TEXT}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Malformed("text that is not UTF-8") from error
