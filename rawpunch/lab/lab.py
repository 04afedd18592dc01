"""A lab: a scene made of kernel hosts, NATs and delays, alive as long as its context.

    with Lab(Scene.symmetric(20 * MS)) as lab:
        lab.run("natA", ["nft", "list", "ruleset"])

Everything in it lives in namespaces held by one keeper process; nothing of the host's own namespace is touched, and nothing stays
behind, whatever ends this process.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rawpunch.channel import Channel, Message
from rawpunch.errors import LabBroken
from rawpunch.lab import features, wiring
from rawpunch.lab.nat_rules import LEAK_COUNTER, TABLE, port_map_elements
from rawpunch.lab.warden import ending_of
from rawpunch.nat.behavior import Invalid
from rawpunch.scene import VANTAGES, Scene

_COUNTER = re.compile(r"packets (\d+)")


class Lab:
    """Kernel hosts, NATs and delays as a scene declares them.

    Args:
        scene: what to build.
        rootless: user namespaces (True), the privileges of this process (False), or whichever works (None).
        way: one of `features.DELAY_WAYS`; None for the first that works.
        nats: side, or `wiring.CARRIER` -> how its NAT is made, one of the words of `wiring.made_by`; what is not named is made
            as suits it best.
        seed: of the chance in NATs that are boxes.
        standing: whether it is to outlive this process (see `stand`): it then holds none of this process's files open.

    Raises:
        MachineCannot: this machine cannot build it; the message says why and what to do.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        rootless: bool | None = None,
        way: str | None = None,
        nats: Mapping[Any, str] | None = None,
        seed: int = 0,
        standing: bool = False,
    ) -> None:
        self.scene = scene
        self.rootless = features.choose_rootless() if rootless is None else rootless
        self.way = way or features.choose_delay_way()
        self._wishes: dict[str, str] = dict(nats or {})
        self._seed = seed
        self._made: dict[str, str] = {}
        self._boxes: dict[str, Channel] = {}
        self._standing = standing
        self.nodes: dict[str, int] = {}
        self.pid = 0
        self.delay_priority = ""
        self._workers: list[Channel] = []
        self._delay: Channel | None = None
        self._recorder: Channel | None = None
        self._keeper: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _build(self) -> None:
        mine, theirs = Channel.pair("the lab's owner", "the lab's keeper")
        arguments = [str(theirs.fileno()), str(os.getpid()), "rootless" if self.rootless else "root"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rawpunch.lab.keeper", *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if self._standing else sys.stderr,
            stderr=subprocess.DEVNULL if self._standing else None,
            start_new_session=True,  # Ctrl-C is for us; we take the lab down in order
        )
        theirs.close()
        self._keeper = mine
        devices = self._devices()
        built = mine.ask(
            {
                "do": "build",
                "nodes": list(wiring.nodes(self.scene)),
                "links": wiring.link_batch(self.scene),
                "configure": {
                    node: {
                        "sysctls": wiring.sysctls(node),
                        "ip": wiring.node_batch(self.scene, node),
                        "devices": devices[node],
                    }
                    for node in wiring.nodes(self.scene)
                },
            }
        )
        self.pid, self.nodes = built["pid"], built["nodes"]
        self._set_nats()
        self._set_delays(first=True)

    def _devices(self) -> dict[str, list[str]]:
        cables = wiring.cables(self.scene)
        return {node: [end.name for cable in cables for end in cable if end.node == node] for node in wiring.nodes(self.scene)}

    def _set_nats(self) -> None:
        places = wiring.places(self.scene)
        made = {place: wiring.made_by(self.scene, place, self._wishes.get(place, wiring.AUTO)) for place in places}
        for node, text in wiring.rules(self.scene, made).items():
            self.run(node, ["nft", "-f", "-"], text)
        for place, how in made.items():
            if how == wiring.RULES:
                for text in port_map_elements(wiring.nat_at(self.scene, place)):
                    self.run(places[place], ["nft", "-f", "-"], text)
            if how == wiring.BOX:
                self._set_box(place)
            elif place in self._boxes:
                self._stop(self._boxes.pop(place))
            if how.startswith(wiring.PROGRAM) and self._made.get(place) != how:
                self._set_program(place, how.removeprefix(wiring.PROGRAM))
        self._made = made

    def _set_box(self, place: str) -> None:
        arguments = wiring.box_arguments(self.scene, place, self._seed)
        box = self._boxes.get(place)
        if box is None:
            self._boxes[place] = self.start(wiring.places(self.scene)[place], "rawpunch.lab.boxes:serve", arguments)
            self._boxes[place].receive()
        else:
            box.ask({"behavior": arguments["behavior"]})

    def _set_program(self, place: str, program: str) -> None:
        environment = {
            "RAWPUNCH_INSIDE_DEVICE": "in",
            "RAWPUNCH_OUTSIDE_DEVICE": "out",
            "RAWPUNCH_INSIDE_ADDRESS": wiring.inside_of(self.scene, place),
            "RAWPUNCH_OUTSIDE_ADDRESSES": " ".join(wiring.outside_of(self.scene, place)),
        }
        node = wiring.places(self.scene)[place]
        self._ask({"do": "spawn", "node": node, "command": program, "environment": environment})

    def refusals(self, side: str) -> dict[str, int]:
        """What a NAT that is a box did not pass, by reason; nothing for a NAT made otherwise."""
        box = self._boxes.get(side)
        return dict(box.ask({})["refused"]) if box is not None else {}

    def _set_delays(self, *, first: bool) -> None:
        queued = self.way != "netem"
        delays = {str(rule.queue): rule.delay_ns for rule in wiring.delays(self.scene)} if queued else {}
        lines = {
            line.node: {"namespace": self.nodes[line.node], "headers": line.headers, "paths": line.paths}
            for line in wiring.lines(self.scene)
        }
        if first and (delays or lines):
            self._delay = self.start("core", "rawpunch.lab.delay:serve", {"delays": delays, "lines": lines, "seed": self._seed})
        if first or not queued:
            for command, text in wiring.delay_commands(self.scene, self.way):
                self.run("core", command, text)
        if self._delay is not None and first:
            self.delay_priority = self._delay.receive()[0]["priority"]
        elif self._delay is not None:
            self._delay.ask({"delays": delays, "lines": lines})

    def change(self, scene: Scene) -> None:
        """Change the NATs' behaviour and the delays to those of another scene with the same cables (see `wiring.cables`).

        A NAT that becomes another one forgets its mappings: conntrack would use one of the old again for the same inside port
        (`find_appropriate_src` in net/netfilter/nf_nat_core.c). Packets still held are released by the old delays.
        """
        before, self.scene = self.scene, scene
        self._set_nats()
        for place, node in wiring.places(scene).items():
            if wiring.nat_at(before, place) != wiring.nat_at(scene, place):
                self._ask({"do": "forget", "node": node})
        self._set_delays(first=False)

    def run(self, node: str, command: list[str], text: str = "", *, check: bool = True) -> str:
        """Run a command in a node and return its stdout.

        Raises:
            LabBroken: it failed, or the lab is gone.
        """
        answer = self._ask({"do": "run", "node": node, "command": command, "text": text, "check": check})
        return str(answer["stdout"])

    def start(self, node: str, entry: str, arguments: dict[str, Any]) -> Channel:
        """Start a worker process in a node.

        Args:
            node: where.
            entry: ``package.module:function``, called with a channel to us and the arguments.
            arguments: JSON-able keyword arguments.
        """
        if self._keeper is None:
            raise LabBroken("the lab is not up", todo="use it as a context manager")
        self._keeper.send({"do": "start", "node": node, "entry": entry, "arguments": arguments})
        answer, fds = self._keeper.receive()
        if "error" in answer:
            raise LabBroken(answer["error"], why=answer.get("why", ""))
        channel = Channel.adopt(fds[0], f"{entry} in {node}")
        self._workers.append(channel)
        return channel

    def record(self) -> None:
        """Begin to record at all vantage points."""
        vantages = {name: self.nodes[name.partition(":")[0]] for name in VANTAGES}
        self._recorder = self.start("core", "rawpunch.lab.recorder:serve", {"vantages": vantages})
        self._recorder.receive()

    def flush(self, path: Path | None, comment: str = "", *, keep: bool = False) -> tuple[int, int]:
        """Write what was recorded since the last flush.

        Args:
            path: the pcapng file; None throws the packets away.
            comment: the file's comment.
            keep: whether the next flush is to have these packets too.

        Returns:
            Packets written, and packets lost since recording began.
        """
        if self._recorder is None:
            raise LabBroken("nothing is recorded", todo="call record() first")
        answer = self._recorder.ask({"flush": str(path.resolve()) if path else "", "comment": comment, "keep": keep})
        return answer["packets"], answer["dropped"]

    def private_leaks(self) -> int:
        """Packets with a private source address that reached the core: the lab's invariant says none."""
        listed = self.run("core", ["nft", "list", "counter", "ip", TABLE, LEAK_COUNTER])
        found = _COUNTER.search(listed)
        if found is None:
            raise LabBroken("the core's counter of private sources is gone", why=listed.strip())
        return int(found[1])

    def check(self) -> None:
        """Verify that every node still has its devices, and that no program of the user's has failed.

        Raises:
            LabBroken: something is missing or has ended, named.
        """
        found = self._ask({"do": "check", "devices": self._devices()})
        if found["missing"]:
            lost = ", ".join(found["missing"])
            raise LabBroken(f"the lab lost {lost}", why="a device or its namespace was removed", todo="run again with --resume")
        for name, status in found["ended"].items():
            if status:
                node, _, command = name.partition(": ")
                what = f"the NAT program in {node} ended {ending_of(status)}"
                raise LabBroken(what, why=f"it was {command!r}", todo="look at its messages above")

    def ended_programs(self) -> dict[str, str]:
        """The user's programs that have ended, and how; one that only sets something up ends, and nothing is wrong."""
        found = self._ask({"do": "check", "devices": {}})["ended"]
        return {name: ending_of(status) for name, status in found.items()}

    @property
    def leaks_are_faults(self) -> bool:
        """Whether no packet with a private source may reach the core; one of a NAT whose behaviour is to leak is no fault."""
        nats = [wiring.nat_at(self.scene, place) for place in wiring.places(self.scene)]
        return all(nat is None or nat.behavior.invalid is not Invalid.LEAK for nat in nats)

    def _stop(self, channel: Channel) -> None:
        self._workers.remove(channel)
        channel.close()

    def stand(self) -> Message:
        """Let the lab outlive this process; returns the keeper's pid and the nodes' descriptors in it."""
        if self._keeper is None:
            raise LabBroken("the lab is not up", todo="use it as a context manager")
        self._keeper.send({"do": "stand"}, tuple(channel.fileno() for channel in self._workers))
        answer, _ = self._keeper.receive()
        self._process = None
        return answer

    def describe(self) -> dict[str, Any]:
        """Topology and exact rulesets, for a run's manifest."""
        return {
            "scene": self.scene.model_dump(mode="json"),
            "commands": wiring.describe(self.scene, self.way, self._made),
            "nats": dict(self._made),
            "delay_way": self.way,
            "delay_priority": self.delay_priority,
            "rootless": self.rootless,
        }

    def _ask(self, message: Message) -> Message:
        if self._keeper is None:
            raise LabBroken("the lab is not up", todo="use it as a context manager")
        return self._keeper.ask(message)

    def close(self) -> None:
        """Take the lab down and wait until its keeper is gone."""
        for channel in self._workers:
            channel.close()
        self._workers.clear()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
