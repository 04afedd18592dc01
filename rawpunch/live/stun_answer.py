"""What comes of a question to a STUN server: an answer, or why there is none (RFC 8489 section 6.3)."""

from __future__ import annotations

import enum
import errno
import os
from dataclasses import dataclass
from typing import Final, Literal

from rawpunch.errors import Malformed, PartialData, RawpunchError, UsageError
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import ErrorCode, Kind, Message, OtherAddress, ResponseOrigin, Software, UnknownAttributes

Transport = Literal["tcp", "udp"]

_CLOSING: Final = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_TAKEN: Final = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


class Cause(enum.StrEnum):
    """Why there is no answer of use."""

    REFUSED = "refused"
    """A RST answered our SYN, or an ICMP port unreachable our datagram."""
    UNREACHABLE = "unreachable"
    """No route, or an ICMP error."""
    SILENT = "silent"
    """Nothing came before the deadline."""
    CLOSED = "closed"
    """The server closed or reset the connection."""
    MALFORMED = "malformed"
    """What came is no STUN message, or none that may answer such a request."""
    OTHER_TRANSACTION = "other_transaction"
    """What came answers a request that we never made, or came from somebody else."""
    ERROR_RESPONSE = "error_response"
    """The server refused, with a code (section 14.8)."""
    NO_OTHER_ADDRESS = "no_other_address"
    """It answered, but names no second address (RFC 5780 section 7.4)."""


class Unanswered(PartialData):
    """A server that gave no answer of use.

    Args:
        cause: why, as a word.
        what: see `RawpunchError`.
        why: the same.
        todo: the same.
        code: of an error response, 300 .. 699; else None.
    """

    def __init__(self, cause: Cause, what: str, *, why: str = "", todo: str = "", code: int | None = None) -> None:
        super().__init__(what, why=why, todo=todo)
        self.cause = cause
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said about one of our ports."""

    transport: Transport
    server: Endpoint
    local: Endpoint
    mapped: Endpoint
    """The endpoint that the server saw."""
    rtt_ns: int | None
    """From request to answer; None if the request was repeated: nobody knows then which one was answered."""
    connect_ns: int | None
    """From SYN to established; None over UDP, and where a connection was open already."""
    requests: int
    """How often the request was sent."""
    message: Message

    @property
    def software(self) -> str | None:
        """What the server says it is; None if it says nothing."""
        found = self.message.attribute(Software)
        return found.text if found else None

    @property
    def origin(self) -> Endpoint | None:
        """Where the server says it answered from (RFC 5780 section 7.3)."""
        found = self.message.attribute(ResponseOrigin)
        return found.endpoint if found else None

    @property
    def other(self) -> Endpoint | None:
        """The server's endpoint that differs in address and port (RFC 5780 section 7.4); None if it names none."""
        found = self.message.attribute(OtherAddress)
        return found.endpoint if found else None

    def needed_other(self) -> Endpoint:
        """The same, for who cannot do without.

        Raises:
            Unanswered: the server names none.
        """
        if self.other is None:
            raise Unanswered(
                Cause.NO_OTHER_ADDRESS,
                f"{self.server} names no other address of its own",
                why="it does not do NAT behaviour discovery (RFC 5780), or has one address only",
                todo="ask a server that has two, such as `rawpunch observe --address A --address B`",
            )
        return self.other


# --- judging what came ---


def check(server: Endpoint, request: Message, answer: Message) -> Endpoint | None:
    """The mapped endpoint in what a server sent; None if it answers another request, and is to be passed over.

    Raises:
        Unanswered: it answers this request, but is of no use.
    """
    if answer.transaction != request.transaction or answer.method != request.method:
        return None
    if answer.kind is Kind.ERROR:
        raise _refusal(server, answer)
    if answer.kind is not Kind.SUCCESS:
        return None
    if answer.not_understood:  # section 6.3.3: then it does not count
        raise malformed(
            server, f"its answer has attributes that have to be understood and are not: {_types(answer.not_understood)}"
        )
    if answer.mapped is None:
        raise malformed(server, "its answer has no XOR-MAPPED-ADDRESS")
    return answer.mapped


def _refusal(server: Endpoint, answer: Message) -> Unanswered:
    error = answer.attribute(ErrorCode)
    if error is None:
        return malformed(server, "its error response has no ERROR-CODE")
    unknown = answer.attribute(UnknownAttributes)
    reason = error.reason.rstrip("\0 ")  # coturn counts the padding in
    printable = "".join(letter if letter.isprintable() else "?" for letter in reason)
    what = f"{server} answered {error.code}{f' {printable}' if printable else ''}"
    why = f"it does not know the attributes {_types(unknown.types)}" if unknown and unknown.types else ""
    todo = "take a STUN server that asks for no credentials" if error.code == 401 else ""
    return Unanswered(Cause.ERROR_RESPONSE, what, why=why, todo=todo, code=error.code)


def _types(types: tuple[int, ...]) -> str:
    return ", ".join(f"{kind:#06x}" for kind in types)


# --- why there is nothing ---


def malformed(server: Endpoint, why: str) -> Unanswered:
    """What came is no answer."""
    return Unanswered(Cause.MALFORMED, f"{server} does not answer as a STUN server does", why=why, todo="see what listens there")


def other_transaction(server: Endpoint, source: Endpoint) -> Unanswered:
    """What came answers something else."""
    why = "it answered another request" if source == server else f"an answer came from {source} instead"
    return Unanswered(Cause.OTHER_TRANSACTION, f"{server} did not answer", why=why, todo="see what listens there")


def silent(server: Endpoint, within_s: float, why: str) -> Unanswered:
    """Nothing came."""
    todo = "see whether a STUN server runs there, and whether a firewall lets it through; it may speak the other transport only"
    return Unanswered(Cause.SILENT, f"no answer from {server} within {within_s:.3g} s", why=why, todo=todo)


def closed(server: Endpoint, why: str) -> Unanswered:
    """The connection is over."""
    return Unanswered(Cause.CLOSED, f"{server} ended the connection without an answer", why=why, todo="see what listens there")


def of_errno(server: Endpoint, error: OSError, *, established: bool = False) -> RawpunchError:
    """Why, by the kernel's word for it.

    Args:
        server: who was asked.
        error: what a socket raised.
        established: whether a connection was.
    """
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.ECONNREFUSED:
        return Unanswered(
            Cause.REFUSED,
            f"{server} refused",
            why="nothing listens there, or something on the way rejects",
            todo="check the port; it may listen for the other transport only",
        )
    if error.errno in _CLOSING or established:
        return closed(server, why)
    if error.errno in _TAKEN:
        return UsageError(
            f"the local port cannot be used towards {server}",
            why=f"{why}: another connection between the two is open, or was until a minute ago",
            todo="choose another local port, or wait",
        )
    return Unanswered(Cause.UNREACHABLE, f"{server} cannot be reached", why=why, todo="check the address and the routes to it")


def spelt(octets: bytes, problem: Malformed) -> str:
    """What is wrong with octets that came, and how they begin."""
    return f"{problem.what}; it sent {len(octets)} octets that begin with {octets[:16]!r}"
