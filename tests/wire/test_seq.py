"""Sequence arithmetic: modulo 2**32, and the acceptability test of RFC 9293, section 3.4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.wire.seq import MODULUS, acceptable, add, at_or_before, before, distance, in_window

numbers = st.integers(0, MODULUS - 1)
near = st.integers(-(2**31), 2**31 - 1)


@given(numbers, near)
def test_distance_undoes_add(start: int, count: int) -> None:
    """What lies `count` ahead is `count` away, across the wrap too."""
    assert distance(start, add(start, count)) == count


@given(numbers, st.integers(1, 2**31 - 1))
def test_order_is_by_the_shorter_way(start: int, count: int) -> None:
    """A number less than half the space ahead comes after, and never before."""
    later = add(start, count)
    assert before(start, later)
    assert at_or_before(start, later)
    assert not before(later, start)
    assert not at_or_before(later, start)


@given(numbers)
def test_a_number_is_not_before_itself(number: int) -> None:
    """Order is strict; `at_or_before` is not."""
    assert not before(number, number)
    assert at_or_before(number, number)
    assert distance(number, number) == 0


@given(numbers, st.integers(0, 2**30), st.integers(-10, 2**30))
def test_a_window_holds_exactly_its_numbers(start: int, size: int, offset: int) -> None:
    """A window of `size` holds `start` .. `start + size - 1`."""
    assert in_window(add(start, offset), start, size) == (0 <= offset < size)


@given(numbers, st.integers(-300, 300), st.integers(0, 200), st.integers(0, 100))
def test_acceptability_is_overlap(rcv_nxt: int, offset: int, length: int, window: int) -> None:
    """RFC 9293's four cases say: an octet of the segment is in the window; an empty one lies in it, or at RCV.NXT if it is shut.

    But a segment that covers the window without beginning or ending in it passes neither of the RFC's two tests; so it is here.
    """
    seq = add(rcv_nxt, offset)
    octets = {offset, offset + length - 1} if length else {offset}
    expected = (length == 0 and offset == 0) if window == 0 else any(0 <= octet < window for octet in octets)
    assert acceptable(seq, length, rcv_nxt, window) == expected


@pytest.mark.parametrize(
    ("seq", "length", "rcv_nxt", "window", "verdict"),
    [
        (100, 0, 100, 0, True),
        (101, 0, 100, 0, False),
        (100, 1, 100, 0, False),
        (MODULUS - 1, 2, 0, 10, True),
        (MODULUS - 1, 1, 0, 10, False),
        (9, 0, 0, 10, True),
        (10, 0, 0, 10, False),
    ],
)
def test_the_four_cases(seq: int, length: int, rcv_nxt: int, window: int, verdict: bool) -> None:
    """Table 6 of RFC 9293, by example."""
    assert acceptable(seq, length, rcv_nxt, window) is verdict
