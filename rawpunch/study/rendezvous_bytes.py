"""Does user data touch the rendezvous server? Its traffic, octet by octet, in sessions that carry more and more (claim C22).

    python -m rawpunch.study.rendezvous_bytes

Two hosts behind NATs meet at a server and send each other as many octets as a session has. What the server's host sends and gets
is read from its network device, so nothing can pass it uncounted: headers, questions for the time and ARP count too. The claim
holds if the server's octets do not grow with the users': less than one in a thousand, by the upper end of the slope's interval.

It needs a program at the server and two that talk, which an experiment's attempts do not have, so it is a bench of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.errors import LabBroken, RawpunchError
from rawpunch.lab.lab import Lab
from rawpunch.live.punching import punch
from rawpunch.scene import Scene
from rawpunch.study.experiment import Verdict
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

KIBIBYTE: Final = 1 << 10
SIZES: Final = (0, 64 * KIBIBYTE, 1_024 * KIBIBYTE, 4_096 * KIBIBYTE)
"""Octets from each side to the other, in one session."""
REPEATS: Final = 3
BOUND: Final = 0.001
"""Octets of the server's for each of the users'; a relay would have two."""

_ADDRESS: Final = "192.0.2.2"
_PORT: Final = 7800
_ONE_WAY_NS: Final = 5 * MS
_COUNTERS: Final = "/proc/net/dev"
_LEAST: Final = 6
"""Sessions that a slope is computed from."""


@dataclass(frozen=True, slots=True)
class Session:
    """What one session carried."""

    user_octets: int
    """Both ways, as the receivers counted them."""
    server_octets: int
    """Both ways, at the device of the server's host."""


def measure(sizes: Sequence[int] = SIZES, repeats: int = REPEATS, *, method: str = "kernel") -> list[Session]:
    """Make sessions in a lab.

    Raises:
        LabBroken: a session did not come about, or lost octets.
        MachineCannot: this machine cannot build the lab.
    """
    sessions = []
    with Lab(Scene.symmetric(_ONE_WAY_NS)) as lab:
        server = lab.start("obs1", "rawpunch.live.rendezvous_server:serve", {"addresses": [_ADDRESS], "ports": [_PORT]})
        server.receive()
        hosts = [lab.start(host, "rawpunch.study.rendezvous_bytes:serve", {}) for host in ("hostA", "hostB")]
        for host in hosts:
            host.receive()
        for number, size in enumerate(size for _ in range(repeats) for size in sizes):
            before = _counted(lab)
            for host in hosts:
                host.send({"token": f"session {number}", "size": size, "method": method})
            found = [host.receive()[0] for host in hosts]
            if [one.get("came") for one in found] != [size, size]:
                raise LabBroken(f"session {number} did not carry {size} octets each way", why=str(found))
            sessions.append(Session(2 * size, _counted(lab) - before))
    return sessions


def verdict(sessions: Sequence[Session]) -> Verdict:
    """What they say of the claim."""
    from scipy import stats  # noqa: PLC0415  slow to come

    statement = "User data never touches the server that introduces two peers"
    users = [session.user_octets for session in sessions]
    if len(sessions) < _LEAST or len(set(users)) < 2:
        return Verdict("C22", statement, "undecided", len(sessions), why="too few sessions, or all carried the same")
    fit = stats.linregress(users, [session.server_octets for session in sessions])
    margin = float(stats.t.ppf(0.975, len(sessions) - 2) * fit.stderr)
    slope = float(fit.slope)
    low, high = slope - margin, slope + margin
    word: Any = "upheld" if high < BOUND else "refuted" if low > BOUND else "undecided"
    why = "" if word != "undecided" else "the interval of the slope is too wide: more sessions are needed"
    return Verdict("C22", statement, word, len(sessions), slope, low, high, why, "octets at the server per octet of the users'")


def _counted(lab: Lab) -> int:
    """Octets that the server's host has sent and got so far."""
    for line in lab.run("obs1", ["cat", _COUNTERS]).splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "eth0":
            words = figures.split()
            return int(words[0]) + int(words[8])
    raise LabBroken("the server's host has no device", why=f"{_COUNTERS} does not list it")


# --- in a host ---


def serve(channel: Channel) -> None:
    """Hold a session whenever it is asked for, until the channel closes."""
    channel.send({"ready": True})
    while True:
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        try:
            channel.send({"came": _session(**message)})
        except (RawpunchError, OSError) as error:
            channel.send({"failed": str(error)})


def _session(token: str, size: int, method: Any) -> int:
    punched = asyncio.run(punch(Endpoint(_ADDRESS, _PORT), token, method=method, wait_s=10))
    with punched.won.sock as sock:
        sock.settimeout(20)
        sender = threading.Thread(target=sock.sendall, args=(os.urandom(size),))
        sender.start()
        came = 0
        while came < size and (text := sock.recv(1 << 16)):
            came += len(text)
        sender.join()
    return came


def main() -> int:
    """Measure, and say what was found."""
    sessions = measure()
    for session in sessions:
        sys.stdout.write(f"{session.user_octets:>9} octets of the users', {session.server_octets:>6} at the server\n")
    found = verdict(sessions)
    interval = (
        "" if found.low is None or found.high is None else f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}] {found.unit}, "
    )
    sys.stdout.write(f"{found.claim} {found.verdict}: {found.statement}: {interval}n={found.n} {found.why}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
