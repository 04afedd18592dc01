"""A worker in a host of a lab that punches when it is told to, and passes a first byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import MachineCannot, RawpunchError
from rawpunch.live.meeting import finding_of
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.punching import punch
from rawpunch.wire.endpoint import Endpoint
from tests.live.lacking import lack


def serve(channel: Channel, lacks: str = "") -> None:
    """Punch until the channel closes.

    Args:
        channel: to the test.
        lacks: what this process is to do without (`lacking`).
    """
    import rawpunch.wire.packets  # noqa: F401, PLC0415  scapy: an interpreter's start is not what is measured

    be_punctual()
    lack(lacks)
    channel.send({"ready": True})
    while True:
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        channel.send(_punched(**message))


def _punched(server: str, token: str, method: Any, findings: dict[str, Any] | None = None, wait_s: float = 5.0) -> dict[str, Any]:
    began_ns = now_ns()
    log = PunchLog()
    known = {axis: finding_of(document) for axis, document in (findings or {}).items()}
    try:
        punched = asyncio.run(punch(Endpoint.parse(server), token, method=method, findings=known, wait_s=wait_s, log=log))
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


def _left() -> dict[str, Any]:
    """What is left in this host: rules, and sockets that listen."""
    table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return {"listening": sum(line.split()[3] == "0A" for line in table), "files": len(list(Path("/proc/self/fd").iterdir()))}
