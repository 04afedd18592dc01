"""Where the records of a capture begin.

Each record tells where the next one begins, so that finding them looks like a loop over packets. Python's loop would take most of
the time of decoding. Instead the piece is cut into some hundred segments; in each a place is guessed that looks like a record's
beginning, and all segments are walked in step, as one array. The guesses need not be right: a segment's walk counts only if the
walk before it, which began at a true record, ended exactly where this one began.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rawpunch.capture.records import Bytes, Ints, gather

_WALKERS: Final = 512
_EACH: Final = 64
"""Records that each walk finds, at least."""
_FIRST: Final = 256
"""Records that are found one by one, to learn how long they are."""
_WORTH: Final = 4096
"""Fewer records than that are found one by one faster."""
_AHEAD: Final = 64
"""How many times as far as it came may a walk look ahead, in a format where something may stop it."""

Plausible = Callable[[Bytes, Ints], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Framing:
    """How records follow each other."""

    order: str
    """Byte order, as struct writes it."""
    length_at: int
    """Where in a record its length lies (32 bits)."""
    extra: int
    """Octets of a record that its length does not count."""
    least: int
    """Octets of a whole record, at least."""
    most: int
    """Octets of a whole record, at most; more is damage."""
    align: int
    """All records begin at a multiple of this."""
    plausible: Plausible
    """Which places look like a record's beginning."""
    stop: int = -1
    """A record whose word before the length is this ends the chain."""


def chain(data: Bytes, start: int, end: int, framing: Framing) -> tuple[Ints, int, bool]:
    """Follow the records from `start` on.

    Args:
        data: octets, with padding behind `end`.
        start: where the first record begins.
        end: where the octets end.
        framing: how records follow each other.

    A length below the least is taken for the least; whoever knows the format looks at the lengths again.

    Returns:
        Where the whole records begin, where the first one that is not whole (or stops the chain) begins, and whether that one is
        damaged.
    """
    parts: list[Ints] = []
    at = start
    budget = _FIRST
    while True:
        before = at
        starts, at, broken = _one_by_one(data, at, end, framing, budget)
        parts.append(np.array(starts, np.int64))
        if len(starts) < budget:
            return np.concatenate(parts), at, broken
        horizon = end if framing.stop < 0 else min(end, at + _AHEAD * (at - start))
        average = (at - before) // budget
        if horizon - at < _WORTH * average:
            budget = _WORTH if horizon < end else end
            continue
        found = _in_step(data, at, horizon, framing, average)
        if len(found):
            parts.append(found)
            at = int(found[-1] + _lengths(data, found[-1:], framing)[0])
        budget = _FIRST if len(found) >= _WORTH else 4 * _WORTH  # guesses that fail cost more than they save


def _one_by_one(data: Bytes, at: int, end: int, framing: Framing, budget: int) -> tuple[list[int], int, bool]:
    pair = struct.Struct(f"{framing.order}II").unpack_from
    view = data.data
    back, extra, least, most, stop = framing.length_at - 4, framing.extra, framing.least, framing.most, framing.stop
    starts: list[int] = []
    found = starts.append
    while len(starts) < budget and at + least <= end:
        word, length = pair(view, at + back)
        if word == stop:
            break
        length += extra
        if not least <= length <= most:
            return starts, at, True
        after = at + length
        if after > end:
            break
        found(at)
        at = after
    return starts, at, False


def _lengths(data: Bytes, at: Ints, framing: Framing) -> Ints:
    return gather(data, at + framing.length_at, f"{framing.order}u4").astype(np.int64) + framing.extra


def _in_step(data: Bytes, at: int, end: int, framing: Framing, average: int) -> Ints:
    """Walk from a true record at `at`, and from guessed ones behind it, in step; the records proven so."""
    count = max(2, min(_WALKERS, (end - at) // (_EACH * average)))
    segments = at + (end - at) // count // framing.align * framing.align * np.arange(count)
    places = segments[1:, None] + np.arange(0, 4 * average + 64, framing.align)
    places = places[places + framing.least <= end] if places[-1, -1] + framing.least > end else places.ravel()
    likely = places[framing.plausible(data, places)]
    segment_of = np.searchsorted(segments, likely, side="right")
    _, first = np.unique(segment_of, return_index=True)
    begins = np.concatenate([[at], likely[first]])
    bounds = np.append(begins[1:], end)
    if len(begins) * 16 < count:
        return begins[:0]
    longest = int((bounds - begins).max())
    steps = []
    now = begins
    lengths = np.ndarray((len(data) - 3,), f"{framing.order}u4", data, strides=(1,))
    for step in range(4 * longest // average + 64):
        steps.append(now)
        length = lengths[now + framing.length_at].astype(np.int64) + framing.extra
        now = np.minimum(now + np.maximum(length, framing.least), end)
        if step % 8 == 7 and (now >= bounds).all():
            break
    table = np.array([*steps, now])
    inside = table < bounds
    landed = np.take_along_axis(table, np.minimum(inside.sum(axis=0), len(steps))[None, :], axis=0)[0]
    missed = np.flatnonzero(landed[:-1] != bounds[:-1])
    proven = int(missed[0]) + 1 if len(missed) else len(begins)
    starts = table[:, :proven].T[inside[:, :proven].T]
    last = int(starts[-1] + _lengths(data, starts[-1:], framing)[0])
    length = np.diff(starts, append=last)
    wrong = (length < framing.least) | (length > framing.most)
    wrong[-1] |= last > end
    if framing.stop >= 0:
        wrong |= gather(data, starts + framing.length_at - 4, f"{framing.order}u4") == framing.stop
    first_wrong = int(wrong.argmax()) if wrong.any() else len(starts)
    return starts[:first_wrong]
