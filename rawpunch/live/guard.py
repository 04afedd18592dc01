"""The guard: keeps the kernel from resetting flows that it does not know and a raw end does.

A listening socket whose filter accepts no packet: the kernel finds a socket for the port, so it sends no RST; the filter lets
nothing through, so it answers no SYN. It reserves the port against everybody else, and ends with the process (kill -9 included).
It mutes exactly the flows of one local endpoint, which are ours because the port is; connected sockets on the port go on
undisturbed, as the kernel finds them first. A filter on a TCP socket takes CAP_NET_ADMIN (measured on Linux 6.18).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final, Self

from rawpunch.errors import MachineCannot, UsageError
from rawpunch.live.sockets import family_of
from rawpunch.wire.endpoint import Endpoint

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | W | ABS, BPF_JMP | JEQ | K, BPF_RET | K
_MARK: Final = 0xFFFF_F000 + 20  # SKF_AD_OFF + SKF_AD_MARK
_ALL: Final = 0x4_0000


def deafen(sock: socket.socket, *, unless_marked: int = 0) -> None:
    """Have a socket take in no packet: each is dropped before it is looked at, and answered by nothing.

    Args:
        sock: which.
        unless_marked: packets with this mark (SO_MARK of their sender, on this host) are taken in all the same; 0 for none.

    Raises:
        OSError: the kernel refuses.
    """
    nothing = (_RETURN, 0, 0, 0)
    marked = ((_LOAD, 0, 0, _MARK), (_JUMP_IF_EQUAL, 0, 1, unless_marked), (_RETURN, 0, 0, _ALL)) if unless_marked else ()
    lines = (*marked, nothing)
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    head = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


def undeafen(sock: socket.socket) -> None:
    """Have it take packets in again.

    Raises:
        OSError: it was not deaf.
    """
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


class Guard:
    """Silence of the kernel for one local endpoint, as long as this object is open.

    Args:
        local: the endpoint whose flows are ours; port 0 for any free one.
        shared: whether connections of ours may be on the port already (one to a rendezvous server, say); their sockets must have
            been bound with SO_REUSEADDR too. Of two guards on a port the second one is refused all the same.

    Raises:
        UsageError: the port is in use, or the address is none of this machine's.
        MachineCannot: this process may not.
    """

    def __init__(self, local: Endpoint, *, shared: bool = False) -> None:
        self._sock = socket.socket(family_of(local), socket.SOCK_STREAM)
        try:
            if shared:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind((local.address, local.port))
            deafen(self._sock)
            self._sock.listen(1)
        except PermissionError as error:
            self._sock.close()
            raise MachineCannot(
                f"cannot keep the kernel silent at {local}",
                why=str(error),
                todo="run as root, or grant cap_net_admin; rawpunch doctor",
            ) from error
        except OSError as error:
            self._sock.close()
            raise UsageError(f"cannot guard {local}", why=str(error), todo="choose another local port") from error
        self.local = Endpoint(*self._sock.getsockname()[:2])
        """What is guarded."""

    def close(self) -> None:
        """Let the kernel answer for the port again."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
