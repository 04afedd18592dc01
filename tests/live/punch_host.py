"""A worker in a host of a lab that punches when it is told to, and passes a first byte."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import MachineCannot, RawpunchError
from rawpunch.live import allowance, punch_tries
from rawpunch.live.confines import is_free
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.punching import begin, punch
from rawpunch.live.registering import finding_of
from rawpunch.punch.plan import Plan
from rawpunch.punch.slots import Slot, slots_of
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint
from tests.live.lacking import lack


def serve(channel: Channel, lacks: str = "", ahead_s: int = 0, tries: int = 0) -> None:
    """Punch until the channel closes.

    Args:
        channel: to the test.
        lacks: what this process is to do without (`lacking`).
        ahead_s: how far its clock is ahead.
        tries: how many tries of a plan are made; 0 for all.
    """
    import rawpunch.wire.packets  # noqa: F401, PLC0415  scapy: an interpreter's start is not what is measured

    be_punctual()
    lack(lacks)
    if ahead_s:
        _set_clock(ahead_s * SECOND)
    if tries:

        def few(plan: Plan, *, inside: bool = False) -> Iterator[Slot]:
            return itertools.islice(slots_of(plan, inside=inside), tries)

        vars(punch_tries)["slots_of"] = few
    channel.send({"ready": True})
    while True:
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        channel.send(_punched(**message))


def _punched(
    server: str,
    token: str,
    method: Any,
    findings: dict[str, Any] | None = None,
    wait_s: float = 5.0,
    outside: bool = False,
    accept_spray: int = 0,
    policy: str = "",
) -> dict[str, Any]:
    """Punch once.

    Args:
        server: where it listens.
        token: of the room.
        method: as `connect` has it.
        findings: what a probe found of our NAT.
        wait_s: for the other one.
        outside: whether to take the lab for the world outside, where a spray has to be agreed to.
        accept_spray: SYNs that we agree to.
        policy: our policy file.
    """
    began_ns = now_ns()
    log = PunchLog()
    known = {axis: finding_of(document) for axis, document in (findings or {}).items()}
    free: Callable[[Endpoint], bool] = (lambda _: False) if outside else is_free
    more: dict[str, Any] = {"accept_spray": accept_spray, "policy": Path(policy) if policy else None}
    try:
        with patch.object(allowance, "is_free", free):
            begun = begin(Endpoint.parse(server), method=method, log=log)
            punched = asyncio.run(punch(begun, token, findings=known, wait_s=wait_s, **more))
        with punched.won.sock as sock:
            sock.settimeout(5)
            sock.sendall(b"!")
            byte, first_ns = sock.recv(1), now_ns()
    except (RawpunchError, OSError) as error:
        cannot = isinstance(error, MachineCannot)
        notes = [note.text for note in log.notes]
        return {"failed": str(error), "cannot": cannot, "notes": notes, "took_ns": now_ns() - began_ns} | _left()
    timing = punched.timing
    steps = {
        name: getattr(timing, name) - began_ns
        for name in ("registered_ns", "introduced_ns", "start_ns", "opened_ns", "proved_ns")
    }
    return {
        "began_ns": began_ns,
        "first_ns": first_ns,
        "byte": byte.decode(),
        "method": punched.won.method,
        "why": punched.won.why,
        "notes": [note.text for note in log.notes],
        "strategy": punched.slot.step.strategy.value,
        "predicted": punched.plan.predicted.strategy.value if punched.plan else None,
        "steps": steps,
    } | _left()


def _set_clock(ahead_ns: int) -> None:
    """Have all of rawpunch in this process take it to be later."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("rawpunch.", "tests.")) and getattr(module, "now_ns", None) is time.time_ns:
            vars(module)["now_ns"] = lambda: time.time_ns() + ahead_ns


def _left() -> dict[str, Any]:
    """What is left in this host: rules, and sockets that listen."""
    table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return {"listening": sum(line.split()[3] == "0A" for line in table), "files": len(list(Path("/proc/self/fd").iterdir()))}
