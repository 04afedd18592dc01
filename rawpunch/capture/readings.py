"""The bulk form of `rawpunch.record.pattern`: what each view says of its attempt, for all views at once.

It is written beside the pure form, word for word where that is possible, and tested for equality with it. A view in which an end
has more than a few initial sequence numbers is marked odd: whoever asks lets the pure form tell its attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.attempts import ACK, RST, Sorted, is_syn
from rawpunch.capture.groups import NONE, Groups, Mask
from rawpunch.capture.merging import Views
from rawpunch.capture.packets import ICMP, Packets
from rawpunch.capture.records import Ints
from rawpunch.record.words import Pattern
from rawpunch.wire.segment import Flags

PATTERNS: Final = tuple(Pattern)
"""Patterns are told by their place in this."""
CODE: Final = {pattern: np.int8(place) for place, pattern in enumerate(PATTERNS)}

_WINDOW: Final = np.uint32(65_536)
_ACK_AHEAD: Final = np.uint32(1 << 30)
_ISNS: Final = 4
"""So many initial sequence numbers of an end are compared with; an end with more is odd."""

Codes = npt.NDArray[np.int8]
Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Readings:
    """All views, read, in arrays with one element per view. Pairs are (about A, about B); places are in `Sorted`, or NONE."""

    pattern: Codes
    """The pattern, as the view alone tells it."""
    decider: Ints
    """The packet that ended it or completed its later end."""
    complete: Mask
    completed: tuple[Ints, Ints]
    crossed: tuple[Mask, Mask]
    """Whether this end sent a SYN, saw the peer's only afterwards and answered it with a SYN-ACK."""
    answered_with_syn: tuple[Mask, Mask]
    """Whether this end saw the peer's SYN before it sent a SYN of its own."""
    odd: Mask
    """Whether only the pure form can tell."""


@dataclass(frozen=True, slots=True)
class _Isn:
    """One initial sequence number of an end, in arrays with one element per view."""

    first: Ints
    """The first SYN or SYN-ACK that has it, or NONE."""
    number: Numbers
    """Means nothing where there is none."""
    length: Ints
    """SEG.LEN of the longest SYN or SYN-ACK that has it."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of the packets of all views."""

    groups: Groups
    side: npt.NDArray[np.int8]
    """0 if A sent it, or if it is an ICMP error that B is told; else 1."""
    flags: npt.NDArray[np.int16]
    seq: Numbers
    ack: Numbers
    syn: Mask
    """SYNs and SYN-ACKs."""
    isns: tuple[list[_Isn], list[_Isn]]
    """The first, second ... initial sequence number of each end."""


def read(packets: Packets, ordered: Sorted, views: Views) -> Readings:
    """Read all views."""
    facts, odd = _facts(packets, ordered, views)
    groups, flags = facts.groups, facts.flags
    answers = facts.syn & (flags & ACK != 0)
    calls = facts.syn & ~answers
    by_a = facts.side == 0
    stray = flags & np.int16(ICMP | Flags.RST | Flags.SYN) == 0
    completed = (_completes(facts, 0), _completes(facts, 1))
    ended = (_ends(facts, 0, answers), _ends(facts, 1, answers))
    done = np.maximum(*completed)
    complete = done != NONE
    syn_a, ack_a = _timely(groups.first(calls & by_a), groups.first(answers & by_a), done)
    syn_b, ack_b = _timely(groups.first(calls & ~by_a), groups.first(answers & ~by_a), done)
    (end_a, how_a), (end_b, how_b) = ended
    ending = np.minimum(end_a, end_b)
    how = np.where(end_a <= end_b, how_a, how_b)
    itself = ordered.low[groups.start] == ordered.high[groups.start]
    called = (syn_a != NONE) | (syn_b != NONE)
    answered = (ack_a != NONE) | (ack_b != NONE)
    reply = ((syn_b < syn_a) & (syn_a != NONE), (syn_a < syn_b) & (syn_b != NONE))
    split = (ack_a == NONE) | (ack_b == NONE) | (reply[0] & (views.near == 0)) | (reply[1] & (views.near == 1))
    pattern = np.select(
        [itself, ~called, complete & ((syn_a == NONE) | (syn_b == NONE)), complete & split, complete, ending != NONE],
        [
            CODE[Pattern.SELF_CONNECT],
            CODE[Pattern.TRUNCATED],
            CODE[Pattern.THREE_WAY],
            CODE[Pattern.SPLIT],
            CODE[Pattern.SIMULTANEOUS],
            how,
        ],
        np.where(groups.any(stray) | answered, CODE[Pattern.TRUNCATED], CODE[Pattern.UNANSWERED]),
    )
    finished = np.where(itself, np.where(ack_a != NONE, ack_a, ack_b), np.where(complete, done, NONE))
    decider = np.where(finished != NONE, finished, np.where(called, ending, NONE))
    return Readings(
        pattern.astype(np.int8),
        decider,
        complete,
        completed,
        (
            (syn_a < syn_b) & (syn_b != NONE) & (ack_a != NONE),
            (syn_b < syn_a) & (syn_a != NONE) & (ack_b != NONE),
        ),
        reply,
        odd,
    )


def _facts(packets: Packets, ordered: Sorted, views: Views) -> tuple[_Facts, Mask]:
    groups, flags, seq = ordered.attempts, ordered.flags, ordered.seq
    itself = ordered.low == ordered.high
    side = (~itself & (ordered.from_low != views.low_is_a[groups.of])).astype(np.int8)
    syn = is_syn(flags)
    odd = np.zeros(len(groups), np.bool_)
    known: tuple[list[_Isn], list[_Isn]] = ([], [])
    for end in (0, 1):
        rest = np.flatnonzero(syn & (side == end))
        while len(known[end]) < _ISNS and (len(rest) or not known[end]):
            of = groups.of[rest]
            first = _first_at(groups, rest)
            number = np.zeros(len(groups), np.uint32)
            number[first != NONE] = seq[first[first != NONE]]
            same = seq[rest] == number[of]
            length = np.zeros(len(groups), np.int64)
            segment = packets.payload_length[ordered.place[rest]] + 1 + (flags[rest] & np.int16(Flags.FIN) != 0)
            np.maximum.at(length, of[same], segment[same])
            known[end].append(_Isn(first, number, length))
            rest = rest[~same]
        odd[groups.of[rest]] = True
    return _Facts(groups, side, flags, seq, ordered.ack, syn, known), odd


def _timely(syn: Ints, syn_ack: Ints, done: Ints) -> tuple[Ints, Ints]:
    """An end's SYN and SYN-ACK, without the one that came too late to matter."""
    both = (syn != NONE) & (syn_ack != NONE) & (done != NONE)
    late_syn = both & (syn > done) & (done >= syn_ack)
    late_ack = both & (syn_ack > done) & (done >= syn)
    return np.where(late_syn, NONE, syn), np.where(late_ack, NONE, syn_ack)


def _completes(facts: _Facts, end: int) -> Ints:
    """The first segment to this end that acknowledges its SYN, if the peer's SYN is known."""
    known = (facts.isns[0][0].first != NONE) & (facts.isns[1][0].first != NONE)
    answers = np.flatnonzero((facts.side == 1 - end) & (facts.flags & (ACK | RST) == ACK))
    of = facts.groups.of[answers]
    good = np.zeros(len(answers), np.bool_)
    for isn in facts.isns[end]:
        ahead = facts.ack[answers] - isn.number[of]
        good |= (isn.first[of] != NONE) & (ahead > 0) & (ahead < _ACK_AHEAD)
    return _first_at(facts.groups, answers[good & known[of]])


def _ends(facts: _Facts, end: int, answers: Mask) -> tuple[Ints, Codes]:
    """What ended this end before it was complete, and how: a RST that it believes, else an ICMP error after the last SYN-ACK."""
    groups, flags = facts.groups, facts.flags
    mine, peers = facts.isns[end], facts.isns[1 - end]
    answered = groups.first(answers)

    resets = np.flatnonzero((facts.side == 1 - end) & (flags & RST != 0))
    of = groups.of[resets]
    begun = (mine[0].first[of] < resets) | (answered[of] < resets)
    in_window, own = np.zeros((2, len(resets)), np.bool_)
    for isn in peers:
        in_window |= (isn.first[of] < resets) & (facts.seq[resets] - (isn.number[of] + np.uint32(1)) < _WINDOW)
    for isn in mine:
        ahead = facts.ack[resets] - isn.number[of]
        own |= (isn.first[of] != NONE) & (flags[resets] & ACK != 0) & (ahead > 0) & (ahead <= isn.length[of])
    heard = peers[0].first[of] < resets
    reset = _first_at(groups, resets[begun & np.where(heard, in_window, own)])

    errors = np.flatnonzero((facts.side == 1 - end) & (flags & np.int16(ICMP) != 0))
    of = groups.of[errors]
    about = np.zeros(len(errors), np.bool_)
    for isn in mine:
        about |= (isn.first[of] != NONE) & (facts.seq[errors] == isn.number[of])
    error = _first_at(groups, errors[about & (errors > groups.last(answers)[of])])

    how = np.where(answered < reset, CODE[Pattern.RESET_MIDWAY], CODE[Pattern.REFUSED])
    return np.where(reset != NONE, reset, error), np.where(reset != NONE, how, CODE[Pattern.ICMP_ENDED])


def _first_at(groups: Groups, places: Ints) -> Ints:
    """Group -> the first of these places in it, or NONE."""
    found = np.full(len(groups), NONE)
    backwards = places[::-1]
    found[groups.of[backwards]] = backwards
    return found
