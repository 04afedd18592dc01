"""The keeper: the one process that holds a lab's namespaces and starts everything that runs inside them.

It is started with a channel to whoever wants the lab, does what it is told, and ends when that channel closes or its parent
dies. All that it started ends with it, by the kernel's parent-death signal, and with the last process the namespaces go:
nothing has a name in the file system, so nothing can be left there.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rawpunch.channel import Channel, Message
from rawpunch.errors import RawpunchError
from rawpunch.lab.features import tool
from rawpunch.lab.namespaces import become_root_inside, call_yourself, die_with_parent, enter, new_network, outlive_parent
from rawpunch.lab.warden import ending_of, run

_SIOCETHTOOL: Final = 0x8946
_SPAWN_S: Final = 0.3
"""How long a program has to fail at once."""
_OFFLOADS_OFF: Final = (0x15, 0x17, 0x1F, 0x24, 0x2C)  # rx checksum, tx checksum, TSO, GSO, GRO


class Program:
    """A program of the user's, by its warden."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = abs(os.waitstatus_to_exitcode(status))
        return self._status


class Keeper:
    """Holds the namespaces and carries out one message after the other."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.nodes: dict[str, int] = {}
        self.children: set[int] = set()
        self.standing = False
        self.passing: list[Channel] = []  # channels that go out with the next answer
        self.programs: dict[str, Program] = {}
        self.kept: list[int] = []  # its workers' channels, once the lab stands by itself

    def serve(self) -> None:
        """Carry out messages until the channel closes; in a standing lab, until a signal."""
        while True:
            self._reap()
            if not select.select([self.channel], [], [], 1.0)[0]:
                continue
            try:
                message, fds = self.channel.receive()
                self.kept += fds
                self.channel.send(self._carried_out(message), tuple(channel.fileno() for channel in self.passing))
            except RawpunchError:  # whoever asked is gone, perhaps before the answer: by Ctrl-C
                if not self.standing:
                    return
                self.channel.close()
                signal.pause()
                return
            while self.passing:
                self.passing.pop().close()

    def _carried_out(self, message: Message) -> Message:
        try:
            answer: Message = getattr(self, f"do_{message.pop('do')}")(**message)
        except RawpunchError as error:
            return {"error": error.what, "why": error.why, "todo": error.todo}
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return answer

    def _reap(self) -> None:
        for pid in tuple(self.children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self.children.discard(pid)

    # --- what can be asked ---

    def do_build(self, nodes: list[str], links: list[str], configure: dict[str, Any]) -> Message:
        """Make the namespaces, the links between them, and configure each node."""
        for node in nodes:
            self.nodes[node] = new_network()
        places = {node: f"/proc/{os.getpid()}/fd/{fd}" for node, fd in self.nodes.items()}
        self._command(["ip", "-batch", "-"], "\n".join(line.format(**places) for line in links) + "\n")
        for node, todo in configure.items():
            with self._inside(node):
                for path, value in todo["sysctls"].items():
                    with contextlib.suppress(FileNotFoundError):  # IPv6 may be absent
                        (Path("/proc/sys/net") / path).write_text(value, encoding="ascii")
                for device in todo["devices"]:
                    _offloads_off(device)
                self._command(["ip", "-batch", "-"], "\n".join(todo["ip"]) + "\n")
        return {"pid": os.getpid(), "nodes": self.nodes}

    def do_run(self, node: str, command: list[str], text: str = "", check: bool = True) -> Message:
        """Run a command in a node and return what it printed."""
        with self._inside(node):
            done = self._command(command, text, check=check)
        return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

    def do_forget(self, node: str) -> Message:
        """Delete all conntrack entries of a node."""
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket  # noqa: PLC0415  slow to come, and seldom needed

        with self._inside(node), NFCTSocket() as conntrack:
            conntrack.flush()
        return {}

    def do_start(self, node: str, entry: str, arguments: Message) -> Message:
        """Fork a worker in a node.

        `entry` is ``package.module:function``; it is called with a channel to whoever asked, and the arguments.
        """
        mine, theirs = Channel.pair(entry, "the lab's owner")
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            mine.close()
            self.channel.close()
            os._exit(_work(parent, node, self.nodes[node], entry, theirs, arguments))
        theirs.close()
        self.children.add(pid)
        self.passing.append(mine)
        return {"pid": pid}

    def do_spawn(self, node: str, command: str, environment: dict[str, str]) -> Message:
        """Start a program of the user's in a node; it ends with the lab."""
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os._exit(self._warden(parent, node, command, environment))
        program = Program(pid)
        end = time.monotonic() + _SPAWN_S
        while program.ended() is None and time.monotonic() < end:
            time.sleep(_SPAWN_S / 30)
        if status := program.ended():
            raise RawpunchError(f"{command!r} ended {ending_of(status)} in {node}", todo="look at its message above")
        self.programs[f"{node}: {command}"] = program
        return {"pid": pid}

    def _warden(self, parent: int, node: str, command: str, environment: dict[str, str]) -> int:
        """The life of a program's warden; returns its exit status."""
        try:
            enter(self.nodes[node])
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            self.channel.close()
            return run(parent, command, os.environ | environment)
        except BaseException:  # noqa: BLE001  a worker's last words before os._exit
            sys.excepthook(*sys.exc_info())
            return 1

    def do_check(self, devices: dict[str, list[str]]) -> Message:
        """Which of these devices (node -> names) are missing or down, and which programs have ended, with their status."""
        missing = []
        for node, names in devices.items():
            with self._inside(node):
                present = Path("/proc/thread-self/net/dev").read_text(encoding="ascii")
                missing += [f"{node}:{name}" for name in names if f" {name}:" not in f" {present}"]
        ended = {name: status for name, program in self.programs.items() if (status := program.ended()) is not None}
        return {"missing": missing, "ended": ended}

    def do_stand(self) -> Message:
        """Outlive whoever made the lab, until SIGTERM."""
        outlive_parent()
        self.standing = True
        return {"pid": os.getpid(), "nodes": self.nodes}

    # --- helpers ---

    @contextlib.contextmanager
    def _inside(self, node: str) -> Iterator[None]:
        if node not in self.nodes:
            raise RawpunchError(f"the lab has no node {node!r}", todo=f"use one of {', '.join(self.nodes)}")
        enter(self.nodes[node])
        yield  # the next thing enters its own node; nothing runs between

    def _command(self, command: list[str], text: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = tool(command[0])
        if path is None:
            raise RawpunchError(f"{command[0]} is not installed", todo="./dev demo installs what is missing")
        done = subprocess.run([path, *command[1:]], input=text, capture_output=True, text=True, timeout=30, check=False)
        if check and done.returncode:
            raise RawpunchError(f"{' '.join(command)} failed", why=(done.stderr or done.stdout).strip())
        return done


def _offloads_off(device: str) -> None:
    """Have the kernel compute checksums and cut segments itself, so that what is captured is what would be on a wire."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in _OFFLOADS_OFF:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            with contextlib.suppress(OSError):  # a device without this offload has it off
                fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP8x", device.encode(), ctypes.addressof(value)))


def _work(parent: int, node: str, namespace: int, entry: str, channel: Channel, arguments: Message) -> int:
    """The life of a worker process; returns its exit status."""
    try:
        die_with_parent(parent)
        call_yourself(f"{node} {entry.rpartition('.')[2].partition(':')[0]}")
        enter(namespace)
        module, _, function = entry.partition(":")
        getattr(importlib.import_module(module), function)(channel, **arguments)
    except RawpunchError as error:
        print(f"{entry}: {error}", file=sys.stderr)  # noqa: T201  its stderr is the user's
        return 1
    except BaseException:  # noqa: BLE001  a worker's last words before os._exit
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def main() -> None:
    """Entry of the keeper's process: descriptor of the channel, parent's pid, and whether to be rootless."""
    fd, parent, rootless = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "rootless"
    channel = Channel(socket.socket(fileno=fd), "the lab's owner")
    call_yourself("lab keeper")
    try:
        die_with_parent(parent)
        if rootless:
            become_root_inside()
            die_with_parent(parent)  # new credentials clear it
    except RawpunchError as error:
        channel.send({"error": error.what, "why": error.why, "todo": error.todo})
        return
    Keeper(channel).serve()


if __name__ == "__main__":
    main()
