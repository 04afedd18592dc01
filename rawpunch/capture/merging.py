"""Views of the same attempt from several vantage points, found and turned the same way round.

Views of one 4-tuple belong together if they lie together in time and their initial sequence numbers (ISN) do not contradict each
other. A NAT changes the 4-tuple and leaves the ISN alone, so that views of different 4-tuples belong together by an ISN: best one
whose SYN has the same destination (the source was translated), else the same source, else nothing but the ISN. Scanners use one
ISN for all they send; where an ISN does not single out one view at each vantage point, it shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.attempts import ACK, RST, Sorted, is_syn
from rawpunch.capture.groups import NONE, Mask, codes_of
from rawpunch.capture.packets import ICMP, Packets
from rawpunch.capture.records import Ints
from rawpunch.units import SECOND

CLOCKS_NS: Final = 60 * SECOND
"""How far apart the time stamps of one SYN at two vantage points may be."""
_NEAR_NS: Final = 2 * SECOND
"""How far apart in time views of one 4-tuple may be that share no ISN."""
_INSIDE_NS: Final = SECOND
"""How long a NAT may take that is seen from both sides by one vantage point."""
_FIRST_TTLS: Final = (32, 64, 128, 255)
"""What senders set the time to live to: a packet that still has it has passed no router."""

_Pair = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Views:
    """What each vantage point saw of each attempt, in arrays of equal length: one element per group of `Sorted.attempts`.

    Pairs are (about end A, about end B).
    """

    vantage: npt.NDArray[np.int32]
    attempt: Ints
    """Which attempt, from 0, in order of their first packets."""
    low_is_a: Mask
    """Whether end A is the smaller endpoint there."""
    near: npt.NDArray[np.int8]
    """0 at A's own host, 1 at B's, -1 elsewhere or unknown."""

    @property
    def attempts(self) -> int:
        """How many attempts there are."""
        return int(self.attempt.max()) + 1 if len(self.attempt) else 0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What views are compared by. Pairs of rows are (about the smaller endpoint, about the larger)."""

    vantage: npt.NDArray[np.int32]
    low: Ints
    high: Ints
    start_ns: Ints
    end_ns: Ints
    isn: Ints
    """(2, views): the first of each sender; -1 where there is none."""
    syn_ns: Ints
    """(2, views): when the first SYN or SYN-ACK of each sender was seen."""
    syn_at: Ints
    """(2, views): where each sender's first SYN without ACK is, or NONE."""
    ttl: Ints
    """(2, views): that of the packet with this ISN; -1 where there is none."""


def merge(packets: Packets, ordered: Sorted) -> Views:
    """Find the views of the same attempts, and say for each which end is A (the first to send a SYN) and where it was taken."""
    seen = _look(packets, ordered)
    label = _labels(seen)
    first_ns = np.full(int(label.max()) + 1 if len(label) else 0, NONE)
    np.minimum.at(first_ns, label, seen.start_ns)
    rank = np.empty(len(first_ns), np.int64)
    rank[np.argsort(first_ns, kind="stable")] = np.arange(len(first_ns))
    attempt = rank[label]
    low_is_a = _orient(ordered, seen, attempt)
    return Views(seen.vantage, attempt, low_is_a, _at_hosts(packets, ordered, attempt, low_is_a))


def _look(packets: Packets, ordered: Sorted) -> _Seen:
    groups = ordered.attempts
    start, last = groups.start, groups.end - 1
    syn = is_syn(ordered.flags)
    calls = syn & (ordered.flags & ACK == 0)
    isn, syn_ns, syn_at, ttl = (np.full((2, len(groups)), -1, np.int64) for _ in range(4))
    for row, mine in enumerate((ordered.from_low, ~ordered.from_low)):
        at = groups.first(syn & mine)
        there = at != NONE
        at = at[there]
        isn[row, there], syn_ns[row, there] = ordered.seq[at], ordered.time_ns[at]
        ttl[row, there] = packets.ttl[ordered.place[at]]
        syn_at[row] = groups.first(calls & mine)
    return _Seen(
        packets.vantage[ordered.place[start]],
        ordered.low[start],
        ordered.high[start],
        ordered.time_ns[start],
        ordered.time_ns[last],
        isn,
        syn_ns,
        syn_at,
        ttl,
    )


# --- which views belong together ---


def _labels(seen: _Seen) -> Ints:
    """View -> a number that all views of its attempt have."""
    several = len(seen.vantage) > 0 and bool((seen.vantage != seen.vantage[0]).any())
    links = [_same_tuple(seen)] if several else []
    links += _same_isn(seen, several=several)
    one, other = (np.concatenate([link[end] for link in links]) for end in (0, 1))
    label = np.arange(len(seen.vantage))
    while (label[one] != label[other]).any():
        lower = np.minimum(label[one], label[other])
        np.minimum.at(label, one, lower)
        np.minimum.at(label, other, lower)
        label = label[label]
    return np.unique(label, return_inverse=True)[1].reshape(-1)


def _same_tuple(seen: _Seen) -> _Pair:
    """Views of one 4-tuple at different vantage points that lie together and contradict each other in no ISN."""
    codes = codes_of(seen.low, seen.high)
    order = np.lexsort((seen.start_ns, codes))
    one, other = order[:-1], order[1:]
    same = (codes[one] == codes[other]) & (seen.vantage[one] != seen.vantage[other])
    agree = _agree(seen, one, other)
    shared = ((seen.isn[:, one] == seen.isn[:, other]) & (seen.isn[:, one] >= 0)).any(axis=0)
    apart_ns = np.maximum(seen.start_ns[other] - seen.end_ns[one], 0)
    near = apart_ns <= np.where(shared, CLOCKS_NS, _NEAR_NS)
    keep = same & agree & near
    return one[keep], other[keep]


def _agree(seen: _Seen, one: Ints, other: Ints) -> Mask:
    """Whether two views of one 4-tuple know no different ISN of the same end."""
    a, b = seen.isn[:, one], seen.isn[:, other]
    mask: Mask = ((a == b) | (a < 0) | (b < 0)).all(axis=0)
    return mask


def _same_isn(seen: _Seen, *, several: bool) -> list[_Pair]:
    """Views of different 4-tuples in which the same ISN shows the same attempt."""
    row, view = np.nonzero(seen.isn >= 0)
    low, high = seen.low[view], seen.high[view]
    calls = _Calls(
        view,
        seen.isn[row, view],
        seen.isn[1 - row, view],
        np.where(row == 0, low, high),
        np.where(row == 0, high, low),
        seen.vantage[view],
        seen.syn_ns[row, view],
        seen.ttl[row, view],
    )
    if not several:
        return [calls.common().inside_one_vantage()]
    keys = ((calls.isn, calls.destination), (calls.isn, calls.source), (calls.isn,))
    return [calls.inside_one_vantage(), *(calls.linked(*key) for key in keys)]


@dataclass(frozen=True, slots=True)
class _Calls:
    """Each ISN of each view, in arrays of equal length."""

    view: Ints
    isn: Ints
    peers: Ints
    """The other end's ISN, or -1."""
    source: Ints
    destination: Ints
    vantage: npt.NDArray[np.int32]
    time_ns: Ints
    ttl: Ints

    def common(self) -> _Calls:
        """Those whose ISN another one may have too: a few more than need be, found without sorting."""
        bins = (self.isn & ((1 << max(4 * len(self.isn), 1).bit_length()) - 1)).astype(np.int64)
        which = np.bincount(bins)[bins] > 1 if len(bins) else bins > 0
        return _Calls(*(getattr(self, name)[which] for name in self.__slots__))

    def linked(self, *keys: Ints) -> _Pair:
        """Neighbours in time among those of equal keys, where these are unique at each vantage point."""
        codes = codes_of(*keys)
        crowded = np.zeros(int(codes.max()) + 1 if len(codes) else 0, np.bool_)
        order = np.lexsort((self.view, self.vantage, codes))
        one, other = order[:-1], order[1:]
        twice = (codes[one] == codes[other]) & (self.vantage[one] == self.vantage[other]) & (self.view[one] != self.view[other])
        crowded[codes[one[twice]]] = True
        order = np.lexsort((self.time_ns, codes))
        one, other = order[:-1], order[1:]
        keep = (codes[one] == codes[other]) & ~crowded[codes[one]] & (self.view[one] != self.view[other])
        keep &= self.time_ns[other] - self.time_ns[one] <= CLOCKS_NS
        keep &= (self.peers[one] == self.peers[other]) | (self.peers[one] < 0) | (self.peers[other] < 0)
        return self.view[one[keep]], self.view[other[keep]]

    def inside_one_vantage(self) -> _Pair:
        """Both sides of a NAT seen by one vantage point: the same SYN from two sources to one destination, one hop apart."""
        codes = codes_of(self.isn, self.destination, self.vantage)
        order = np.lexsort((self.time_ns, codes))
        one, other = order[:-1], order[1:]
        keep = (codes[one] == codes[other]) & (self.source[one] != self.source[other])
        keep &= (self.time_ns[other] - self.time_ns[one] <= _INSIDE_NS) & (self.ttl[other] == self.ttl[one] - 1)
        keep &= (self.peers[one] == self.peers[other]) | (self.peers[one] < 0) | (self.peers[other] < 0)
        return self.view[one[keep]], self.view[other[keep]]


# --- which end is which, and where the views were taken ---


def _orient(ordered: Sorted, seen: _Seen, attempt: Ints) -> Mask:
    """View -> whether end A is its smaller endpoint."""
    alone = _alone(ordered, seen)
    crowd = np.bincount(attempt) if len(attempt) else attempt
    together = crowd[attempt] > 1
    if not together.any():
        return alone
    caller = np.where(alone, 0, 1)
    syn_at = seen.syn_at[caller, np.arange(len(attempt))]
    syn_ns = np.where(syn_at == NONE, NONE, ordered.time_ns[np.where(syn_at == NONE, 0, syn_at)])
    order = np.lexsort((seen.start_ns, syn_ns, attempt))
    leader = np.full(len(crowd), -1)
    leader[attempt[order[::-1]]] = order[::-1]
    lead = leader[attempt]
    isn_a, isn_b = seen.isn[caller[lead], lead], seen.isn[1 - caller[lead], lead]
    low_is_a = alone.copy()
    settled = ~together | (lead == np.arange(len(attempt)))
    same = (seen.low == seen.low[lead]) & (seen.high == seen.high[lead])
    for which, value in (
        (same, alone[lead]),
        (_is(seen.isn[0], isn_a), True),
        (_is(seen.isn[1], isn_a), False),
        (_is(seen.isn[1], isn_b), True),
        (_is(seen.isn[0], isn_b), False),
    ):
        now = which & ~settled
        low_is_a[now] = value[now] if isinstance(value, np.ndarray) else value
        settled |= which
    for view in np.flatnonzero(~settled).tolist():  # no ISN: like a settled view of its 4-tuple, or one that shares an endpoint
        low_is_a[view] = _like_another(seen, attempt, settled, low_is_a, view)
        settled[view] = True
    return low_is_a


def _alone(ordered: Sorted, seen: _Seen) -> Mask:
    """The same, as each view alone tells: A sent the first SYN, else it got the first SYN-ACK, else it sent the first packet."""
    start = ordered.attempts.start
    syn = np.where(seen.syn_at[0] <= seen.syn_at[1], 0, 1)
    answer = np.where((seen.isn[0] >= 0) & ((seen.isn[1] < 0) | (seen.syn_ns[0] <= seen.syn_ns[1])), 1, 0)
    # an ICMP error is an answer
    packet = np.where(ordered.from_low[start] == (ordered.flags[start] & np.int16(ICMP) == 0), 0, 1)
    called = (seen.syn_at != NONE).any(axis=0)
    answered = (seen.isn >= 0).any(axis=0)
    mask: Mask = np.where(called, syn, np.where(answered, answer, packet)) == 0
    return mask


def _is(isn: Ints, wanted: Ints) -> Mask:
    mask: Mask = (isn == wanted) & (wanted >= 0)
    return mask


def _like_another(seen: _Seen, attempt: Ints, settled: Mask, low_is_a: Mask, view: int) -> bool:
    others = np.flatnonzero(settled & (attempt == attempt[view]))
    ends_a = np.where(low_is_a[others], seen.low[others], seen.high[others])
    ends_b = np.where(low_is_a[others], seen.high[others], seen.low[others])
    if (ends_a == seen.low[view]).any() or (ends_b == seen.high[view]).any():
        return True
    if (ends_a == seen.high[view]).any() or (ends_b == seen.low[view]).any():
        return False
    return bool(low_is_a[view])


def _at_hosts(packets: Packets, ordered: Sorted, attempt: Ints, low_is_a: Mask) -> npt.NDArray[np.int8]:
    """View -> whether it was taken at A's own host (0), at B's (1), or neither (-1).

    Told by the time to live of an end's packets: no router has lowered it there. Where several vantage points are so near, the
    first to see the end's packets is at the host. A view to which both ends are as near tells nothing, but for the direction that
    a capture notes.
    """
    groups = ordered.attempts
    sender = np.where(ordered.from_low == low_is_a[groups.of], 0, 1)
    plain = ordered.flags & np.int16(ICMP) == 0
    sent = plain & (ordered.flags & RST == 0)  # a NAT makes RSTs in its host's name
    ttl = packets.ttl[ordered.place]
    near = np.zeros((2, len(groups)), np.bool_)
    highest = np.full((2, len(groups)), -1)
    since = np.full((2, len(groups)), NONE)
    for end in (0, 1):
        mine = sent & (sender == end)
        highest[end] = groups.highest(mine, ttl)
        first = groups.first(mine)
        there = first != NONE
        since[end, there] = ordered.time_ns[first[there]]
        came = np.zeros(len(groups), np.bool_)
        came[there] = packets.direction[ordered.place[first[there]]] == 0
        near[end] = np.isin(highest[end], _FIRST_TTLS) & ~came
    attempts = int(attempt.max()) + 1 if len(attempt) else 0
    at = np.full(len(groups), -1, np.int8)
    both = near.all(axis=0)
    for end in (0, 1):
        top = np.full(attempts, -1)
        np.maximum.at(top, attempt, highest[end])
        candidate = near[end] & (highest[end] == top[attempt])
        order = np.lexsort((since[end], attempt))
        order = order[candidate[order]]
        chosen = np.full(attempts, -1)
        chosen[attempt[order[::-1]]] = order[::-1]
        chosen = chosen[chosen >= 0]
        at[chosen] = np.where(at[chosen] >= 0, -2, end)
    at[(at == -2) | (both & (np.bincount(attempt, minlength=attempts)[attempt] == 1) if attempts else both)] = -1
    return at
