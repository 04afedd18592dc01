"""A probe as a process of its own inside a host's network namespace: whoever started it hears of its progress and its report.

Messages out: ``{"packets": N}`` now and then; at the end ``{"report": ..., "packets": N, "lost": ..., "took_ns": N}``, or
``{"error": WHAT, "kind": NAME, "why": ..., "todo": ...}``. In: ``{"give_up": WHAT, "why": ...}`` ends it early, with what it has.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from rawpunch.channel import Channel
from rawpunch.errors import PartialData, RawpunchError
from rawpunch.live.probe_run import Errand, Probed, carry_out
from rawpunch.live.probing import LiveGround
from rawpunch.probe.run import Options
from rawpunch.wire.endpoint import Endpoint


def serve(channel: Channel, observer: str, insiders: list[str], seed: int, *, timers: bool, capture: str) -> None:
    """Entry of the process.

    Args:
        channel: to whoever wants the report.
        observer: an endpoint of the observer.
        insiders: our own addresses.
        seed: source of all chance.
        timers: whether to wait for long timers.
        capture: path of the capture to write; "" for none.
    """
    options = Options(timers=timers)
    errand = Errand(Endpoint.parse(observer), tuple(insiders), seed, options, Path(capture) if capture else None)
    try:
        probed = asyncio.run(_probed(channel, errand))
    except RawpunchError as error:
        channel.send({"error": error.what, "kind": type(error).__name__, "why": error.why, "todo": error.todo})
        return
    report = probed.report.model_dump(mode="json")
    channel.send({"report": report, "packets": probed.packets, "lost": probed.lost, "took_ns": probed.took_ns})


async def _probed(channel: Channel, errand: Errand) -> Probed:
    loop = asyncio.get_running_loop()
    under_way: list[LiveGround] = []
    wishes: list[PartialData] = []

    def said() -> None:
        try:
            message, _ = channel.receive()
        except RawpunchError:  # whoever wanted the report has gone
            message = {"give_up": "nobody waits for the report any more"}
            loop.remove_reader(channel.fileno())
        wishes.append(PartialData(message["give_up"], why=message.get("why", "")))
        for ground in under_way:
            ground.give_up(wishes[0])

    def begun(ground: LiveGround) -> None:
        under_way.append(ground)
        for wish in wishes:  # it came before there was anything to give up
            ground.give_up(wish)

    loop.add_reader(channel.fileno(), said)
    return await carry_out(errand, told=lambda packets: channel.send({"packets": packets}), begun=begun)
