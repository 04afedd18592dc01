"""What a probe's plans stand on: the Protocol that a driver offers them.

Plans are plain coroutines that await nothing but what is here, so the same plan runs live (asyncio, raw sockets, an observer
elsewhere) and in the simulator (virtual time). A driver carries out, records and numbers; it concludes nothing.

There are two places where packets are seen. *Inside* is this machine, with one or two addresses, each of which is a host of its
own to a NAT. *Observer* is the cooperating server outside. Every packet that a plan sends, and every one that comes to an
endpoint reserved inside or known to the observer, becomes a `Seen` with its number in the run's capture, which is the evidence
that findings quote.

What a driver must keep:

- Times are int ns. `Ground.now` and packets seen inside are on the machine's clock, packets at the observer on the observer's.
- Nothing waits for ever: each wait has a deadline, and requests to the observer have the driver's own.
- `TOO_FAST` is the driver's business: it waits as long as it is told to and asks again.
- A connection to the observer that breaks is made anew and joins its session, at least twice, before the observer is called gone.
- What the observer refuses for good raises `NotOffered`; when it is gone, `rawpunch.errors.PartialData`.
- The probe's own packets are not `seen` where they come from: `send` and `craft` hand back their records.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from rawpunch.errors import PartialData
from rawpunch.probe.messages import Connected, Craft, Refusal, SendPacket
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Packet, Segment


class Place(enum.StrEnum):
    """Where a packet was seen; also the names of the two interfaces in the run's capture."""

    INSIDE = "inside"
    OBSERVER = "observer"


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet that was sent or came."""

    number: int
    """In the run's capture, counted from 1 over both interfaces: what Wireshark calls its frame number."""
    at_ns: int
    """On the clock of the place."""
    place: Place
    outgoing: bool
    """Whether it was sent from that place."""
    packet: Packet


@dataclass(frozen=True, slots=True)
class Outside:
    """What the observer has."""

    addresses: tuple[str, ...]
    """One or two."""
    ports: tuple[int, ...]
    """Those on which its kernel listens, on each address."""
    raw: bool
    """Whether it holds ports, crafts packets and reports arrivals. Without, its kernel answers on the ports that listen, tells
    where a connection comes from, and connects back."""


class NotOffered(PartialData):
    """The observer refuses, and would refuse again.

    Args:
        word: why.
        why: in its own words.
    """

    def __init__(self, word: Refusal, why: str = "") -> None:
        super().__init__(f"the observer refuses: {word}", why=why)
        self.word = word


class Dice(Protocol):
    """Where a plan's chance comes from; `random.Random` is one."""

    def randrange(self, start: int, stop: int, /) -> int:
        """An integer in start .. stop - 1, each as likely as the other."""


class Ground(Protocol):
    """What a driver offers to plans."""

    # --- what there is ---

    @property
    def insiders(self) -> tuple[str, ...]:
        """Addresses of inside hosts, one or two; index 0 is the one that everything is probed from."""

    @property
    def outside(self) -> Outside:
        """What the observer has."""

    @property
    def proved(self) -> tuple[str, ...]:
        """Addresses under which the observer knows us, first the one of the first connection; packets from others it ignores."""

    @property
    def dice(self) -> Dice:
        """Chance, from the run's seed."""

    # --- time ---

    def now(self) -> int:
        """The time here, in ns."""

    async def sleep(self, ns: int) -> None:
        """Let time pass."""

    async def until(self, condition: Callable[[], bool], deadline_ns: int) -> bool:
        """Wait until something is so; looked at now, and after every packet seen at either place.

        Args:
            condition: cheap, without effects.
            deadline_ns: the last instant, as `now` counts.

        Returns:
            Whether it was so by then.
        """

    async def together(self, *plans: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines at once; their results in order.

        If one raises, the others are cancelled and that is raised.
        """

    # --- inside ---

    def reserve(self, insider: int = 0, *, port: int = 0, parity: int | None = None) -> Endpoint:
        """A TCP port that the kernel is silent about: it neither answers nor uses it.

        Never one that was reserved before in this probe; without a wish it is drawn at random (32768 .. 60999 or so).

        Args:
            insider: which of the inside hosts.
            port: that port; 0 for any.
            parity: 0 for an even one, 1 for an odd one, None for any.

        Raises:
            rawpunch.errors.BadParameter: the wanted port is in use, or was reserved before on this inside host.
        """

    def release(self, *endpoints: Endpoint) -> None:
        """Give reserved ports back to the kernel (they are not reserved again); what comes to them is no longer seen."""

    async def send(self, segment: Segment) -> Seen:
        """Send a segment from a reserved endpoint as it is, its time to live included.

        A network that is not reachable is no error: the packet is just lost.
        """

    def seen(self, place: Place, at: Endpoint, after: int = 0) -> tuple[Seen, ...]:
        """What has come to an endpoint at a place, as far as known here, oldest first.

        Segments to it, and ICMP errors that quote it as the source.

        Args:
            place: where.
            at: a reserved endpoint inside, or a held or listening one of the observer (of these, SYNs only).
            after: only packets with a higher number.
        """

    # --- observer ---

    async def settle(self) -> None:
        """Come to know all that had come to the observer when this was called: afterwards `seen` lacks none of it.

        Raises:
            PartialData: the observer is gone.
        """

    async def prove(self, insider: int = 0) -> Endpoint | None:
        """Connect to the observer anew from a fresh port, prove that address too, and end the connection by a RST.

        Returns:
            The mapped endpoint of that connection; None if it did not come about.

        Raises:
            PartialData: the observer is gone.
        """

    async def renew(self) -> None:
        """Make the connection to the observer anew, let it join its session, and reset the old one.

        A NAT with a small table would forget the old one, being its oldest; nobody would notice until an answer is late. Where no
        new one comes about (a full table may refuse it), the old one stays.
        """

    async def hold(self, address: int = 0, *, port: int = 0, answer: Craft | None = None, ttl: int = 64) -> Endpoint:
        """Take a port of the observer that answers nothing by itself, or one kind of packet to each SYN.

        Raises:
            NotOffered: it has no raw sockets, no such address, no such port or no more of them.
            PartialData: it is gone.
        """

    async def unhold(self, endpoint: Endpoint) -> None:
        """Give a held port back; one that is not held is no error."""

    async def craft(self, wish: SendPacket) -> Seen:
        """Let the observer send one packet (`wish.id` does not matter).

        Raises:
            NotOffered: the target is not proved, or the source not held.
            PartialData: it is gone.
        """

    async def connect_back(self, to: Endpoint, *, address: int = 0, port: int = 0, wait_ns: int) -> Connected:
        """Let the observer's kernel open a connection, from one of its listening ports or (0) any other; it needs no raw sockets.

        What comes of it inside is seen inside, where the target's port is reserved.

        Raises:
            NotOffered: the target is not proved, or the source is not to be had.
            PartialData: it is gone.
        """
