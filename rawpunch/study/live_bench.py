"""The bench without a lab: a prober here takes a stack elsewhere through its branches, over the loopback or a real path.

The stack is the kernel here, if the target is an address of this host, or a program that leads to it (`live.stack_program`). What
may be a target is the safety policy's business (`live.policy`). What was recorded is what the prober sent, and what came for it.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, LabBroken
from rawpunch.live.confines import is_free
from rawpunch.live.policy import CappedPort, Entry, check_consent
from rawpunch.live.replay_alone import address_towards, check_target
from rawpunch.live.sockets import RawPort
from rawpunch.live.worker import Worker
from rawpunch.rng import stream
from rawpunch.scene import SIDES, Scene
from rawpunch.study.bench import Done, Recording, Side, start_stack
from rawpunch.study.orders import orders_of
from rawpunch.study.planned import Planned
from rawpunch.study.sampling import Sampled
from rawpunch.tcp.branches import parse_branch
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint

LOOPBACK: Final = Endpoint("127.0.0.1", 0)
"""The target that needs nobody's leave: this host's own kernel."""
VANTAGE: Final = "hostA:eth0"
"""Where a prober's packets are recorded, in the words of a scene."""
_NOTHING: Final = struct.pack("HBBI", 6, 0, 0, 0)
"""A filter that passes no packet (BPF_RET 0): a kernel's or a program's end has no use for them."""
_FIRST_PORT: Final = 20_000
_PORTS: Final = 8_000
"""Below the ports that a kernel gives to connections of its own."""
_ARMING_NS: Final = 150 * MS
_APART_NS: Final = 15 * MS
"""From one attempt to the next, on a path of which nobody else has to be asked."""
_SETTLE_NS: Final = 60 * MS
"""From an attempt's conclusion to its close: what was answered last has then come."""
_STALL_NS: Final = 20 * SECOND


class _Notebook:
    """Packets of a prober, noted as they pass."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: list[Recorded] = []

    def note(self, data: bytes, *, outgoing: bool) -> None:
        """Keep a packet."""
        with self._lock:
            self._noted.append(Recorded(now_ns(), 0, data, len(data), outgoing))

    def take(self) -> list[Recorded]:
        """What was kept since the last time."""
        with self._lock:
            noted, self._noted = self._noted, []
        return noted


class _NotingPort(CappedPort):
    """Raw sockets towards one target that note what passes between it and us, and nothing else.

    Args:
        target: the only address that packets may go to.
        per_s: packets in a second, after a burst of as many.
        notebook: where they are noted.
    """

    def __init__(self, target: Endpoint, per_s: int, notebook: _Notebook) -> None:
        super().__init__(target, per_s)
        self._notebook = notebook
        self._peer = socket.inet_aton(target.address)

    def send(self, packet: bytes, address: str) -> None:
        """Put the ready bytes of an IP packet on the wire."""
        super().send(packet, address)
        self._notebook.note(packet, outgoing=True)

    def receive(self) -> Iterator[bytes]:
        """The packets that have come from the target since the last call."""
        for data in super().receive():
            if data[12:16] == self._peer:
                self._notebook.note(data, outgoing=False)
                yield data


class LiveBench:
    """Attempts of a prober here against a stack, its own kernel's or a program's.

    Args:
        seed: initial sequence numbers come from it.
        target: the address that the stack opens from, and perhaps the one port; port 0 for a port of its own for each opening.
        policy: the policy file; None for the one at its usual place.

    Raises:
        PolicyRefused: the target is not allowed, or does not cooperate.
        BadParameter: the target is an IPv6 address, or somebody has to be asked and it has no port.
        MachineCannot: no route to the target, or no right to open raw sockets.
    """

    name = "live"

    def __init__(self, seed: int, target: Endpoint, policy: Path | None = None) -> None:
        self._seed = seed
        self._target = target
        if not target.port and not target.is_ipv6 and not is_free(target):
            raise BadParameter(f"{target.address} was named without a port", why="its owner allows ports", todo="ADDRESS:PORT")
        self._entry: Entry | None = check_target(target if target.port else Endpoint(target.address, _FIRST_PORT), policy)
        self._address = _opposite(target)
        self._notebook = _Notebook()
        self._hosts: dict[str, Channel] = {}
        self._threads: list[threading.Thread] = []
        self._open = ExitStack()
        self._port: CappedPort | None = None
        self._scene = Scene.between(None, None, 0)
        self._started: set[str] = set()
        self._made = 0

    def __enter__(self) -> Self:
        if self._entry is not None:
            check_consent(self._entry)
        per_s = self._entry.packets_per_s if self._entry is not None else SECOND // MS
        self._port = self._open.enter_context(closing(_NotingPort(self._target, per_s, self._notebook)))
        ports: dict[str, RawPort] = {"a": self._port, "b": self._open.enter_context(closing(RawPort(_NOTHING)))}
        for side, port in ports.items():
            mine, theirs = Channel.pair("the bench", f"the {'prober' if side == 'a' else 'stack'}'s side")
            self._open.callback(theirs.close)
            self._open.callback(mine.close)
            self._hosts[side] = mine
            self._threads.append(threading.Thread(target=Worker(theirs, port).run, name=f"rawpunch-{side}", daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for channel in self._hosts.values():
            channel.sock.shutdown(socket.SHUT_RDWR)  # their loops end, and with them the programs
        for thread in self._threads:
            thread.join()
        self._open.close()
        self._hosts.clear()
        self._threads.clear()

    def use(self, scene: Scene) -> None:
        """The path is as it is: a scene can only say that there is no NAT.

        Raises:
            BadParameter: it has a NAT.
        """
        if scene.nat_a is not None or scene.nat_b is not None:
            raise BadParameter("a live path has the NATs that it has", why="the experiment wants its own", todo="--on lab")
        self._scene = scene

    def describe(self) -> dict[str, Any]:
        """Who speaks to whom, and who allowed it."""
        return {
            "scene": self._scene.model_dump(mode="json"),
            "prober": self._address,
            "target": str(self._target) if self._target.port else self._target.address,
            "policy": self._entry.model_dump(mode="json") if self._entry is not None else "free: the loopback, or a lab",
        }

    def make(self, attempts: list[Planned], capture: Path) -> Recording:
        """Make these attempts, overlapping, and write what the prober sent and got.

        Raises:
            BadParameter: they are no prober's against a kernel or a program, or a program is no stack.
            LabBroken: a side stopped reporting.
        """
        for planned in attempts:
            self._check(planned)
        lost_before = self._lost
        part = {done.planned.name: done for done in self._orders(attempts)}
        for done in part.values():
            for side, end in (("a", done.a), ("b", done.b)):
                self._hosts[side].send({"order": end.order.to_message()})
        self._attend(part)
        comment = f"rawpunch, live, seed {self._seed}, {attempts[0].name} to {attempts[-1].name}"
        seen_at = Interface(VANTAGE, RAW_IP, f"the prober's, towards {self._target.address}")
        write_pcapng(capture, [seen_at], self._notebook.take(), comment=comment)
        return Recording(list(part.values()), capture, self._lost - lost_before)

    def sample(self, attempts: list[Planned], capture: Path) -> Sampled:  # noqa: ARG002  a bench's
        """Nothing is sampled here.

        Raises:
            BadParameter: always.
        """
        raise BadParameter(f"{attempts[0].cell_name}: no ports are sampled on a live path", todo="rawpunch probe, or --on lab")

    @property
    def _lost(self) -> int:
        return self._port.lost if self._port is not None else 0

    def _check(self, planned: Planned) -> None:
        wanted = planned.attempt
        if wanted.end_a != "prober" or wanted.end_b not in {"kernel", "stack"}:
            raise BadParameter(
                f"{planned.cell_name}: end A is {wanted.end_a}, end B is {wanted.end_b}",
                why="on a live path a prober takes a kernel, or a program that is a stack, through branches",
                todo="--on lab, or --stack kernel, or --stack cmd:PROGRAM",
            )
        if wanted.end_b == "kernel" and not _is_here(self._target):
            raise BadParameter(
                f"{self._target.address} is no address of this host, so its stack cannot be told to open from here",
                todo='--stack "cmd:... python -m rawpunch.live.stack_program", run where that stack is',
            )
        if wanted.end_b == "stack" and wanted.script_b not in self._started:
            start_stack(self._hosts["b"], wanted.script_b, {"RAWPUNCH_ADDRESS": self._target.address})
            self._started.add(wanted.script_b)

    def _orders(self, attempts: Sequence[Planned]) -> Iterator[Done]:
        at_ns = now_ns() + _ARMING_NS + 2 * MS * len(attempts)
        dice = stream(self._seed, "schedule", self._made)
        for planned in attempts:
            port = _FIRST_PORT + self._made % _PORTS
            self._made += 1
            mine, theirs = Endpoint(self._address, port), Endpoint(self._target.address, self._target.port or port)
            aims = {SIDES[0]: mine, SIDES[1]: theirs}
            a, b = orders_of(planned, self._scene, port=port, at_ns=(at_ns, at_ns), seed=self._seed, aims=aims)
            yield Done(planned, Side(replace(a, local=mine)), Side(replace(b, local=theirs)))
            at_ns += self._apart_ns(planned) + dice.randrange(2 * MS)

    def _apart_ns(self, planned: Planned) -> int:
        """From one attempt to the next, so that the target gets no more packets than its owner allows."""
        if self._entry is None:
            return _APART_NS
        packets = len(parse_branch(planned.attempt.script_a)) + 1
        return max(_APART_NS, packets * SECOND // self._entry.packets_per_s)

    def _attend(self, part: dict[str, Done]) -> None:
        """Listen to both sides until every attempt is finished, and tell them when to finish one."""
        sides = {channel: side for side, channel in self._hosts.items()}
        to_finish: list[tuple[int, Done]] = []
        quiet_until = max(max(done.a.order.give_up_ns, done.b.order.give_up_ns) for done in part.values()) + _STALL_NS
        while not all(done.finished for done in part.values()):
            due = min((at for at, _ in to_finish), default=now_ns() + SECOND)
            for channel in select.select(list(sides), [], [], max(due - now_ns(), 0) / SECOND)[0]:
                message, _ = channel.receive()
                done = part[message["attempt"]]
                end = done.a if sides[channel] == "a" else done.b
                if message.get("finished"):
                    end.finished, end.transitions, end.evidence = True, message["transitions"], message["evidence"]
                    continue
                end.ending, end.at_ns, end.cause = message["ending"], message["at_ns"], message["cause"]
                if done.concluded and not done.told_to_finish:
                    done.told_to_finish = True
                    to_finish.append((now_ns() + _SETTLE_NS, done))
            now = now_ns()
            for _, done in (entry for entry in to_finish if entry[0] <= now):
                done.finish_ns = now
                for channel in sides:
                    channel.send({"finish": done.planned.name})
            to_finish = [entry for entry in to_finish if entry[0] > now]
            if now > quiet_until or not all(thread.is_alive() for thread in self._threads):
                raise LabBroken("a side of the live path stopped reporting", todo="run again with --resume")


def _opposite(target: Endpoint) -> str:
    """The address to speak to a target from; on the loopback another one of it, so that the two are told apart."""
    mine = address_towards(target)
    if mine != target.address:
        return mine
    if not mine.startswith("127."):
        raise BadParameter(
            f"{mine} is this host's own address", why="nothing that is sent to it leaves", todo="--target 127.0.0.1"
        )
    return "127.0.0.2" if mine != "127.0.0.2" else "127.0.0.3"


def _is_here(target: Endpoint) -> bool:
    """Whether an address is this host's."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((target.address, 0))
        except OSError:
            return False
    return True
