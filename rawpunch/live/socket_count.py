"""How many connections a host's kernel holds at a port: asked of the kernel's table of sockets, and not of who opened them."""

from __future__ import annotations

import socket
from typing import Final

from rawpunch.channel import Channel
from rawpunch.errors import RawpunchError

_CONNECTED: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8
"""ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2 and CLOSE-WAIT, as bits of a set of states (net/tcp_states.h)."""


def serve(channel: Channel) -> None:
    """Count for whoever asks ``{"count": PORT}``, in this thread's network namespace, until the channel closes."""
    from pyroute2.netlink.diag import DiagSocket  # noqa: PLC0415  half a second

    with DiagSocket() as table:
        table.bind()
        channel.send({"ready": True})
        while True:
            try:
                message, _ = channel.receive()
            except RawpunchError:
                return
            found = table.get_sock_stats(family=socket.AF_INET, states=_CONNECTED, sport=message["count"])
            channel.send({"sockets": sum(one["idiag_sport"] == message["count"] for one in found)})
