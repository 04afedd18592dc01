"""A worker in a host of a lab that starts the command `rawpunch punch` as a user does, and waits for the first byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.errors import RawpunchError


def serve(channel: Channel) -> None:
    """Start a command for each message until the channel closes."""
    channel.send({"ready": True})
    while True:
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        channel.send(_commanded(**message))


def _commanded(server: str, token: str, method: str, findings: dict[str, Any]) -> dict[str, Any]:
    """One session: a byte in, a byte out."""
    del findings  # none are known
    words = [str(Path(sys.executable).with_name("rawpunch")), "-q", "punch", "--rendezvous", server, "--room", token]
    began_ns = now_ns()
    with subprocess.Popen([*words, f"--{method}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both were asked for")
        process.stdin.write(b"!")
        process.stdin.flush()
        byte, first_ns = process.stdout.read(1), now_ns()
        process.stdin.close()
    return {"began_ns": began_ns, "first_ns": first_ns, "byte": byte.decode()}
