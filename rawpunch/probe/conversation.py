"""A whole TCP connection made of crafted packets, to a port on which the observer's kernel listens.

It does what a kernel would, without one: the inside port stays reserved, and its mapping under our eyes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rawpunch.errors import Malformed
from rawpunch.probe import messages
from rawpunch.probe.facts import Opening
from rawpunch.probe.ground import Place, Seen
from rawpunch.probe.kit import Kit
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.seq import add

_TRIES: Final = 6
_WINDOW: Final = 60_000


class Conversation:
    """One connection.

    Args:
        kit: the probe's tools.
        inside: from where; reserved.
        remote: to where.
    """

    def __init__(self, kit: Kit, inside: Endpoint, remote: Endpoint) -> None:
        self._kit = kit
        self.inside = inside
        self.remote = remote
        self.evidence: list[int] = []
        self.sent: list[Seen] = []
        self.tries = 0
        """SYNs that it took."""
        self.mapped: Endpoint | None = None
        """The external endpoint, if the observer saw the SYN or said where the connection comes from."""
        self._syn = kit.syn(inside, remote)
        self.iss = self._syn.seq
        self.next_seq = add(self.iss, 1)
        self._expected = 0
        self._began = max((seen.number for seen in kit.ground.seen(Place.INSIDE, inside)), default=0)

    async def connect(self, tries: int = _TRIES) -> bool:
        """Open it; whether it opened."""
        answer = await self._sent_until(
            self._syn, lambda segment: segment.kind == "SYN-ACK" and segment.ack == self.next_seq, tries
        )
        self.tries = len(self.sent)
        if answer is None:
            return False
        self._expected = add(answer.seq, 1)
        await self._send(Flags.ACK)
        seen = await self._seen_outside()
        if seen is not None and isinstance(seen.packet, Segment):
            self.mapped = seen.packet.source
            self.evidence.append(seen.number)
        return True

    async def where(self) -> Endpoint | None:
        """Ask where the connection comes from."""
        line = messages.encode(messages.Where(id=1))
        request = Segment(self.inside, self.remote, Flags.ACK | Flags.PSH, self.next_seq, self._expected, _WINDOW, payload=line)
        answer = await self._sent_until(request, lambda segment: segment.payload.endswith(b"\n"))
        if answer is None:
            return None
        self.next_seq = add(self.next_seq, len(line))
        self._expected = add(answer.seq, answer.payload_length)
        await self._send(Flags.ACK)
        try:
            said = messages.parse_answer(answer.payload)
        except Malformed:
            return None
        if isinstance(said, messages.Place):
            self.mapped = said.you
        return self.mapped

    async def close(self) -> bool:
        """Close it from this side and wait for the other one to do so too; whether it did."""
        fin = Segment(self.inside, self.remote, Flags.FIN | Flags.ACK, self.next_seq, self._expected, _WINDOW)
        answer = await self._sent_until(fin, lambda segment: segment.fin)
        if answer is None:
            return False
        self.next_seq = add(self.next_seq, 1)
        self._expected = add(answer.seq, answer.length)
        for _ in range(self._kit.repeats):
            await self._send(Flags.ACK)
        return True

    async def abort(self) -> None:
        """End it by a RST."""
        await self._send(Flags.RST | Flags.ACK)

    async def _seen_outside(self) -> Seen | None:
        """Our SYN as the observer saw it, if it reports what it sees."""
        ground = self._kit.ground
        if not ground.outside.raw:
            return None
        if not await ground.until(lambda: self._kit.arrived(self._syn) is not None, ground.now() + self._kit.slack_ns):
            await ground.settle()
        return self._kit.arrived(self._syn)

    async def _send(self, flags: Flags) -> None:
        await self._kit.ground.send(Segment(self.inside, self.remote, flags, self.next_seq, self._expected, _WINDOW))

    async def _sent_until(self, segment: Segment, wanted: Callable[[Segment], bool], tries: int = _TRIES) -> Segment | None:
        """Send a segment, again and again, until an answer has come."""
        ground = self._kit.ground

        def found() -> Seen | None:
            for seen in ground.seen(Place.INSIDE, self.inside, self._began):
                packet = seen.packet
                if isinstance(packet, Segment) and packet.source == self.remote and wanted(packet):
                    return seen
            return None

        for _ in range(tries):
            self.sent.append(await ground.send(segment))
            self.evidence.append(self.sent[-1].number)
            await ground.until(lambda: found() is not None, ground.now() + self._kit.patience_ns)
            answer = found()
            if answer is not None and isinstance(answer.packet, Segment):
                self.evidence.append(answer.number)
                return answer.packet
        return None


async def told(kit: Kit, inside: Endpoint, remote: Endpoint, tries: int) -> Opening | None:
    """Open a session to a port that listens and have the observer tell where it comes from: it takes no raw sockets there."""
    talk = Conversation(kit, inside, remote)
    if not await talk.connect(tries):
        return None
    mapped = await talk.where()
    if mapped is None:
        await talk.abort()
        return None
    return Opening(
        inside=inside,
        remote=remote,
        mapped=mapped,
        iss=talk.iss,
        peer_iss=0,
        next_seq=talk.next_seq,
        sent=talk.sent[0],
        came=None,
        tries=talk.tries,
        evidence=tuple(talk.evidence),
    )
