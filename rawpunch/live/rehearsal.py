"""Goes through the code of a launch and of an answer without touching any end, so that it is in the processor's caches."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from rawpunch.machine import Arrived, Effect, Open, Send
from rawpunch.record.pattern import Seen, View
from rawpunch.replay.player import Player
from rawpunch.replay.script import script_of
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import profile
from rawpunch.units import MS
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

_HERE, _THERE = Endpoint("127.0.0.1", 9), Endpoint("127.0.0.1", 10)


class Rehearsal:
    """A handshake and a replay that nobody sees."""

    def __init__(self) -> None:
        self._machine = Handshake(_HERE, _THERE, iss=1 << 30, profile=profile("linux"))
        peer = Handshake(_THERE, _HERE, iss=1 << 31, profile=profile("linux"))
        syn = peer.prepare_syn(0)
        seen = [effect.packet for effect in self._machine.copy().step(Open(), now=0) if isinstance(effect, Send)]
        self._machine.step(Open(), now=0)
        answers = [effect.packet for effect in self._machine.copy().step(Arrived(syn), now=MS) if isinstance(effect, Send)]
        entries = tuple(Seen(at, at + 1, packet) for at, packet in enumerate([*seen, syn, *answers]))
        self._track = script_of("rehearsal", [View("here", _HERE, _THERE, "a", entries)]).a
        self._syn = encode(syn)
        self._loop = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._loop.bind(("127.0.0.1", 0))
        self._loop.connect(self._loop.getsockname())

    def send(self) -> None:
        """Send a datagram to ourselves on the loopback."""
        self._loop.send(b"x")
        self._loop.recv(1)

    def connect(self) -> None:
        """Connect to a port of the loopback that nobody listens at, and be refused."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect_ex((_HERE.address, _HERE.port))

    def answer(self) -> None:
        """Take a SYN in and make the SYN-ACK that answers it."""
        self._encode(self._machine.copy().step(Arrived(decode(self._syn)), now=MS))

    def reply(self) -> None:
        """Take a SYN in and send the SYN-ACK that a script has for it."""
        player = Player(self._track, local=_HERE, remote=_THERE)
        player.step(Open(), now=0)
        self._encode(player.step(Arrived(decode(self._syn)), now=MS))

    def _encode(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.packet, Segment):
                encode(effect.packet)
        self.send()
