"""What strangers may have: never more than they gave, never faster than allowed, and no memory for everybody."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rawpunch.live.limits import KNOWN_ADDRESSES, MAX_CREDIT, Credit, Door, Rates, RendezvousLimits
from rawpunch.units import MS, SECOND

addresses = st.sampled_from(["192.0.2.1", "192.0.2.2"])


@given(st.lists(st.tuples(addresses, st.booleans(), st.integers(0, 2_000)), max_size=60))
def test_no_address_gets_more_than_came_from_it(story: list[tuple[str, bool, int]]) -> None:
    """In any order of earning and spending, what was spent stays below what was earned, for each address."""
    credit, earned, spent = Credit(), dict.fromkeys(("192.0.2.1", "192.0.2.2"), 0), dict.fromkeys(("192.0.2.1", "192.0.2.2"), 0)
    for address, earns, octets in story:
        if earns:
            credit.earn(address, octets)
            earned[address] += octets
        elif credit.spend(address, octets):
            spent[address] += octets
        assert spent[address] <= earned[address]


def test_savings_and_memory_are_bounded() -> None:
    """One cannot save up for a flood, and addresses that are not heard of are forgotten, their savings with them."""
    credit = Credit()
    for _ in range(10):
        credit.earn("192.0.2.1", MAX_CREDIT)
    assert not credit.spend("192.0.2.1", MAX_CREDIT + 1)
    for number in range(KNOWN_ADDRESSES):
        credit.earn(f"host{number}", 1)
    assert not credit.spend("192.0.2.1", 1)
    assert len(credit._balance) == KNOWN_ADDRESSES


@given(st.lists(st.integers(0, 300 * MS), min_size=1, max_size=80))
def test_tokens_come_as_fast_as_declared(pauses: list[int]) -> None:
    """Over any story no more is let through than the burst and what came in since; a refusal says exactly when to come again."""
    rates, now, taken = Rates(10, 5), 0, 0
    for pause in pauses:
        now += pause
        wait = rates.take("192.0.2.1", now)
        taken += wait == 0
        assert taken <= 5 + now * 10 / SECOND + 1e-6
        if wait:
            assert rates.take("192.0.2.1", now + wait // 2) > 0
            now += wait + 1
            assert rates.take("192.0.2.1", now) == 0
            taken += 1


def test_one_address_does_not_use_up_anothers_tokens() -> None:
    """Each has its own bucket, and there are not more buckets than remembered addresses."""
    rates = Rates(1, 1)
    assert rates.take("192.0.2.1", 0) == 0
    assert rates.take("192.0.2.1", 0) > 0
    assert rates.take("192.0.2.2", 0) == 0
    for number in range(KNOWN_ADDRESSES):
        rates.take(f"host{number}", 0)
    assert len(rates._buckets) == KNOWN_ADDRESSES


@given(st.lists(st.tuples(st.booleans(), addresses), max_size=60))
def test_a_door_counts_who_is_inside(story: list[tuple[bool, str]]) -> None:
    """In any order of coming and going, neither all nor those of one address are more than may be; who has gone makes room."""
    door, inside = Door(RendezvousLimits(connections=5, connections_per_address=3, new_connections_per_s=1e9)), Counter[str]()
    for comes, address in story:
        if comes:
            entered = door.enter(address, 0)
            assert entered == (inside.total() < 5 and inside[address] < 3)
            inside[address] += entered
        elif inside[address]:
            inside[address] -= 1
            door.leave(address)
    assert door.inside == inside.total()
    assert door._open == +inside


def test_a_door_is_for_those_who_come_slowly() -> None:
    """Of one address no more than the burst comes at once, whether the earlier ones are still there or not."""
    door = Door(RendezvousLimits(new_connections_per_s=2))
    entered = 0
    for _ in range(20):
        if door.enter("192.0.2.1", 0):
            entered += 1
            door.leave("192.0.2.1")
    assert entered == 10
    assert door.enter("192.0.2.2", 0)
