"""What plans bring home: what was sent and what came of it, with packet numbers. No conclusions here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rawpunch.errors import Malformed
from rawpunch.probe.ground import Seen
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Segment

SAMPLING_ALONE: Final = "alone"
SAMPLING_MORE: Final = "more"
SAMPLING_CROSSED: Final = "crossed"


@dataclass(frozen=True, slots=True)
class Opening:
    """A session whose external endpoint is known."""

    inside: Endpoint
    remote: Endpoint
    mapped: Endpoint
    """The external endpoint, as the observer saw it, or told us if it cannot report what comes."""
    iss: int
    peer_iss: int
    """What the observer's packets for this session begin with."""
    next_seq: int
    """What the next segment from inside begins with: RSTs of ours have it."""
    sent: Seen
    came: Seen | None
    """The SYN as the observer got it."""
    tries: int
    """How many SYNs it took."""
    evidence: tuple[int, ...]
    """Packet numbers."""

    @property
    def syn(self) -> Segment:
        """The SYN as the observer got it.

        Raises:
            Malformed: nobody reported it.
        """
        packet = self.came.packet if self.came is not None else None
        if not isinstance(packet, Segment):
            raise Malformed("nobody saw this SYN come")
        return packet


@dataclass(frozen=True, slots=True)
class Tally:
    """Packets of one kind that were sent, and how many of them came."""

    sent: int = 0
    came: int = 0
    evidence: tuple[int, ...] = ()
    """Packet numbers, of those sent and of those that came."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.sent + other.sent, self.came + other.came, self.evidence + other.evidence)


@dataclass(frozen=True, slots=True)
class Sample:
    """One fresh inside port and what it was mapped to."""

    phase: str
    insider: int
    inside: Endpoint
    mapped: Endpoint | None
    """None where the SYN was not seen outside."""
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hop:
    """A router on the way out, from a SYN that died at it."""

    ttl: int
    address: str
    number: int


@dataclass(frozen=True, slots=True)
class Contact:
    """The first packets."""

    openings: tuple[Opening, ...]
    hops: tuple[Hop, ...]
    false_answers: Tally
    """SYNs to ports that answer nothing, and how many of them were answered all the same."""
    addresses: tuple[str, ...]
    """External addresses of the inside host that is probed from."""


@dataclass(frozen=True, slots=True)
class Round:
    """One inside endpoint towards several remote ones; None where the SYN did not come through."""

    first: Opening | None
    other_port: Opening | None
    other_address: Opening | None
    tried_other_address: bool

    @property
    def openings(self) -> tuple[Opening, ...]:
        """Those that came through."""
        return tuple(opening for opening in (self.first, self.other_port, self.other_address) if opening is not None)


@dataclass(frozen=True, slots=True)
class Reconnection:
    """The same pair of endpoints, connected, closed by both sides, and connected again."""

    before: Endpoint
    after: Endpoint
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clash:
    """Two inside hosts with one inside port: the first holds the external port, then comes the second."""

    holder: Round
    second: Round
    reconnection: Reconnection | None
    refused: bool
    """Whether nothing of the second host came through while the first one's did."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """How mappings are shared."""

    rounds: tuple[Round, ...] = ()
    reconnections: tuple[Reconnection, ...] = ()
    clashes: tuple[Clash, ...] = ()


@dataclass(frozen=True, slots=True)
class Filtered:
    """SYNs from outside to a mapping."""

    other_port: Tally
    """From the address that the inside endpoint has sent to, from another port."""
    other_address: Tally | None
    """From an address that it has not sent to; None where the observer has one only."""
    control: Tally
    """SYN-ACKs of the session itself."""


@dataclass(frozen=True, slots=True)
class Unsolicited:
    """One SYN from outside to an external port without a mapping, and what was answered."""

    answer: str | None
    """rst, icmp, or another word for something else; None for nothing."""
    delay_ns: int
    """From the SYN to the answer, at the observer."""
    code: int | None
    """Of an ICMP error, where it is known."""
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """A session, something done to it, and whether it lives afterwards."""

    passed: Tally
    """What was done to it, and whether that came inside."""
    alive: Tally
    """SYN-ACKs of the session afterwards."""
    control: Tally
    """SYN-ACKs of an older session to which nothing was done."""
    strange: tuple[int, ...] = ()
    """Packets that came inside and were not as they should have been: an ICMP error that quotes something else."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Segments sent from inside on a session, and controls that are known to pass."""

    passed: Tally
    control: Tally


@dataclass(frozen=True, slots=True)
class Sessions:
    """What was done to sessions in SYN-SENT."""

    rst: tuple[Trial, ...] = ()
    """A RST that acknowledges the SYN."""
    rst_wrong: tuple[Trial, ...] = ()
    """One that acknowledges something else."""
    icmp: tuple[Trial, ...] = ()
    crossing: tuple[Trial, ...] = ()
    syn_ack_crossed: tuple[Outgoing, ...] = ()
    """SYN-ACKs from inside after a SYN came in."""
    syn_ack_early: tuple[Outgoing, ...] = ()
    """SYN-ACKs from inside though none did."""
    bare_ack: Tally = field(default_factory=Tally)
    """ACKs from inside that belong to no session."""


@dataclass(frozen=True, slots=True)
class Hairpinned:
    """Packets from one inside endpoint to the external endpoint of another."""

    by_syn: Tally
    by_ack: Tally
    sources: tuple[tuple[Endpoint, Endpoint, Endpoint], ...]
    """Of those that came: the source they had, the sender's inside endpoint and its external one towards the observer."""
    refused: Tally
    """RSTs that came back to the sender."""
    ports_kept: bool
    """Whether the two external endpoints were what each had towards the observer, as far as can be known."""


@dataclass(frozen=True, slots=True)
class Shared:
    """One inside port of two inside hosts, towards different remote endpoints."""

    first: Opening
    second: Opening | None
    tries: int


@dataclass(frozen=True, slots=True)
class Aged:
    """A session that was left alone for some time."""

    state: str
    age_ns: int
    alive: Tally
    control: Tally


@dataclass(frozen=True, slots=True)
class Table:
    """Sessions opened one after the other, and which of them lived then."""

    opened: int
    came: int
    alive: tuple[Tally, ...]
    """Of those that came, in their order."""
    short: bool
    """Whether sessions were missing, so that few may be open at once."""


@dataclass(slots=True)
class Facts:
    """All that was found, as far as the probe came."""

    insiders: int = 1
    observer_addresses: int = 1
    observer_raw: bool = True
    loss: float = 0.5
    """Upper estimate of the share of packets that get lost."""
    rtt_ns: int = 0
    contact: Contact | None = None
    samples: tuple[Sample, ...] = ()
    table: Table | None = None
    mapped: Mapped | None = None
    filtered: Filtered | None = None
    unsolicited: tuple[Unsolicited, ...] | None = None
    sessions: Sessions | None = None
    hairpinned: Hairpinned | None = None
    shared: tuple[Shared, ...] | None = None
    aged: tuple[Aged, ...] = ()
    openings: list[Opening] = field(default_factory=list)
    """All SYNs that came through, for what was changed in them."""
    broken_off: str = ""
    """Why the probe ended early."""
    notes: list[str] = field(default_factory=list)
