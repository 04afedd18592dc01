"""Endpoints and flows: who talks to whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A transport address: an IPv4 or IPv6 address (`str`, canonical) and a port (0 .. 65535)."""

    address: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_PORT:
            raise Malformed(f"port {self.port} is not in 0..{MAX_PORT}")
        spelt = canonical(self.address)
        if spelt != self.address:
            object.__setattr__(self, "address", spelt)

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
