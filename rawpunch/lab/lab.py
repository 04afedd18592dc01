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
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rawpunch.channel import Channel, Message
from rawpunch.errors import LabBroken
from rawpunch.lab import features, wiring
from rawpunch.lab.nat_rules import LEAK_COUNTER, TABLE
from rawpunch.scene import VANTAGES, Scene

_COUNTER = re.compile(r"packets (\d+)")


class Lab:
    """Kernel hosts, NATs and delays as a scene declares them.

    Args:
        scene: what to build.
        rootless: user namespaces (True), the privileges of this process (False), or whichever works (None).
        way: one of `features.DELAY_WAYS`; None for the first that works.
        standing: whether it is to outlive this process (see `stand`): it then holds none of this process's files open.

    Raises:
        MachineCannot: this machine cannot build it; the message says why and what to do.
    """

    def __init__(self, scene: Scene, *, rootless: bool | None = None, way: str | None = None, standing: bool = False) -> None:
        self.scene = scene
        self.rootless = features.choose_rootless() if rootless is None else rootless
        self.way = way or features.choose_delay_way()
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
                "nodes": list(wiring.NODES),
                "links": wiring.link_batch(self.scene),
                "configure": {
                    node: {
                        "sysctls": wiring.sysctls(node),
                        "ip": wiring.node_batch(self.scene, node),
                        "devices": devices[node],
                    }
                    for node in wiring.NODES
                },
            }
        )
        self.pid, self.nodes = built["pid"], built["nodes"]
        self._set_rules()
        self._set_delays(first=True)

    def _devices(self) -> dict[str, list[str]]:
        return {
            node: [end.name for link in wiring.links(self.scene) for end in link if end.node == node] for node in wiring.NODES
        }

    def _set_rules(self) -> None:
        for node, text in wiring.rules(self.scene).items():
            self.run(node, ["nft", "-f", "-"], text)

    def _set_delays(self, *, first: bool) -> None:
        delays = {str(rule.queue): rule.delay_ns for rule in wiring.delays(self.scene)}
        if self.way == "netem" or first:
            if self.way != "netem":
                self._delay = self.start("core", "rawpunch.lab.delay:serve", {"delays": delays})
            for command, text in wiring.delay_commands(self.scene, self.way):
                self.run("core", command, text)
        if self._delay is not None and first:
            self.delay_priority = self._delay.receive()[0]["priority"]
        elif self._delay is not None:
            self._delay.ask({"delays": delays})

    def change(self, scene: Scene) -> None:
        """Change the NATs' behaviour and the delays to those of another scene with the same addresses.

        Conntrack entries of earlier attempts stay; packets still held are released by the old delays.
        """
        self.scene = scene
        self._set_rules()
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

    def flush(self, path: Path | None, comment: str = "") -> tuple[int, int]:
        """Write what was recorded since the last flush.

        Args:
            path: the pcapng file; None throws the packets away.
            comment: the file's comment.

        Returns:
            Packets written, and packets lost since recording began.
        """
        if self._recorder is None:
            raise LabBroken("nothing is recorded", todo="call record() first")
        answer = self._recorder.ask({"flush": str(path.resolve()) if path else "", "comment": comment})
        return answer["packets"], answer["dropped"]

    def private_leaks(self) -> int:
        """Packets with a private source address that reached the core: the lab's invariant says none."""
        listed = self.run("core", ["nft", "list", "counter", "ip", TABLE, LEAK_COUNTER])
        found = _COUNTER.search(listed)
        if found is None:
            raise LabBroken("the core's counter of private sources is gone", why=listed.strip())
        return int(found[1])

    def check(self) -> None:
        """Verify that every node still has its devices.

        Raises:
            LabBroken: something is missing, named.
        """
        missing = self._ask({"do": "check", "devices": self._devices()})["missing"]
        if missing:
            raise LabBroken(
                f"the lab lost {', '.join(missing)}", why="a device or its namespace was removed", todo="run again with --resume"
            )

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
            "commands": wiring.describe(self.scene, self.way),
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
