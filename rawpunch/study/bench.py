"""The bench: a driver that carries out planned attempts in a scene and says what its two ends and its recorder saw.

`LabBench` is the driver of the lab. It plans a part's instants, hands orders to the two hosts' workers, tells them when to
finish, and writes the capture; what the packets mean is found out afterwards, from the capture alone.
"""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from rawpunch.capture.columns import read_capture
from rawpunch.channel import Channel, Message
from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, LabBroken
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.live.end import Order
from rawpunch.record.rows import AttemptRow
from rawpunch.rng import stream
from rawpunch.scene import OBSERVERS, SIDES, Scene
from rawpunch.scene import Side as SideName
from rawpunch.study.aiming import RELAY, Aim, Asked, Question, questions, targets
from rawpunch.study.orders import orders_of
from rawpunch.study.planned import Planned
from rawpunch.study.sampling import Sampled, connection_of, first_seen, request, sample_of, silence_ruleset
from rawpunch.study.schedule import Schedule
from rawpunch.study.stage import Stage
from rawpunch.units import MS, SECOND

__all__ = ["Bench", "Done", "LabBench", "Planned", "Recording", "Side"]

_FIRST_PORT: Final = 20_000
_PORTS: Final = 40_000
_ARMING_NS: Final = 150 * MS
_ARMING_EACH_NS: Final = 2 * MS
_SETTLE_NS: Final = 10 * MS
_STALL_NS: Final = 20 * SECOND
_MOST_LABS: Final = 4


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
    sockets: int | None = None
    """Connections at its port before it was told to finish, if they were counted."""


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
    asked: Sequence[Asked] = ()
    """What observers were asked before, with their answers."""

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


@dataclass(slots=True)
class _Standing:
    """A lab that is up, and who works for us in it."""

    lab: Lab
    hosts: dict[str, Channel]
    samplers: dict[SideName, Channel] = field(default_factory=dict)
    counters: dict[SideName, Channel] = field(default_factory=dict)
    third: Channel | None = None
    stacks: set[tuple[SideName, str]] = field(default_factory=set)
    stage: Stage | None = None
    recording: bool = False


class LabBench:
    """Attempts in the lab, by kernel and raw ends.

    A lab of other cables is built beside those that are there, up to a few: rounds of attempts go through the same scenes again.

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
        self._labs: list[_Standing] = []  # the one in use is the last
        self._questions = 1
        self._ports = 0
        self._dice = stream(seed, "schedule")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take all labs down."""
        while self._labs:
            self._labs.pop().lab.close()

    @property
    def lab(self) -> Lab:
        """The lab in use."""
        return self._here.lab

    @property
    def _here(self) -> _Standing:
        if not self._labs:
            raise LabBroken("the bench has no lab yet", todo="use(scene) first")
        return self._labs[-1]

    def use(self, scene: Scene) -> None:
        """Build the scene, or change a lab that is there into it where the cables stay the same."""
        for number, standing in enumerate(self._labs):
            if wiring.cables(standing.lab.scene) == wiring.cables(scene):
                self._labs.append(self._labs.pop(number))
                standing.lab.change(scene)
                return
        while len(self._labs) >= _MOST_LABS:
            self._labs.pop(0).lab.close()
        lab = Lab(scene, rootless=self._rootless, nats=self._nats, seed=self._seed).__enter__()
        self._labs.append(_Standing(lab, {}))
        cpus = sorted(os.sched_getaffinity(0))
        self._here.hosts = {
            side: lab.start(f"host{side.upper()}", "rawpunch.live.worker:serve", {"cpu": cpu})
            for side, cpu in zip("ab", (cpus[0], cpus[-1]), strict=True)
        }
        for channel in self._here.hosts.values():
            channel.receive()

    def describe(self) -> dict[str, Any]:
        """The scene's topology and exact rulesets."""
        return self.lab.describe()

    def make(self, attempts: list[Planned], capture: Path) -> Recording:
        """Make these attempts, overlapping, and write what was captured.

        Raises:
            LabBroken: something in the lab died; nothing of this part is kept.
        """
        lost_before = self._record()
        made: list[Done] = []
        self._start_stacks(attempts)
        self._start_counters(attempts)
        for batch in _batches(attempts):
            part = {done.planned.name: done for done in self._orders(batch)}
            for done in part.values():
                for side, end in (("a", done.a), ("b", done.b)):
                    self._here.hosts[side].send({"order": end.order.to_message()})
            self._attend(part)
            made += part.values()
        time.sleep((2 * sum(self.lab.scene.one_way_ns) + 20 * MS) / SECOND)
        self.lab.check()
        leaks = self.lab.private_leaks()
        if leaks and self.lab.leaks_are_faults:
            raise LabBroken(f"{leaks} packets reached the core with a private source address", why="a NAT let them through")
        _, dropped = self.lab.flush(capture, f"rawpunch, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}")
        return Recording(made, capture, dropped - lost_before)

    def _start_stacks(self, attempts: Sequence[Planned]) -> None:
        """Start the programs that are to be stacks here, where they do not run yet.

        Raises:
            BadParameter: one is no such program.
        """
        for one in (planned.attempt for planned in attempts):
            wanted: tuple[tuple[SideName, str, str], ...] = (("a", one.end_a, one.script_a), ("b", one.end_b, one.script_b))
            for side, kind, command in wanted:
                if kind == "stack" and (side, command) not in self._here.stacks:
                    start_stack(self._here.hosts[side], command, self._told_of(side))
                    self._here.stacks.add((side, command))

    def _start_counters(self, attempts: Sequence[Planned]) -> None:
        if not self._here.counters and any(planned.attempt.count_sockets for planned in attempts):
            for side in SIDES:
                self._here.counters[side] = self.lab.start(f"host{side.upper()}", "rawpunch.live.socket_count:serve", {})
            for counter in self._here.counters.values():
                counter.receive()

    def _told_of(self, side: SideName) -> dict[str, str]:
        """What a program on a side's host is told of its place."""
        scene = self.lab.scene
        address = {"RAWPUNCH_ADDRESS": scene.host_address(side), "RAWPUNCH_GATEWAY": wiring.inside_of(scene, side)}
        return address | {"RAWPUNCH_DEVICE": "eth0"}

    def _record(self) -> int:
        """Record from here on; returns how many packets the recorder lost before."""
        if not self._here.recording:
            self.lab.record()
            self._here.recording = True
        return self.lab.flush(None)[1]

    def stage(self, attempts: list[Planned]) -> list[AttemptRow]:
        """Have programs do what is planned, one attempt after the other, in a lab where nothing is recorded.

        Raises:
            LabBroken: something in the lab died; nothing of this part is kept.
        """
        if self._here.recording:
            scene = self.lab.scene
            self._labs.pop().lab.close()
            self.use(scene)
        if self._here.stage is None:
            self._here.stage = Stage(self.lab, self._seed)
        rows = [self._here.stage.make(planned) for planned in attempts]
        self.lab.check()
        return rows

    def _sampler(self, side: SideName) -> Channel:
        """Who sends SYNs that nobody answers, on a side's host."""
        if not self._here.samplers:
            for observer in OBSERVERS:
                self.lab.run(observer, ["nft", "-f", "-"], silence_ruleset())
        if side not in self._here.samplers:
            self._here.samplers[side] = self.lab.start(f"host{side.upper()}", "rawpunch.live.sampling:serve", {})
            self._here.samplers[side].receive()
        return self._here.samplers[side]

    def _ask(self, asking: Mapping[str, Sequence[Question]]) -> dict[str, list[Asked]]:
        """What observers would answer to these questions: attempt -> its questions that were seen outside.

        A SYN goes to a silent port of an observer; what it looks like behind the NAT is in the capture. One that was lost is left
        out.
        """
        pairs = [(name, question) for name, asked in asking.items() for question in asked]
        if not pairs:
            return {}
        numbered = dict(enumerate(pairs, self._questions))  # the recording may hold earlier ones
        self._questions += len(pairs)
        for side in SIDES:
            mine = [connection_of(number, question) for number, (_, question) in numbered.items() if question.side == side]
            if mine:
                self._sampler(side).ask(request(mine))
        time.sleep((sum(self.lab.scene.one_way_ns) + 20 * MS) / SECOND)
        with tempfile.TemporaryDirectory(prefix="rawpunch-") as folder:
            path = Path(folder) / "asking.pcapng"
            self.lab.flush(path, keep=True)
            frame = read_capture(path)
        seen = {side: first_seen(frame, f"nat{side.upper()}:out", "out") for side in SIDES}
        answers: dict[str, list[Asked]] = {}
        for number, (name, question) in numbered.items():
            if number in seen[question.side]:
                at_ns, endpoint = seen[question.side][number]
                remote = connection_of(number, question).remote
                answers.setdefault(name, []).append(Asked(question, remote, endpoint, at_ns))
        return answers

    def sample(self, attempts: list[Planned], capture: Path) -> Sampled:
        """Take these samples, one after the other, and write what was captured.

        Raises:
            LabBroken: something in the lab died; nothing of this part is kept.
        """
        sampler = self._sampler("a")
        lost_before = self._record()
        samples = []
        for planned in attempts:
            sample = sample_of(planned, self.lab.scene, self._seed, self._ports)
            self._ports += len(sample.connections)
            told = sampler.ask(request(sample.connections, sample.interval_ns))
            samples.append(replace(sample, began_ns=told["first_ns"]))
        time.sleep((sum(self.lab.scene.one_way_ns) + 20 * MS) / SECOND)
        self.lab.check()
        _, dropped = self.lab.flush(capture, f"rawpunch, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}")
        return Sampled(samples, capture, dropped - lost_before)

    def _orders(self, attempts: list[Planned]) -> list[Done]:
        scene = self.lab.scene
        schedule = Schedule(scene.stops_ns, max(sum(scene.nat_to_nat_ns) // 2, 12 * MS), self._dice)
        ports = {planned.name: _FIRST_PORT + (self._ports + number) % _PORTS for number, planned in enumerate(attempts)}
        self._ports += len(ports)
        answers = self._ask(
            {
                one.name: [asked for side in SIDES for asked in questions(one.attempt.aim, scene, side, ports[one.name])]
                for one in attempts
            }
        )
        if any(planned.attempt.aim is Aim.RELAY for planned in attempts):
            self._relay()
        start = now_ns() + _ARMING_NS + _ARMING_EACH_NS * len(attempts)
        made = []
        for planned in attempts:
            slot = schedule.take(planned.attempt.offset_ns)
            port, asked = ports[planned.name], answers.get(planned.name, [])
            aims = targets(planned.attempt.aim, scene, port, asked)
            at_ns = (start + slot.a_ns, start + slot.b_ns)
            a, b = orders_of(planned, scene, port=port, at_ns=at_ns, seed=self._seed, aims=aims)
            made.append(Done(planned, Side(a), Side(b), asked=asked))
        return made

    def _relay(self) -> None:
        """Have a third party listen, if none does yet."""
        if self._here.third is None:
            arguments = {"addresses": [RELAY.address], "ports": [RELAY.port], "raw": False}
            self._here.third = self.lab.start("obs1", "rawpunch.live.observer:serve", arguments)
            self._here.third.receive()

    def _attend(self, part: dict[str, Done]) -> None:
        """Listen to both hosts until every attempt is finished, and tell them when to finish one."""
        to_finish: list[tuple[int, Done]] = []
        silent_since = now_ns()
        last_ns = max(max(done.a.order.give_up_ns, done.b.order.give_up_ns) for done in part.values())
        sides = {channel: side for side, channel in self._here.hosts.items()}
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
                if done.planned.attempt.count_sockets:
                    for side, end in zip(SIDES, (done.a, done.b), strict=True):
                        end.sockets = self._here.counters[side].ask({"count": end.order.local.port})["sockets"]
                done.finish_ns = now_ns()
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


def start_stack(host: Channel, command: str, environment: Mapping[str, str]) -> None:
    """Have a host's worker start a program that is a stack (`live.stack_program`), before any attempt is under way there.

    Raises:
        BadParameter: it is no such program.
    """
    host.send({"stack": command, "environment": dict(environment)})
    answer, _ = host.receive()
    if "error" in answer:
        raise BadParameter(answer["error"], why=answer["why"], todo=answer["todo"])


def _batches(attempts: Sequence[Planned]) -> Iterator[list[Planned]]:
    """What can be made together: all but those that must be alone."""
    together = [planned for planned in attempts if not planned.attempt.aim.alone]
    if together:
        yield together
    for planned in attempts:
        if planned.attempt.aim.alone:
            yield [planned]
