"""Two machines and a pretend link: in virtual time, or step by step in any order of delivery."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rawpunch.ending import Ending
from rawpunch.link import Entered, Left, Link
from rawpunch.machine import Arrived, Concluded, Effect, Send, Stimulus, Woke
from rawpunch.tcp import Handshake, Offer, Profile, State
from rawpunch.wire.segment import Segment
from tests.tcp.conversation import A, B

ISS = (4_294_967_295, 700_000)
"""The first wraps around with its SYN: sequence arithmetic is modulo 2**32."""


def ends(profiles: tuple[Profile, Profile], offer: Offer | None = None, give_up_ns: int | None = None) -> list[Handshake]:
    """A and B, each the other's remote."""
    return [
        Handshake(local, remote, iss=iss, profile=profile, offer=offer, give_up_ns=give_up_ns)
        for local, remote, iss, profile in ((A, B, ISS[0], profiles[0]), (B, A, ISS[1], profiles[1]))
    ]


def segments(effects: Iterable[Effect]) -> list[Segment]:
    """What is to be sent."""
    return [effect.packet for effect in effects if isinstance(effect, Send) and isinstance(effect.packet, Segment)]


def agree(machines: list[Handshake]) -> bool:
    """Whether both are established on the same sequence numbers."""
    one, other = machines
    return (
        one.state is other.state is State.ESTABLISHED
        and (one.snd_nxt, one.rcv_nxt) == (other.rcv_nxt, other.snd_nxt)
        and (one.iss, one.irs) == (other.irs, other.iss)
        and one.snd_una == one.snd_nxt
        and other.snd_una == other.snd_nxt
    )


@dataclass
class World:
    """Two machines and a link each way, in virtual time."""

    machines: list[Handshake]
    links: list[Link[Segment]]
    now: int = 0
    endings: list[list[Ending]] = field(default_factory=lambda: [[], []])
    steps: int = 0

    def step(self, who: int, stimulus: Stimulus) -> None:
        """Give one machine a stimulus, and its segments to its link."""
        self.steps += 1
        effects = self.machines[who].step(stimulus, now=self.now)
        self.endings[who] += [effect.ending for effect in effects if isinstance(effect, Concluded)]
        for segment in segments(effects):
            for left in self.links[who].step(Entered(segment), now=self.now):
                if isinstance(left, Left):
                    self.step(1 - who, Arrived(left.item))

    def run(self, *calls: tuple[int, int, Stimulus], most: int = 2000) -> None:
        """Make the calls, each at its instant by its machine, until nothing is due any more or so many steps were taken."""
        agenda = sorted(calls, key=lambda call: call[0])
        while self.steps < most:
            due = [(at, 0, who) for at, who, _ in agenda[:1]]
            due += [(at, 1, who) for who in (0, 1) if (at := self.links[who].deadline) is not None]
            due += [(at, 2, who) for who in (0, 1) if (at := self.machines[who].deadline) is not None]
            if not due:
                return
            self.now, kind, who = min(due)
            if kind == 0:
                self.step(who, agenda.pop(0)[2])
            elif kind == 1:
                for segment in self.links[who].wake(now=self.now):
                    self.step(1 - who, Arrived(segment))
            else:
                self.step(who, Woke())
