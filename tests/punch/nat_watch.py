"""Mappings as the NAT machine's own allocator makes them, with others' in between: what predictions are held to."""

from __future__ import annotations

import random

from rawpunch.nat.behavior import Behavior, Mapping, Ports
from rawpunch.nat.mappings import Bindings
from rawpunch.punch.ports import Mapped
from rawpunch.wire.endpoint import Endpoint


class Watched:
    """A symmetric NAT with two inside hosts.

    Args:
        ports: how it gives out ports.
        seed: source of all chance.
        others: mean number of the other host's mappings between two of ours, Poisson.
    """

    def __init__(self, ports: Ports, *, seed: int, others: float = 0.0) -> None:
        self._dice = random.Random(seed)
        behavior = Behavior(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=ports)
        self._bindings = Bindings(behavior, ("198.51.100.2",), random.Random(seed + 1))
        self._others = others
        self._made = 0
        for _ in range(self._dice.randrange(4)):
            self._connect("10.0.0.3")

    def next(self, *, inside_port: int | None = None) -> Mapped:
        """Our next mapping; others come between."""
        for _ in range(self._poisson()):
            self._connect("10.0.0.3")
        return self._connect("10.0.0.2", inside_port)

    def _connect(self, host: str, inside_port: int | None = None) -> Mapped:
        self._made += 1
        inside = Endpoint(host, inside_port or self._dice.randrange(1024, 65_536))
        binding = self._bindings.to(inside, remote := Endpoint("192.0.2.9", self._made))
        assert binding is not None, "the NAT has no port left"
        binding.remotes[remote] = None
        return Mapped(binding.external.port, inside.port)

    def _poisson(self) -> int:
        count, at = 0, self._dice.expovariate(self._others) if self._others else 2.0
        while at < 1:
            count, at = count + 1, at + self._dice.expovariate(self._others)
        return count
