"""The bench in virtual time: each attempt in a world of its own, one after the other on a clock that begins at a fixed instant.

It leaves what the lab leaves, the ends' reports and one capture, so that the same rows are made from it. Kernel ends are played
by the `linux` profile, raw ends by the one that the attempt names. What happens depends on the seed and on the attempts' names
and order alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.errors import BadParameter
from rawpunch.live.end import Order
from rawpunch.live.listening_end import poke_of
from rawpunch.live.machines import machine_of
from rawpunch.machine import Abort, Changed, Listen
from rawpunch.nat import personas
from rawpunch.replay.part import Part
from rawpunch.rng import stream
from rawpunch.scene import OBSERVERS, SIDES, VANTAGES, Scene
from rawpunch.sim.attempt import learn
from rawpunch.sim.host import End, SimEnd
from rawpunch.sim.world import Sighting, World
from rawpunch.study.aiming import RELAY, Asked, Question, questions, targets
from rawpunch.study.bench import Done, Planned, Recording, Side
from rawpunch.study.orders import orders_of
from rawpunch.study.sampling import PlannedSample, Sampled, sample_of
from rawpunch.study.sim_sampling import sampled
from rawpunch.tcp.branches import Prober, parse_branch
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode_packet
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Packet

EPOCH_NS: Final = 1_767_225_600 * SECOND
"""When virtual time begins: 2026-01-01, 00:00 UTC."""

_FIRST_PORT: Final = 20_000
_PORTS: Final = 40_000
_ARMING_NS: Final = 100 * MS
_SETTLE_NS: Final = 10 * MS


class SimBench:
    """Attempts in the simulator.

    Args:
        seed: source of all chance.
    """

    name = "sim"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._scene = Scene()
        self._now = EPOCH_NS
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is held."""

    def use(self, scene: Scene) -> None:
        """Turn the world into another scene."""
        self._scene = scene

    def describe(self) -> dict[str, Any]:
        """The scene. A persona that comes with the toolkit is named, any other NAT is there with all that it does."""
        scene = self._scene.model_dump(mode="json")
        for key, nat in ((f"nat_{side}", self._scene.nat(side)) for side in SIDES):
            if nat is not None and nat.persona in personas.names() and nat.behavior == personas.load(nat.persona).behavior:
                scene[key] = {"persona": nat.persona}
        return {"scene": scene, "made_by": "the machines of this toolkit, in virtual time"}

    def make(self, attempts: list[Planned], capture: Path) -> Recording:
        """Make these attempts and write what was seen.

        Raises:
            BadParameter: an end is of a kind that cannot be simulated, or follows no known profile.
            Unreadable: what a replay end is to play cannot be read.
        """
        done: list[Done] = []
        sightings: list[Sighting] = []
        for planned in attempts:
            one, seen = self._attempt(planned)
            done.append(one)
            sightings += seen
        comment = f"rawpunch, simulated, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}"
        write_pcapng(capture, [Interface(vantage, RAW_IP) for vantage in VANTAGES], _recorded(sightings), comment=comment)
        return Recording(done, capture, 0)

    def sample(self, attempts: list[Planned], capture: Path) -> Sampled:
        """Take these samples, each in a world of its own, and write what was seen."""
        samples: list[PlannedSample] = []
        sightings: list[Sighting] = []
        for planned in attempts:
            scene = planned.scene or self._scene
            sample = replace(sample_of(planned, scene, self._seed, self._made), began_ns=self._now + _ARMING_NS)
            self._made += len(sample.connections)
            seed = stream(self._seed, "world", planned.name).getrandbits(32)
            seen, over_ns = sampled(sample, scene, seed=seed, start_ns=self._now)
            self._now = over_ns + _ARMING_NS
            samples.append(sample)
            sightings += seen
        comment = f"rawpunch, simulated, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}"
        write_pcapng(capture, [Interface(vantage, RAW_IP) for vantage in VANTAGES], _recorded(sightings), comment=comment)
        return Sampled(samples, capture, 0)

    def _attempt(self, planned: Planned) -> tuple[Done, list[Sighting]]:
        began_ns = self._now
        seed = stream(self._seed, "world", planned.name).getrandbits(32)
        scene = planned.scene or self._scene
        world = World(scene, seed=seed, start_ns=began_ns)
        port = _FIRST_PORT + self._made % _PORTS
        self._made += 1
        asked = _ask(world, [one for side in SIDES for one in questions(planned.attempt.aim, scene, side, port)])
        learned_ns = world.now
        offset_ns, start_ns = planned.attempt.offset_ns, learned_ns + _ARMING_NS
        a, b = orders_of(
            planned,
            scene,
            port=port,
            at_ns=(start_ns + max(0, -offset_ns), start_ns + max(0, offset_ns)),
            seed=self._seed,
            aims=targets(planned.attempt.aim, scene, port, asked),
        )
        ends = [_end(world, host, order) for host, order in (("hostA", a), ("hostB", b))]
        world.run(until=lambda: all(end.ending is not None for end in ends))
        there_ns, back_ns = scene.one_way_ns
        finish_ns = world.now + 3 * max(there_ns, back_ns) // 2 + _SETTLE_NS
        world.run(until_ns=finish_ns)
        for host, end in zip(("hostA", "hostB"), ends, strict=True):
            world.do(host, end, Abort())
        world.run(until_ns=finish_ns + 2 * (there_ns + back_ns) + 2 * _SETTLE_NS)
        self._now = world.now + _ARMING_NS
        one = Done(
            planned,
            _side(a, ends[0]),
            _side(b, ends[1]),
            told_to_finish=True,
            finish_ns=finish_ns,
            began_ns=learned_ns,
            over_ns=world.now,
            asked=asked,
        )
        for happening in world.happenings:
            if isinstance(happening.what, Changed) and happening.time_ns > learned_ns:
                one.nats.setdefault(happening.node, []).append(_transition(happening.time_ns, happening.what))
        return one, world.sightings


def _ask(world: World, asking: Sequence[Question]) -> list[Asked]:
    """What observers answer to these questions, those of both sides to one observer at the same time."""
    answers = []
    for place, observer in enumerate(OBSERVERS.values()):
        local = {question.side: question.local for question in asking if question.place == place}
        remote = Endpoint(observer[0], RELAY.port)
        seen = learn(world, local, remote) if local else {}
        answers += [
            Asked(question, remote, seen[question.side], world.now)
            for question in asking
            if question.place == place and question.side in seen
        ]
    return answers


def _end(world: World, host: str, order: Order) -> End:
    """The end that an order asks for, with its start planned."""
    if order.kind == "replay":
        part = Part.read(Path(order.script))
        player = part.player(local=order.local, remote=order.remote, iss=order.iss)
        playing = world.player(host, player, give_up_ns=order.give_up_ns)
        world.open(host, playing, order.at_ns)
        return playing
    if order.kind == "prober":
        prober = End(
            Prober(order.local, order.remote, iss=order.iss, puts=parse_branch(order.script)), give_up_ns=order.give_up_ns
        )
        world.host(host).add(prober)
        world.open(host, prober, order.at_ns)
        return prober
    if order.kind not in {"kernel", "raw", "listening"}:
        raise BadParameter(
            f"the simulator has no {order.kind} ends", todo="kernel, raw, listening, replay or prober; or --on lab"
        )
    if order.kind == "listening":
        listening = world.end(host, order.local, None, stack=order.profile, give_up_ns=order.give_up_ns)  # with an ISN of its own
        world.do(host, listening, Listen())
        poke = poke_of(order)
        if poke is not None:
            world.at(order.at_ns, world.host(host).emit, poke)
        return listening
    end = SimEnd(machine_of(order), give_up_ns=order.give_up_ns)
    world.host(host).add(end)
    world.open(host, end, order.at_ns)
    return end


def _side(order: Order, end: End) -> Side:
    return Side(
        order,
        ending=end.ending.value if end.ending else "",
        at_ns=end.at_ns,
        cause=end.cause,
        finished=True,
        transitions=[_transition(at_ns, change) for at_ns, change in end.transitions],
    )


def _transition(at_ns: int, change: Changed) -> dict[str, Any]:
    return {"time_ns": at_ns, "before": change.before, "after": change.after, "rule": change.rule, "cause": change.cause}


def _recorded(sightings: Iterable[Sighting]) -> Iterator[Recorded]:
    interfaces = {vantage: number for number, vantage in enumerate(VANTAGES)}
    packet: Packet | None = None
    data = b""
    for seen in sightings:
        if seen.packet is not packet:  # the same at both ends of a cable
            packet = seen.packet
            data = encode_packet(packet)
        yield Recorded(seen.time_ns, interfaces[seen.vantage], data, len(data), seen.outgoing)
