"""The guard: keeps the kernel from resetting flows that it does not know and a raw end does.

A listening socket whose filter accepts no packet: the kernel finds a socket for the port, so it sends no RST; the filter lets
nothing through, so it answers no SYN. It needs no privilege, reserves the port against everybody else, and ends with the
process (kill -9 included). It mutes exactly the flows of one local endpoint, which are ours because the port is.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final, Self

from rawpunch.errors import UsageError
from rawpunch.wire.endpoint import Endpoint

_SO_ATTACH_FILTER: Final = 26
_ACCEPT_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0 octets


class Guard:
    """Silence of the kernel for one local endpoint, as long as this object is open.

    Args:
        local: the endpoint whose flows are ours.

    Raises:
        UsageError: the port is in use.
    """

    def __init__(self, local: Endpoint) -> None:
        self._sock = socket.socket(socket.AF_INET6 if local.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._sock.bind((local.address, local.port))
            program = ctypes.create_string_buffer(_ACCEPT_NOTHING)
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))
            self._sock.listen(1)
        except OSError as error:
            self._sock.close()
            raise UsageError(f"cannot guard {local}", why=str(error), todo="choose another local port") from error

    def close(self) -> None:
        """Let the kernel answer for the port again."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
