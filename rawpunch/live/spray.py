"""Many raw SYNs from one process, fast, within a budget, and all accounted for: the birthday spray.

All packets are made at once: one SYN is encoded, and of each other only what differs is written, its checksum by the increments
(RFC 1624). They are sent from a ring, a slice each millisecond where there is a rate to keep. What was sent is known threefold:
slots that the kernel took, the device's own counter, and what a watch at the far vantage point counts (`sampling.Watch`).

Where a spray may go is no argument but built in: the loopback and the lab's addresses are free; somebody else has to have agreed,
and then it is no more than a peer's consent may be for (`punch.consent`): `MOST_PACKETS`, at `PER_S` at most.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from rawpunch.channel import Channel
from rawpunch.clock import be_punctual, now_ns
from rawpunch.errors import BadParameter, MachineCannot, PolicyRefused, RawpunchError
from rawpunch.live.confines import is_free
from rawpunch.live.sampling import NUMBER_AT, OCTETS, options_of
from rawpunch.live.tx_ring import SLOTS, Counters, Hop, Octets, TxRing, next_hop
from rawpunch.punch.consent import MOST_PACKETS, PER_S
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode, packed_address
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.ttl import DEFAULT_TTL

FREE_PACKETS: Final = 1_000_000
"""In the lab."""

_SLICE_NS: Final = MS
_RESOLVE_NS: Final = SECOND
_NAP_S: Final = 0.001

Ports = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Consent:
    """That a peer agreed to be sprayed: whoever makes one has seen proof of it, as an authenticated rendezvous is."""

    address: str
    packets: int
    """As many as it agreed to; `MOST_PACKETS` at most are sent."""
    who: str
    """Who agreed, and how that is known."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What became of a volley."""

    asked: int
    sent: int
    """Packets that the kernel took from the ring."""
    counted: Counters
    """What the device sent in that time, of others too, and what it dropped."""
    first_ns: int
    last_ns: int

    @property
    def per_s(self) -> float:
        """Rate, in packets a second."""
        return self.sent * SECOND / max(1, self.last_ns - self.first_ns)


def volley(
    source: str,
    source_ports: Sequence[int] | Ports,
    target: str,
    target_ports: Sequence[int] | Ports,
    *,
    first_number: int = 1,
    isn: int = 1 << 30,
    ttl: int = DEFAULT_TTL,
) -> Octets:
    """SYNs, a row of octets each, like those of a sample: each has its number in the timestamp option.

    Args:
        source: the address they come from.
        source_ports: a port for each; a single one for all.
        target: the address they go to.
        target_ports: a port for each; a single one for all.
        first_number: the first one's number.
        isn: its initial sequence number is this plus its number.
        ttl: time to live.

    Raises:
        BadParameter: there are as many ports of one as of the other, or one.
        Malformed: addresses of two families.
    """
    count = max(len(source_ports), len(target_ports))
    if {len(source_ports), len(target_ports)} - {1, count} or not count:
        raise BadParameter(f"{len(source_ports)} ports towards {len(target_ports)}", why="each SYN has one of both")
    plain = Segment(Endpoint(source, 0), Endpoint(target, 0), Flags.SYN, 0, options=options_of(0), ttl=ttl)
    packets = np.tile(np.frombuffer(encode(plain), np.uint8), (count, 1))
    if packets.shape[1] != OCTETS:
        raise BadParameter("a spray is IPv4", why=f"{source} to {target}")
    numbers = np.arange(first_number, first_number + count, dtype=np.uint32)
    isns = numbers + np.uint32(isn)
    words = packets.view(">u2")
    sums = np.zeros(count, np.int64)
    for at, ports in ((20, source_ports), (22, target_ports)):
        words[:, at // 2] = np.asarray(ports, np.uint16)
        sums += words[:, at // 2]
    for at, values in ((24, isns), (NUMBER_AT, numbers)):
        packets[:, at : at + 4] = values.astype(">u4").view(np.uint8).reshape(-1, 4)
        sums += (values >> np.uint32(16)).astype(np.int64) + (values & np.uint32(0xFFFF))
    sums += 0xFFFF - int(words[0, 18])  # RFC 1624, equation 3: the fields were zero before
    rest = sums % 0xFFFF
    words[:, 18] = 0xFFFF - np.where(rest == 0, 0xFFFF, rest)
    return packets


class Sprayer:
    """Sends volleys to one address.

    Args:
        target: the address.
        consent: that it agreed; None where nobody has to.

    Raises:
        PolicyRefused: the address is neither the loopback's nor the lab's, and nobody agreed.
        MachineCannot: no right, no route.
    """

    def __init__(self, target: str, consent: Consent | None = None) -> None:
        self.target = target
        free = is_free(Endpoint(target, 1))
        if not free and (consent is None or consent.address != target):
            raise PolicyRefused(
                f"{target} may not be sprayed",
                why="it is neither the loopback nor in the lab, and it did not agree",
                todo="spray in the lab, or towards a peer that a rendezvous has authenticated",
            )
        self._left = FREE_PACKETS if free or consent is None else min(consent.packets, MOST_PACKETS)
        self._most_per_s = 0 if free else PER_S
        self._hop: Hop = next_hop(target)
        self._ring: TxRing | None = TxRing(self._hop) if self._hop.mac else None

    def fire(self, packets: Octets, *, per_s: int = 0) -> Shot:
        """Send SYNs in order.

        Args:
            packets: from `volley`.
            per_s: packets a second, in slices of a millisecond; 0 for as fast as it goes, or as is allowed.

        Raises:
            PolicyRefused: one is for somebody else, or the budget is spent.
            MachineCannot: nobody answers for the next node's address, or the device does not send.
        """
        self._check(packets)
        rate = min(per_s or self._most_per_s, self._most_per_s or per_s)
        before, first_ns = Counters.of(self._hop.device), now_ns()
        sent = 0
        if self._ring is None:
            self._ring = self._resolved(packets[:1])
            sent = 1
        size = min(SLOTS, max(1, rate * _SLICE_NS // SECOND)) if rate else SLOTS
        start_ns, done = now_ns(), sent
        while done < len(packets):
            if rate and (rest_ns := start_ns + done * SECOND // rate - now_ns()) > 0:
                time.sleep(rest_ns / SECOND)
            batch = packets[done : done + size]
            sent += self._ring.send(batch)
            done += len(batch)
        self._left -= len(packets)
        return Shot(len(packets), sent, Counters.of(self._hop.device) - before, first_ns, now_ns())

    def _check(self, packets: Octets) -> None:
        if len(packets) > self._left:
            raise PolicyRefused(
                f"{len(packets)} SYNs to {self.target} are too many",
                why=f"{self._left} are left of what it may get",
                todo="plan a smaller spray",
            )
        if (packets[:, 16:20] != np.frombuffer(packed_address(self.target), np.uint8)).any():
            raise PolicyRefused("a SYN was for somebody else", why=f"this spray is for {self.target}")

    def _resolved(self, first: Octets) -> TxRing:
        """Send the first packet by the kernel, which so learns the next node's address, and have it from there."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            try:
                raw.sendto(first.tobytes(), (self.target, 0))
            except OSError as error:
                raise MachineCannot("cannot send a SYN", why=str(error), todo="rawpunch doctor") from error
        deadline = now_ns() + _RESOLVE_NS
        while not (hop := next_hop(self.target)).mac:
            if now_ns() > deadline:
                raise MachineCannot(f"nobody answers for {hop.address} at {hop.device}", why="no answer to ARP within a second")
            time.sleep(_NAP_S)
        self._hop = hop
        return TxRing(hop)

    def close(self) -> None:
        """Give the ring back."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- worker of a lab ---


def serve(channel: Channel) -> None:
    """Fire volleys until the channel closes; requests are `volley`'s arguments, and ``per_s``."""
    be_punctual()
    gc.disable()
    channel.send({"ready": True})
    sprayers: dict[str, Sprayer] = {}
    with suppress(RawpunchError):  # its owner has gone
        while True:
            message, _ = channel.receive()
            channel.send(_fired(sprayers, message))


def _fired(sprayers: dict[str, Sprayer], message: dict[str, Any]) -> dict[str, Any]:
    per_s = message.pop("per_s", 0)
    try:
        packets = volley(**message)
        target = message["target"]
        if target not in sprayers:
            sprayers[target] = Sprayer(target)
        shot = sprayers[target].fire(packets, per_s=per_s)
    except RawpunchError as error:
        return {"error": error.what, "why": error.why, "todo": error.todo}
    return {
        "asked": shot.asked,
        "sent": shot.sent,
        "counted": shot.counted.packets,
        "dropped": shot.counted.dropped,
        "first_ns": shot.first_ns,
        "last_ns": shot.last_ns,
    }
