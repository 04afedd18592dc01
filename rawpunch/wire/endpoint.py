"""Endpoints and flows: who talks to whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, total_ordering
from ipaddress import ip_address

from rawpunch.errors import Malformed

MAX_PORT = 65_535


@lru_cache(maxsize=65_536)
def canonical(text: str) -> str:
    """The one spelling of an IPv4 or IPv6 address (RFC 5952).

    Raises:
        Malformed: it is neither.
    """
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise Malformed(f"{text!r} is not an IP address") from error


@total_ordering
class Endpoint:
    """A transport address: an IPv4 or IPv6 address and a port.

    It is a value, and no dataclass: msgspec would spell one as an object in a line of JSON, where an endpoint is text.

    Args:
        address: in any spelling (RFC 4291, section 2.2); kept in the canonical one.
        port: 0 .. 65535.

    Raises:
        Malformed: it is none.
    """

    __slots__ = ("address", "port")
    __match_args__ = ("address", "port")

    address: str
    port: int

    def __init__(self, address: str, port: int) -> None:
        if not 0 <= port <= MAX_PORT:
            raise Malformed(f"port {port} is not in 0..{MAX_PORT}")
        object.__setattr__(self, "address", canonical(address))
        object.__setattr__(self, "port", port)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an endpoint does not change: {name} = {value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and self.port == other.port and self.address == other.address

    def __lt__(self, other: Endpoint) -> bool:
        return (self.address, self.port) < (other.address, other.port)

    def __hash__(self) -> int:
        return hash((self.address, self.port))

    def __reduce__(self) -> tuple[type[Endpoint], tuple[str, int]]:
        return Endpoint, (self.address, self.port)

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r}, {self.port})"

    @property
    def is_ipv6(self) -> bool:
        """Whether the address is an IPv6 one."""
        return ":" in self.address

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Parse ``192.0.2.1:80`` or ``[2001:db8::1]:80``.

        Raises:
            Malformed: it is not of that form.
        """
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise Malformed(f"{text!r}: an IPv6 address with a port needs brackets", todo=f"write [{host}]:{port}")
        if not host or not port.isdecimal():
            raise Malformed(f"{text!r} is not an endpoint", todo="write ADDRESS:PORT")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.is_ipv6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """One direction of a connection's 4-tuple."""

    source: Endpoint
    destination: Endpoint

    @property
    def reverse(self) -> Flow:
        """The other direction."""
        return Flow(self.destination, self.source)

    @property
    def canonical(self) -> Flow:
        """The same value for both directions: the smaller endpoint first."""
        return min(self, self.reverse)

    def __str__(self) -> str:
        return f"{self.source} > {self.destination}"
