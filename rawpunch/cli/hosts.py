"""What a user writes for a host, HOST or HOST:PORT, looked up."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Final

from rawpunch.errors import BadParameter, MachineCannot
from rawpunch.wire.endpoint import Endpoint

_HOST: Final = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?")


def resolved(text: str, port: int | None, *, udp: bool = False, ipv4: bool = False) -> list[Endpoint]:
    """The endpoints that HOST[:PORT] has, the best first (RFC 6724).

    Args:
        text: a name or an address; with a port, an IPv6 address needs brackets.
        port: where the text has none; None where it has to have one.
        udp: for which transport.
        ipv4: whether only IPv4 addresses are of use.

    Raises:
        BadParameter: it is none, or the name has no address.
        MachineCannot: names cannot be looked up now.
    """
    name, number = _parted(text, port)
    if _is_address(name, ipv4=ipv4):
        return [Endpoint(name, number)]
    family, kind = socket.AF_INET if ipv4 else socket.AF_UNSPEC, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    try:
        given = [str(info[4][0]) for info in socket.getaddrinfo(name, number, family, kind)]
    except UnicodeError as error:
        raise BadParameter(f"{name!r} is no name", why=str(error)) from error
    except socket.gaierror as error:
        why = error.strerror or ""
        if error.errno == socket.EAI_AGAIN:
            raise MachineCannot(f"cannot look up {name!r} now", why=why, todo="give an address instead") from error
        kind_of = "IPv4 address" if ipv4 else "address"
        raise BadParameter(f"{name!r} has no {kind_of}", why=why, todo="check the name, or give an address") from error
    return [Endpoint(address, number) for address in dict.fromkeys(given)]


def _is_address(name: str, *, ipv4: bool) -> bool:
    """Whether there is nothing to look up; an address with a zone is left to who knows this machine's zones."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.version == 4 or not (ipv4 or "%" in name)


def _parted(text: str, port: int | None) -> tuple[str, int]:
    """Host and port."""
    try:
        name, number = str(ipaddress.ip_address(text)), port
    except ValueError:
        found = _HOST.fullmatch(text)
        if found is None:
            name, number = text, 0
        else:
            name, number = found[1] or found[2], int(found[3]) if found[3] else port
    if number is None or not 0 < number <= 65_535:
        bare = "" if port is None else "HOST or "
        raise BadParameter(f"{text!r} is no endpoint", todo=f"write {bare}HOST:PORT, an IPv6 address as [ADDRESS]:PORT")
    return name, number
