"""The plan: how two hosts try to connect, step by step, from what is known of both sides' NATs.

The oracle says which strategies open a connection; a plan puts them into an order and says who sends what when, with which time
to live, how often and how long. Strategies that are sure come first, the simplest of them first; then those that work if what was
not determined is as usual; then those that merely may work. What is left in the end is a relay.

Both sides make the same plan from the same knowledge, so nothing of it has to be agreed but the instant to begin at.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from rawpunch.errors import BadParameter
from rawpunch.nat import oracle
from rawpunch.nat.behavior import Behavior, UnsolicitedAnswer
from rawpunch.nat.oracle import Answer, Strategy
from rawpunch.punch.birthday import SHARES, Budget, Shares, afford, afford_both, pairs_needed
from rawpunch.punch.known import Known
from rawpunch.punch.ports import Guess, Kind
from rawpunch.units import MS, SECOND, format_duration
from rawpunch.wire.ttl import DEFAULT_TTL

if TYPE_CHECKING:
    from rawpunch.punch.predict import Forecast

Side = Literal["a", "b"]
SIDES: Final[tuple[Side, Side]] = ("a", "b")

_GIVE_UP_NS: Final = 3 * SECOND
_TRIES: Final = 3
"""Of a step that chance has a part in or that a stall may spoil."""
_MOST_STEPS: Final = 3
"""Of one certainty: who has tried three ways that should work had better take the relay."""
_GUESSES: Final = 64
"""Ports that are aimed at, at most, where the next one is foretold."""
_ENOUGH: Final = 0.98


class Certainty(enum.StrEnum):
    """How sure it is that a step works, by what is known."""

    SURE = "sure"
    USUAL = "usual"
    """It works if what was not determined is as it usually is."""
    POSSIBLE = "possible"
    """It may work."""


class Deed(enum.StrEnum):
    """What a side does in a step."""

    OPEN = "open"
    """It sends a SYN from the port that the observer saw, to the other's endpoint, and again as TCP does."""
    LISTEN = "listen"
    """It waits on the port that the observer saw."""
    POKE = "poke"
    """It sends one SYN that dies on the way to the other's address, and then waits."""
    HOLD = "hold"
    """It opens many ports towards the other's endpoint, one SYN each."""
    TRY = "try"
    """It sends SYNs from one port to many ports of the other's address."""
    CONNECT = "connect"
    """It connects to the relay."""


@dataclass(frozen=True, slots=True)
class Path:
    """What lies between the two."""

    one_way_ns: tuple[int, int] = (20 * MS, 20 * MS)
    """From A to B, and from B to A."""
    start_error_ns: int = 0
    """By how much an agreed instant may differ between the two: the bound of their clocks' offset."""
    nat_hops: tuple[int, int] = (1, 1)
    """Routers from each host up to its outermost NAT: a SYN with one more in its time to live opens all NATs and goes no
    further than the next router."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            BadParameter: a time is negative, or a NAT is no hop away.
        """
        if min(*self.one_way_ns, self.start_error_ns) < 0 or min(self.nat_hops) < 1:
            raise BadParameter("a path has delays of 0 ns or more and NATs one hop away or more", why=f"given: {self}")

    @property
    def late_ns(self) -> int:
        """How much later the second one has to go, so that the first one's SYN has come: twice the delay, to be safe."""
        return 2 * max(self.one_way_ns) + MS + 2 * self.start_error_ns


@dataclass(frozen=True, slots=True)
class Move:
    """One side's part of a step."""

    deed: Deed
    begins_ns: int = 0
    """After the instant agreed on."""
    ports: tuple[Guess, ...] = ()
    """Ports of the other that are aimed at, the likeliest first; none where it is the one that an observer told."""
    syns: int = 1
    """Connections that it opens, or tries."""
    first_ttl: int = DEFAULT_TTL
    """Time to live of the first SYN, or of all that HOLD sends."""


@dataclass(frozen=True, slots=True)
class Step:
    """One strategy, tried for some time."""

    strategy: Strategy
    certainty: Certainty
    a: Move
    b: Move
    why: str
    """What the oracle says of it."""
    odds: float | None = None
    """How likely one try works, where chance has a part."""
    tries: int = 1
    """How often it is tried, each time with fresh ports."""
    give_up_ns: int = _GIVE_UP_NS
    """How long each try may take, from each side's own begin."""
    window_ns: int | None = None
    """Starts may be so far apart; None where it does not matter."""

    def move(self, side: Side) -> Move:
        """What a side does."""
        return self.a if side == "a" else self.b

    @property
    def overall(self) -> float | None:
        """The odds of all tries together."""
        return None if self.odds is None else 1 - (1 - self.odds) ** self.tries


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, in the order in which they are tried; the last one is the relay."""

    steps: tuple[Step, ...]
    predicted: Answer
    """What the oracle says of two NATs that are as usual where nothing was determined."""
    path: Path
    doubts: tuple[str, ...] = ()
    """What is not known, by side and axis."""
    notes: tuple[str, ...] = ()
    """What else is to be said, such as the odds of what is not tried."""

    @property
    def first(self) -> Step:
        """The first step."""
        return self.steps[0]

    def explain(self) -> str:
        """The plan in words, a line for each step and what belongs to it."""
        return "\n".join(_explained(self))


def make_plan(a: Known, b: Known, path: Path | None = None, *, budget: Budget | None = None) -> Plan:
    """The plan of two sides.

    Args:
        a: what is known of A's side.
        b: the same of B's.
        path: what lies between them; 20 ms each way by default.
        budget: what a spray may cost.
    """
    path, budget = path or Path(), budget or Budget()
    predicted = oracle.best(a.usual, b.usual, one_way_ns=path.one_way_ns)
    doubts = tuple(f"{side.upper()}'s {axis}" for side, known in zip(SIDES, (a, b), strict=True) for axis in known.doubts)
    notes = tuple(_notes(a, b, budget))
    if a.proxied or b.proxied:
        relay = _relay("something terminates TCP on the way and opens connections of its own: no SYN of a peer comes through")
        return Plan((relay,), relay_answer(predicted), path, doubts, notes)
    steps = [*_steps(a, b, path, budget), _relay("both can connect to a third party")]
    return Plan(tuple(steps), predicted, path, doubts, notes)


def relay_answer(predicted: Answer) -> Answer:
    """The oracle knows no proxies: where there is one, nothing but the relay works."""
    return replace(predicted, strategy=Strategy.RELAY, works=True, why="a proxy terminates TCP", first="", odds=None)


# --- which strategies, in which order ---


def _steps(a: Known, b: Known, path: Path, budget: Budget) -> Iterator[Step]:
    """Sure steps if there are any, else usual and then possible ones; of each strategy the first, and a few of them."""
    cases = [(one, other) for one in a.variants for other in b.variants]
    answers = [_ways(one, other, path, budget) for one, other in cases]
    for certainty in Certainty:
        made: dict[Strategy, Step] = {}
        for place, usual in enumerate(answers[0]):
            working = next(((row[place], nats) for row, nats in zip(answers, cases, strict=True) if row[place].works), None)
            always = all(row[place].works for row in answers)
            if working is None or certainty is not _certainty(always, usual.works):
                continue
            answer, nats = working
            if answer.strategy not in made and _has_point(answer.strategy, nats):
                made[answer.strategy] = _step(answer, certainty, a, b, nats, path, budget)
        chosen = list(made.values())[:_MOST_STEPS]
        yield from chosen
        if certainty is Certainty.SURE and chosen:
            return


def _has_point(strategy: Strategy, nats: tuple[Behavior | None, Behavior | None]) -> bool:
    """Whether a strategy does more here than a simpler one: prediction and spray are for ports that cannot be learned."""
    if strategy in {Strategy.PREDICTION, Strategy.SPRAY}:
        return not oracle.simultaneous(*nats).works
    return strategy is not Strategy.POKED_REVERSAL or not any(oracle.reversal(*nats, listens=side).works for side in SIDES)


def _certainty(always: bool, usually: bool) -> Certainty:
    return Certainty.SURE if always else Certainty.USUAL if usually else Certainty.POSSIBLE


def _ways(a: Behavior | None, b: Behavior | None, path: Path, budget: Budget) -> tuple[Answer, ...]:
    """All strategies with their answers in a fixed order, the simplest first; each at the worst that the start may be off."""
    late = path.late_ns

    def both(offset_ns: int, strategy: Strategy, low_ttl: str = "") -> Answer:
        error = path.start_error_ns
        said = [
            oracle.simultaneous(a, b, offset_ns=offset, one_way_ns=path.one_way_ns, low_ttl=low_ttl)
            for offset in sorted({offset_ns - error, offset_ns, offset_ns + error}, key=lambda at: abs(at - offset_ns))
        ]
        worst = next((answer for answer in said if not answer.works), said[0])
        return replace(worst, strategy=strategy, first=said[0].first)

    shares = _shares(a, b, oracle.spray(a, b).first, budget)
    return (
        *(oracle.reversal(a, b, listens=side) for side in SIDES),
        both(0, Strategy.SIMULTANEOUS),
        both(late, Strategy.ORDERED),
        both(-late, Strategy.ORDERED),
        both(late, Strategy.LOW_TTL, "a"),
        both(-late, Strategy.LOW_TTL, "b"),
        *(oracle.poked_reversal(a, b, listens=side) for side in SIDES),
        oracle.prediction(a, b),
        oracle.spray(a, b, opened=shares.opened, tried=shares.tried),
    )


def _shares(a: Behavior | None, b: Behavior | None, first: str, budget: Budget) -> Shares:
    """What a spray costs against the side that draws, which the oracle names first, within the room of both tables."""
    mine, other = (b, a) if first == "b" else (a, b)
    opened, tried = (max(1, oracle.room(nat)) for nat in (mine, other))
    held = replace(budget, opened=min(budget.opened, opened), tried=min(budget.tried, tried))
    return afford(1 if mine is None else oracle.endpoints(mine), held)


# --- what each side does ---


def _step(
    answer: Answer,
    certainty: Certainty,
    a: Known,
    b: Known,
    nats: tuple[Behavior | None, Behavior | None],
    path: Path,
    budget: Budget,
) -> Step:
    first: Side = "b" if answer.first == "b" else "a"
    match answer.strategy:
        case Strategy.REVERSAL | Strategy.POKED_REVERSAL:
            poked = answer.strategy is Strategy.POKED_REVERSAL
            ttl = path.nat_hops[SIDES.index(first)] + 1 if poked else DEFAULT_TTL
            waits = Move(Deed.POKE if poked else Deed.LISTEN, first_ttl=ttl)
            comes = Move(Deed.OPEN, path.start_error_ns + MS)
            return _of(answer, certainty, first, waits, comes)
        case Strategy.ORDERED | Strategy.LOW_TTL:
            dies = answer.strategy is Strategy.LOW_TTL
            ttl = path.nat_hops[SIDES.index(first)] + 1 if dies else DEFAULT_TTL
            mine, other = Move(Deed.OPEN, first_ttl=ttl), Move(Deed.OPEN, path.late_ns)
            return replace(_of(answer, certainty, first, mine, other), tries=_TRIES)
        case Strategy.PREDICTION:
            return _prediction(answer, certainty, a, b)
        case Strategy.SPRAY:
            return _spray(answer, certainty, nats, path, budget)
    window = None if _whenever(*nats, path) else min(path.one_way_ns)
    return Step(answer.strategy, certainty, Move(Deed.OPEN), Move(Deed.OPEN), answer.why, tries=_TRIES, window_ns=window)


def _of(answer: Answer, certainty: Certainty, first: Side, mine: Move, other: Move) -> Step:
    moves = (mine, other) if first == "a" else (other, mine)
    return Step(answer.strategy, certainty, *moves, answer.why, odds=answer.odds)


def _whenever(a: Behavior | None, b: Behavior | None, path: Path) -> bool:
    """Whether it works as well when the two do not begin together."""
    lates = (path.late_ns, -path.late_ns)
    return all(oracle.simultaneous(a, b, offset_ns=late, one_way_ns=path.one_way_ns).works for late in lates)


def _prediction(answer: Answer, certainty: Certainty, a: Known, b: Known) -> Step:
    """Each aims at the ports that the other's next connection will likely get.

    Who has the same port for everybody may send a SYN to each of many; who gets a new port for each SYN has one guess only.
    """
    told = [_foretold(known) for known in (a, b)]
    steps_too = [one is not None and one.kind is Kind.STEPS for one in told]
    moves, odds = [], 1.0
    for other, mine_steps in ((told[1], steps_too[0]), (told[0], steps_too[1])):
        guesses: tuple[Guess, ...] = ()
        if other is not None:
            wanted = 1 if mine_steps else min(_GUESSES, other.needed(_ENOUGH) or _GUESSES)
            guesses = other.ranked(wanted)
            odds *= sum(guess.odds for guess in guesses)
        moves.append(Move(Deed.OPEN, ports=guesses, syns=max(1, len(guesses))))
    known_odds = odds if any(one is not None for one in told) else answer.odds
    return Step(answer.strategy, certainty, moves[0], moves[1], answer.why, odds=known_odds, tries=_TRIES)


def _foretold(known: Known) -> Forecast | None:
    if not known.seen:
        return None
    from rawpunch.punch.predict import forecast  # noqa: PLC0415  numpy takes a tenth of a second, and most plans need none

    return forecast(known.seen)


def _spray(
    answer: Answer, certainty: Certainty, nats: tuple[Behavior | None, Behavior | None], path: Path, budget: Budget
) -> Step:
    """The side whose NAT draws opens many ports, and the other tries many, once these must be open."""
    drawing: Side = "b" if answer.first == "b" else "a"
    mine, other = nats if drawing == "a" else nats[::-1]
    shares = _shares(*nats, answer.first, budget)
    speaks = other is None or other.unsolicited is not UnsolicitedAnswer.DROP
    ttl = path.nat_hops[SIDES.index(drawing)] + 1 if speaks and not (mine and mine.icmp_closes) else DEFAULT_TTL
    opened_ns = shares.opened * SECOND // budget.per_s
    hold = Move(Deed.HOLD, syns=shares.opened, first_ttl=ttl)
    tries = Move(Deed.TRY, opened_ns + path.start_error_ns + MS, syns=shares.tried)
    step = _of(answer, certainty, drawing, hold, tries)
    return replace(step, odds=shares.odds, give_up_ns=_GIVE_UP_NS + opened_ns + shares.lasts_ns)


def _relay(why: str) -> Step:
    return Step(Strategy.RELAY, Certainty.SURE, Move(Deed.CONNECT), Move(Deed.CONNECT), why)


def _notes(a: Known, b: Known, budget: Budget) -> Iterator[str]:
    """The odds of a spray where both draw: it is not tried, but that can be said in a number."""
    one, other = a.usual, b.usual
    if one and other and oracle.spray(one, other).why.startswith("both ports are drawn"):
        shares = afford_both(oracle.endpoints(one), oracle.endpoints(other), budget)
        yield (
            f"both ports are drawn: a hit must name both, and {shares.opened} SYNs from each side would have odds of "
            f"{_percent(shares.odds)}"
        )


# --- in words ---


def _explained(plan: Plan) -> Iterator[str]:
    if plan.doubts:
        yield f"not determined: {', '.join(plan.doubts)}"
    for number, step in enumerate(plan.steps, 1):
        sure = {
            Certainty.SURE: "",
            Certainty.USUAL: ", if what was not determined is as usual",
            Certainty.POSSIBLE: ", which may work",
        }[step.certainty]
        yield f"{number}. {step.strategy.replace('_', ' ')}{sure}: {step.why}"
        if step.strategy is not Strategy.RELAY:
            yield from (f"   {line}" for line in _details(step))
    yield from plan.notes
    yield f"the oracle: {plan.predicted.strategy.replace('_', ' ')} works, for {plan.predicted.why}"


def _details(step: Step) -> Iterator[str]:
    for name, move in (("A", step.a), ("B", step.b)):
        yield f"{name} {_moved(move)}"
    if step.window_ns is not None:
        yield f"the two must begin within {format_duration(step.window_ns)} of each other"
    again = f"up to {step.tries} times, each for" if step.tries > 1 else "for"
    yield f"{again} {format_duration(step.give_up_ns)} at most"
    if step.odds is not None and step.odds < 1:
        all_of_it = f", of all tries together {_percent(step.overall or 0.0)}" if step.tries > 1 else ""
        yield f"odds of one try {_percent(step.odds)}{all_of_it}"
    if step.strategy is Strategy.SPRAY:
        held = step.a if step.a.deed is Deed.HOLD else step.b
        tried = step.b if held is step.a else step.a
        yield f"{held.syns + tried.syns} SYNs in all"


def _moved(move: Move) -> str:
    when = "at the start" if move.begins_ns == 0 else f"{format_duration(move.begins_ns)} after the start"
    ttl = "" if move.first_ttl == DEFAULT_TTL else f" with a time to live of {move.first_ttl}, to die beyond its own NAT"
    match move.deed:
        case Deed.LISTEN:
            return f"listens {when}"
        case Deed.POKE:
            return f"sends one SYN{ttl} {when}, and listens"
        case Deed.HOLD:
            return f"opens {move.syns} ports {when}, one SYN each{ttl}"
        case Deed.TRY:
            return f"tries {move.syns} different ports of the other {when}"
    aims = ""
    if move.ports:
        names = ", ".join(str(guess.port) for guess in move.ports[:4])
        aims = f" to {names}" + (f" and {len(move.ports) - 4} more ports" if len(move.ports) > 4 else "")
    first = " first" if ttl else ""
    return f"sends a SYN{aims} {when}" + (f", the{first} one{ttl}" if ttl else "")


def _percent(odds: float) -> str:
    return f"{100 * odds:.3g} %" if odds < 0.9995 else "over 99.9 %"


def spray_costs(ports: int) -> tuple[tuple[float, int], ...]:
    """For each of the usual odds, how many ports must be opened and as many tried out of that many."""
    return tuple((share, pairs_needed(share, ports)) for share in SHARES)
