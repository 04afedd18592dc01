"""Lifetimes that can be looked at once only: what looks say of them, and how that is drawn."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.analysis.lifetimes import Lifetime, Watched, lifetime, lifetimes_figure, looks_by, reached
from rawpunch.errors import BadParameter
from rawpunch.units import MS, SECOND

INSTANTS = st.lists(st.integers(1, 20 * SECOND), min_size=1, max_size=30)


@given(INSTANTS, st.integers(0, 20 * SECOND))
def test_looks_at_one_lifetime_allow_it(instants: list[int], lives_ns: int) -> None:
    """Whenever they were; and it lies between the two that they name."""
    found = lifetime((at_ns, at_ns <= lives_ns) for at_ns in instants)
    assert found.is_one
    assert found.n == len(instants)
    assert found.allows(lives_ns)
    assert found.there_ns <= lives_ns
    assert found.gone_ns is None or lives_ns < found.gone_ns


def test_a_lifetime_outside_the_two_is_not_allowed() -> None:
    """Nor a longer one where something was gone; where nothing was, any longer one is."""
    looks = [(1 * SECOND, True), (5 * SECOND, True), (12 * SECOND, False), (20 * SECOND, False)]
    found = lifetime(looks)
    assert found == Lifetime(4, 5 * SECOND, 12 * SECOND)
    assert [found.allows(seconds * SECOND) for seconds in (4, 5, 10, 12, 13)] == [False, True, True, True, False]
    censored = lifetime(looks[:2])
    assert (censored.gone_ns, censored.allows(4 * SECOND), censored.allows(10**6 * SECOND)) == (None, False, True)
    assert lifetime([]) == Lifetime(0, 0, None)


def test_what_comes_back_has_no_one_lifetime() -> None:
    """There after it was gone: loss, or chance."""
    found = lifetime([(1 * SECOND, False), (2 * SECOND, True)])
    assert not found.is_one
    assert not any(found.allows(tenth * SECOND // 10) for tenth in range(30))


def _row(
    attempt: str, vantage: str, direction: str, kind: str, at_ns: int, seq: int = 5, ack: int | None = None
) -> dict[str, object]:
    return {
        "attempt": attempt,
        "vantage": vantage,
        "direction": direction,
        "kind": kind,
        "time_ns": at_ns,
        "seq": seq,
        "ack": ack,
    }


def test_a_look_is_a_probers_last_packet() -> None:
    """Its time is that since the packet before it; it counts as there if the same packet reached A's host later."""
    sent, got = ("hostB:eth0", "out"), ("hostA:eth0", "in")
    segments = pd.DataFrame(
        [
            _row("x", *sent, "RST-ACK", 10 * MS, ack=1),
            _row("x", *sent, "SYN", 70 * MS),
            _row("x", *got, "SYN", 80 * MS),
            _row("y", *sent, "SYN", 10 * MS),
            _row("y", *got, "SYN", 20 * MS),
            _row("y", *sent, "ICMP 3/13", 60 * MS),
            _row("y", *sent, "SYN-ACK", 560 * MS, ack=1),
            _row("z", *sent, "SYN", 10 * MS),
            _row("z", *got, "SYN", 20 * MS),
        ]
    )
    assert reached(segments).to_dict() == {"x": True, "y": False, "z": True}
    attempts = pd.DataFrame({"attempt": ["x", "y", "z", "lost"], "near": ["closes", "closes", "keeps", "keeps"]})
    assert looks_by(attempts, segments, ["near"]) == {("closes",): [(60 * MS, True), (500 * MS, False)], ("keeps",): []}


def test_lifetimes_are_drawn() -> None:
    """A mark for each look, and the span in words beside it; without looks there is nothing to draw."""
    rows = [
        Watched("ten", [(SECOND, True), (9 * SECOND, True), (11 * SECOND, False)]),
        Watched("at once", [(SECOND, False)]),
        Watched("long", [(12 * SECOND, True)]),
        Watched("odd", [(SECOND, False), (2 * SECOND, True)]),
    ]
    figure = lifetimes_figure(rows, title="Lives", xlabel="seconds")
    (axes,) = figure.axes
    beside = next(child for child in axes.child_axes if child.get_yticklabels())
    assert [label.get_text() for label in beside.get_yticklabels()] == [
        "9 to 11 s  n=3",
        "< 1 s  n=1",
        "> 12 s  n=1",
        "not one lifetime  n=2",
    ]
    assert axes.get_xlim()[0] == 0
    with pytest.raises(BadParameter):
        lifetimes_figure([Watched("none", [])], title="", xlabel="")
