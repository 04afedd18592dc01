"""One probe from its beginning to its end, in this network namespace: the plans on live ground, watched, with a deadline."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import PartialData
from rawpunch.live.probing import LiveGround
from rawpunch.probe.report import Report
from rawpunch.probe.run import Options, probe
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

DEADLINE_S: Final = 120.0
"""How long a probe may take that waits for no long timers; it takes 15 s when all goes well."""
TIMERS_DEADLINE_S: Final = 5 * 3600.0
_TICK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be done."""

    observer: Endpoint
    insiders: tuple[str, ...] = ()
    """Our own addresses, the one that is probed from first; () for the one towards the observer."""
    seed: int = 0
    options: Options = Options()
    capture: Path | None = None
    """Where to write what was sent and what came."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it."""

    report: Report
    packets: int
    """In the capture."""
    lost: dict[str, int]
    """Packets that nobody can say anything of: what -> how many."""
    took_ns: int
    """From the first thing done to the report."""


async def carry_out(
    errand: Errand,
    *,
    told: Callable[[int], None] = lambda _: None,
    begun: Callable[[LiveGround], None] = lambda _: None,
) -> Probed:
    """Probe.

    Args:
        errand: what to do.
        told: called now and then with the number of packets so far.
        begun: called with the ground when it is there.

    Returns:
        The report and what belongs to it. An observer that goes away in the middle is in the report.

    Raises:
        MachineCannot: no right to open raw sockets, or no route.
        BadParameter: an address is none of ours.
        PartialData: the observer does not answer at all, or the capture cannot be written.
    """
    began_ns = now_ns()
    async with LiveGround(errand.observer, insiders=errand.insiders, seed=errand.seed) as ground:
        # it takes seconds, and inference needs it: now, when nothing is being measured
        await asyncio.to_thread(importlib.import_module, "scipy.stats")
        begun(ground)
        watch = asyncio.create_task(_watch(ground, told, TIMERS_DEADLINE_S if errand.options.timers else DEADLINE_S))
        try:
            report = await probe(ground, errand.options)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            if errand.capture is not None:
                ground.write(errand.capture, f"rawpunch probe of {errand.observer}, seed {errand.seed}")
        return Probed(report, ground.packets, ground.lost, now_ns() - began_ns)


async def _watch(ground: LiveGround, told: Callable[[int], None], deadline_s: float) -> None:
    """Tell how far it is, and end what takes too long."""
    end_ns = ground.now() + round(deadline_s * SECOND)
    while ground.now() < end_ns:
        told(ground.packets)
        await asyncio.sleep(_TICK_S)
    ground.give_up(PartialData(f"the probe took longer than {deadline_s:g} s", todo="probe again when the network is quieter"))
