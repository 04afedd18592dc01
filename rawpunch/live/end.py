"""What a live end is, whoever makes it, and what it reports."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rawpunch.ending import Ending
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.ttl import DEFAULT_TTL


class Scheduler(enum.StrEnum):
    """How an end waits for the instant of its first SYN."""

    SPIN = "spin"
    """It sleeps until shortly before, and spins from then on: as punctual as this machine can be."""
    SLEEP = "sleep"
    """One `time.sleep` to the instant."""
    TICK = "tick"
    """It looks at the clock once a millisecond, as a program does that has other work."""


@dataclass(frozen=True, slots=True)
class Order:
    """One end of an attempt, as it is to be done."""

    attempt: str
    kind: str
    """A word of `record.words.EndKind`."""
    local: Endpoint
    remote: Endpoint
    at_ns: int
    """Instant of the first SYN."""
    give_up_ns: int
    """Instant at which an end without an answer gives up."""
    iss: int
    """Initial sequence number of a raw end; the kernel chooses its own."""
    profile: str
    """Whose handshake table a raw end follows."""
    script: str = ""
    """The file of what a replay end plays (`replay.part`), the branch that a prober plays (`tcp.branches`), or the command of a
    stack (`live.stack_program`)."""
    scheduler: str = Scheduler.SPIN
    """How it waits for its instant."""
    first_ttl: int = DEFAULT_TTL
    """Time to live of a raw end's first SYN (`tcp.trying`); with another than usual a listening end sends one too, to open its
    NAT, and listens on."""
    poke_port: int = 0
    """Port of the remote address to which a listening end sends that SYN; 0 for the remote endpoint itself."""
    retry_ns: int = 0
    """How long after a RST or an ICMP error has ended its opening a raw end opens again, from the same port; 0 for never."""
    told_ns: int = 0
    """Instant at which a raw end is told of the peer's SYN by a third party, and goes on as if it had come; 0 for never."""
    peer_iss: int = 0
    """The initial sequence number that it is told then."""

    def to_message(self) -> dict[str, Any]:
        """As a JSON-able message."""
        return asdict(self) | {"local": str(self.local), "remote": str(self.remote)}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Order:
        """The order in a message."""
        return cls(**message | {"local": Endpoint.parse(message["local"]), "remote": Endpoint.parse(message["remote"])})


@dataclass(slots=True)
class Report:
    """What an end knows of its attempt."""

    attempt: str
    ending: str = ""
    """A word of `Ending`; empty while it is open, and for ever when it could not start."""
    at_ns: int | None = None
    """When the end's program knew."""
    cause: str = ""
    transitions: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, int] = field(default_factory=dict)
    """Fields of TCP_INFO, for a kernel end."""

    def conclude(self, ending: Ending, at_ns: int, cause: str = "") -> None:
        """Note how the opening ended; only the first conclusion counts."""
        if not self.ending:
            self.ending, self.at_ns, self.cause = ending.value, at_ns, cause


class End(Protocol):
    """One end of one attempt on this host."""

    order: Order
    report: Report

    def launch(self, at_ns: int) -> None:
        """Send the first SYN; called at its instant."""

    @property
    def deadline(self) -> int | None:
        """When to call `wake`, in ns."""

    def wake(self, now: int) -> None:
        """The deadline has come."""

    def finish(self, now: int) -> None:
        """Gather the evidence and close, resetting what is open."""

    def release(self) -> None:
        """Give back what was still held after `finish` (the guard of a raw end)."""
