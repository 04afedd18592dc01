"""What opening by raw packets takes, part by part, and whether this process has it: found out by trying, and nothing is sent.

Raw sockets (CAP_NET_RAW) send whole packets, packet sockets (CAP_NET_RAW) hear what comes, the guard (CAP_NET_ADMIN) keeps the
kernel from resetting them, and TCP_REPAIR (CAP_NET_ADMIN, CONFIG_CHECKPOINT_RESTORE) hands the connection over.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final

from rawpunch.live.guard import deafen
from rawpunch.live.repair import why_no_repair
from rawpunch.wire.endpoint import Endpoint


def why_not_raw(remote: Endpoint) -> str:
    """Why this process cannot open a connection to a peer raw, in one line; "" if it can, as far as is told in no time.

    Packet sockets are not tried: the kernel takes 15 ms to close one, and `RawPort` says what it says of them.
    """
    if remote.is_ipv6 and (why := _no_raw_sockets(socket.AF_INET6)):
        return why
    return next((why for try_it in _QUICK if (why := try_it())), "")


def lacks() -> tuple[str, ...]:
    """What of it this process has not, each with the reason; none if it can open raw."""
    return tuple(why for try_it in (*_QUICK, _no_packet_sockets) if (why := try_it()))


def _no_raw_sockets(family: int = socket.AF_INET) -> str:
    return _said("raw sockets", lambda: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW).close())


def _no_packet_sockets() -> str:
    def attempt() -> None:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        threading.Thread(target=sock.close, name="close").start()

    return _said("packet sockets", attempt)


def _no_guard() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        return _said("the guard", lambda: deafen(sock))


def _said(part: str, attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except OSError as error:
        return f"{part}: {error.strerror or error}"
    return ""


_QUICK: Final = (_no_raw_sockets, why_no_repair, _no_guard)
