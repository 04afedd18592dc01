"""The handover: a connection that raw packets opened becomes an ordinary socket of the kernel.

Nothing may leave the host meanwhile but what TCP would send, and nothing that comes may be lost. So there is never an instant in
which the kernel has no socket for the flow, and none in which it has one that knows half of it:

    1. the guard sits on the port, as it has since before the SYN; the packet socket hears what comes
    2. a socket that is deaf but to us (its filter passes one mark only) is put into repair mode, bound to the same endpoint,
       which repair mode permits, and "connected": the kernel now finds it, and no longer the guard, for packets of this flow
    3. sequence numbers, options, timestamp, windows and the data that arrived early are written into it; it leaves repair mode
    4. the packets that came to deaf ears are told to it in their order, marked, through the loopback: nobody has acknowledged
       them, so it is as if they had been longer on their way
    5. when it has caught up it becomes hearing, and the guard may go. A packet that came in the last microseconds is told it
       afterwards; it may be heard twice, which TCP does not mind

The peer's timestamp cannot be written (there is no option for TS.Recent), so the last ACK of the peer is told again in any case:
the socket learns it from there and echoes it from its first segment on.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import UsageError
from rawpunch.live import repair
from rawpunch.live.guard import deafen, undeafen
from rawpunch.live.sockets import family_of
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.state import State
from rawpunch.wire import seq
from rawpunch.wire.codec import encode
from rawpunch.wire.options import Nop, Timestamps
from rawpunch.wire.segment import MAX_WINDOW, Flags, Segment

_HANDED_OVER_FROM: Final = (State.ESTABLISHED, State.CLOSE_WAIT)


_SO_MARK: Final = 36
_ROUNDS: Final = 100
"""How often it is caught up at most: a peer who sends faster than we tell would keep us at it."""


class Prompter:
    """Tells our own kernel segments of the peer's that it did not hear, through the loopback.

    Raises:
        OSError: this process may not.
    """

    def __init__(self, *, ipv6: bool = False) -> None:
        self.mark = secrets.randbits(31) + 1
        """What its packets are marked with on this host."""
        self.told: set[Segment] = set()
        self._sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self.mark)
        except OSError:
            self._sock.close()
            raise

    def tell(self, segment: Segment) -> None:
        """Tell a segment, once: our packet socket hears it from the loopback too, and would bring it here again.

        Where a firewall of this host forbids it, the peer will send it again instead, after its retransmission timeout.
        """
        if segment not in self.told:
            self.told.add(segment)
            with suppress(OSError):
                self._sock.sendto(encode(segment), (segment.destination.address, 0))

    def close(self) -> None:
        """Tell no more."""
        self._sock.close()


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A connection that the kernel has now."""

    sock: socket.socket
    """Connected, blocking, an ordinary socket."""
    hearing_ns: int
    """Packets that came before this have not reached it, and are to be told."""
    took_ns: int
    """How long the flow was on deaf ears."""


def hand_over(machine: Handshake, prompter: Prompter, catch_up: Callable[[], object], *, early: bytes = b"") -> HandedOver:
    """Make a kernel socket of a connection. The guard of its local endpoint must be up, and may be closed afterwards.

    Args:
        machine: the endpoint that opened it; it has sent no data, and must not be stepped any more.
        prompter: who tells the socket what it did not hear.
        catch_up: has the prompter tell what has come since. The caller does that once more for what came before `hearing_ns`.
        early: what the machine has delivered so far, which the user is to read from the socket.

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
    sock = socket.socket(family_of(machine.local), socket.SOCK_STREAM)
    try:
        deafen(sock, unless_marked=prompter.mark)
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
        word = _last_word(machine)
        if word is not None:
            prompter.tell(word)
        for _ in range(_ROUNDS):
            told = len(prompter.told)
            catch_up()
            if len(prompter.told) == told:
                break
        undeafen(sock)
    except BaseException:
        sock.close()
        raise
    hearing_ns = now_ns()
    return HandedOver(sock, hearing_ns, hearing_ns - began_ns)


def _last_word(machine: Handshake) -> Segment | None:
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
