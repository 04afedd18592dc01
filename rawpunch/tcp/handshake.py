"""The engine that runs the handshake table. It is short, because all that TCP does is in the table."""

from __future__ import annotations

from copy import copy
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.machine import Abort, Arrived, Changed, Close, Effect, Listen, Open, Stimulus, Woke
from rawpunch.tcp import segments
from rawpunch.tcp.profiles import Profile
from rawpunch.tcp.row import On, Turn
from rawpunch.tcp.state import Block, Negotiated, Offer, State
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Segment
from rawpunch.wire.seq import MODULUS

_ON: Final = {
    Open: On.OPEN,
    Listen: On.LISTEN,
    Close: On.CLOSE,
    Abort: On.ABORT,
    Woke: On.TIMER,
    Segment: On.SEGMENT,
    IcmpError: On.ICMP,
}


class Handshake:
    """One TCP endpoint of one connection, as a machine.

    Args:
        local: its own endpoint.
        remote: the other endpoint; None to learn it in LISTEN.
        iss: its initial send sequence number, 0 .. 2**32 - 1. Draw it outside; large ones are safer in the lab.
        profile: the stack that it plays.
        offer: what its SYN offers; None for the profile's own.
        give_up_ns: longest time from OPEN to ESTABLISHED; None to go by the profile's schedule alone.

    Raises:
        BadParameter: the ISS does not fit its field.
    """

    def __init__(
        self,
        local: Endpoint,
        remote: Endpoint | None,
        *,
        iss: int,
        profile: Profile,
        offer: Offer | None = None,
        give_up_ns: int | None = None,
    ) -> None:
        if not 0 <= iss < MODULUS:
            raise BadParameter(f"an ISS of {iss} is not in 0..2**32-1")
        self.profile = profile
        self.block = Block(
            local=local,
            remote=remote,
            iss=iss,
            offer=offer or profile.habits.offer,
            habits=profile.habits,
            give_up_ns=give_up_ns,
            any_remote=remote is None,
        )
        self._lookup = profile.lookup
        self.fired: tuple[str, ...] = ()
        """Ids of the rows that the last step fired."""

    def step(self, stimulus: Stimulus, *, now: int) -> list[Effect]:
        """Take one stimulus at instant `now` (ns): the first row that matches fires.

        Raises:
            BadParameter: an OPEN or LISTEN that RFC 9293 answers with an error. No packet and no timer ever raises.
        """
        block = self.block
        kind = type(stimulus.packet) if isinstance(stimulus, Arrived) else type(stimulus)
        on = _ON[kind]
        turn = Turn(block, stimulus, now)
        effects = turn.effects
        fired: list[str] = []
        go_on = True
        while go_on:
            row = next(row for row in self._lookup[block.state, on] if all(guard(turn) for guard in row.guards))
            for action in row.actions:
                action(turn)
            fired.append(row.id)
            go_on = row.go_on
            if row.to is not None:
                effects.append(Changed(block.state.value, row.to.value, row.id, _cause(stimulus, on)))
                block.state = row.to
            effects += turn.endings
            turn.endings.clear()
        self.fired = tuple(fired)
        return effects

    @property
    def deadline(self) -> int | None:
        """When to step it with `Woke`, in ns; None for never."""
        return self.block.deadline

    def prepare_syn(self, at: int) -> Segment:
        """The SYN that `step(Open(), now=at)` will send, ahead of time, so that its bytes can be made before the deadline.

        Raises:
            BadParameter: the remote endpoint is not known.
        """
        return segments.syn(self.block, at)

    def timestamp(self, now: int) -> int:
        """TSval at an instant: what a socket that takes the connection over has to go on with."""
        return segments.timestamp(self.block, now)

    def copy(self) -> Handshake:
        """An independent machine in the same state."""
        other = copy(self)
        other.block = copy(self.block)
        return other

    @property
    def state(self) -> State:
        """The present state."""
        return self.block.state

    @property
    def local(self) -> Endpoint:
        """Its own endpoint."""
        return self.block.local

    @property
    def remote(self) -> Endpoint | None:
        """The other endpoint; None as long as it is not known."""
        return self.block.remote

    @property
    def iss(self) -> int:
        """Initial send sequence number."""
        return self.block.iss

    @property
    def irs(self) -> int | None:
        """Initial receive sequence number; None before the peer's SYN."""
        return self.block.irs

    @property
    def snd_una(self) -> int:
        """The oldest sequence number that is not acknowledged."""
        return self.block.snd_una

    @property
    def snd_nxt(self) -> int:
        """The next sequence number to send."""
        return self.block.snd_nxt

    @property
    def snd_wnd(self) -> int:
        """The peer's window, in octets."""
        return self.block.snd_wnd

    @property
    def rcv_nxt(self) -> int:
        """The next sequence number expected."""
        return self.block.rcv_nxt

    @property
    def rcv_wnd(self) -> int:
        """Our window, in octets."""
        return self.block.rcv_wnd

    @property
    def ts_recent(self) -> int:
        """The peer's timestamp to echo."""
        return self.block.ts_recent

    @property
    def negotiated(self) -> Negotiated | None:
        """What both ends agreed; None before the peer's SYN."""
        return self.block.negotiated


def _cause(stimulus: Stimulus, on: On) -> str:
    return stimulus.packet.kind if isinstance(stimulus, Arrived) else on.value
