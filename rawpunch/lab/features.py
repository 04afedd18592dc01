"""What this machine can do for the lab, found out by trying it in a child process's own namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from rawpunch.errors import MachineCannot, RawpunchError
from rawpunch.lab.namespaces import become_root_inside, new_network

_QUEUE = "-i lo -o lo -j NFQUEUE --queue-num 0"
_NFT_QUEUE = "table ip t {\n chain c {\n type filter hook forward priority mangle\n queue num 0\n }\n}\n"


def tried(attempt: Callable[[], None]) -> str:
    """Try something in a child process: "" if it went well, else the reason it gave."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        said = ""
        try:
            attempt()
        except (OSError, RawpunchError, subprocess.SubprocessError) as error:
            said = (error.why or error.what) if isinstance(error, RawpunchError) else str(error)
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return answer if status == 0 else answer or "the trial process died"


def _packet_socket_in_new_network() -> None:
    new_network()
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


def _rootless_network() -> None:
    become_root_inside()
    _packet_socket_in_new_network()


@cache
def user_namespaces() -> str:
    """Whether this user can make user and network namespaces with power in them: "" if so, else the reason why not."""
    return tried(_rootless_network)


@cache
def root_namespaces() -> str:
    """Whether this process can make network namespaces as it is: "" if so, else the reason why not."""
    return tried(_packet_socket_in_new_network)


def choose_rootless() -> bool:
    """Whether the lab runs rootless: it does wherever the system allows, and as root otherwise.

    Raises:
        MachineCannot: neither works.
    """
    if not user_namespaces():
        return True
    if not root_namespaces():
        return False
    raise MachineCannot(
        "this machine does not let this user make network namespaces",
        why=f"as this user: {user_namespaces()}; as root: {root_namespaces()}",
        todo="allow user namespaces (rawpunch doctor says how), or run as root",
    )


def as_in_a_lab(attempt: Callable[[], None]) -> str:
    """Try something with the rights and the network namespace of a lab's own: "" if it went well, else the reason it gave."""

    def inside() -> None:
        if not user_namespaces():
            become_root_inside()
        new_network()
        attempt()

    return tried(inside)


def in_scratch_network(command: list[str], text: str | None = None) -> str:
    """Run a command in a scratch network namespace of its own: "" if it succeeds, else what it said."""

    def attempt() -> None:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            raise MachineCannot((done.stderr or done.stdout).strip() or f"exit status {done.returncode}")

    return as_in_a_lab(attempt)


def tool(name: str) -> str | None:
    """The path of a program, also looking where Debian hides administrators' tools from ordinary users."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


DELAY_WAYS: Final = ("netem", "nft-queue", "iptables-queue")
"""The ways to delay packets, best first: `netem` is the kernel's own, the others hand packets to a NetfilterQueue delay line."""


@cache
def without_delay_way(name: str) -> str:
    """Whether one of `DELAY_WAYS` works here: "" if so, else why not."""
    program = {"netem": "tc", "nft-queue": "nft", "iptables-queue": "iptables"}[name]
    path = tool(program)
    if path is None:
        return f"{program} is missing"
    if name == "netem":
        return in_scratch_network([path, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
    if name == "nft-queue":
        return in_scratch_network([path, "-f", "-"], _NFT_QUEUE)
    return in_scratch_network([path, "-t", "mangle", "-A", "FORWARD", *_QUEUE.split()])


def choose_delay_way() -> str:
    """The first of `DELAY_WAYS` that works.

    Raises:
        MachineCannot: none does.
    """
    for name in DELAY_WAYS:
        if not without_delay_way(name):
            return name
    reasons = "; ".join(f"{name}: {without_delay_way(name)}" for name in DELAY_WAYS)
    raise MachineCannot("this kernel has no way to delay packets", why=reasons, todo="install iptables, or a kernel with netem")


def kernel_release() -> str:
    """The kernel's release string."""
    return Path("/proc/sys/kernel/osrelease").read_text(encoding="ascii").strip()
