"""External endpoints: who has which, and which one a new mapping gets (RFC 4787, sections 4.1 and 4.2; RFC 5382, REQ-1, REQ-7).

RFC 2663 calls a mapping as a thing a *binding*, and so does this file. A binding lives as long as one of its sessions does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

from rawpunch.nat.behavior import Allocation, Behavior, Filtering, Mapping, Pick, Pooling
from rawpunch.wire.endpoint import Endpoint

_TRIES: Final = 64
"""Ports drawn at random before the range is searched in order."""

SessionT = TypeVar("SessionT")


class Dice(Protocol):
    """Where chance comes from; `random.Random` is one."""

    def randrange(self, start: int, stop: int, /) -> int:
        """An integer in start .. stop - 1, each as likely as the other."""


class Binding:
    """One external endpoint of one inside endpoint, and the remote endpoints that are connected through it."""

    __slots__ = ("external", "internal", "key", "remotes")

    def __init__(self, internal: Endpoint, external: Endpoint, key: tuple[object, ...]) -> None:
        self.internal = internal
        self.external = external
        self.key = key
        """What later connections must have in common with the first to share it."""
        self.remotes: dict[Endpoint, None] = {}
        """In the order in which they came."""

    def admits(self, filtering: Filtering, remote: Endpoint) -> bool:
        """Whether the filter lets this remote endpoint open a connection from outside."""
        if filtering is Filtering.ENDPOINT_INDEPENDENT:
            return True
        return self.knows(remote, address_only=filtering is Filtering.ADDRESS_DEPENDENT)

    def knows(self, remote: Endpoint, *, address_only: bool) -> bool:
        """Whether it is connected to that endpoint, or to another one of the same address."""
        if remote in self.remotes:
            return True
        return address_only and any(known.address == remote.address for known in self.remotes)


class Bindings:
    """All bindings of a NAT.

    Args:
        behavior: the rules.
        addresses: its external addresses.
        dice: source of all chance.
    """

    __slots__ = ("_addresses", "_behavior", "_blocks", "_by_external", "_by_key", "_dice", "_key", "_last", "_paired")

    def __init__(self, behavior: Behavior, addresses: tuple[str, ...], dice: Dice) -> None:
        self._behavior = behavior
        self._addresses = addresses
        self._dice = dice
        self._key = _KEYS[behavior.mapping]
        self._by_key: dict[tuple[object, ...], Binding] = {}
        self._by_external: dict[Endpoint, list[Binding]] = {}
        self._paired: dict[str, str] = {}
        self._blocks: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, int], int] = {}
        """Last port given out one after the other: external address and first port of the range -> port."""

    def __iter__(self) -> Iterator[Binding]:
        for bindings in self._by_external.values():
            yield from bindings

    def at(self, external: Endpoint) -> list[Binding]:
        """The bindings of an external endpoint; more than one only where ports are overloaded."""
        return self._by_external.get(external, [])

    def to(self, internal: Endpoint, remote: Endpoint) -> Binding | None:
        """The binding for a connection from inside, a new one if need be; None when there is no port left."""
        key = self._key(internal, remote)
        known = self._by_key.get(key)
        if known is not None and not self._clashes(known.external, internal, remote, own=known):
            return known
        external = self._allocate(internal, remote)
        if external is None:
            return None
        binding = Binding(internal, external, key)
        self._by_key[key] = binding
        self._by_external.setdefault(external, []).append(binding)
        return binding

    def sweep(self, binding: Binding) -> None:
        """Forget a binding, if nobody is connected through it any more."""
        if binding.remotes:
            return
        left = [other for other in self.at(binding.external) if other is not binding]
        if left:
            self._by_external[binding.external] = left
        else:
            self._by_external.pop(binding.external, None)
        if self._by_key.get(binding.key) is binding:
            del self._by_key[binding.key]

    # --- which port ---

    def _clashes(self, external: Endpoint, internal: Endpoint, remote: Endpoint, *, own: Binding | None = None) -> bool:
        """Whether somebody else has that external endpoint, so that packets from the remote would belong to two."""
        for other in self.at(external):
            if other is own:
                continue
            if other.internal == internal:  # it may share its own port, but not for one remote endpoint
                if remote in other.remotes or not self._behavior.port_is_kept:
                    return True
            elif not self._behavior.ports.overloading or other.knows(remote, address_only=self._filters_addresses):
                return True
        return False

    @property
    def _filters_addresses(self) -> bool:
        return self._behavior.filtering is Filtering.ADDRESS_DEPENDENT

    def _allocate(self, internal: Endpoint, remote: Endpoint) -> Endpoint | None:
        ports = self._behavior.ports
        address = self._address(internal.address)

        def free(port: int) -> Endpoint | None:
            if ports.keeps_parity and (port ^ internal.port) & 1:
                return None
            external = Endpoint(address, port)
            return None if self._clashes(external, internal, remote) else external

        match ports.allocation:
            case Allocation.PRESERVING:
                return free(internal.port) or self._picked(free, address, ports.low, ports.high, ports.fallback)
            case Allocation.SEQUENTIAL:
                return self._stepped(free, address, ports.low, ports.high)
            case Allocation.BLOCK:
                first = self._block(internal.address, address)
                if first is None:
                    return None
                return self._picked(free, address, first, first + ports.block_size - 1, ports.block_pick)
        return self._drawn(free, ports.low, ports.high)

    def _picked(self, free: Callable[[int], Endpoint | None], address: str, low: int, high: int, pick: Pick) -> Endpoint | None:
        match pick:
            case Pick.RANDOM:
                return self._drawn(free, low, high)
            case Pick.SEQUENTIAL:
                return self._stepped(free, address, low, high)
        return None

    def _drawn(self, free: Callable[[int], Endpoint | None], low: int, high: int) -> Endpoint | None:
        for _ in range(_TRIES):
            external = free(self._dice.randrange(low, high + 1))
            if external is not None:
                return external
        first = self._dice.randrange(low, high + 1)
        return next(filter(None, map(free, (*range(first, high + 1), *range(low, first)))), None)

    def _stepped(self, free: Callable[[int], Endpoint | None], address: str, low: int, high: int) -> Endpoint | None:
        ports = self._behavior.ports
        size = high - low + 1
        last = self._last.get((address, low))
        port = last + ports.stride if last is not None else low if ports.start is None else ports.start
        for tried in range(2 * size):
            port = low + (port - low) % size
            external = free(port)
            if external is not None:
                self._last[address, low] = port
                return external
            port += ports.stride if tried < size else 1  # a stride may never meet the ports that are free
        return None

    def _block(self, inside: str, address: str) -> int | None:
        """The first port of an inside host's block: one of the free blocks, drawn when the host first needs it."""
        known = self._blocks.get((inside, address))
        if known is not None:
            return known
        ports = self._behavior.ports
        taken = {first for (_, of), first in self._blocks.items() if of == address}
        starts = [
            first for first in range(ports.first_block, ports.high - ports.block_size + 2, ports.block_size) if first not in taken
        ]
        if not starts:
            return None
        first = starts[self._dice.randrange(0, len(starts))]
        self._blocks[inside, address] = first
        return first

    def _address(self, inside: str) -> str:
        addresses = self._addresses
        if len(addresses) == 1:
            return addresses[0]
        if self._behavior.pooling is Pooling.ARBITRARY:
            return addresses[self._dice.randrange(0, len(addresses))]
        if inside not in self._paired:
            self._paired[inside] = addresses[len(self._paired) % len(addresses)]
        return self._paired[inside]


_KEYS: Final[dict[Mapping, Callable[[Endpoint, Endpoint], tuple[object, ...]]]] = {
    Mapping.ENDPOINT_INDEPENDENT: lambda internal, _: (internal,),
    Mapping.ADDRESS_DEPENDENT: lambda internal, remote: (internal, remote.address),
    Mapping.ADDRESS_AND_PORT_DEPENDENT: lambda internal, remote: (internal, remote),
    Mapping.PER_CONNECTION: lambda *_: (object(),),
}
"""What connections of one mapping have in common; nothing is like a new object."""
