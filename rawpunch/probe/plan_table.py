"""How many sessions may be open at once, as far as a probe must know; and how long one lives that nobody uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rawpunch.probe.facts import Aged, Opening, Table
from rawpunch.probe.kit import Kit, Shot
from rawpunch.probe.messages import Craft
from rawpunch.probe.remotes import Remotes
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from rawpunch.wire.seq import add

_SESSIONS: Final = 16
_GAP_NS: Final = 2 * MS

SHORT_AGES: Final = tuple(round(seconds * SECOND) for seconds in (1.2, 2.2, 3.4, 4.6, 6))
"""Ages that a probe without long timers looks at."""
SYN_SENT: Final = "SYN_SENT"
ESTABLISHED: Final = "ESTABLISHED"
_SHORTEST_NS: Final = 8 * SECOND
_TRANSITORY_NS: Final = 250 * SECOND
_POINTS: Final = 14
_STAY_NS: Final = 20 * SECOND


async def table(kit: Kit, remotes: Remotes) -> Table:
    """Open sessions one after the other, and see which of them live.

    Raises:
        PartialData: the observer is gone.
    """
    ground = kit.ground

    async def late(number: int) -> Opening | None:
        await ground.sleep(number * _GAP_NS)
        return await kit.open(remotes.first, tries=4)

    found: list[Opening | None] = await ground.together(*(late(number) for number in range(_SESSIONS)))
    openings = [opening for opening in found if opening is not None]
    alive = await kit.shoot([kit.answer(opening) for opening in openings], kit.repeats)
    await kit.close(*openings)
    short = len(openings) < _SESSIONS or any(tally.came == 0 for tally in alive)
    if not short:
        for tally in alive:
            kit.control(tally.sent, tally.came)
    return Table(_SESSIONS, len(openings), tuple(alive), short)


async def ages(kit: Kit, remotes: Remotes, waits_ns: Sequence[int], state: str = SYN_SENT) -> tuple[Aged, ...]:
    """Open sessions now and look at each at another age.

    Args:
        kit: the probe's tools.
        remotes: where they lead.
        waits_ns: the ages.
        state: SYN_SENT or ESTABLISHED.

    Raises:
        PartialData: the observer is gone.
    """
    found: list[Aged | None] = await kit.ground.together(*(_aged(kit, remotes, wait_ns, state) for wait_ns in waits_ns))
    return tuple(aged for aged in found if aged is not None)


async def long_ages(kit: Kit, remotes: Remotes, limit_ns: int) -> tuple[Aged, ...]:
    """The same up to an hour or more, for both states, and then once more between the ages where sessions were lost.

    Raises:
        PartialData: the observer is gone.
    """
    over: list[bool] = []

    async def stay() -> None:
        """Keep the observer's session alive, and the NAT's for it."""
        while not over:
            await kit.ground.settle()
            await kit.ground.until(lambda: bool(over), kit.ground.now() + _STAY_NS)

    async def grow() -> list[Aged]:
        rows: list[Aged] = []
        both: list[tuple[Aged, ...]] = await kit.ground.together(
            ages(kit, remotes, _grid(_SHORTEST_NS, min(limit_ns, _TRANSITORY_NS), _POINTS), SYN_SENT),
            ages(kit, remotes, _grid(_SHORTEST_NS, limit_ns, _POINTS), ESTABLISHED),
        )
        for state, first in zip((SYN_SENT, ESTABLISHED), both, strict=True):
            rows += first
            lived = max((one.age_ns for one in first if one.alive.came), default=0)
            died = min((one.age_ns for one in first if one.control.came and not one.alive.came), default=0)
            if died > lived > 0:
                rows += await ages(kit, remotes, _grid(lived, died, _POINTS + 2)[1:-1], state)
        over.append(True)
        return rows

    done: list[list[Aged]] = await kit.ground.together(grow(), stay())
    return tuple(done[0])


def _grid(low_ns: int, high_ns: int, points: int) -> tuple[int, ...]:
    """Ages from one to the other, each the same factor above the last."""
    if high_ns <= low_ns:
        return (high_ns,)
    return tuple(round(low_ns * (high_ns / low_ns) ** (place / (points - 1))) for place in range(points))


async def _aged(kit: Kit, remotes: Remotes, wait_ns: int, state: str) -> Aged | None:
    opening = await _grown(kit, remotes.first, state)
    if opening is None:
        return None
    began = kit.ground.now()
    await kit.ground.sleep(max(0, wait_ns - 4 * kit.patience_ns))
    control = await _grown(kit, remotes.control, state)
    if control is None:
        return None
    await kit.ground.sleep(max(0, began + wait_ns - kit.ground.now()))
    age_ns = kit.ground.now() - (opening.sent.at_ns if state == SYN_SENT else began)
    alive, living = await kit.shoot([_question(kit, opening, state), _question(kit, control, state)], kit.repeats)
    await kit.close(opening, control)
    return Aged(state, age_ns, alive, living)


async def _grown(kit: Kit, remote: Endpoint, state: str) -> Opening | None:
    """A session in a state."""
    opening = await kit.open(remote)
    if opening is None or state == SYN_SENT:
        return opening
    (answered,) = await kit.shoot([kit.answer(opening)], kit.repeats)
    if not answered.came:
        await kit.close(opening)
        return None
    ack = Segment(opening.inside, remote, Flags.ACK, add(opening.iss, 1), add(opening.peer_iss, 1))
    (acked,) = await kit.emit([(ack, opening.mapped)], kit.repeats)
    return opening if acked.came else None


def _question(kit: Kit, opening: Opening, state: str) -> Shot:
    """What comes in only on a session that lives, and neither ends nor begins one."""
    if state == SYN_SENT:
        return kit.answer(opening)
    return kit.shot(Craft.ACK, opening, seq=add(opening.peer_iss, 1), ack=add(opening.syn.seq, 1))
