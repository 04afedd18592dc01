"""TCP_REPAIR: how a process with CAP_NET_ADMIN writes the state of a TCP connection into a kernel socket (linux/tcp.h).

A socket in repair mode sends nothing by itself: `connect` makes it ESTABLISHED without a segment, `close` drops it without one,
and what is sent into its receive queue is data that "has arrived". It may also be bound to a port that another socket has taken,
which is how it takes a connection over while the guard still sits on the port.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from rawpunch.errors import MachineCannot

if TYPE_CHECKING:
    from rawpunch.tcp.state import Negotiated

_IP_OPTIONS: Final = 4
_IPV6_2292PKTOPTIONS: Final = 6
_TCP_REPAIR: Final = 19
_TCP_REPAIR_QUEUE: Final = 20
_TCP_QUEUE_SEQ: Final = 21
_TCP_REPAIR_OPTIONS: Final = 22
_TCP_TIMESTAMP: Final = 24
_TCP_REPAIR_WINDOW: Final = 29

_ON: Final = 1
_OFF_WITHOUT_PROBE: Final = -1
"""Leave repair mode; plain 0 would send a window probe, a segment that nobody needs."""
_NO_QUEUE, _RECEIVE_QUEUE, _SEND_QUEUE = 0, 1, 2

_MSS, _WINDOW, _SACK_PERMITTED, _TIMESTAMPS = 2, 3, 4, 8
"""TCPOPT_*: the kinds of the options, as on the wire."""


def begin_repair(sock: socket.socket) -> None:
    """Put a socket that is neither bound nor connected into repair mode.

    Raises:
        MachineCannot: this process may not, or the kernel was built without it.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _ON)
    except OSError as error:
        todo = (
            "run as root, or grant cap_net_admin" if error.errno == errno.EPERM else "use a kernel with CONFIG_CHECKPOINT_RESTORE"
        )
        raise MachineCannot(
            "cannot hand a connection over to the kernel",
            why=f"TCP_REPAIR: {error.strerror}",
            todo=f"{todo}; or use method kernel",
        ) from error


def why_no_repair() -> str:
    """Whether this process may put sockets into repair mode: "" if so, else why not."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            begin_repair(sock)
        except MachineCannot as error:
            return error.why
    return ""


def set_sequence_numbers(sock: socket.socket, *, snd_nxt: int, rcv_nxt: int) -> None:
    """Say what is sent and received next; before the connect.

    Raises:
        OSError: the kernel refuses.
    """
    for queue, number in ((_SEND_QUEUE, snd_nxt), (_RECEIVE_QUEUE, rcv_nxt)):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ, struct.pack("I", number))
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, _NO_QUEUE)


def set_options(sock: socket.socket, agreed: Negotiated) -> None:
    """Say what both SYNs agreed; after the connect, and before anything is sent.

    The kernel had cut its segments to the default MSS of 536 octets at the connect, and the option alone does not make it think
    again (tcp_sync_mss); setting the IP options does, even to none; in IPv6 only to an empty set of some. Without that the socket
    would send small segments for ever.

    Raises:
        OSError: the kernel refuses.
    """
    # shifts of zero where there is no scaling: the kernel chose its own at the connect, and would go by it
    options = [(_MSS, agreed.mss), (_WINDOW, (agreed.send_shift or 0) | (agreed.receive_shift or 0) << 16)]
    if agreed.sack:
        options.append((_SACK_PERMITTED, 0))
    if agreed.timestamps:
        options.append((_TIMESTAMPS, 0))
    packed = b"".join(struct.pack("II", *option) for option in options)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_OPTIONS, packed)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_OPTIONS, b"")
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_2292PKTOPTIONS, bytes(4))
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_2292PKTOPTIONS, b"")


def set_timestamp(sock: socket.socket, value: int) -> None:
    """Say what TSval is now; it goes on in milliseconds from there.

    Bit 0 would switch the socket to microseconds (Linux 6.7), so an odd value becomes the next even one.

    Raises:
        OSError: the kernel refuses.
    """
    even = (value + (value & 1)) % (1 << 32)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_TIMESTAMP, struct.pack("I", even))


def set_windows(sock: socket.socket, *, snd_wl1: int, snd_wnd: int, max_snd_wnd: int, rcv_wnd: int, rcv_wup: int) -> None:
    """Say how much either side may send: struct tcp_repair_window, windows in octets, unscaled.

    Args:
        sock: a socket in repair mode, connected.
        snd_wl1: sequence number of the segment that the peer's window was read from.
        snd_wnd: the peer's window.
        max_snd_wnd: the largest that it ever was.
        rcv_wnd: the window that we have told the peer.
        rcv_wup: RCV.NXT when we told it.

    Raises:
        OSError: the kernel refuses.
    """
    packed = struct.pack("IIIII", snd_wl1, snd_wnd, max_snd_wnd, rcv_wnd, rcv_wup)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_WINDOW, packed)


def put_received(sock: socket.socket, payload: bytes) -> None:
    """Put data into the receive queue that the peer sent and we have acknowledged.

    Raises:
        OSError: the kernel refuses.
    """
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, _RECEIVE_QUEUE)
    sock.sendall(payload)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, _NO_QUEUE)


def end_repair(sock: socket.socket) -> None:
    """Leave repair mode without sending anything: from now on it is an ordinary socket.

    Raises:
        OSError: the kernel refuses.
    """
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _OFF_WITHOUT_PROBE)
