"""The NAT machine as a program of its own, started as a user starts his: `cmd:python -m rawpunch.lab.box_program PERSONA [SEED]`.

It finds its devices and addresses in the environment and does the rest itself, so it is also a model for other programs, and a
check that what is called by `cmd:` is as good a NAT as the lab's own.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

from rawpunch.channel import Channel
from rawpunch.errors import BadParameter, LabBroken, MachineCannot, RawpunchError
from rawpunch.lab import boxes
from rawpunch.lab.features import tool
from rawpunch.lab.nat_rules import silent_ruleset
from rawpunch.nat import personas
from rawpunch.nat.box import INSIDE, OUTSIDE
from rawpunch.nat.reading import table_of

_SIOCGIFHWADDR: Final = 0x8927
_ARP: Final = Path("/proc/thread-self/net/arp")
_IPV4: Final = "0800"


def main() -> int:
    """Be that NAT until something ends this process; returns the exit status."""
    try:
        _serve(sys.argv[1:])
    except RawpunchError as error:
        print(f"box_program: {error}", file=sys.stderr)  # noqa: T201  a program's own words
        return error.exit_code
    return 0


def _serve(words: list[str]) -> None:
    if not 1 <= len(words) <= 2 or not words[-1]:
        raise BadParameter("it takes a persona, and perhaps a seed", todo="box_program full-cone 7")
    behavior = personas.load(words[0]).behavior
    devices = {INSIDE: _given("INSIDE_DEVICE"), OUTSIDE: _given("OUTSIDE_DEVICE")}
    _silence()
    mine, theirs = Channel.pair("nobody", "the box")
    boxes.serve(
        theirs,
        behavior=table_of(behavior),
        external=_given("OUTSIDE_ADDRESSES").split(),
        inside=_given("INSIDE_ADDRESS"),
        headers={port: _header(device) for port, device in devices.items()},
        seed=int(words[1]) if len(words) > 1 else 0,
    )
    mine.close()


def _given(name: str) -> str:
    value = os.environ.get(f"RAWPUNCH_{name}", "")
    if not value:
        raise BadParameter(f"RAWPUNCH_{name} is not set", todo="start it by `rawpunch lab up --nat-a cmd:...`")
    return value


def _silence() -> None:
    """Have the kernel take nothing in and forward nothing."""
    path = tool("nft")
    if path is None:
        raise MachineCannot("nft is not installed", todo="./dev demo installs what is missing")
    done = subprocess.run([path, "-f", "-"], input=silent_ruleset(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabBroken("the kernel cannot be kept out of it", why=done.stderr.strip())


def _header(device: str) -> str:
    """The Ethernet header, in hexadecimal, of frames to the one neighbour that a device has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("16s24x", device.encode()))
    own = answer[18:24].hex()
    rows = [line.split() for line in _ARP.read_text(encoding="ascii").splitlines()[1:]]
    peers = {row[3].replace(":", "") for row in rows if row[-1] == device}
    if len(peers) != 1:
        raise LabBroken(f"{device} has {len(peers)} neighbours", why="a link has one")
    return peers.pop() + own + _IPV4


if __name__ == "__main__":
    sys.exit(main())
