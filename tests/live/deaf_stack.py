"""A stack that is wrong on purpose, as a program: it takes no notice of a SYN that crosses its own.

So was many a stack. It makes its own packets, on raw sockets beside a kernel that is kept silent; all the rest is the table of
RFC 9293. `python -m tests.live.deaf_stack`, or with the word `all` behind it, to take no notice of anything.
"""

from __future__ import annotations

import os
import select
import sys

from rawpunch.clock import now_ns
from rawpunch.errors import Malformed
from rawpunch.live.sockets import RawPort
from rawpunch.machine import Abort, Arrived, Concluded, Open, Send, Stimulus, Woke
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import RFC9293
from rawpunch.units import SECOND
from rawpunch.wire.codec import decode, encode_packet
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import IcmpError, Segment


def say(*words: str) -> None:
    """Write a line, now."""
    print(*words, flush=True)  # noqa: T201  stdout is the protocol


class Stack:
    """All its openings, by number."""

    def __init__(self, *, deaf_to_all: bool) -> None:
        self.deaf_to_all = deaf_to_all
        self.port = RawPort()
        self.machines: dict[str, Handshake] = {}

    def step(self, number: str, stimulus: Stimulus) -> None:
        """Have one opening take a stimulus."""
        machine = self.machines[number]
        for effect in machine.step(stimulus, now=now_ns()):
            if isinstance(effect, Send) and machine.remote is not None:
                self.port.send(encode_packet(effect.packet), machine.remote.address)
            elif isinstance(effect, Concluded):
                say(number, effect.ending.value)

    def obey(self, words: list[str]) -> None:
        """Open or close."""
        if words[0] == "open":
            number, local, remote = words[1:]
            self.machines[number] = Handshake(
                Endpoint.parse(local), Endpoint.parse(remote), iss=1_000_000_000 + int(number), profile=RFC9293
            )
            self.step(number, Open())
        elif words[1] in self.machines:
            self.step(words[1], Abort())
            del self.machines[words[1]]

    def hear(self) -> None:
        """Take in what has come, but for what it is deaf to."""
        for data in self.port.receive():
            try:
                packet = decode(data)
            except Malformed:
                continue
            local = packet.quoted.source if isinstance(packet, IcmpError) else packet.destination
            crossing = isinstance(packet, Segment) and packet.syn and not packet.has_ack
            for number, machine in list(self.machines.items()):
                if machine.local == local and not crossing and not self.deaf_to_all:
                    self.step(number, Arrived(packet))

    def run(self) -> None:
        """Until the standard input ends."""
        say("# deaf to", "everything" if self.deaf_to_all else "crossing SYNs")
        say("ready")
        rest = b""
        while True:
            due = min((machine.deadline for machine in self.machines.values() if machine.deadline), default=now_ns() + SECOND)
            readable, _, _ = select.select([sys.stdin, self.port], [], [], max(due - now_ns(), 0) / SECOND)
            if self.port in readable:
                self.hear()
            if sys.stdin in readable:
                data = os.read(0, 65_536)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.obey(line.decode().split())
            for number, machine in self.machines.items():
                if machine.deadline is not None and machine.deadline <= now_ns():
                    self.step(number, Woke())


if __name__ == "__main__":
    Stack(deaf_to_all="all" in sys.argv[1:]).run()
