"""The bench: a driver that carries out planned attempts in a scene and says what its two ends and its recorder saw.

`LabBench` is the driver of the lab. It plans a part's instants, hands orders to the two hosts' workers, tells them when to
finish, and writes the capture; what the packets mean is found out afterwards, from the capture alone.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from rawpunch.channel import Channel, Message
from rawpunch.clock import now_ns
from rawpunch.errors import LabBroken
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.live.end import Order
from rawpunch.rng import stream
from rawpunch.scene import OBSERVERS, SIDES, Scene
from rawpunch.scene import Side as SideName
from rawpunch.study.planned import Planned
from rawpunch.study.sampling import Sampled, sample_of, silence_ruleset
from rawpunch.study.schedule import Schedule
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint

__all__ = ["Bench", "Done", "LabBench", "Planned", "Recording", "Side"]

_FIRST_PORT: Final = 20_000
_PORTS: Final = 40_000
_ARMING_NS: Final = 150 * MS
_ARMING_EACH_NS: Final = 2 * MS
_SETTLE_NS: Final = 10 * MS
_STALL_NS: Final = 20 * SECOND


@dataclass(slots=True)
class Side:
    """What one end of an attempt was told and what it reported."""

    order: Order
    ending: str | None = None
    """None until it is known; "" when the end could not start."""
    at_ns: int | None = None
    cause: str = ""
    finished: bool = False
    transitions: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Done:
    """One attempt that was made."""

    planned: Planned
    a: Side
    b: Side
    told_to_finish: bool = False
    finish_ns: int | None = None
    """When they were told to: what an end sends from then on is its closing."""
    began_ns: int | None = None
    """Nothing of it is before this, where the driver can say so: needed where attempts share endpoints."""
    over_ns: int | None = None
    """Nor after this."""
    nats: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """NAT -> its sessions' state changes, where the driver sees them."""

    @property
    def concluded(self) -> bool:
        """Whether both ends have reported, or one could not start at all."""
        endings = (self.a.ending, self.b.ending)
        return None not in endings or "" in endings

    @property
    def finished(self) -> bool:
        """Whether both ends have gathered their evidence and closed."""
        return self.a.finished and self.b.finished


@dataclass(frozen=True, slots=True)
class Recording:
    """What a part left to be looked at."""

    done: list[Done]
    capture: Path
    dropped: int
    """Packets of this part that the recorder lost."""


class Bench(Protocol):
    """A driver by name."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def use(self, scene: Scene) -> None:
        """Turn the world into another scene."""

    def describe(self) -> dict[str, Any]:
        """The scene's topology and exact rulesets."""

    def make(self, attempts: list[Planned], capture: Path) -> Recording:
        """Make these attempts and write what was captured."""

    def sample(self, attempts: list[Planned], capture: Path) -> Sampled:
        """Take these samples and write what was captured."""


class LabBench:
    """Attempts in the lab, by kernel and raw ends.

    Args:
        seed: initial sequence numbers and jitter come from it.
        rootless: see `Lab`.
        nats: how the lab makes its NATs; see `Lab`.

    Raises:
        MachineCannot: this machine cannot build the lab.
    """

    name = "lab"

    def __init__(self, seed: int, *, rootless: bool | None = None, nats: Mapping[SideName, str] | None = None) -> None:
        self._seed = seed
        self._rootless = rootless
        self._nats = nats
        self._lab: Lab | None = None
        self._hosts: dict[str, Channel] = {}
        self._sampler: Channel | None = None
        self._ports = 0
        self._dice = stream(seed, "schedule")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take the lab down."""
        if self._lab is not None:
            self._lab.close()
            self._lab = None
            self._sampler = None
            self._hosts.clear()

    @property
    def lab(self) -> Lab:
        """The lab in use."""
        if self._lab is None:
            raise LabBroken("the bench has no lab yet", todo="use(scene) first")
        return self._lab

    def use(self, scene: Scene) -> None:
        """Build the scene, or change the lab that is there into it where the addresses stay the same."""
        if self._lab is not None and wiring.links(self._lab.scene) == wiring.links(scene):
            self._lab.change(scene)
            return
        self.close()
        self._lab = Lab(scene, rootless=self._rootless, nats=self._nats, seed=self._seed).__enter__()
        self._lab.record()
        cpus = sorted(os.sched_getaffinity(0))
        self._hosts = {
            side: self._lab.start(f"host{side.upper()}", "rawpunch.live.worker:serve", {"cpu": cpu})
            for side, cpu in zip("ab", (cpus[0], cpus[-1]), strict=True)
        }
        for channel in self._hosts.values():
            channel.receive()

    def describe(self) -> dict[str, Any]:
        """The scene's topology and exact rulesets."""
        return self.lab.describe()

    def make(self, attempts: list[Planned], capture: Path) -> Recording:
        """Make these attempts, overlapping, and write what was captured.

        Raises:
            LabBroken: something in the lab died; nothing of this part is kept.
        """
        _, lost_before = self.lab.flush(None)
        part = {done.planned.name: done for done in self._orders(attempts)}
        for done in part.values():
            for side, end in (("a", done.a), ("b", done.b)):
                self._hosts[side].send({"order": end.order.to_message()})
        self._attend(part)
        time.sleep((2 * sum(self.lab.scene.one_way_ns) + 20 * MS) / SECOND)
        self.lab.check()
        leaks = self.lab.private_leaks()
        if leaks and self.lab.leaks_are_faults:
            raise LabBroken(f"{leaks} packets reached the core with a private source address", why="a NAT let them through")
        _, dropped = self.lab.flush(capture, f"rawpunch, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}")
        return Recording(list(part.values()), capture, dropped - lost_before)

    def sample(self, attempts: list[Planned], capture: Path) -> Sampled:
        """Take these samples, one after the other, and write what was captured.

        Raises:
            LabBroken: something in the lab died; nothing of this part is kept.
        """
        if self._sampler is None:
            for observer in OBSERVERS:
                self.lab.run(observer, ["nft", "-f", "-"], silence_ruleset())
            self._sampler = self.lab.start("hostA", "rawpunch.live.sampling:serve", {})
            self._sampler.receive()
        _, lost_before = self.lab.flush(None)
        samples = []
        for planned in attempts:
            sample = sample_of(planned, self.lab.scene, self._seed, self._ports)
            self._ports += len(sample.connections)
            told = self._sampler.ask(sample.request())
            samples.append(replace(sample, began_ns=told["first_ns"]))
        time.sleep((sum(self.lab.scene.one_way_ns) + 20 * MS) / SECOND)
        self.lab.check()
        _, dropped = self.lab.flush(capture, f"rawpunch, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}")
        return Sampled(samples, capture, dropped - lost_before)

    def _orders(self, attempts: list[Planned]) -> list[Done]:
        scene = self.lab.scene
        schedule = Schedule(scene.one_way_ns, max(sum(scene.one_way_ns) // 2, 12 * MS), self._dice)
        start = now_ns() + _ARMING_NS + _ARMING_EACH_NS * len(attempts)
        orders = []
        for planned in attempts:
            attempt = planned.attempt
            slot = schedule.take(attempt.offset_ns)
            port = _FIRST_PORT + self._ports % _PORTS
            self._ports += 1
            iss = stream(self._seed, "iss", planned.name)
            kinds, instants = (attempt.end_a, attempt.end_b), (slot.a_ns, slot.b_ns)
            scripts = (attempt.script_a, attempt.script_b)
            sides = [
                Order(
                    attempt=planned.name,
                    kind=kind,
                    local=Endpoint(scene.host_address(mine), port),
                    remote=Endpoint(scene.public_address(theirs), port),
                    at_ns=start + at,
                    give_up_ns=start + at + attempt.give_up_ns,
                    # far from zero: there, conntrack takes a RST with sequence number 0 for one in the window
                    iss=iss.randrange(1 << 28, 1 << 32),
                    profile=attempt.profile,
                    script=script,
                    scheduler=attempt.scheduler,
                )
                for kind, at, script, mine, theirs in zip(kinds, instants, scripts, SIDES, reversed(SIDES), strict=True)
            ]
            orders.append(Done(planned, Side(sides[0]), Side(sides[1])))
        return orders

    def _attend(self, part: dict[str, Done]) -> None:
        """Listen to both hosts until every attempt is finished, and tell them when to finish one."""
        to_finish: list[tuple[int, Done]] = []
        silent_since = now_ns()
        last_ns = max(max(done.a.order.give_up_ns, done.b.order.give_up_ns) for done in part.values())
        sides = {channel: side for side, channel in self._hosts.items()}
        while not all(done.finished for done in part.values()):
            due = min((at for at, _ in to_finish), default=now_ns() + SECOND)
            readable, _, _ = select.select(list(sides), [], [], max(due - now_ns(), 0) / SECOND)
            for channel in readable:
                message, _ = channel.receive()
                silent_since = now_ns()
                done = part.get(message["attempt"])
                if done is not None and self._noted(done, sides[channel], message):
                    to_finish.append((now_ns() + 3 * max(self.lab.scene.one_way_ns) // 2 + _SETTLE_NS, done))
            now = now_ns()
            for _, done in [entry for entry in to_finish if entry[0] <= now]:
                done.finish_ns = now
                for channel in sides:
                    channel.send({"finish": done.planned.name})
            to_finish = [entry for entry in to_finish if entry[0] > now]
            if now > max(last_ns, silent_since) + _STALL_NS:
                raise LabBroken("the hosts' workers stopped reporting", todo="run again with --resume")

    def _noted(self, done: Done, side: str, message: Message) -> bool:
        """Take a report in; whether the attempt can now be told to finish."""
        end = done.a if side == "a" else done.b
        if message.get("finished"):
            end.finished = True
            end.transitions, end.evidence = message["transitions"], message["evidence"]
            return False
        end.ending, end.at_ns, end.cause = message["ending"], message["at_ns"], message["cause"]
        if done.concluded and not done.told_to_finish:
            done.told_to_finish = True
            return True
        return False
