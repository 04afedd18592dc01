"""Two crossing opens in every order of delivery, with up to two packets lost, for every pair of profiles.

The search is exhaustive: at each point any packet in flight may be the next to arrive (packets overtake each other freely) or,
while the budget lasts, to be lost; and the earlier timer may run, with packets still in flight while another budget lasts. What
was seen before is not searched again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from rawpunch.machine import Arrived, Open, Woke
from rawpunch.tcp import PROFILES, Handshake, Offer, State
from rawpunch.wire.segment import Segment
from tests.tcp.pair import agree, ends, segments

PLAIN = Offer(window_scale=None, timestamps=False)
PAIRS = list(itertools.combinations_with_replacement(PROFILES, 2))


@dataclass
class Situation:
    """A node of the search."""

    machines: list[Handshake]
    flying: list[Segment]
    now: int
    losses: int
    """How many packets may still be lost."""
    haste: int
    """How many timers may still run with packets in flight."""
    timers: int
    """How many timers have run."""
    opened: int
    """Who has opened, as bits."""

    def key(self) -> tuple[object, ...]:
        """Equal for situations that have the same future."""
        blocks = tuple(
            (
                block.state,
                block.snd_una,
                block.snd_nxt,
                block.irs,
                block.rcv_nxt,
                block.resent,
                block.deadline,
                block.challenged_at,
            )
            for block in (machine.block for machine in self.machines)
        )
        flying = tuple(sorted((segment.source.port, int(segment.flags), segment.seq, segment.ack) for segment in self.flying))
        return blocks, flying, self.now, self.losses, self.haste, self.opened

    def after(self, who: int, stimulus: Open | Arrived | Woke, without: int | None = None) -> Situation:
        """The situation after a machine took a stimulus, with one packet gone from the wire."""
        machines = list(self.machines)
        machines[who] = machines[who].copy()
        effects = machines[who].step(stimulus, now=self.now)
        flying = [segment for index, segment in enumerate(self.flying) if index != without]
        return replace(self, machines=machines, flying=flying + segments(effects))


@dataclass
class Found:
    """What a search came across."""

    situations: int = 0
    established: int = 0
    other_ends: int = 0
    crossed: int = 0


def search(start: Situation, *, most_timers: int) -> Found:
    """Search all futures of a situation."""
    found = Found()
    stack, seen = [start], {start.key()}
    while stack:
        here = stack.pop()
        found.situations += 1
        found.crossed += all(machine.state is State.SYN_RECEIVED for machine in here.machines)
        nexts = list(futures(here, most_timers))
        if not nexts:
            established = agree(here.machines)
            found.established += established
            found.other_ends += not established
        for there in nexts:
            if (key := there.key()) not in seen:
                seen.add(key)
                stack.append(there)
    return found


def futures(here: Situation, most_timers: int) -> list[Situation]:
    """What may happen next."""
    nexts: list[Situation] = []
    for who in (0, 1):
        if not here.opened & 1 << who:
            there = here.after(who, Open())
            there.opened |= 1 << who
            nexts.append(there)
    for index, segment in enumerate(here.flying):
        to = 0 if segment.destination == here.machines[0].local else 1
        if here.opened & 1 << to:  # before it opens, its host would answer with a RST: a refusal, not a crossing
            nexts.append(here.after(to, Arrived(segment), without=index))
        if here.losses:
            rest = here.flying[:index] + here.flying[index + 1 :]
            nexts.append(replace(here, flying=rest, losses=here.losses - 1))
    due = [(machine.deadline, who) for who, machine in enumerate(here.machines) if machine.deadline is not None]
    if due and here.opened == 3 and here.timers < most_timers and (here.haste or not here.flying):
        at, who = min(due)
        hasty = bool(here.flying)
        nexts.append(replace(here, now=at, timers=here.timers + 1, haste=here.haste - hasty).after(who, Woke()))
    return nexts


def start(pair: tuple[str, str], *, losses: int, haste: int = 0) -> Situation:
    """Before anything has happened."""
    return Situation(ends((PROFILES[pair[0]], PROFILES[pair[1]]), PLAIN), [], 0, losses, haste, 0, 0)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_lossless_interleaving_establishes(pair: tuple[str, str]) -> None:
    """Without loss both ends reach ESTABLISHED on the same sequence numbers, in every order, with no timer's help."""
    found = search(start(pair, losses=0), most_timers=0)
    assert found.other_ends == 0
    assert found.established > 0
    assert found.crossed > 0


@pytest.mark.parametrize("pair", PAIRS)
def test_two_losses_are_made_good_by_retransmission(pair: tuple[str, str]) -> None:
    """With any two packets lost and two timers too early, in every order, both still reach ESTABLISHED on the same numbers."""
    found = search(start(pair, losses=2, haste=2), most_timers=12)
    assert found.other_ends == 0
    assert found.established > 0


def test_the_search_would_notice() -> None:
    """Where a peer cannot answer (all its packets are lost), the search finds that nothing gets established."""
    alone = start(("rfc9293", "rfc9293"), losses=50)
    alone.opened = 2
    found = search(alone, most_timers=3)
    assert found.other_ends > 0
