"""What an experiment may plan beside attempts and samples: whole programs in a lab, whose packets are counted and not recorded.

There are too many of them, and a recorder would slow what is measured. Only the lab can stage them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from rawpunch.errors import BadParameter
from rawpunch.units import MS, SECOND

EPHEMERAL_PORTS: Final = 28_232
"""How many ports Linux gives to sockets that are not bound, unless told otherwise: 32768 to 60999 (ip-sysctl)."""
MOST_TRIES: Final = 200_000
"""Of one program."""


class Way(enum.StrEnum):
    """Who dials whom."""

    LOOPBACK = "loopback"
    """Two programs of one host, each from its one port to the other's."""
    LINK = "link"
    """The same on two hosts, with no delay between them but that of devices and forwarding."""
    ITSELF = "itself"
    """One program that has bound no port, and dials one of its own host's ephemeral range at which nobody listens."""


@dataclass(frozen=True, slots=True)
class Dialling:
    """Programs that dial again, at once, whenever they are refused or reset, until they are connected."""

    way: Way
    anew: bool = False
    """Whether each try has a socket of its own, bound to the same port; one that is not bound always has."""
    ephemeral_ports: int = EPHEMERAL_PORTS
    """How many the kernel of the host draws from; of a program that dials itself."""
    most_tries: int = 10_000
    """When the program gives up that began last, if its patience does not end before."""
    give_up_ns: int = 3 * SECOND
    """Its patience."""
    lag_ns: int = 1 * MS
    """B begins up to that long after A is seen to dial, drawn, so that nothing keeps the two in step."""

    def __post_init__(self) -> None:
        if not 1 <= self.most_tries <= MOST_TRIES:
            raise BadParameter(f"a program cannot dial {self.most_tries} times", todo=f"1 to {MOST_TRIES}")
        if not 2 <= self.ephemeral_ports <= EPHEMERAL_PORTS or self.ephemeral_ports % 2:
            raise BadParameter(
                f"an ephemeral range of {self.ephemeral_ports} ports", todo=f"an even number of them, 2 to {EPHEMERAL_PORTS}"
            )


@dataclass(frozen=True, slots=True)
class Session:
    """Two peers behind NATs meet at a rendezvous server, punch, and send each other as much."""

    octets: int
    """From each side to the other."""
    method: Literal["kernel", "raw"] = "kernel"
    """How they open their connection."""

    def __post_init__(self) -> None:
        if self.octets < 0 or self.method not in {"kernel", "raw"}:
            raise BadParameter(f"a session of {self.octets} octets by {self.method!r}", todo="0 or more, by kernel or raw")


Staged = Dialling | Session
