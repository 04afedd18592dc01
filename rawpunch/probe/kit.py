"""What plans have in common: opening sessions, letting the observer shoot at them, waiting neither too little nor too long.

The absence of a packet says something only if packets like it are known to come. So whatever is expected not to come is sent
several times, beside controls that must come; and the controls of all plans together estimate how many packets get lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rawpunch.probe.crafting import SYN_OPTIONS
from rawpunch.probe.facts import Opening, Tally
from rawpunch.probe.ground import Ground, Place, Seen
from rawpunch.probe.messages import Craft, SendPacket
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment
from rawpunch.wire.seq import add

OPEN_TRIES: Final = 6
_DOUBT: Final = 1e-5
"""How likely it may be that all repeats of one packet got lost by chance."""
_REPEATS: Final = (3, 8)
_GENTLE_TIMES: Final = 2
_FIRST_RTT_NS: Final = 300 * MS
"""Taken for the round trip until it is measured."""
_SLACK_NS: Final = 30 * MS
"""How late a machine may be."""
T = TypeVar("T")
Opener = Callable[[Endpoint, Endpoint, int], Coroutine[Any, Any, Opening | None]]
"""Opens a session from an inside endpoint to a remote one, in so many tries."""
_LOW_ISS, _HIGH_ISS = 1 << 28, (1 << 32) - (1 << 20)


@dataclass(frozen=True, slots=True)
class Shot:
    """A packet that the observer sends, where it should come in, and what it looks like there."""

    wish: SendPacket
    at: Endpoint
    matches: Callable[[Packet], bool]


class Kit:
    """The tools of one probe.

    Args:
        ground: what it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.rtt_ns = _FIRST_RTT_NS
        self.openings: list[Opening] = []
        self.opener: Opener | None = None
        """How to open sessions; None for a SYN that the observer reports."""
        self.gently = False
        """Whether few sessions may be open at once."""
        self._sent = self._lost = 0
        self._tag = ground.dice.randrange(1, 30_000)

    # --- waiting and repeating ---

    @property
    def slack_ns(self) -> int:
        """How long to wait for a packet beyond the time that it takes."""
        return max(_SLACK_NS, self.rtt_ns // 4)

    @property
    def patience_ns(self) -> int:
        """How long something may take from its sending here until its effect is known here."""
        return self.rtt_ns + self.slack_ns

    @property
    def loss(self) -> float:
        """Upper estimate of the share of packets that get lost: that of controls, with one lost more."""
        return min(0.5, (self._lost + 1) / (self._sent + 2))

    @property
    def repeats(self) -> int:
        """How often to send what may be expected not to come."""
        low, high = _REPEATS
        return max(low, min(high, math.ceil(math.log(_DOUBT) / math.log(self.loss))))

    def control(self, sent: int, came: int) -> None:
        """Note packets that had to come."""
        self._sent += sent
        self._lost += sent - min(came, sent)

    async def several(self, times: int, make: Callable[[], Coroutine[Any, Any, T | None]]) -> tuple[T, ...]:
        """Do the same several times, at once; or one after the other, fewer times, where few sessions may be open.

        Then the connection to the observer is made anew each time, so that it is never the oldest one for long.

        Returns:
            What came of it, without those of which nothing did.
        """
        if not self.gently:
            done = await self.ground.together(*(make() for _ in range(times)))
        else:
            done = []
            for _ in range(min(times, _GENTLE_TIMES)):
                await self.ground.renew()
                done.append(await make())
        return tuple(one for one in done if one is not None)

    def fresh_iss(self) -> int:
        """An initial sequence number, far from 0."""
        return self.ground.dice.randrange(_LOW_ISS, _HIGH_ISS)

    # --- from inside ---

    def syn(self, inside: Endpoint, remote: Endpoint, *, ttl: int = 64) -> Segment:
        """A SYN whose window tells it from all others of this probe, whatever becomes of its addresses and numbers."""
        self._tag += 1
        return Segment(
            inside, remote, Flags.SYN, self.fresh_iss(), window=20_000 + self._tag % 45_000, options=SYN_OPTIONS, ttl=ttl
        )

    def arrived(self, syn: Segment, after: int = 0) -> Seen | None:
        """The record of a SYN at the observer, if it has a higher number than `after`."""
        for seen in self.ground.seen(Place.OBSERVER, syn.destination, after):
            packet = seen.packet
            if isinstance(packet, Segment) and (packet.window == syn.window or packet.seq == syn.seq) and packet.kind == "SYN":
                return seen
        return None

    async def open(
        self, remote: Endpoint, *, insider: int = 0, inside: Endpoint | None = None, tries: int = OPEN_TRIES
    ) -> Opening | None:
        """Open a session and come to know its external endpoint; None if that does not come about."""
        local = inside or self.ground.reserve(insider)
        opening = await (self.opener or self._by_syn)(local, remote, tries)
        if opening is not None:
            self.openings.append(opening)
        return opening

    async def _by_syn(self, local: Endpoint, remote: Endpoint, tries: int) -> Opening | None:
        """By a SYN, repeated until the observer has it."""
        syn = self.syn(local, remote)
        numbers: list[int] = []
        for number in range(1, tries + 1):
            sent = await self.ground.send(syn)
            numbers.append(sent.number)
            known = await self.ground.until(
                lambda: self.arrived(syn, numbers[0]) is not None, self.ground.now() + self.patience_ns
            )
            if not known and number == tries:
                await self.ground.settle()  # it may have come, and word of it may be late where packets get lost
            came = self.arrived(syn, numbers[0])
            if came is not None and isinstance(came.packet, Segment):
                return Opening(
                    inside=local,
                    remote=remote,
                    mapped=came.packet.source,
                    iss=syn.seq,
                    peer_iss=self.fresh_iss(),
                    next_seq=add(syn.seq, 1),
                    sent=sent,
                    came=came,
                    tries=number,
                    evidence=(sent.number, came.number),
                )
        return None

    async def close(self, *openings: Opening | None) -> None:
        """Reset sessions from inside, and give their ports back."""
        for opening in openings:
            if opening is not None:
                await self.reset(opening.inside, opening.remote, opening.next_seq)
                self.ground.release(opening.inside)

    async def reset(self, inside: Endpoint, remote: Endpoint, seq: int) -> None:
        """Send the RST that ends a session of ours."""
        await self.ground.send(Segment(inside, remote, Flags.RST, seq, window=0))

    async def emit(self, rows: Sequence[tuple[Segment, Endpoint | None]], times: int) -> list[Tally]:
        """Send segments several times, and see which of them come to the observer.

        Args:
            rows: each segment, and the external endpoint that it should come from; None for any.
            times: how often.
        """
        began = {index: len(self._matching(row)) for index, row in enumerate(rows)}
        numbers: dict[int, list[int]] = {index: [] for index in began}
        for _ in range(times):
            for index, (segment, _) in enumerate(rows):
                numbers[index].append((await self.ground.send(segment)).number)

        def come(index: int) -> list[Seen]:
            return self._matching(rows[index])[began[index] :]

        await self.ground.until(lambda: all(len(come(index)) >= times for index in began), self.ground.now() + self.patience_ns)
        if any(len(come(index)) < times for index in began):
            await self.ground.settle()
        return [
            Tally(times, min(times, len(come(index))), (*numbers[index], *(seen.number for seen in come(index))))
            for index in began
        ]

    def _matching(self, row: tuple[Segment, Endpoint | None]) -> list[Seen]:
        segment, source = row
        return [
            seen
            for seen in self.ground.seen(Place.OBSERVER, segment.destination)
            if isinstance(seen.packet, Segment)
            and (seen.packet.source == source if source is not None else seen.packet.window == segment.window)
            and seen.packet.flags == segment.flags
        ]

    # --- from the observer ---

    def answer(self, opening: Opening) -> Shot:
        """The SYN-ACK that answers an opening."""
        return self.shot(Craft.SYN_ACK, opening, seq=opening.peer_iss, ack=add(opening.syn.seq, 1))

    def shot(self, kind: Craft, opening: Opening, *, source: Endpoint | None = None, seq: int = 0, ack: int = 0) -> Shot:
        """A packet to an opening's mapping, from its remote endpoint or another one."""
        start = source or opening.remote
        wish = SendPacket(kind=kind, source=start, to=opening.mapped, seq=seq, ack=ack)
        if kind is Craft.ICMP:
            return Shot(wish, opening.inside, lambda packet: isinstance(packet, IcmpError) and packet.type == wish.icmp_type)
        flags = _FLAGS[kind]
        return Shot(
            wish,
            opening.inside,
            lambda packet: isinstance(packet, Segment) and packet.flags == flags and packet.source == start and packet.seq == seq,
        )

    async def shoot(self, shots: Sequence[Shot], times: int) -> list[Tally]:
        """Let the observer send each packet several times, and see how many come in."""
        began = [len(self._hits(shot)) for shot in shots]
        wishes = [shot.wish for _ in range(times) for shot in shots]
        sent: list[Seen] = await self.ground.together(*(self.ground.craft(wish) for wish in wishes))

        def come(index: int) -> list[Seen]:
            return self._hits(shots[index])[began[index] :]

        everyone = range(len(shots))
        await self.ground.until(lambda: all(len(come(index)) >= times for index in everyone), self.ground.now() + self.slack_ns)
        return [
            Tally(
                times,
                min(times, len(come(index))),
                (*(seen.number for seen in sent[index :: len(shots)]), *(seen.number for seen in come(index))),
            )
            for index in everyone
        ]

    def _hits(self, shot: Shot) -> list[Seen]:
        return [seen for seen in self.ground.seen(Place.INSIDE, shot.at) if shot.matches(seen.packet)]


_FLAGS: Final = {
    Craft.SYN: Flags.SYN,
    Craft.SYN_ACK: Flags.SYN | Flags.ACK,
    Craft.ACK: Flags.ACK,
    Craft.RST: Flags.RST,
    Craft.RST_ACK: Flags.RST | Flags.ACK,
}
