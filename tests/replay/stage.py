"""A stage in virtual time: two machines (handshakes or players), a link each way, and what each host saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from rawpunch.ending import Ending
from rawpunch.link import Entered, Left, Link
from rawpunch.machine import Arrived, Concluded, Effect, Listen, Open, Send, Stimulus, Woke
from rawpunch.record.pattern import Seen, View
from rawpunch.replay.player import Player
from rawpunch.replay.script import Script, script_of
from rawpunch.tcp import LINUX, Handshake
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

A, B = Endpoint("10.1.0.2", 4000), Endpoint("10.2.0.2", 5000)
EPOCH_NS = 1_700_000_000_000_000_000


class Steppable(Protocol):
    """What stands on the stage."""

    @property
    def deadline(self) -> int | None: ...

    def step(self, stimulus: Stimulus, *, now: int) -> Sequence[Effect]: ...


@dataclass
class Stage:
    """Two machines and the way between them; `moved` is what a NAT on each side makes of its host's endpoint."""

    machines: tuple[Steppable, Steppable]
    one_way_ns: tuple[int, int]
    ends: tuple[Endpoint, Endpoint] = (A, B)
    moved: tuple[Endpoint, Endpoint] | None = None
    losses: frozenset[tuple[int, int]] = frozenset()
    """(who sent it, how manieth of his it is, from 0)."""
    now: int = EPOCH_NS
    seen: tuple[list[Seen], list[Seen]] = field(default_factory=lambda: ([], []))
    endings: tuple[list[Ending], list[Ending]] = field(default_factory=lambda: ([], []))
    sent: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.links: tuple[Link[Segment], Link[Segment]] = (
            Link(delay_ns=self.one_way_ns[0]),
            Link(delay_ns=self.one_way_ns[1]),
        )

    def outside(self, who: int) -> Endpoint:
        """How the other end knows this one."""
        return self.moved[who] if self.moved else self.ends[who]

    def step(self, who: int, stimulus: Stimulus) -> None:
        """Give one machine a stimulus, and its segments to its link."""
        for effect in self.machines[who].step(stimulus, now=self.now):
            if isinstance(effect, Concluded):
                self.endings[who].append(effect.ending)
            if isinstance(effect, Send) and isinstance(effect.packet, Segment):
                self._note(who, effect.packet)
                place, self.sent[who] = self.sent[who], self.sent[who] + 1
                if (who, place) in self.losses:
                    continue
                travelling = replace(effect.packet, source=self.outside(who), destination=self.ends[1 - who])
                for left in self.links[who].step(Entered(travelling), now=self.now):
                    if isinstance(left, Left):
                        self._arrive(1 - who, left.item)

    def _arrive(self, who: int, segment: Segment) -> None:
        self._note(who, segment)
        self.step(who, Arrived(segment))

    def _note(self, who: int, segment: Segment) -> None:
        self.seen[who].append(Seen(self.now, len(self.seen[who]) + 1, segment))

    def run(self, *calls: tuple[int, int, Stimulus], most: int = 2_000) -> None:
        """Make the calls, each at its instant (from the start) by its machine, until nothing is due any more."""
        agenda = sorted(((EPOCH_NS + at, who, stimulus) for at, who, stimulus in calls), key=lambda call: call[0])
        for _ in range(most):
            due = [(at, 0, who) for at, who, _ in agenda[:1]]
            due += [(at, 1, who) for who in (0, 1) if (at := self.links[who].deadline) is not None]
            due += [(at, 2, who) for who in (0, 1) if (at := self.machines[who].deadline) is not None]
            if not due:
                return
            at, kind, who = min(due)
            self.now = max(self.now, at)
            if kind == 0:
                self.step(who, agenda.pop(0)[2])
            elif kind == 1:
                for segment in self.links[who].wake(now=self.now):
                    self._arrive(1 - who, segment)
            else:
                self.step(who, Woke())
        raise AssertionError("the stage never came to rest")

    def views(self) -> tuple[View, View]:
        """What both hosts saw."""
        return (
            View("hostA", self.ends[0], self.outside(1), "a", tuple(self.seen[0])),
            View("hostB", self.outside(0), self.ends[1], "b", tuple(self.seen[1])),
        )


def opened(
    *,
    one_way_ns: tuple[int, int] = (20 * MS, 20 * MS),
    offset_ns: int | None = 0,
    losses: frozenset[tuple[int, int]] = frozenset(),
    give_up_ns: int = 900 * MS,
) -> tuple[View, View]:
    """What two hosts see of a handshake of two Linux stacks; without an offset, B only listens."""
    a = Handshake(A, B, iss=4_294_967_290, profile=LINUX, give_up_ns=give_up_ns)
    b = Handshake(B, A, iss=800_000_000, profile=LINUX, give_up_ns=give_up_ns)
    stage = Stage((a, b), one_way_ns, losses=losses)
    if offset_ns is None:
        stage.run((0, 1, Listen()), (0, 0, Open()))
    else:
        stage.run((max(-offset_ns, 0), 0, Open()), (max(offset_ns, 0), 1, Open()))
    return stage.views()


def played(
    script: Script,
    *,
    one_way_ns: tuple[int, int],
    iss: tuple[int | None, int | None] = (None, None),
    ts_shift: tuple[int, int] = (0, 0),
    speed: float = 1.0,
    offset_ns: int | None = None,
    ends: tuple[Endpoint, Endpoint] = (A, B),
    moved: tuple[Endpoint, Endpoint] | None = None,
    losses: frozenset[tuple[int, int]] = frozenset(),
) -> tuple[Script, tuple[Player, Player], Stage]:
    """Play a script by two players, each started when its script says; B's start may be moved."""
    targets = moved or ends
    a = Player(script.a, local=ends[0], remote=targets[1], iss=iss[0], ts_shift=ts_shift[0], speed=speed)
    b = Player(script.b, local=ends[1], remote=targets[0], iss=iss[1], ts_shift=ts_shift[1], speed=speed)
    stage = Stage((a, b), one_way_ns, ends=ends, moved=moved, losses=losses)
    offset = round((script.offset_ns or 0) / speed) if offset_ns is None else offset_ns
    stage.run((max(-offset, 0), 0, Open()), (max(offset, 0), 1, Open()))
    return script_of("replay", stage.views()), (a, b), stage
