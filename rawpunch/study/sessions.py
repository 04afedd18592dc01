"""Staging of sessions: two peers, a rendezvous server between them, and its octets counted at the device of its host.

Nothing can pass the server uncounted: headers, questions for the time and ARP count too.
"""

from __future__ import annotations

import time
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.errors import LabBroken
from rawpunch.lab.lab import Lab
from rawpunch.record.rows import AttemptRow
from rawpunch.record.words import EndKind, Outcome, Pattern
from rawpunch.scene import OBSERVERS
from rawpunch.study.planned import Planned
from rawpunch.study.staged import Session
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint

_HOST: Final = "obs1"
_SERVER: Final = Endpoint(OBSERVERS[_HOST][0], 7800)
_COUNTERS: Final = "/proc/thread-self/net/dev"
_RECEIVED, _SENT = 0, 8
"""Columns of octets in it."""
_SETTLE_NS: Final = 20 * MS


class Sessions:
    """Sessions in a lab, one after the other, through one server.

    Args:
        lab: where; its scene has NATs or not, as it pleases.

    Raises:
        LabBroken: the server or a peer cannot be started.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._server = self._start(
            _HOST, "rawpunch.live.rendezvous_server:serve", {"addresses": [_SERVER.address], "ports": [_SERVER.port]}
        )
        self._peers = [self._start(host, "rawpunch.live.session_end:serve", {}) for host in ("hostA", "hostB")]
        self._made = 0

    def _start(self, host: str, entry: str, arguments: dict[str, Any]) -> Channel:
        channel = self._lab.start(host, entry, arguments)
        channel.receive()
        return channel

    def make(self, planned: Planned, session: Session) -> AttemptRow:
        """Hold a session.

        Raises:
            LabBroken: a process is gone, or the server's host has no device.
        """
        self._made += 1
        before = self._counted()
        for peer in self._peers:
            peer.send(
                {"server": str(_SERVER), "token": f"session {self._made}", "octets": session.octets, "method": session.method}
            )
        told = [peer.receive()[0] for peer in self._peers]
        time.sleep((sum(self._lab.scene.one_way_ns) + _SETTLE_NS) / SECOND)  # the last farewells
        return row_of(planned, session, told, self._counted() - before)

    def _counted(self) -> int:
        """Octets that the server's host has sent and got so far."""
        for line in self._lab.run(_HOST, ["cat", _COUNTERS]).splitlines():
            name, _, figures = line.partition(":")
            if name.strip() == "eth0":
                words = figures.split()
                return int(words[_RECEIVED]) + int(words[_SENT])
        raise LabBroken("the server's host has no device", why=f"{_COUNTERS} does not list eth0")


def row_of(planned: Planned, session: Session, told: list[dict[str, Any]], server_octets: int) -> AttemptRow:
    """A session that did not come about, or lost octets, was not measured: that is not what it is about, and it is counted."""
    came = [one.get("came") for one in told]
    missing = [one["unable"] for one in told if "unable" in one]
    if not missing and came != [session.octets] * 2:
        missing = [f"of {session.octets} octets each way came {came[0]} at A and {came[1]} at B"]
    columns: dict[str, Any] = {}
    for side, one in zip("ab", told, strict=True):
        columns |= {f"local_{side}": one.get("local"), f"remote_{side}": one.get("remote")}
        columns |= {f"planned_{side}_ns": one.get("start_ns"), f"established_{side}_ns": one.get("opened_ns")}
        columns[f"outcome_{side}"] = Outcome.ESTABLISHED if "opened_ns" in one else None
    return AttemptRow(
        attempt=planned.name,
        cell=planned.cell_name,
        repeat=planned.repeat,
        driver="lab",
        end_a=EndKind.PUNCHING,
        end_b=EndKind.PUNCHING,
        outcome=Outcome.NOT_MEASURED if missing else Outcome.ESTABLISHED,
        cause="; ".join(missing) or None,
        pattern=Pattern.TRUNCATED,
        user_octets=None if missing else 2 * session.octets,
        server_octets=None if missing else server_octets,
        disturbed=False,
        **columns,
    )
