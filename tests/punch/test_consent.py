"""A consent to be sprayed is worth something only as it was given: to that address, so many, for that hour, by that token."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.punch.consent import CLOCKS_S, LASTS_S, MOST_PACKETS, PER_S, REPEATED, Consent, agreed_budget, connections
from rawpunch.punch.proof import key_of

KEY = key_of("token")
NOW_S = 1_790_000_000
GIVEN = Consent.give(KEY, "203.0.113.2", 800, NOW_S)


def test_as_it_was_given_it_holds() -> None:
    """By clocks that are minutes apart too."""
    for now_s in (NOW_S, NOW_S - CLOCKS_S, NOW_S + LASTS_S + CLOCKS_S - 1):
        assert GIVEN.why_not(KEY, "203.0.113.2", now_s) == ""
    assert Consent.of_document(GIVEN.document()) == GIVEN


@given(
    st.sampled_from(["address", "packets", "until_s", "proof"]), st.integers(1, MOST_PACKETS), st.binary(min_size=32, max_size=32)
)
def test_whatever_a_server_changes_is_noticed(what: str, number: int, proof: bytes) -> None:
    """It does not know the token, whose key goes into the proof."""
    new = {"address": "203.0.113.9", "packets": number, "until_s": NOW_S + number, "proof": proof.hex()}[what]
    changed = msgspec.structs.replace(GIVEN, **{what: new})
    if changed != GIVEN:
        assert "knows the room's token" in changed.why_not(KEY, changed.address, NOW_S)


@pytest.mark.parametrize(
    ("key", "address", "now_s", "why"),
    [
        (key_of("another"), "203.0.113.2", NOW_S, "knows the room's token"),
        (KEY, "203.0.113.3", NOW_S, "is for 203.0.113.2"),
        (KEY, "203.0.113.2", NOW_S + LASTS_S + CLOCKS_S, "does not hold now"),
        (KEY, "203.0.113.2", NOW_S - CLOCKS_S - 1, "does not hold now"),
    ],
)
def test_for_nothing_else(key: bytes, address: str, now_s: int, why: str) -> None:
    """Another room, another address, another day."""
    assert why in GIVEN.why_not(key, address, now_s)


def test_there_is_a_most() -> None:
    """Nobody can agree to more than there may be."""
    with pytest.raises(BadParameter):
        Consent.give(KEY, "203.0.113.2", MOST_PACKETS + 1, NOW_S)


@given(st.integers(1, MOST_PACKETS), st.integers(1, MOST_PACKETS))
def test_both_make_the_same_budget_and_neither_gets_more_than_it_agreed_to(mine: int, theirs: int) -> None:
    """All that either side sends, each SYN repeated as often as a kernel does, stays within the other's consent and rate."""
    one, other = (Consent.give(KEY, "203.0.113.2", packets, NOW_S) for packets in (mine, theirs))
    budget = agreed_budget(one, other)
    assert budget is not None
    assert budget == agreed_budget(other, one)
    assert budget.per_s * REPEATED <= PER_S
    if min(mine, theirs) >= REPEATED:
        assert budget.opened * REPEATED <= min(mine, theirs)
        assert budget.packets - budget.opened <= connections(one if mine < theirs else other)
    assert agreed_budget(one, None) is agreed_budget(None, other) is None
