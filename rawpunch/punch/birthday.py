"""The odds of a birthday spray: k ports are open out of N, m are tried, and one hit is enough.

Who opens them sits behind a NAT that draws its ports; who tries them does not, so that its own endpoint is known. If both NATs
draw, a hit has to name both ports at once, which `both_drawn` counts.

The usual formula lets a port be tried twice, the exact one does not:

    P = 1 - (1 - k/N)^m                with repetition
    P = 1 - C(N-k, m) / C(N, m)        without: hypergeometric, no hit among m different ports
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.units import SECOND

SHARES: Final = (0.50, 0.90, 0.98)
"""The odds that a budget is stated for."""
GOAL: Final = 0.999
"""Odds that are good enough: nothing is spent beyond them."""


def with_repetition(opened: int, tried: int, ports: int) -> float:
    """Odds of at least one hit when each try is drawn anew: ``1 - (1 - k/N)^m``.

    Args:
        opened: different ports that are open, k.
        tried: ports that are tried, m.
        ports: how many there are, N.

    Raises:
        BadParameter: more are open than there are, or a number is negative.
    """
    _check(opened, tried, ports)
    if opened == ports:
        return 1.0 if tried else 0.0
    return -math.expm1(tried * math.log1p(-opened / ports))


def without_repetition(opened: int, tried: int, ports: int) -> float:
    """Odds of at least one hit when no port is tried twice, exactly.

    Raises:
        BadParameter: as `with_repetition`.
    """
    _check(opened, tried, ports)
    few, many = sorted((opened, min(tried, ports)))  # it is the same the other way round
    if few + many > ports:
        return 1.0
    return -math.expm1(math.fsum(math.log1p(-many / (ports - missed)) for missed in range(few)))


def both_drawn(tried_a: int, tried_b: int, ports_a: int, ports_b: int) -> float:
    """Odds of at least one hit when both NATs draw, so that each of two SYNs has to aim at what the other was given.

    Each side tries different ports of the other. A's SYN to B's port q leaves by a port p that A's NAT draws for it; it meets a
    SYN of B's if B tried p (tried_b out of ports_a) and B's NAT drew q for that very one (1 out of ports_b). Every pair of tries
    is such a chance, of 1 in ports_a * ports_b; they are as good as independent as long as they are few among the ports.
    """
    _check(0, tried_a, ports_a)
    _check(0, tried_b, ports_b)
    if not tried_a or not tried_b:
        return 0.0
    either = ports_a * ports_b
    return 1.0 if either == 1 else -math.expm1(tried_a * tried_b * math.log1p(-1 / either))


@lru_cache(maxsize=256)
def tries_needed(share: float, opened: int, ports: int) -> int | None:
    """The fewest different ports to try for odds of at least `share`; None if no number suffices.

    Raises:
        BadParameter: the share is no probability, or a number is impossible.
    """
    if not 0 < share < 1:
        raise BadParameter(f"odds of {share} cannot be asked for", todo="say something between 0 and 1")
    _check(opened, 0, ports)
    if opened == 0:
        return None
    enough = math.ceil(-math.log1p(-share) * ports / opened) + 1  # with repetition, where 1 - k/N is at most exp(-k/N)
    return _fewest(lambda tried: without_repetition(opened, tried, ports) >= share, min(enough, ports))


@lru_cache(maxsize=256)
def pairs_needed(share: float, ports: int) -> int:
    """The fewest ports to open, with as many to try, for odds of at least `share`: the cheapest spray in packets.

    Raises:
        BadParameter: the share is no probability, or there is no port.
    """
    if not 0 < share < 1:
        raise BadParameter(f"odds of {share} cannot be asked for", todo="say something between 0 and 1")
    _check(0, 0, ports)
    enough = math.ceil(math.sqrt(-math.log1p(-share) * ports)) + 1  # as above
    return _fewest(lambda each: without_repetition(each, each, ports) >= share, min(enough, ports))


def _fewest(enough: Callable[[int], bool], most: int) -> int:
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


@dataclass(frozen=True, slots=True)
class Budget:
    """What a spray may cost, both sides together."""

    packets: int = 2_048
    """SYNs in all."""
    per_s: int = 20_000
    """SYNs in any second, from one side."""
    opened: int = 1_024
    """Ports that one host opens at most: each takes an entry of its NAT's table, and a guarded local port."""
    tried: int = 65_536
    """Ports that the other one tries at most."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            BadParameter: a figure is less than one.
        """
        if min(self.packets, self.per_s, self.opened, self.tried) < 1:
            raise BadParameter("a budget allows at least one packet, one packet a second, and one port", why=f"given: {self}")


@dataclass(frozen=True, slots=True)
class Shares:
    """How a budget is shared out, and what it buys."""

    opened: int
    """Ports that the drawing side opens, one SYN each."""
    tried: int
    """Different ports that the other side tries, one SYN each."""
    ports: int
    """Out of how many."""
    odds: float
    lasts_ns: int
    """How long the longer of the two takes at the budget's rate."""

    @property
    def packets(self) -> int:
        """SYNs in all."""
        return self.opened + self.tried


@lru_cache(maxsize=256)
def afford(ports: int, budget: Budget, *, goal: float = GOAL) -> Shares:
    """What a budget buys, as many opened as tried unless few can be opened or tried, and no more than the goal needs.

    Raises:
        BadParameter: there is no port, or the goal is no probability.
    """
    opened = max(1, min(budget.opened, budget.packets // 2, pairs_needed(goal, ports)))
    wanted = tries_needed(goal, opened, ports) or 0
    tried = max(0, min(budget.tried, budget.packets - opened, wanted))
    if tried == budget.tried < wanted:  # hits are the same the other way round
        opened = min(budget.opened, budget.packets - tried, tries_needed(goal, tried, ports) or ports)
    odds = without_repetition(opened, tried, ports)
    return Shares(opened, tried, ports, odds, max(opened, tried) * SECOND // budget.per_s)


def afford_both(ports_a: int, ports_b: int, budget: Budget) -> Shares:
    """The same where both NATs draw: each side tries half."""
    each = min(budget.packets // 2, budget.opened, ports_a, ports_b)
    odds = both_drawn(each, each, ports_a, ports_b)
    return Shares(each, each, ports_a * ports_b, odds, each * SECOND // budget.per_s)


def _check(opened: int, tried: int, ports: int) -> None:
    if ports < 1 or opened < 0 or tried < 0 or opened > ports:
        raise BadParameter(
            f"{opened} open ports and {tried} tries among {ports}", why="no more can be open than there are, and none is negative"
        )
