"""A process without one of the things that raw packets take, really: a capability given up, or a system call that is refused.

``python tests/live/lacking.py TCP_REPAIR COMMAND ...`` runs a command so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_SOCKET, _SETSOCKOPT = (41, 54) if platform.machine() == "x86_64" else (198, 208)
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_ARGUMENTS_AT = 16
_WHOLE, _KIND = 0xFFFF_FFFF, 0xF
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_TCP_REPAIR = 19
_SO_ATTACH_FILTER = 26

# system call, its arguments' (number, mask, value), and what it then fails with
_REFUSED = {
    "TCP_REPAIR": (_SETSOCKOPT, ((1, _WHOLE, socket.IPPROTO_TCP), (2, _WHOLE, _TCP_REPAIR)), errno.ENOPROTOOPT),
    "raw sockets": (_SOCKET, ((0, _WHOLE, socket.AF_INET), (1, _KIND, socket.SOCK_RAW)), errno.EPERM),
    "packet sockets": (_SOCKET, ((0, _WHOLE, socket.AF_PACKET),), errno.EAFNOSUPPORT),
    "the guard": (_SETSOCKOPT, ((1, _WHOLE, socket.SOL_SOCKET), (2, _WHOLE, _SO_ATTACH_FILTER)), errno.EPERM),
}
_CAPABILITIES = {"CAP_NET_ADMIN": (CAP_NET_ADMIN,), "CAP_NET_RAW": (CAP_NET_RAW,), "all rights": tuple(range(41))}
LACKS = (*_REFUSED, *_CAPABILITIES)


def lack(what: str) -> None:
    """Do without one of `LACKS` from now on, children included but for capabilities, which root gets back with an exec."""
    if what in _REFUSED:
        _refuse(*_REFUSED[what])
    for number in _CAPABILITIES.get(what, ()):
        drop_capability(number)


def drop_capability(number: int) -> None:
    """Give up one capability of this process for good (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x2008_0522, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("6I", data.raw))
    for which in range(3):
        words[which + 3 * (number // 32)] &= ~(1 << number % 32)
    if libc.capset(header, struct.pack("6I", *words)):
        raise OSError(ctypes.get_errno(), "capset")


def _refuse(call: int, arguments: tuple[tuple[int, int, int], ...], error: int) -> None:
    """Have a system call with such arguments fail (seccomp(2), classic BPF); of each argument only the lower half counts."""
    lines = [(_LOAD, 0, 0, 0), (_JUMP_IF_EQUAL, 0, 3 * len(arguments) + 1, call)]
    for place, (number, mask, value) in enumerate(arguments):
        left = 3 * (len(arguments) - place - 1) + 1
        lines += [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * number), (_AND, 0, 0, mask), (_JUMP_IF_EQUAL, 0, left, value)]
    lines += [(_RETURN, 0, 0, _ERRNO | error), (_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    head = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.c_char_p(head), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    lack(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  the test's own command
