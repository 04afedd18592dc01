"""rawpunch observe: the cooperating server outside the NAT."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rawpunch.cli import output
from rawpunch.cli.run_command import JsonOption

SCHEMA = "rawpunch.observe/1"

EXAMPLES = (
    "rawpunch observe --address 192.0.2.66 --address 192.0.2.67",
    "rawpunch observe --address 127.0.0.1 --port 3478 --port 3479 --json",
    "rawpunch observe --address 192.0.2.66 --no-raw",
)


def command(
    address: Annotated[list[str], typer.Option(help="An address of this machine to listen on; better two: say it twice.")],
    port: Annotated[list[int] | None, typer.Option(help="A port to listen on, TCP and UDP; several may be given.")] = None,
    raw: Annotated[bool, typer.Option(help="Craft and report packets with raw sockets, if allowed to.")] = True,
    json: JsonOption = False,
) -> None:
    """Answer STUN, and help those who have proved their address to find out what NAT they are behind, until Ctrl-C."""
    import asyncio
    import contextlib

    from rawpunch.live.observer import Observer
    from rawpunch.probe.site import Site

    site = Site(tuple(address), tuple(port or (3478, 3479)))

    async def serve() -> None:
        async with Observer(site, raw=raw) as observer:
            if json:
                listening = [str(endpoint) for endpoint in site.endpoints]
                output.document(SCHEMA, {"listening": listening, "raw": not observer.without_raw, "why": observer.without_raw})
            else:
                for endpoint in site.endpoints:
                    output.data(f"{endpoint}")
            sys.stdout.flush()  # whoever reads a pipe waits for it
            if observer.without_raw:
                output.warn(f"packets cannot be crafted or reported: {observer.without_raw}")
            if len(site.addresses) == 1:
                output.say("one address: address-dependent filtering and mapping will not be told from endpoint-independent ones")
            output.say("listening; Ctrl-C ends it")
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
