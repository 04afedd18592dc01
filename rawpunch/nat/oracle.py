"""Can these two punch, and how? By reasoning about the two behaviours alone.

Nothing here moves a packet, and nothing is shared with the machine in `box`: where oracle and simulator differ, one of them is
wrong.

**How an opening through two NATs is reasoned about.** Call the end that goes first F, the other one S, their NATs natF and natS.
F's SYN opens a *hole* in natF: what comes from S's endpoint to F's is expected there from then on. S's SYN does the same in natS.
A SYN that meets a hole is a *crossing* SYN for that NAT. So there are two moves, and later perhaps their repetition:

1. F's SYN comes to natS. If S has not opened yet (F was *early*), it meets no hole, and what happens is natS's answer to the
   unsolicited: silence does no harm, a RST or an ICMP error ends F. If S has opened, it is a crossing SYN.
2. S's SYN comes to natF, and meets F's hole.

Whoever gets the other's SYN answers with a SYN-ACK, and one SYN-ACK that arrives is enough: the ACK that follows passes any NAT
that let the SYN-ACK pass. A SYN-ACK arrives if the answerer's own NAT lets one out and the other's NAT has a hole and is not
poisoned. Where neither SYN was let in, the SYNs are sent again a second later, as a rule into holes.

Before all that, each end has to aim at the port that the other's NAT will really use.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from rawpunch.nat.behavior import (
    Allocation,
    Behavior,
    CrossingSyn,
    Filtering,
    Mapping,
    Pick,
    Pooling,
    SessionState,
    SynAckOut,
    UnsolicitedAnswer,
    WhenFull,
)
from rawpunch.units import MS, SECOND

_RESEND_NS: Final = (SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND, 5 * SECOND, 7 * SECOND, 11 * SECOND, 19 * SECOND)
"""When Linux sends a SYN again."""


class Strategy(enum.StrEnum):
    """Ways to connect two hosts behind NATs."""

    SIMULTANEOUS = "simultaneous"
    """Both open at the same time."""
    ORDERED = "ordered"
    """Both open, one so much later that the other's first SYN has come before."""
    LOW_TTL = "low_ttl"
    """Both open; the first SYN of the one that goes first dies on the way."""
    REVERSAL = "reversal"
    """One listens, the other connects to what an observer saw of it."""
    POKED_REVERSAL = "poked_reversal"
    """One sends a packet towards the other's address and listens, the other connects."""
    PREDICTION = "prediction"
    """Both open towards the ports that come next."""
    SPRAY = "spray"
    """Many ports are opened, and many are tried."""
    RELAY = "relay"
    """Both connect to a third party."""


class Aim(enum.StrEnum):
    """How an end knows the other's port."""

    ASSUMED = "assumed"
    """It takes the inside port for it."""
    LEARNED = "learned"
    """An observer saw it, through a connection that is still open."""
    PREDICTED = "predicted"
    """The one that comes after what the observer saw."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a strategy connects the two."""

    strategy: Strategy
    works: bool
    why: str
    """One sentence."""
    first: str = ""
    """Which side goes first, or listens, where that matters: a or b."""
    odds: float | None = None
    """How likely it is, where chance has a part."""


@dataclass(frozen=True, slots=True)
class _End:
    """One end: its NAT, and its name in sentences."""

    name: str
    nat: Behavior | None


class _Fate(enum.Enum):
    """What becomes of a SYN at the other's NAT."""

    IN = "is let in"
    LOST = "is dropped"
    POISON = "is dropped, and poisons the session"
    RST = "is answered by RST"
    ICMP = "is answered by an ICMP error"


NO_LIMIT: Final = 262_144
"""Sessions of a host without a NAT, as many as Linux's usual table has."""
_SESSIONS: Final = {Aim.ASSUMED: 1, Aim.LEARNED: 2, Aim.PREDICTED: 3}
"""How many sessions a NAT holds at once when a port is known that way."""

Two = tuple[Behavior | None, Behavior | None]


def simultaneous(
    a: Behavior | None,
    b: Behavior | None,
    *,
    offset_ns: int = 0,
    one_way_ns: tuple[int, int] = (20 * MS, 20 * MS),
    aim: Aim = Aim.LEARNED,
    give_up_ns: int = 3 * SECOND,
    low_ttl: str = "",
) -> Answer:
    """Whether both establish when B opens `offset_ns` after A.

    Args:
        a: A's NAT; None for none.
        b: B's NAT.
        offset_ns: negative when B is first; not the very delay of the path, where the packets' order is a toss-up.
        one_way_ns: from A to B and from B to A.
        aim: how each knows the other's port.
        give_up_ns: how long after its own start an end without an answer gives up.
        low_ttl: the side whose first SYN dies on the way: a, b or neither.
    """
    ends = (_End("A", a), _End("B", b))
    first, second = ends if offset_ns >= 0 else ends[::-1]
    there_ns, back_ns = one_way_ns if offset_ns >= 0 else one_way_ns[::-1]
    dies = {"a": "A", "b": "B", "": ""}[low_ttl]
    case = _Case(first, second, abs(offset_ns), there_ns, back_ns, aim, give_up_ns, dies)
    strategy = Strategy.LOW_TTL if low_ttl else Strategy.SIMULTANEOUS if abs(offset_ns) < there_ns else Strategy.ORDERED
    works, why = case.judged()
    return Answer(strategy, works, why, first.name.lower())


@dataclass(frozen=True, slots=True)
class _Case:
    """An opening through two NATs: `first` begins, `second` follows `gap_ns` later."""

    first: _End
    second: _End
    gap_ns: int
    there_ns: int
    """From first to second."""
    back_ns: int
    aim: Aim
    give_up_ns: int
    dies: str
    """Whose first SYN dies on the way."""

    def judged(self) -> tuple[bool, str]:
        """Whether both establish, and why."""
        for end in (self.first, self.second):
            why_not = _unknown_port(end, self.aim, self._begins(end))
            if why_not:
                return False, why_not
        return self._moves()

    def _moves(self) -> tuple[bool, str]:
        """Follow the SYNs in the order in which they meet the other's NAT.

        Who has got one sends SYN-ACKs instead from then on, and is *stuck* if its NAT lets none out.
        """
        stuck: dict[str, int] = {}
        poisoned: set[str] = set()
        closings: dict[str, list[int]] = {self.first.name: [], self.second.name: []}
        for end in (self.first, self.second):
            if end.name == self.dies and _closed_by_icmp(end):
                closings[end.name].append(self._begins(end))  # the router that drops it sends an ICMP error back
        syns = self._syns()
        for meets_ns, sent_ns, sender in syns:
            receiver = self._other(sender)
            if sent_ns > stuck.get(sender.name, sent_ns) or receiver.name in stuck:
                continue
            closed = any(closed_ns <= sent_ns for closed_ns in closings[sender.name])
            if closed and not _stays(sender, self.aim, self._begins(sender)):
                return False, f"an ICMP error closes {sender.name}'s session, and its SYN is sent again from another port"
            hole = self._open(receiver, meets_ns, closings[receiver.name])
            fate = _crossing(receiver) if hole else self._stray(receiver, meets_ns)
            what = f"{sender.name}'s SYN {'is sent again and ' if sent_ns > self._begins(sender) else ''}{fate.value}"
            if _believed(fate, sender):
                return False, f"{what} by {receiver.name}'s side, since it meets no hole, and {sender.name} believes that"
            if fate is _Fate.POISON:
                poisoned.add(receiver.name)
            if fate is _Fate.ICMP and _closed_by_icmp(sender):
                closings[sender.name].append(meets_ns + self._travels(receiver))
            if fate is not _Fate.IN:
                continue
            under_way = any(sent <= meets_ns <= meets for meets, sent, who in syns if who is receiver)
            spoilt = sender.name in poisoned or (under_way and _crossing(sender) is _Fate.POISON)
            if not spoilt and _answers(receiver, opened=hole) and self._in_time(sender, meets_ns):
                return True, f"{what}, and {receiver.name}'s SYN-ACK comes back"
            stuck[receiver.name] = meets_ns
        if poisoned:
            return False, f"a crossing SYN poisons {min(poisoned)}'s NAT, which lets nothing in afterwards"
        if stuck:
            return False, f"{min(stuck)} gets the other's SYN, and no SYN-ACK comes back in time"
        return False, "no SYN is let in before one of the two gives up"

    # --- who sends when ---

    def _other(self, end: _End) -> _End:
        return self.second if end is self.first else self.first

    def _begins(self, end: _End) -> int:
        return 0 if end is self.first else self.gap_ns

    def _travels(self, end: _End) -> int:
        return self.there_ns if end is self.first else self.back_ns

    def _sends(self, end: _End) -> list[int]:
        """The instants of an end's SYNs."""
        return [self._begins(end) + at_ns for at_ns in (0, *_RESEND_NS) if at_ns < self.give_up_ns]

    def _syns(self) -> list[tuple[int, int, _End]]:
        """All SYNs that come through: when they meet the other's NAT, when they were sent, by whom."""
        found = [
            (sent_ns + self._travels(end), sent_ns, end)
            for end in (self.first, self.second)
            for sent_ns in self._sends(end)[end.name == self.dies :]
        ]
        return sorted(found, key=lambda entry: entry[:2])

    def _in_time(self, sender: _End, met_ns: int) -> bool:
        """Whether both are done before they give up, if the sender's SYN is let in at that instant."""
        receiver = self._other(sender)
        answered_ns = met_ns + self._travels(receiver)
        acknowledged_ns = answered_ns + self._travels(sender)
        return answered_ns < self._begins(sender) + self.give_up_ns and acknowledged_ns < self._begins(receiver) + self.give_up_ns

    # --- holes ---

    def _open(self, end: _End, at_ns: int, closings: list[int]) -> bool:
        """Whether an end's hole is open: a SYN opens it, its timer closes it, and so do these ICMP errors."""
        if end.nat is None:
            return at_ns >= self._begins(end)
        closes_ns = -1
        for sent_ns in self._sends(end):
            if closes_ns <= sent_ns <= at_ns:
                timer_ns = sent_ns + end.nat.timers.syn_sent_ns
                closes_ns = min([timer_ns, *(closed_ns for closed_ns in closings if closed_ns >= sent_ns)])
        return at_ns < closes_ns

    def _stray(self, end: _End, at_ns: int) -> _Fate:
        """What becomes of a SYN that meets no hole."""
        nat, closed = end.nat, at_ns < self._begins(end)
        if nat is None or (_open_to_all(nat) and self.aim is not Aim.ASSUMED and (closed or nat.capacity > 1)):
            return _Fate.RST if closed else _Fate.IN
        waits_ns = next((sent_ns - at_ns for sent_ns in self._sends(end) if sent_ns > at_ns), self.give_up_ns)
        if nat.unsolicited is UnsolicitedAnswer.DROP or nat.unsolicited_hold_ns > waits_ns:
            return _Fate.LOST
        return _Fate.ICMP if nat.unsolicited is UnsolicitedAnswer.ICMP else _Fate.RST


# --- what one NAT does ---


def _crossing(end: _End) -> _Fate:
    """A SYN that meets a hole."""
    if end.nat is None:
        return _Fate.IN
    return {CrossingSyn.PASSES: _Fate.IN, CrossingSyn.BLOCKED: _Fate.LOST, CrossingSyn.POISONS: _Fate.POISON}[
        end.nat.crossing_syn
    ]


def _answers(end: _End, *, opened: bool = True) -> bool:
    """Whether its NAT lets out a SYN-ACK: always to a connection that it takes for one from outside."""
    return end.nat is None or not opened or end.nat.syn_ack_out is not SynAckOut.NEVER


def _believed(fate: _Fate, end: _End) -> bool:
    """Whether what became of its SYN ends it: a RST does, and so does (on Linux) an ICMP error, if its NAT passes it on."""
    return fate is _Fate.RST or (fate is _Fate.ICMP and (end.nat is None or end.nat.icmp_translated))


def _open_to_all(nat: Behavior | None) -> bool:
    """Whether anybody may come in, once there is a mapping."""
    return nat is None or nat.filtering is Filtering.ENDPOINT_INDEPENDENT


def _closed_by_icmp(end: _End) -> bool:
    return end.nat is not None and SessionState.SYN_SENT in end.nat.icmp_closes


def _steps(nat: Behavior) -> bool:
    """Whether ports come one after the other, as far as one inside host can see."""
    ports = nat.ports
    return ports.allocation is Allocation.SEQUENTIAL or (
        ports.allocation is Allocation.BLOCK and ports.block_pick is Pick.SEQUENTIAL
    )


def _unknown_port(end: _End, aim: Aim, idle_ns: int) -> str:
    """Why nobody can aim at an end's port; nothing if one can."""
    nat = end.nat
    if nat is None:
        return ""
    needed = _SESSIONS[aim]
    if nat.capacity < needed and nat.when_full is not WhenFull.EVICT_OLDEST:
        return f"{end.name}'s NAT has no room for {needed} sessions"
    if nat.port_is_kept and not _wanders(nat):
        return ""
    if aim is Aim.ASSUMED:
        return f"{end.name}'s NAT does not keep the inside port"
    if _one_mapping(nat, aim, idle_ns):
        return ""
    if aim is Aim.PREDICTED and not _wanders(nat) and _steps(nat):
        return ""
    return f"{end.name}'s NAT uses another port for each remote endpoint"


def _one_mapping(nat: Behavior, aim: Aim, idle_ns: int) -> bool:
    """Whether the connections that taught the port hold its mapping for the opening too."""
    lives = aim is Aim.ASSUMED or nat.timers.established_ns > idle_ns
    return nat.mapping is Mapping.ENDPOINT_INDEPENDENT and nat.capacity >= _SESSIONS[aim] and lives


def _wanders(nat: Behavior) -> bool:
    return nat.pooling is Pooling.ARBITRARY and nat.external_addresses > 1


def _stays(end: _End, aim: Aim, idle_ns: int) -> bool:
    """Whether a SYN that is sent again after its session was closed leaves from the same port."""
    nat = end.nat
    return nat is None or (nat.port_is_kept and not _wanders(nat)) or (aim is not Aim.ASSUMED and _one_mapping(nat, aim, idle_ns))


# --- the other strategies ---


def reversal(a: Behavior | None, b: Behavior | None, *, listens: str) -> Answer:
    """Whether one can listen and the other connect to what an observer saw of it, while that mapping lives."""
    end = _End(listens.upper(), a if listens == "a" else b)
    open_to_all = _open_to_all(end.nat)
    why = "lets everybody in" if open_to_all else "lets in nobody to whom it has not sent"
    whose = f"{end.name} has no NAT" if end.nat is None else f"{end.name}'s NAT {why}"
    return Answer(Strategy.REVERSAL, open_to_all, whose, listens)


def poked_reversal(a: Behavior | None, b: Behavior | None, *, listens: str) -> Answer:
    """Whether one can send a SYN, that dies on the way, to the other's address, and listen.

    An address filter then lets any port of that address in.
    """
    mine, other = (a, b) if listens == "a" else (b, a)
    name = listens.upper()
    if reversal(a, b, listens=listens).works:
        return Answer(Strategy.POKED_REVERSAL, True, f"{name} is open without it", listens)
    assert mine is not None  # noqa: S101  without a NAT it is open
    if mine.filtering is not Filtering.ADDRESS_DEPENDENT:
        return Answer(Strategy.POKED_REVERSAL, False, f"{name}'s NAT filters by port too", listens)
    if other is not None and other.pooling is Pooling.ARBITRARY:
        return Answer(Strategy.POKED_REVERSAL, False, "the other's NAT may come from any of its addresses", listens)
    why_not = _unknown_port(_End(name, mine), Aim.LEARNED, 0)
    if not why_not and _closed_by_icmp(_End(name, mine)):
        why_not = f"{name}'s NAT closes on the ICMP error about the SYN that dies"
    return Answer(Strategy.POKED_REVERSAL, not why_not, why_not or f"{name}'s NAT lets in the address it has sent to", listens)


def prediction(a: Behavior | None, b: Behavior | None) -> Answer:
    """Whether both can aim at the port that comes next, and then open at the same time; other connections would spoil it."""
    answer = simultaneous(a, b, aim=Aim.PREDICTED)
    return Answer(Strategy.PREDICTION, answer.works, answer.why, odds=1.0 if answer.works else 0.0)


def spray(a: Behavior | None, b: Behavior | None, *, opened: int = 1024, tried: int = 1024) -> Answer:
    """How likely one of `tried` SYNs meets one of the `opened` ports of a NAT that draws them.

    With k ports open out of N, m tries without repetition miss all of them with about (1 - k/N) ** m. A NAT that also draws the
    address has so many times more to draw from; of SYNs beyond the room of a NAT's table the sessions are gone at the answer.
    """
    drawing = [name for name, nat in (("A", a), ("B", b)) if nat is not None and _unknown_port(_End(name, nat), Aim.LEARNED, 0)]
    if not drawing:
        direct = simultaneous(a, b)
        why = "no port is drawn" if direct.works else f"no port is drawn, and yet {direct.why}"
        return Answer(Strategy.SPRAY, direct.works, why, odds=float(direct.works))
    if len(drawing) == 2:
        return Answer(Strategy.SPRAY, False, "both ports are drawn, and a hit must name both", odds=0.0)
    nat = a if drawing[0] == "A" else b
    assert nat is not None  # noqa: S101  it draws
    aimed = replace(nat, mapping=Mapping.ENDPOINT_INDEPENDENT, pooling=Pooling.PAIRED)  # as if its port were known
    filters = simultaneous(aimed if nat is a else a, aimed if nat is b else b)
    if not filters.works:
        return Answer(Strategy.SPRAY, False, filters.why, odds=0.0)
    size = endpoints(nat)
    opened, tried = min(opened, size, room(nat)), min(tried, room(b if nat is a else a))
    odds = 1 - (1 - opened / size) ** tried
    return Answer(Strategy.SPRAY, odds > 0.5, f"{opened} of {size} ports open, {tried} tried", drawing[0].lower(), odds)


def endpoints(nat: Behavior) -> int:
    """How many external endpoints a NAT draws from: the ports of its range, at each address that a mapping may get."""
    return (nat.ports.high - nat.ports.low + 1) * (nat.external_addresses if _wanders(nat) else 1)


def room(nat: Behavior | None) -> int:
    """How many sessions of a spray a NAT holds at once: one that refuses new ones keeps that with the rendezvous."""
    return NO_LIMIT if nat is None else nat.capacity - (nat.when_full is not WhenFull.EVICT_OLDEST)


def ways(a: Behavior | None, b: Behavior | None, *, one_way_ns: tuple[int, int] = (20 * MS, 20 * MS)) -> tuple[Answer, ...]:
    """All strategies with their answers, the simplest first; a relay always works."""
    late_ns = 2 * max(one_way_ns) + MS
    return (
        *(reversal(a, b, listens=side) for side in ("a", "b")),
        simultaneous(a, b, one_way_ns=one_way_ns),
        simultaneous(a, b, offset_ns=late_ns, one_way_ns=one_way_ns),
        simultaneous(a, b, offset_ns=-late_ns, one_way_ns=one_way_ns),
        simultaneous(a, b, offset_ns=late_ns, one_way_ns=one_way_ns, low_ttl="a"),
        simultaneous(a, b, offset_ns=-late_ns, one_way_ns=one_way_ns, low_ttl="b"),
        *(poked_reversal(a, b, listens=side) for side in ("a", "b")),
        prediction(a, b),
        spray(a, b),
        Answer(Strategy.RELAY, True, "both can connect to a third party"),
    )


def best(a: Behavior | None, b: Behavior | None, *, one_way_ns: tuple[int, int] = (20 * MS, 20 * MS)) -> Answer:
    """The simplest strategy that works."""
    return next(answer for answer in ways(a, b, one_way_ns=one_way_ns) if answer.works)
