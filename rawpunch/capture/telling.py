"""The bulk form of `rawpunch.record.pattern.tell` and `rawpunch.record.outcome.outcome_of`: all attempts from all their views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.attempts import Sorted
from rawpunch.capture.groups import NONE, Mask
from rawpunch.capture.merging import Views
from rawpunch.capture.packets import Packets
from rawpunch.capture.readings import CODE, PATTERNS, Readings
from rawpunch.capture.records import Ints
from rawpunch.capture.viewing import views_of
from rawpunch.record.outcome import COMPLETE, ENDED, outcome_of
from rawpunch.record.pattern import tell
from rawpunch.record.words import Outcome, Pattern

OUTCOMES: Final = (*Outcome, None)
"""Outcomes are told by their place in this; the last is that the record shows none."""
_UNKNOWN: Final = np.int8(len(OUTCOMES) - 1)
_ABSENT: Final = np.int8(-1)
ODD_MOST: Final = 2000
"""So many packets of a view are looked at where only the pure form can tell: it takes time by the square of the packets."""

_COMPLETE: Final = np.array([pattern in COMPLETE for pattern in PATTERNS])
_ENDED: Final = np.array([OUTCOMES.index(ENDED.get(pattern)) for pattern in PATTERNS], np.int8)

Codes = npt.NDArray[np.int8]


@dataclass(slots=True)
class Tellings:
    """All attempts, told, in arrays with one element per attempt."""

    pattern: Codes
    at_a: Codes
    """At A's own host; -1 where nothing was seen there."""
    at_b: Codes
    outcome: Codes
    decided_ns: Ints
    """When the deciding packet took effect, or NONE."""
    decider: Ints
    """The same packet where it was first seen: its place in `Sorted`, or NONE."""


def tell_all(packets: Packets, ordered: Sorted, views: Views, readings: Readings) -> Tellings:
    """Tell the wire pattern and outcome of all attempts."""
    attempts = views.attempts
    own = [_view_of(views, views.near == end, attempts) for end in (0, 1)]
    lead = np.where(own[0] >= 0, own[0], np.where(own[1] >= 0, own[1], _largest(ordered, views, attempts)))
    pattern, arrived = readings.pattern[lead], readings.decider[lead]
    at = [np.where(view >= 0, readings.pattern[view], _ABSENT) for view in own]
    both = np.flatnonzero((own[0] >= 0) & (own[1] >= 0))
    if len(both):
        _merge(ordered, readings, own[0][both], own[1][both], both, pattern, arrived, at)
    decider = arrived
    if len(views.attempt) > attempts:
        decider = _trace(packets, ordered, views, arrived)
    told = Tellings(pattern, at[0], at[1], _outcomes(pattern, at, arrived), _time(ordered, arrived), decider)
    for attempt in np.unique(views.attempt[readings.odd]).tolist():
        _tell_purely(packets, ordered, views, attempt, told)
    return told


def _tell_purely(packets: Packets, ordered: Sorted, views: Views, attempt: int, result: Tellings) -> None:
    told = tell(views_of(packets, ordered, views, attempt, most=ODD_MOST, by_place=True))
    result.pattern[attempt] = CODE[told.pattern]
    result.at_a[attempt] = _ABSENT if told.at_a is None else CODE[told.at_a]
    result.at_b[attempt] = _ABSENT if told.at_b is None else CODE[told.at_b]
    result.outcome[attempt] = OUTCOMES.index(outcome_of(told))
    result.decided_ns[attempt] = NONE if told.decided_ns is None else told.decided_ns
    result.decider[attempt] = NONE if told.decided_by is None else told.decided_by.number


def _view_of(views: Views, which: Mask, attempts: int) -> Ints:
    found = np.full(attempts, -1)
    places = np.flatnonzero(which)[::-1]
    found[views.attempt[places]] = places
    return found


def _largest(ordered: Sorted, views: Views, attempts: int) -> Ints:
    """The view of each attempt with the most packets, the first of equals."""
    size = ordered.attempts.end - ordered.attempts.start
    order = np.lexsort((-np.arange(len(size)), size, views.attempt))
    found = np.zeros(attempts, np.int64)
    found[views.attempt[order]] = order
    return found


def _merge(
    ordered: Sorted, readings: Readings, a: Ints, b: Ints, which: Ints, pattern: Codes, arrived: Ints, at: list[Codes]
) -> None:
    """Tell the attempts `which` from the views of both ends, `a` and `b`."""

    def code(word: Pattern) -> np.int8:
        return CODE[word]

    alone_a, alone_b = readings.pattern[a], readings.pattern[b]
    decider_a, decider_b = readings.decider[a], readings.decider[b]
    complete_a, complete_b = readings.complete[a], readings.complete[b]
    itself_a, itself_b = alone_a == code(Pattern.SELF_CONNECT), alone_b == code(Pattern.SELF_CONNECT)
    itself = itself_a | itself_b

    opened = ~itself & complete_a & complete_b
    ready_a, ready_b = readings.completed[0][a], readings.completed[1][b]
    later = np.where(_time(ordered, ready_a) >= _time(ordered, ready_b), ready_a, ready_b)
    split = readings.answered_with_syn[0][a] | readings.answered_with_syn[1][b]
    crossed_a, crossed_b = readings.crossed[0][a], readings.crossed[1][b]
    word_a = np.select(
        [split, crossed_a & crossed_b, crossed_a],
        [code(Pattern.SPLIT), code(Pattern.SIMULTANEOUS), code(Pattern.HALF_SIMULTANEOUS)],
        code(Pattern.THREE_WAY),
    )
    word_b = np.select(
        [split, crossed_a & crossed_b, crossed_b],
        [code(Pattern.SPLIT), code(Pattern.SIMULTANEOUS), code(Pattern.HALF_SIMULTANEOUS)],
        code(Pattern.THREE_WAY),
    )
    word = np.where(word_b == code(Pattern.HALF_SIMULTANEOUS), word_b, word_a)

    ends_a, ends_b = ~complete_a & (decider_a != NONE), ~complete_b & (decider_b != NONE)
    a_first = ends_a & (~ends_b | (_time(ordered, decider_a) <= _time(ordered, decider_b)))
    unanswered = (alone_a == code(Pattern.UNANSWERED)) & (alone_b == code(Pattern.UNANSWERED))
    cases = [itself, opened, a_first, ends_b, complete_a & (decider_a != NONE), complete_b & (decider_b != NONE), unanswered]
    pattern[which] = np.select(
        cases,
        [np.full_like(alone_a, code(Pattern.SELF_CONNECT)), word, alone_a, alone_b, alone_a, alone_b, alone_a],
        code(Pattern.TRUNCATED),
    )
    nothing = np.full(len(which), NONE)
    arrived[which] = np.select(cases, [decider_a, later, decider_a, decider_b, decider_a, decider_b, nothing], nothing)
    at[0][which] = np.where(opened, word_a, alone_a)
    at[1][which] = np.where(opened, word_b, alone_b)


def _time(ordered: Sorted, place: Ints) -> Ints:
    there = place != NONE
    return np.where(there, ordered.time_ns[np.where(there, place, 0)], NONE)


def _outcomes(pattern: Codes, at: list[Codes], arrived: Ints) -> Codes:
    decided = arrived != NONE
    done = [_COMPLETE[word] for word in at]
    half = decided & (at[0] >= 0) & (at[1] >= 0) & (done[0] != done[1])
    complete = _COMPLETE[pattern]
    return np.select(
        [half, complete & decided, complete],
        [np.int8(OUTCOMES.index(Outcome.HALF_OPEN)), np.int8(OUTCOMES.index(Outcome.ESTABLISHED)), _UNKNOWN],
        _ENDED[pattern],
    ).astype(np.int8)


def _trace(packets: Packets, ordered: Sorted, views: Views, arrived: Ints) -> Ints:
    """Find where each deciding packet was first seen: at each view the last such packet that is not later counts."""
    of = ordered.attempts.of
    crowd = np.bincount(views.attempt)
    wanted = (crowd > 1) & (arrived != NONE)
    places = np.flatnonzero(wanted[views.attempt[of]])
    view = of[places]
    target = arrived[views.attempt[view]]
    same = (ordered.flags[places] == ordered.flags[target]) & (ordered.seq[places] == ordered.seq[target])
    same &= (ordered.ack[places] == ordered.ack[target]) & (ordered.time_ns[places] <= ordered.time_ns[target])
    places, view, target = places[same], view[same], target[same]
    length = packets.payload_length
    same = length[ordered.place[places]] == length[ordered.place[target]]
    same &= _sender_is_a(ordered, views, places) == _sender_is_a(ordered, views, target)
    places, view = places[same], view[same]
    last = np.full(len(views.attempt), -1)
    last[view] = places
    seen_by = np.flatnonzero(last >= 0)
    attempt, place = views.attempt[seen_by], last[seen_by]
    mine = of[arrived[attempt]] == seen_by
    place = np.where(mine, arrived[attempt], place)
    number = packets.number[ordered.place[place]]
    order = np.lexsort((seen_by, ~mine, number, ordered.time_ns[place], attempt))[::-1]
    decider = arrived.copy()
    decider[attempt[order]] = place[order]
    return decider


def _sender_is_a(ordered: Sorted, views: Views, places: Ints) -> Mask:
    """Whether A sent these, or for ICMP errors whether B is told."""
    of = ordered.attempts.of[places]
    mask: Mask = (ordered.from_low[places] == views.low_is_a[of]) | (ordered.low[places] == ordered.high[places])
    return mask
