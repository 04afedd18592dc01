"""A NAT box on a table, for tests: segments go in as lines of the toolkit's notation, and what comes out is lines again."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rawpunch.machine import Arrived, Changed, Effect, Refused, Send, Woke
from rawpunch.nat.behavior import Behavior
from rawpunch.nat.box import NatBox
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.notation import format_segment, parse_segment
from rawpunch.wire.segment import IcmpError, Segment

NAMES = {
    "A": "10.1.0.2",
    "C": "10.1.0.3",
    "X": "198.51.100.2",
    "Y": "198.51.100.3",
    "R": "203.0.113.2",
    "S": "192.0.2.2",
}
"""A and C are inside; X and Y are the NAT's; R and S are remote."""
_BACK = {address: name for name, address in NAMES.items()}


def endpoint(text: str) -> Endpoint:
    """``A:4000`` as an endpoint."""
    name, _, port = text.partition(":")
    return Endpoint(NAMES[name], int(port))


class Table:
    """A box with a clock that only the test turns."""

    def __init__(self, behavior: Behavior | None = None, *, seed: int = 1) -> None:
        behavior = behavior or Behavior()
        addresses = [NAMES["X"], NAMES["Y"], *(f"198.51.100.{n}" for n in range(4, 9))][: behavior.external_addresses]
        self.box = NatBox(behavior, addresses, dice=random.Random(seed), inside="10.1.0.1")
        self.now = 0
        self.changes: list[Changed] = []
        self.refused: list[str] = []

    def inside(self, line: str) -> list[str]:
        """A segment comes from inside."""
        return self._take(self.box.step(Arrived(parse_segment(line, NAMES), "inside"), now=self.now))

    def outside(self, line: str) -> list[str]:
        """A segment comes from outside."""
        return self._take(self.box.step(Arrived(parse_segment(line, NAMES), "outside"), now=self.now))

    def error(self, port: str, source: str, quoted: str, *, kind: tuple[int, int] = (11, 0), seq: int = 0) -> list[str]:
        """An ICMP error comes in at a port; `quoted` is ``A:1 > R:2``."""
        one, _, other = quoted.partition(" > ")
        flow = Flow(endpoint(one), endpoint(other))
        error = IcmpError(NAMES[source], flow.source.address, *kind, flow, seq)
        return self._take(self.box.step(Arrived(error, port), now=self.now))

    def pass_time(self, ns: int) -> list[str]:
        """Let time pass, stepping the box at its deadlines."""
        until, out = self.now + ns, []
        while self.box.deadline is not None and self.box.deadline <= until:
            self.now = max(self.now, self.box.deadline)
            out += self._take(self.box.step(Woke(), now=self.now))
        self.now = until
        return out

    def mapped(self, source: str, destination: str, seq: int = 1000) -> str | None:
        """The external endpoint that a SYN from inside gets; None when it is refused."""
        out = self.inside(f"{source} > {destination} SYN seq {seq}")
        return out[0].split(" ")[1] if out else None

    def state(self, source: str, destination: str) -> str:
        """The state of a session; NONE where there is none."""
        flow = Flow(endpoint(source), endpoint(destination))
        return next((session.state.value for session in self.box.sessions if session.flow == flow), "NONE")

    def crossed(self) -> None:
        """A:4000 and R:5000 send a SYN each, and they cross here."""
        self.inside("A:4000 > R:5000 SYN seq 2000000000")
        self.outside("R:5000 > X:4000 SYN seq 3000000000")

    def _take(self, effects: Sequence[Effect]) -> list[str]:
        lines = []
        self.refused = [str(effect.reason) for effect in effects if isinstance(effect, Refused)]
        for effect in effects:
            if isinstance(effect, Changed):
                self.changes.append(effect)
            elif isinstance(effect, Send):
                lines.append(f"{effect.port}: {_line(effect.packet)}")
        return lines


def _line(packet: Segment | IcmpError) -> str:
    if isinstance(packet, Segment):
        return " ".join(format_segment(packet, _BACK).split())
    quoted = packet.quoted
    parts = [_BACK.get(end.address, end.address) + f":{end.port}" for end in (quoted.source, quoted.destination)]
    who = f"{_BACK.get(packet.source, packet.source)} > {_BACK.get(packet.destination, packet.destination)}"
    return f"{who} {packet.kind} about {' > '.join(parts)} seq {packet.quoted_seq}"
