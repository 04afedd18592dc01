"""An observer's endpoints, and what it answers to a STUN Binding request that came to one of them (RFC 8489, RFC 5780)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.wire.endpoint import Endpoint, canonical
from rawpunch.wire.stun import (
    BINDING,
    ChangeRequest,
    ErrorCode,
    Kind,
    MappedAddress,
    Message,
    OtherAddress,
    ResponseOrigin,
    Type,
    UnknownAttributes,
    XorMappedAddress,
)

MAX_ADDRESSES: Final = 2
MAX_PORTS: Final = 16
_BAD_REQUEST: Final = 400
_UNKNOWN_ATTRIBUTE: Final = 420


@dataclass(frozen=True, slots=True)
class Site:
    """One or two addresses, and the ports that listen on each of them."""

    addresses: tuple[str, ...]
    ports: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check and spell them.

        Raises:
            BadParameter: there are too many or too few, twice the same, or addresses of two families.
            Malformed: an address is none.
        """
        object.__setattr__(self, "addresses", tuple(canonical(address) for address in self.addresses))
        for what, values, most in (("addresses", self.addresses, MAX_ADDRESSES), ("ports", self.ports, MAX_PORTS)):
            if not 1 <= len(values) <= most or len(set(values)) != len(values):
                given = ", ".join(map(str, values)) or "none"
                raise BadParameter(f"an observer has 1 to {most} {what}, no two alike", why=f"given: {given}")
        if not all(0 < port <= 65_535 for port in self.ports):
            raise BadParameter("a port is in 1..65535", why=f"{', '.join(map(str, self.ports))} given")
        if len({":" in address for address in self.addresses}) > 1:
            raise BadParameter("an observer's addresses must be of one family", why=f"{' and '.join(self.addresses)} given")

    @property
    def endpoints(self) -> list[Endpoint]:
        """All that listen."""
        return [Endpoint(address, port) for address in self.addresses for port in self.ports]

    def changed(self, here: Endpoint, change: ChangeRequest) -> Endpoint | None:
        """The endpoint that differs from one as wished (RFC 5780 section 7.2); None if there is none such."""
        address, port = here.address, here.port
        if change.address:
            address = next((other for other in self.addresses if other != address), "")
        if change.port:
            port = next((other for other in self._after(port) if other != port), 0)
        return Endpoint(address, port) if address and port else None

    def _after(self, port: int) -> tuple[int, ...]:
        at = self.ports.index(port) + 1
        return self.ports[at:] + self.ports[:at]

    def other(self, here: Endpoint) -> Endpoint | None:
        """OTHER-ADDRESS: another address and another port; None with a single address (RFC 5780 section 7.4)."""
        if len(self.addresses) == 1:
            return None
        return self.changed(here, ChangeRequest(address=True, port=len(self.ports) > 1))


def binding_answers(
    site: Site, here: Endpoint, source: Endpoint, request: Message, *, stream: bool
) -> tuple[Endpoint, tuple[Message, ...]] | None:
    """What may be answered to a message.

    Args:
        site: the observer's endpoints.
        here: the one that it came to.
        source: the one that it came from.
        request: the message.
        stream: whether it came over TCP, where an answer cannot come from elsewhere.

    Returns:
        Where to answer from, and possible answers, the fullest first: an address that has not proved itself gets one that is not
        longer than what came from it. None for what is no request.
    """
    if request.kind is not Kind.REQUEST:
        return None
    if request.method != BINDING:
        return here, (_error(request, _BAD_REQUEST, "Bad Request"),)
    change = request.attribute(ChangeRequest)
    origin = here if change is None else site.changed(here, change)
    unknown = request.not_understood
    if origin is None or (stream and origin != here):
        origin, unknown = here, (*unknown, int(Type.CHANGE_REQUEST))
    if unknown:
        return here, (_error(request, _UNKNOWN_ATTRIBUTE, "Unknown Attribute", UnknownAttributes(unknown)),)
    mapped = XorMappedAddress(source)
    other = site.other(here)
    rest = (MappedAddress(source), ResponseOrigin(origin), *((OtherAddress(other),) if other else ()))
    full = Message(Kind.SUCCESS, request.transaction, (mapped, *rest), fingerprint=request.fingerprint)
    return origin, (full, Message(Kind.SUCCESS, request.transaction, (mapped,)))


def _error(request: Message, code: int, reason: str, *more: UnknownAttributes) -> Message:
    return Message(
        Kind.ERROR, request.transaction, (ErrorCode(code, reason), *more), request.method, fingerprint=request.fingerprint
    )
