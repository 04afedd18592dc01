"""rawpunch stun: what endpoint the NATs on the way give to a local port, as any STUN server sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rawpunch.cli import output
from rawpunch.cli.hosts import resolved
from rawpunch.cli.run_command import JsonOption
from rawpunch.units import format_duration

if TYPE_CHECKING:
    from rawpunch.live.stun_answer import Answer
    from rawpunch.wire.endpoint import Endpoint

SCHEMA = "rawpunch.stun/1"

EXAMPLES = (
    "rawpunch stun stun.example.org",
    "rawpunch stun 192.0.2.66:3478 --local-port 4000 --other",
    "rawpunch stun '[2001:db8::66]:3478' --udp --json",
    "rawpunch stun stun.example.org --local-port 4000 --hold",
)

"""HOST[:PORT], [IPv6][:PORT], or the same as a URI (RFC 7064)."""
_AGAIN_S: Final = 25.0
"""A UDP mapping that RFC 4787 allows lives for two minutes, many live for 30 s only."""


def command(
    server: Annotated[str, typer.Argument(metavar="SERVER[:PORT]", help="Any STUN server; port 3478 unless one is given.")],
    udp: Annotated[bool, typer.Option("--udp", help="Ask over UDP; over TCP otherwise.")] = False,
    local_port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to ask from; 0 for any free one.")] = 0,
    other: Annotated[
        bool, typer.Option("--other", help="Ask at the server's other address too: is the mapping the same towards it?")
    ] = False,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Keep the mapping until Ctrl-C, so that it can be punched from; ask again now and then."),
    ] = False,
    wait: Annotated[float, typer.Option(min=0.1, max=600, help="How many seconds an answer may take.")] = 10.0,
    json: JsonOption = False,
) -> None:
    """Ask a STUN server what endpoint a local port has outside. The port is bound before, and asks itself.

    A question from another port would be answered about another mapping. Nothing is sent but Binding requests, to that server,
    and with --other to the address that it names.
    """
    import asyncio
    import contextlib

    from rawpunch.live.stun_client import DEFAULT_PORT

    servers = resolved(server.removeprefix("stun:"), DEFAULT_PORT, udp=udp)
    with contextlib.suppress(KeyboardInterrupt) if hold else contextlib.nullcontext():
        asyncio.run(_ask(servers, local_port, wait, udp=udp, other=other, hold=hold, json=json))


async def _ask(
    servers: list[Endpoint], local_port: int, wait_s: float, *, udp: bool, other: bool, hold: bool, json: bool
) -> None:
    import asyncio
    import sys

    from rawpunch.live.stun_client import ask_any

    output.detail(f"asking {' or '.join(map(str, servers))} over {'UDP' if udp else 'TCP'}")
    port, answer = await ask_any(servers, "udp" if udp else "tcp", local_port=local_port, within_s=wait_s)
    async with port:
        second = await port.ask(answer.needed_other(), within_s=wait_s) if other else None
        if json:
            output.document(SCHEMA, _document(answer) | ({"second": _document(second)} if second else {}))
        else:
            _show(answer, second)
        sys.stdout.flush()  # whoever reads a pipe waits for it
        if not hold:
            return
        output.say(f"the mapping of {port.local} is kept; Ctrl-C ends it")
        while True:
            await asyncio.sleep(_AGAIN_S)
            again = await port.ask(answer.server, within_s=wait_s)
            if again.mapped != answer.mapped:
                output.warn(f"the mapping has changed: {again.mapped}, which was {answer.mapped}")
            answer = again


def _show(answer: Answer, second: Answer | None) -> None:
    lines = [
        ("mapped endpoint", f"{answer.mapped}{_compared(answer)}"),
        ("local endpoint", str(answer.local)),
        ("server", f"{answer.server} over {answer.transport.upper()}"),
        ("round trip", _times(answer)),
        ("software", _printable(answer.software) if answer.software else "not told"),
        ("other address", str(answer.other) if answer.other else "none: it cannot tell how a NAT maps and filters (RFC 5780)"),
    ]
    if second:
        same = (
            "the same towards both" if second.mapped == answer.mapped else "another one: the mapping depends on the destination"
        )
        lines += [
            ("mapped, to other", f"{second.mapped} ({same})"),
            ("round trip, to it", _times(second)),
        ]
    for name, value in lines:
        output.data(f"{name:<18} {value}")


def _compared(answer: Answer) -> str:
    if answer.mapped == answer.local:
        return " (the local one: no NAT translates it)"
    if answer.mapped.address == answer.local.address:
        return " (the same address, another port: something translates it)"
    return f" (a NAT translates it, and {'keeps' if answer.mapped.port == answer.local.port else 'changes'} the port)"


def _times(answer: Answer) -> str:
    if answer.rtt_ns is None:
        return f"not determined: the request went out {answer.requests} times"
    took = format_duration(answer.rtt_ns)
    return f"{took}; connecting took {format_duration(answer.connect_ns)}" if answer.connect_ns is not None else took


def _printable(text: str) -> str:
    """A stranger's text without what would act on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _document(answer: Answer) -> dict[str, Any]:
    return {
        "transport": answer.transport,
        "server": str(answer.server),
        "local": str(answer.local),
        "mapped": str(answer.mapped),
        "rtt_ns": answer.rtt_ns,
        "connect_ns": answer.connect_ns,
        "requests": answer.requests,
        "software": answer.software,
        "other": str(answer.other) if answer.other else None,
        "origin": str(answer.origin) if answer.origin else None,
    }
