"""The sockets a raw end sends and receives with, and the kernel's evidence about its own ones."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from rawpunch.errors import MachineCannot, UsageError
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_STATISTICS: Final = 6
_SO_ATTACH_FILTER: Final = 26
_BPF_OCTETS: Final = 8
"""Of one instruction."""
_SIOCGSTAMPNS: Final = 0x8907
_TIMESPEC: Final = struct.Struct("ll")
_OCTETS: Final = 65_536
_TCP_INFO_OCTETS: Final = 232
_IP_MTU, _IPV6_MTU = 14, 24
_FILES_BESIDE: Final = 64


def family_of(endpoint: Endpoint) -> socket.AddressFamily:
    """The family of a socket that goes there."""
    return socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET


def route_to(remote: Endpoint) -> tuple[str, int]:
    """The source address and the MTU of the way to a peer; nothing is sent.

    Raises:
        OSError: there is no way.
    """
    with socket.socket(family_of(remote), socket.SOCK_DGRAM) as sock:
        sock.connect((remote.address, remote.port))
        level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if remote.is_ipv6 else (socket.IPPROTO_IP, _IP_MTU)
        mtu = sock.getsockopt(level, option)
        return str(sock.getsockname()[0]), mtu


def begin_stream(server: Endpoint, local: Endpoint | None) -> socket.socket:
    """A socket that does not block, and whose SYN to a server has left; `asyncio`'s sock_connect awaits the rest.

    Args:
        server: where to.
        local: where from, which several connections may share; None for any port.

    Raises:
        OSError: the local endpoint cannot be bound. What connect() says at once is said again to who awaits it.
    """
    sock = socket.socket(family_of(server), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # asyncio leaves it alone where a socket's protocol number is 0; a second request would wait for a delayed ACK
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if local is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((local.address, local.port))
        sock.connect_ex((server.address, server.port))
    except BaseException:
        sock.close()
        raise
    return sock


def allow_files(connections: int) -> None:
    """Raise the number of files that this process may have open, as far as it may itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def bound(local: Endpoint, kind: socket.SocketKind, *options: int) -> socket.socket:
    """A socket that does not block, bound.

    Args:
        local: where to; port 0 for one that the kernel chooses.
        kind: a stream or datagrams.
        options: of SOL_SOCKET, to switch on before.

    Raises:
        UsageError: the endpoint is in use, or not of this host.
        MachineCannot: this process may not bind it.
    """
    sock = socket.socket(family_of(local), kind | socket.SOCK_NONBLOCK)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((local.address, local.port))
    except OSError as error:
        sock.close()
        transport = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        what, why = f"cannot bind {local} ({transport})", os.strerror(error.errno or 0)
        if error.errno in (errno.EACCES, errno.EPERM):
            raise MachineCannot(what, why=why, todo="choose a local port above 1023") from error
        raise UsageError(what, why=why, todo="choose another local port") from error
    return sock


class RawPort:
    """Whole IPv4 packets, or IPv6 ones, in and out of the calling thread's network namespace.

    Args:
        only: a program of classic BPF that says which packets come in (`packet_filter`); b"" for all.
        ipv6: which of the two.

    Raises:
        MachineCannot: no right to open raw sockets.
    """

    def __init__(self, only: bytes = b"", *, ipv6: bool = False) -> None:
        family, kind = (socket.AF_INET6, _ETH_P_IPV6) if ipv6 else (socket.AF_INET, _ETH_P_IP)
        part = "raw sockets"
        with ExitStack() as opened:
            try:
                self._out = opened.enter_context(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW))
                part = "packet sockets"
                self._in = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(kind))
            except OSError as error:
                why = f"{part}: {error.strerror or error}"
                raise MachineCannot("cannot open raw sockets", why=why, todo="rawpunch doctor") from error
            opened.pop_all()
        self._in.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        if only:
            program = ctypes.create_string_buffer(only)
            head = struct.pack("HxxxxxxP", len(only) // _BPF_OCTETS, ctypes.addressof(program))
            self._in.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
        self._lost = 0

    def fileno(self) -> int:
        """The receiving socket's descriptor."""
        return self._in.fileno()

    def send(self, packet: bytes, address: str) -> None:
        """Put the ready bytes of an IP packet on the wire.

        Raises:
            OSError: the kernel has no route, or refuses.
        """
        self._out.sendto(packet, (address, 0))

    def receive(self) -> Iterator[bytes]:
        """The packets that have come since the last call."""
        while True:
            try:
                yield self._in.recv(_OCTETS)
            except BlockingIOError:
                return

    def stamp_ns(self) -> int | None:
        """When the kernel got the packet that `receive` gave last; None if it did not note that.

        It begins to note it with the first call of this.
        """
        try:
            seconds, rest_ns = _TIMESPEC.unpack(fcntl.ioctl(self._in, _SIOCGSTAMPNS, bytes(_TIMESPEC.size)))
        except OSError:
            return None
        return int(seconds) * SECOND + int(rest_ns)

    @property
    def lost(self) -> int:
        """Packets that came while the receiving socket's buffer was full, counted by the kernel since the beginning."""
        _, dropped = struct.unpack("II", self._in.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._lost += dropped
        return self._lost

    def close(self) -> None:
        """Close both sockets."""
        self._out.close()
        self._in.close()


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What the kernel says of one of its TCP sockets (struct tcp_info, linux/tcp.h)."""

    state: int
    retransmissions: int
    """tcpi_total_retrans."""
    rtt_ns: int
    """tcpi_rtt, sampled from the SYN-ACK during an opening."""
    segs_out: int
    segs_in: int
    dsack_dups: int
    min_rtt_ns: int = 0
    """tcpi_min_rtt: the quickest of late, without what delayed ACKs add."""

    @classmethod
    def of(cls, sock: socket.socket) -> TcpInfo:
        """Ask the kernel about a socket; fields that an old kernel does not have are zero."""
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_OCTETS).ljust(_TCP_INFO_OCTETS, b"\0")
        (rtt_us,) = struct.unpack_from("I", raw, 68)
        (total_retrans,) = struct.unpack_from("I", raw, 100)
        segs_out, segs_in, _, min_rtt_us = struct.unpack_from("IIII", raw, 136)
        (dsack_dups,) = struct.unpack_from("I", raw, 216)
        return cls(raw[0], total_retrans, rtt_us * 1000, segs_out, segs_in, dsack_dups, min_rtt_us * 1000)
