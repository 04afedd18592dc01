"""The routers on the way out, as they told that a SYN died, and whether there seem to be two NATs."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

from pydantic import BaseModel, ConfigDict

from rawpunch.probe.facts import Contact, Hop

_SHARED: Final = ip_network("100.64.0.0/10")
"""Between a carrier's NAT and its customers' (RFC 6598)."""


class Step(BaseModel):
    """One router."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl: int
    address: str
    private: bool
    number: int
    """Of the packet that showed it."""


class Path(BaseModel):
    """The way out as far as it showed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: list[Step] = []
    second_nat_likely: bool | None = None
    """None where too little answered to say."""
    why: str = ""


def path_of(contact: Contact | None, *, translated: bool) -> Path:
    """Read the hops.

    A NAT is the first router; its customers' side has a private address. A private address further out is a network behind
    another NAT, since the observer saw a public one. It is likely and not certain: some carriers number their routers privately.
    """
    if contact is None or not contact.hops:
        return Path(why="no router said that a SYN died")
    steps = [Step(ttl=hop.ttl, address=hop.address, private=is_private(hop.address), number=hop.number) for hop in contact.hops]
    if not translated:
        return Path(steps=steps, second_nat_likely=False, why="nothing is translated")
    beyond = [hop for hop in contact.hops if hop.ttl > 1]
    if not beyond:
        return Path(steps=steps, why="no router beyond the first one answered")
    private = [hop for hop in beyond if is_private(hop.address)]
    if private:
        return Path(steps=steps, second_nat_likely=True, why=_why(private[0], contact))
    return Path(steps=steps, second_nat_likely=False, why="all routers beyond the first one have public addresses")


def _why(hop: Hop, contact: Contact) -> str:
    outside = contact.openings[0].mapped.address if contact.openings else "another address"
    return f"router {hop.ttl} is {hop.address}, a private address, and the observer sees {outside}"


def is_private(text: str) -> bool:
    """Whether an address is one of a private network (RFC 1918) or of the space between two NATs (RFC 6598)."""
    address = ip_address(text)
    if address.version == 4 and address in _SHARED:
        return True
    return any(address in network for network in _PRIVATE if network.version == address.version)


_PRIVATE: Final = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
