"""The link: what goes in comes out when it should, in order unless order is what it breaks, and the same for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.link import PPM, Entered, Left, Link, Lost, Path
from rawpunch.machine import Machine, Woke
from rawpunch.rng import stream
from rawpunch.units import MS

gaps = st.lists(st.integers(0, 5 * MS), min_size=1, max_size=60)
paths = st.builds(
    Path,
    delay_ns=st.integers(0, 20 * MS),
    jitter_ns=st.integers(0, 10 * MS),
    loss_ppm=st.sampled_from([0, 100_000, 500_000, PPM]),
    duplication_ppm=st.sampled_from([0, 100_000, PPM]),
    reordering_ppm=st.sampled_from([0, 200_000, PPM]),
    held_back_ns=st.integers(1, 10 * MS),
)


def played(link: Link[int], gaps_ns: list[int]) -> tuple[list[tuple[int, Left[int]]], list[int], list[int]]:
    """Feed the items 0, 1, 2 ... that far apart, waking the link on time: (instant, what left), what was lost, when each came."""
    machine: Machine[Entered[int] | Woke, Left[int] | Lost[int]] = link
    left: list[tuple[int, Left[int]]] = []
    lost: list[int] = []
    came: list[int] = []

    def step(stimulus: Entered[int] | Woke, now: int) -> None:
        for effect in machine.step(stimulus, now=now):
            if isinstance(effect, Left):
                left.append((now, effect))
            else:
                lost.append(effect.item)

    now = 0
    for number, gap_ns in enumerate(gaps_ns):
        now += gap_ns
        while machine.deadline is not None and machine.deadline <= now:
            step(Woke(), machine.deadline)
        came.append(now)
        step(Entered(number), now)
    while machine.deadline is not None:
        step(Woke(), machine.deadline)
    return left, lost, came


@given(gaps, st.integers(0, 20 * MS))
def test_a_constant_delay_is_first_in_first_out(gaps_ns: list[int], delay_ns: int) -> None:
    """Every item leaves once, in the order of arrival, exactly one delay after it came."""
    left, lost, came = played(Link(delay_ns=delay_ns), gaps_ns)
    assert lost == []
    assert [(now, effect.item) for now, effect in left] == [(at + delay_ns, number) for number, at in enumerate(came)]


@given(gaps, paths, st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_releases(gaps_ns: list[int], path: Path, seed: int) -> None:
    """Two links with equal dice do the same to the same arrivals."""
    runs = [played(Link(path=path, dice=stream(seed)), gaps_ns) for _ in range(2)]
    assert runs[0] == runs[1]


@given(gaps, paths, st.integers(0, 2**32))
def test_nothing_vanishes_and_nothing_is_early(gaps_ns: list[int], path: Path, seed: int) -> None:
    """Each item is lost or leaves (twice if it was duplicated), on time, within what the path allows."""
    link: Link[int] = Link(path=path, dice=stream(seed))
    left, lost, came = played(link, gaps_ns)
    originals = [effect.item for _, effect in left if not effect.copy]
    assert sorted(originals + lost) == list(range(len(gaps_ns)))
    assert link.lost == len(lost)
    assert link.duplicated == sum(effect.copy for _, effect in left)
    assert len(link) == 0
    latest = path.delay_ns + path.jitter_ns + (path.held_back_ns if path.reordering_ppm else 0)
    for now, effect in left:
        assert now == effect.due_ns
        assert path.delay_ns <= now - came[effect.item] <= latest


@given(gaps, st.integers(0, 10 * MS), st.integers(1, 10 * MS), st.integers(0, 2**32))
def test_jitter_alone_keeps_order(gaps_ns: list[int], delay_ns: int, jitter_ns: int, seed: int) -> None:
    """An item that draws less jitter than the one before it waits behind it."""
    left, _, _ = played(Link(path=Path(delay_ns=delay_ns, jitter_ns=jitter_ns), dice=stream(seed)), gaps_ns)
    assert [effect.item for _, effect in left] == list(range(len(gaps_ns)))


def test_reordering_lets_later_items_overtake() -> None:
    """With a chance of one in two and items close together, some item leaves after a later one."""
    path = Path(delay_ns=10 * MS, reordering_ppm=PPM // 2, held_back_ns=5 * MS)
    link: Link[int] = Link(path=path, dice=stream(1))
    order = [effect.item for _, effect in played(link, [1000] * 50)[0]]
    assert order != sorted(order)
    assert 10 < link.reordered < 40


def test_loss_comes_at_its_rate() -> None:
    """Of 20,000 items one in ten is lost, within five standard deviations."""
    link: Link[int] = Link(path=Path(loss_ppm=PPM // 10), dice=stream(7))
    for number in range(20_000):
        link.arrive(number, now=number)
    assert abs(link.lost - 2000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5


def test_a_late_driver_gets_all_that_is_due_in_order() -> None:
    """Woken late, the link hands out everything due, each with the instant at which it was due."""
    link: Link[str] = Link(delay_ns=10)
    for now, item in enumerate("abc"):
        assert link.arrive(item, now=now) == []
    assert link.deadline == 10
    assert link.wake(now=9) == []
    assert link.step(Woke(), now=11) == [Left("a", 10), Left("b", 11)]
    assert link.wake(now=100) == ["c"]
    assert link.deadline is None


def test_no_delay_means_at_once() -> None:
    """A link without delay hands an item out in the step that took it."""
    assert Link[str](delay_ns=0).arrive("a", now=5) == ["a"]


def test_values_without_sense_are_refused() -> None:
    """Negative times, chances beyond one, chance without dice, and a delay beside a path are usage errors."""
    for make in (
        lambda: Path(delay_ns=-1),
        lambda: Path(loss_ppm=PPM + 1),
        lambda: Path(reordering_ppm=1, held_back_ns=0),
        lambda: Link[int](path=Path(jitter_ns=1)),
        lambda: Link[int](delay_ns=1, path=Path()),
    ):
        with pytest.raises(BadParameter):
            make()
