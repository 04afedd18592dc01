"""Whether what this process sends can leave a lab, and so who needs to be asked for consent.

The lab's addresses are for documentation and tests (RFC 5737, RFC 2544), and yet a host may have a route for them: the address
alone says nothing of where a packet goes. The devices do: those of a lab have hardware addresses of its own making.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import ip_address, ip_network
from typing import Final

from rawpunch.wire.endpoint import Endpoint

_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFHWADDR: Final = 0x8927
_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_LAB: Final = tuple(ip_network(prefix) for prefix in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"))


def is_free(target: Endpoint) -> bool:
    """Whether a target needs nobody's consent: the loopback, and the lab's addresses for who can reach nothing but the lab."""
    address = ip_address(target.address)
    return address.is_loopback or (any(address in network for network in _LAB) and within_a_lab())


def within_a_lab() -> bool:
    """Whether each device of this network namespace that is up, but for the loopback, is a lab's; one at least has to be."""
    from rawpunch.scene import LAB_HARDWARE  # noqa: PLC0415  slow to come, and the loopback does without

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        leading = [name for _, name in socket.if_nameindex() if _leads_out(sock, name)]
        return bool(leading) and all(_hardware(sock, name).startswith(LAB_HARDWARE) for name in leading)


def _ask(sock: socket.socket, request: int, device: str) -> bytes:
    return fcntl.ioctl(sock, request, struct.pack("16s24x", device.encode()))[16:]


def _leads_out(sock: socket.socket, device: str) -> bool:
    (flags,) = struct.unpack_from("=H", _ask(sock, _SIOCGIFFLAGS, device))
    return bool(flags & _UP) and not flags & _LOOPBACK


def _hardware(sock: socket.socket, device: str) -> bytes:
    """Family and address: of Ethernet, 6 octets."""
    return _ask(sock, _SIOCGIFHWADDR, device)[2:8]
