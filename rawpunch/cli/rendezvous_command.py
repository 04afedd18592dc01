"""rawpunch rendezvous: the server that introduces peers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import JsonOption

SCHEMA = "rawpunch.rendezvous/1"

EXAMPLES = (
    "rawpunch rendezvous --address 192.0.2.66",
    "rawpunch rendezvous --address 192.0.2.66 --token correct-horse --token battery-staple",
    "rawpunch rendezvous --address 127.0.0.1 --port 7800 --plain-port 7801 --json",
)


def command(
    address: Annotated[list[str], typer.Option(help="An address of this machine to listen on; a second one may follow.")],
    port: Annotated[
        list[int] | None, typer.Option(help="A TCP port to listen on, for peers and for STUN; 7800 unless one is given.")
    ] = None,
    plain_port: Annotated[int, typer.Option(help="A port for the plain mode, a minimal broker's peer list; 0 for none.")] = 0,
    token: Annotated[
        list[str] | None, typer.Option(help="Only peers who have this token are let in; several may be given.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Introduce peers to each other, and tell them when to begin, until Ctrl-C. No data of theirs passes here."""
    import asyncio
    import contextlib
    import dataclasses

    from rawpunch.errors import BadParameter
    from rawpunch.live.rendezvous_server import RendezvousServer
    from rawpunch.probe.site import Site
    from rawpunch.punch.rendezvous import room_name

    site = Site(tuple(address), tuple(port or (7800,)))
    if not 0 <= plain_port <= 65_535 or plain_port in site.ports:
        raise BadParameter(f"the plain mode cannot have port {plain_port}", todo="give another port than that of the peers")
    rooms = frozenset(map(room_name, token)) if token else None
    server = RendezvousServer(site, rooms=rooms, plain_port=plain_port)

    async def serve() -> None:
        async with server:
            listening = [str(endpoint) for endpoint in site.endpoints]
            if json:
                output.document(
                    SCHEMA, {"listening": listening, "plain_port": plain_port, "rooms": sorted(rooms) if rooms else None}
                )
            else:
                for endpoint in listening:
                    output.data(endpoint)
            sys.stdout.flush()  # whoever reads a pipe waits for it
            output.say(f"listening, {f'for {len(rooms)} rooms' if rooms else 'for any room'}; Ctrl-C ends it")
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
    counted = dataclasses.asdict(server.counted)
    output.say("passed: " + ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in counted.items()))
