"""The one contract: a TCP endpoint, a NAT and a link are machines.

A machine is stepped with a stimulus and an instant and answers with effects. It has no clock, socket, thread, file or global
randomness inside; its driver (simulator, live loop, lab box, replayer) has those. Times are integer nanoseconds on whatever clock
the driver uses. `deadline` says when the driver must step it with `Woke`.

Stimuli and effects are twin lists: what a driver may tell a machine, and what a machine may ask of its driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rawpunch.ending import Ending
    from rawpunch.wire.endpoint import Flow
    from rawpunch.wire.segment import Packet

# --- stimuli ---


@dataclass(frozen=True, slots=True)
class Open:
    """The user's active OPEN: send a SYN now."""


@dataclass(frozen=True, slots=True)
class Listen:
    """The user's passive OPEN."""


@dataclass(frozen=True, slots=True)
class Close:
    """The user's CLOSE: no more data from this side."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The user's ABORT: reset the connection."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet came in.

    `port` names the side of a machine that has several ("inside", "outside"); an endpoint has one, "".
    """

    packet: Packet
    port: str = ""


@dataclass(frozen=True, slots=True)
class Woke:
    """The machine's deadline has come."""


Stimulus = Open | Listen | Close | Abort | Arrived | Woke

# --- effects ---


@dataclass(frozen=True, slots=True)
class Send:
    """Put a packet on the wire (on a side, for a machine that has several)."""

    packet: Packet
    port: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """The machine went from one state to another: a row of the transitions table."""

    before: str
    after: str
    rule: str
    """Id of the table row that fired."""
    cause: str
    """What it fired on: a segment's kind, an ICMP error's, a user call or a timer."""
    flow: Flow | None = None
    """Of which connection, for a machine that has several: as the inside sees it, from inside to outside."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """An endpoint's opening, or afterwards its connection, came to an end."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class Delivered:
    """Payload for the user."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A NAT or link did not pass a packet."""

    packet: Packet
    reason: str


Effect = Send | Changed | Concluded | Delivered | Refused

# --- the contract ---

StimulusT_contra = TypeVar("StimulusT_contra", contravariant=True)
EffectT_co = TypeVar("EffectT_co", covariant=True)


class Machine(Protocol[StimulusT_contra, EffectT_co]):
    """Anything that is stepped."""

    @property
    def deadline(self) -> int | None:
        """When to step with `Woke`, in ns; None for never."""

    def step(self, stimulus: StimulusT_contra, *, now: int) -> Sequence[EffectT_co]:
        """Take one stimulus at instant `now` (ns) and say what is to be done."""
