"""A stack as a program: what `rawpunch run stack_conformance --stack cmd:PROGRAM` starts, and the kernel's own as a model of one.

PROGRAM is a command for the shell. It is told on its standard input what to do, and says on its standard output what came of it,
one line each, words parted by one space; whatever it writes to its standard error is shown.

    it says     ready                             first of all: it makes its own packets
    it says     ready sockets                     or: it opens by the sockets of the kernel that it runs on
    it is told  open 17 198.18.2.2:20017 198.18.1.2:20017
                                                  send a SYN from the first endpoint to the second, now; 17 is its number
    it says     17 established                    how the opening ended; or else refused (a RST answered the SYN), reset (a RST
                                                  came later), unreachable (an ICMP error), timed_out (it gave up)
    it says     17 failed no such address         it could not begin; the rest of the line says why
    it is told  close 17                          reset the connection if it is open, and forget it

Several openings are under way at once, each from a port of its own. A line that begins with # is passed over. When its standard
input ends, so is the program to.

In the lab PROGRAM runs in hostB's network namespace, in which it may do what it likes; RAWPUNCH_DEVICE is the device towards the
prober, RAWPUNCH_ADDRESS the address to open from, RAWPUNCH_GATEWAY the next hop. The kernel there has that address too: for a
program that is `ready` without sockets it is kept silent about each endpoint that is opened from, so a packet socket on the
device, or a TUN device that the program makes, will do. With `--on live --target ADDRESS` PROGRAM runs where rawpunch does, and
may lead to the stack by any way: `ip netns exec`, `nsenter`, `ssh`, `rawpunch lab exec`, the console of a virtual machine.

This module is such a program for the kernel that it runs on: `python -m rawpunch.live.stack_program`. It needs no right at all.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Final

from rawpunch.clock import now_ns
from rawpunch.errors import RawpunchError
from rawpunch.live.end import Order
from rawpunch.live.kernel_end import KernelEnd
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

READY: Final = "ready"
SOCKETS: Final = "sockets"
FAILED: Final = "failed"
OPEN: Final = "open"
CLOSE: Final = "close"
_PATIENCE_NS: Final = 3600 * SECOND
"""Who told it to open tells it when to give up."""
_OCTETS: Final = 65_536


def main() -> int:
    """Open and close as told until the standard input ends; returns the exit status."""
    ends: dict[str, KernelEnd] = {}
    waiting: dict[int, str] = {}  # descriptor -> number, of those that the kernel has not decided yet
    rest = b""
    _say(READY, SOCKETS)
    while True:
        readable, writable, _ = select.select([0], list(waiting), [])
        for descriptor in writable:
            number = waiting[descriptor]
            ends[number].ready(now_ns())
            _told(number, ends, waiting)
        if not readable:
            continue
        data = os.read(0, _OCTETS)
        if not data:
            return 0
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            _obey(line.decode(errors="replace").split(), ends, waiting)


def _obey(words: list[str], ends: dict[str, KernelEnd], waiting: dict[int, str]) -> None:
    match words:
        case ["open", number, local, remote]:
            try:
                ends[number] = _opened(number, Endpoint.parse(local), Endpoint.parse(remote))
            except RawpunchError as error:
                _say(number, FAILED, " ".join(filter(None, (error.what, error.why))))
                return
            waiting[ends[number].fileno()] = number
            _told(number, ends, waiting)
        case ["close", number] if number in ends:
            end = ends.pop(number)
            waiting.pop(end.fileno(), None)
            end.finish(now_ns())
        case _:
            print(f"stack_program: {' '.join(words)!r} is nothing to be told", file=sys.stderr)  # noqa: T201  its own words


def _opened(number: str, local: Endpoint, remote: Endpoint) -> KernelEnd:
    at_ns = now_ns()
    end = KernelEnd(Order(number, "kernel", local, remote, at_ns, at_ns + _PATIENCE_NS, iss=0, profile=""))
    end.launch(at_ns)
    return end


def _told(number: str, ends: dict[str, KernelEnd], waiting: dict[int, str]) -> None:
    """Say how an opening ended, if it did."""
    end = ends[number]
    if not end.undecided:
        waiting.pop(end.fileno(), None)
        _say(number, end.report.ending)


def _say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201  stdout is the protocol


if __name__ == "__main__":
    sys.exit(main())
