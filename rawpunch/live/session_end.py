"""A peer of a session: it meets the other one at a rendezvous server, punches, sends so many octets, and counts what comes."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.errors import RawpunchError
from rawpunch.live.punching import begin, punch
from rawpunch.wire.endpoint import Endpoint

_WAIT_S: Final = 10.0
"""How long the other one is waited for."""
_SILENCE_S: Final = 20.0
"""How long its octets are."""


def serve(channel: Channel) -> None:
    """Hold a session whenever it is asked for, until the channel closes.

    Requests: the arguments of `_session`. Answers: what it returns, or ``{"unable": why}``.
    """
    channel.send({"ready": True})
    while True:
        try:
            message, _ = channel.receive()
            channel.send(_held(message))
        except RawpunchError:  # whoever asked is gone
            return


def _held(message: dict[str, Any]) -> dict[str, Any]:
    try:
        return _session(**message)
    except RawpunchError as error:
        return {"unable": f"{error.what} ({error.why})" if error.why else error.what}
    except OSError as error:
        return {"unable": str(error)}


def _send(sock: socket.socket, octets: int) -> None:
    with suppress(OSError):  # what does not leave is missed at the other end
        sock.sendall(os.urandom(octets))


def _session(server: str, token: str, octets: int, method: Any) -> dict[str, Any]:
    punched = asyncio.run(punch(begin(Endpoint.parse(server), method=method), token, wait_s=_WAIT_S))
    with punched.won.sock as sock:
        sock.settimeout(_SILENCE_S)
        sender = threading.Thread(target=_send, args=(sock, octets))
        sender.start()
        came = 0
        while came < octets and (text := sock.recv(1 << 16)):
            came += len(text)
        sender.join()
    timing = punched.timing
    return {
        "came": came,
        "local": str(punched.won.local),
        "remote": str(punched.won.remote),
        "method": punched.won.method,
        "start_ns": timing.start_ns,
        "opened_ns": timing.opened_ns,
    }
