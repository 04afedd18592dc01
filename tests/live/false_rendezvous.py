"""A rendezvous server that lies: it introduces whoever registers to whom it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from rawpunch.punch import rendezvous as messages
from rawpunch.punch.consent import Consent
from rawpunch.punch.rendezvous import Answer
from rawpunch.wire.endpoint import Endpoint

BEGINS = True
"""Whether it says when to begin, to who asks."""


@asynccontextmanager
async def false_server(
    victim: Endpoint,
    *,
    dies_at: str = "",
    hangs_at: str = "",
    known: Mapping[str, messages.Finding] | None = None,
    consent: Consent | None = None,
    introduces: bool = True,
) -> AsyncIterator[Endpoint]:
    """Serve on a free port of the loopback.

    Args:
        victim: whom it says to be the peer.
        dies_at: the request at which it closes the connection instead of answering.
        hangs_at: the request from which on it answers nothing.
        known: what it says of the victim's NAT; None for that there is none.
        consent: what it says that the victim agreed to.
        introduces: whether it does so, and does not only say who is there.
    """
    findings = dict(known) if known is not None else {"mapping": messages.Finding(klass="none")}
    peer = messages.Peer(number=2, endpoint=victim, findings=findings, consent=consent)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = messages.parse_request(line)
                if request.tag == dies_at:
                    break
                if request.tag == hangs_at:
                    await asyncio.Event().wait()
                you = Endpoint(*writer.get_extra_info("peername")[:2])
                for answer in _answers(request, you, peer, introduces=introduces):
                    writer.write(messages.encode(answer))
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint(*server.sockets[0].getsockname()[:2])


def _answers(request: messages.Request, you: Endpoint, peer: messages.Peer, *, introduces: bool) -> list[Answer]:
    match request:
        case messages.Register():
            registered = messages.Registered(id=request.id, number=1, you=you, here=you, peers=[peer], expires_ms=1000)
            return [registered, messages.Introduced(pair=1, side="b", peer=peer)] if introduces else [registered]
        case messages.Ready():
            waiting = messages.Waiting(id=request.id, pair=1)
            return [waiting, messages.Go(pair=1, error_ns=0)] if BEGINS else [waiting]
        case messages.Clock(at_ns=at_ns):
            return [messages.Time(id=request.id, at_ns=at_ns, came_ns=at_ns, left_ns=at_ns)]
    return []
