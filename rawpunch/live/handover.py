"""The handover: a connection that raw packets opened becomes an ordinary socket of the kernel.

Nothing may leave the host meanwhile but what TCP would send, and nothing that comes may be lost. So there is never an instant in
which the kernel has no socket for the flow, and none in which it has one that knows half of it:

    1. the guard sits on the port, as it has since before the SYN; the packet socket hears what comes
    2. a deaf socket (its filter drops everything) in repair mode is bound to the same endpoint, which repair mode permits, and is
       "connected": the kernel now finds it, and no longer the guard, for packets of this flow
    3. sequence numbers, options, timestamp, windows and the data that arrived early are written into it
    4. it leaves repair mode and becomes hearing; the guard may go
    5. the packets that came to deaf ears are said to it again, through the loopback: nobody has acknowledged them, so it is as if
       they had been longer on their way. One that came at the very instant may be heard twice, which TCP does not mind.

The peer's timestamp cannot be written (there is no option for TS.Recent), so the last ACK of the peer is said again in any case:
the socket learns it from there and echoes it from its first segment on.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import UsageError
from rawpunch.live import repair
from rawpunch.live.guard import deafen, undeafen
from rawpunch.live.sockets import RawPort
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.state import State
from rawpunch.wire import seq
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Nop, Timestamps
from rawpunch.wire.segment import MAX_WINDOW, Flags, Segment

_HANDED_OVER_FROM: Final = (State.ESTABLISHED, State.CLOSE_WAIT)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A connection that the kernel has now."""

    sock: socket.socket
    """Connected, blocking, an ordinary socket."""
    hearing_ns: int
    """Packets that came before this have not reached it, and are to be said again."""
    took_ns: int
    """How long the flow was on deaf ears."""


def hand_over(machine: Handshake, *, early: bytes = b"") -> HandedOver:
    """Make a kernel socket of a connection. The guard of its local endpoint must be up, and may be closed afterwards.

    The caller still has to `say_again` the peer's last word (`last_word`) and all packets that came before `hearing_ns`.

    Args:
        machine: the endpoint that opened it; it has sent no data, and must not be stepped any more.
        early: what it has delivered so far, which the user is to read from the socket.

    Raises:
        UsageError: the connection is not in a state that can be handed over.
        MachineCannot: this process may not (CAP_NET_ADMIN).
        OSError: the kernel refuses; the socket is gone without a trace on the wire, and the guard as it was.
    """
    block = machine.block
    if machine.state not in _HANDED_OVER_FROM or machine.remote is None or block.negotiated is None:
        raise UsageError(f"a connection in {machine.state} cannot be handed over", todo="hand it over once it is established")
    closed_by_peer = machine.state is State.CLOSE_WAIT
    began_ns = now_ns()
    sock = socket.socket(socket.AF_INET6 if machine.local.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        deafen(sock)
        repair.begin_repair(sock)
        sock.bind((machine.local.address, machine.local.port))
        text_end = seq.add(machine.rcv_nxt, -1) if closed_by_peer else machine.rcv_nxt  # the FIN is said again
        repair.set_sequence_numbers(sock, snd_nxt=machine.snd_nxt, rcv_nxt=seq.add(text_end, -len(early)))
        sock.connect((machine.remote.address, machine.remote.port))
        repair.set_options(sock, block.negotiated)
        if early:
            repair.put_received(sock, early)
        repair.set_windows(
            sock,
            snd_wl1=block.snd_wl1,
            snd_wnd=block.snd_wnd,
            max_snd_wnd=block.max_snd_wnd,
            rcv_wnd=block.rcv_wnd,
            rcv_wup=text_end,
        )
        if block.negotiated.timestamps:
            repair.set_timestamp(sock, machine.timestamp(now_ns()))
        repair.end_repair(sock)
        undeafen(sock)
    except BaseException:
        sock.close()
        raise
    hearing_ns = now_ns()
    return HandedOver(sock, hearing_ns, hearing_ns - began_ns)


def last_word(machine: Handshake) -> Segment | None:
    """The peer's last ACK (or FIN), as far as the new socket does not know it; None if it knows all."""
    block, agreed = machine.block, machine.negotiated
    if machine.remote is None or agreed is None or not (agreed.timestamps or machine.state is State.CLOSE_WAIT):
        return None
    stamps = (Nop(), Nop(), Timestamps(block.ts_recent, machine.timestamp(now_ns()))) if agreed.timestamps else ()
    window = min(block.snd_wnd >> (agreed.send_shift or 0), MAX_WINDOW)
    fin = machine.state is State.CLOSE_WAIT
    flags = Flags.ACK | Flags.FIN if fin else Flags.ACK
    number = seq.add(machine.rcv_nxt, -1) if fin else machine.rcv_nxt
    return Segment(machine.remote, machine.local, flags, number, machine.snd_una, window, stamps)


def say_again(port: RawPort, segment: Segment, local: Endpoint) -> None:
    """Give a segment that came from the peer to our own kernel once more, through the loopback.

    Where a firewall of this host forbids it, the peer will say it again instead, after its retransmission timeout.
    """
    with suppress(OSError):
        port.send(encode(segment), local.address)
