"""Which external endpoint a connection gets: mapping rules, allocations, shared and exclusive ports, several addresses."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from rawpunch.nat.behavior import Allocation, Behavior, Filtering, Mapping, Pick, Pooling, Ports
from rawpunch.nat.mappings import Binding, Bindings
from rawpunch.wire.endpoint import Endpoint
from tests.nat.nat_bench import endpoint

EIM, ADM = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_DEPENDENT
APDM, PER_CONNECTION = Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.PER_CONNECTION


class Pool:
    """Bindings that are used as a box would."""

    def __init__(self, behavior: Behavior, seed: int = 1) -> None:
        addresses = tuple(f"198.51.100.{2 + number}" for number in range(behavior.external_addresses))
        self.bindings = Bindings(behavior, addresses, random.Random(seed))

    def connect(self, internal: str, remote: str) -> Binding | None:
        to = endpoint(remote)
        binding = self.bindings.to(endpoint(internal), to)
        if binding is not None:
            binding.remotes[to] = None
        return binding

    def disconnect(self, binding: Binding | None, remote: str) -> None:
        assert binding is not None
        binding.remotes.pop(endpoint(remote))
        self.bindings.sweep(binding)

    def port(self, internal: str, remote: str = "R:80") -> int | None:
        binding = self.connect(internal, remote)
        return binding.external.port if binding else None

    def ports(self, internals: Iterable[str], remote: str = "R:80") -> list[int | None]:
        return [self.port(internal, remote) for internal in internals]


def _random(mapping: Mapping) -> Behavior:
    return Behavior(mapping=mapping, ports=Ports(allocation=Allocation.RANDOM))


@pytest.mark.parametrize(
    ("mapping", "same"),
    [
        (EIM, {"R:80", "R:81", "S:80"}),
        (ADM, {"R:80", "R:81"}),
        (APDM, {"R:80"}),
    ],
)
def test_a_mapping_is_shared_as_its_rule_says(mapping: Mapping, same: set[str]) -> None:
    """RFC 4787, 4.1: by everybody, per remote address, or per remote endpoint."""
    pool = Pool(_random(mapping))
    first = pool.connect("A:4000", "R:80")
    assert first is not None
    shared = {remote for remote in ("R:80", "R:81", "S:80") if pool.bindings.to(endpoint("A:4000"), endpoint(remote)) is first}
    assert shared == same


def test_per_connection_nothing_is_shared() -> None:
    """The same pair of endpoints that connects again gets another port."""
    pool = Pool(_random(PER_CONNECTION))
    first = pool.connect("A:4000", "R:80")
    pool.disconnect(first, "R:80")
    again = pool.connect("A:4000", "R:80")
    assert first is not None
    assert again is not None
    assert again.external != first.external


def test_a_preserving_nat_keeps_the_port_and_falls_back_when_it_is_taken() -> None:
    """RFC 4787, 4.2.1: port preservation; a second host with the same port gets another one."""
    pool = Pool(Behavior(ports=Ports()))
    assert pool.port("A:4000") == 4000
    other = pool.port("C:4000")
    assert other is not None
    assert other != 4000


def test_a_preserving_nat_without_a_fallback_refuses() -> None:
    """The second host with the same port cannot connect."""
    assert Pool(Behavior(ports=Ports(fallback=Pick.NONE))).ports(["A:4000", "C:4000"]) == [4000, None]


def test_a_preserving_nat_can_fall_back_in_sequence() -> None:
    """The first free port of the range, then the next."""
    pool = Pool(Behavior(ports=Ports(fallback=Pick.SEQUENTIAL, low=6000)))
    assert pool.ports(["A:4000", "C:4000", "A:4001", "C:4001"]) == [4000, 6000, 4001, 6001]


def test_overloading_shares_a_port_between_hosts_for_different_remotes_only() -> None:
    """RFC 5382, REQ-7 forbids what Linux does: one port for two hosts, unless a packet would then belong to both."""
    pool = Pool(Behavior(ports=Ports(overloading=True)))
    assert pool.port("A:4000", "R:80") == 4000
    assert pool.port("C:4000", "R:81") == 4000
    assert pool.port("C:4000", "R:80") != 4000


def test_overloading_behind_an_address_filter_needs_different_addresses() -> None:
    """Where the filter goes by address, a new connection from that address must be for one host."""
    pool = Pool(Behavior(filtering=Filtering.ADDRESS_DEPENDENT, ports=Ports(overloading=True)))
    assert pool.port("A:4000", "R:80") == 4000
    assert pool.port("C:4000", "R:81") != 4000
    assert pool.port("C:4001", "S:80") == 4001
    assert pool.port("A:4001", "R:81") == 4001


def test_a_host_shares_its_preserved_port_with_itself() -> None:
    """Connections of one inside endpoint to two remotes keep the port, whatever the mapping rule."""
    pool = Pool(Behavior(mapping=APDM, ports=Ports()))
    assert [pool.port("A:4000", remote) for remote in ("R:80", "R:81", "S:80")] == [4000] * 3


@pytest.mark.parametrize(("stride", "start"), [(1, None), (2, None), (2, 5001), (-1, 30000), (256, 1024)])
def test_sequential_ports_step_by_the_stride(stride: int, start: int | None) -> None:
    """From the start, or the lowest port, each new mapping one stride further."""
    pool = Pool(Behavior(mapping=APDM, ports=Ports(allocation=Allocation.SEQUENTIAL, stride=stride, start=start)))
    first = 1024 if start is None else start
    assert pool.ports([f"A:{4000 + number}" for number in range(5)]) == [first + stride * number for number in range(5)]


def test_sequential_ports_wrap_and_skip_what_is_taken() -> None:
    """At the end of the range it goes on at the beginning, and a live mapping is stepped over."""
    ports = Ports(allocation=Allocation.SEQUENTIAL, low=2000, high=2003, start=2002)
    pool = Pool(Behavior(mapping=APDM, ports=ports))
    assert pool.ports([f"A:{number}" for number in range(4000, 4004)]) == [2002, 2003, 2000, 2001]
    assert pool.port("A:5000") is None
    held = pool.bindings.at(Endpoint("198.51.100.2", 2000))[0]
    pool.disconnect(held, "R:80")
    assert pool.port("A:5001") == 2000


def test_a_stride_that_misses_the_free_ports_still_finds_them() -> None:
    """Even ports taken, a stride of two: the odd ones are given out in the end."""
    ports = Ports(allocation=Allocation.SEQUENTIAL, low=2000, high=2003, stride=2)
    assert sorted(Pool(Behavior(mapping=APDM, ports=ports)).ports([f"A:{n}" for n in range(4000, 4004)]), key=str) == [
        2000,
        2001,
        2002,
        2003,
    ]


def test_random_ports_use_the_whole_range_evenly() -> None:
    """1024 .. 65535, without a gap wider than chance makes it."""
    pool = Pool(_random(APDM))
    drawn = sorted(port or 0 for port in pool.ports(f"A:{number}" for number in range(1024, 5024)))
    assert drawn[0] >= 1024
    assert len(set(drawn)) == len(drawn)
    assert max(after - before for before, after in pairwise(drawn)) < 300
    assert abs(sum(drawn) / len(drawn) - (1024 + 65535) / 2) < 1000


def test_banded_ports_stay_in_the_band_and_fill_it() -> None:
    """The last free port of a band is found, and then there is none."""
    pool = Pool(Behavior(mapping=APDM, ports=Ports(allocation=Allocation.BANDED, low=20_000, high=20_099)))
    drawn = pool.ports(f"A:{number}" for number in range(4000, 4101))
    assert drawn[-1] is None
    assert sorted(port or 0 for port in drawn[:-1]) == list(range(20_000, 20_100))


@pytest.mark.parametrize("pick", [Pick.RANDOM, Pick.SEQUENTIAL])
def test_each_host_has_one_aligned_block(pick: Pick) -> None:
    """RFC 7422: a host's ports are of one block that begins at a multiple of its size, and no other host has any of it."""
    ports = Ports(allocation=Allocation.BLOCK, low=1030, block_size=64, block_pick=pick)
    pool = Pool(Behavior(mapping=APDM, ports=ports))
    blocks = []
    for host in "AC":
        drawn = [port or 0 for port in pool.ports(f"{host}:{number}" for number in range(4000, 4064))]
        assert len(set(drawn)) == 64
        assert len({port // 64 for port in drawn}) == 1
        assert min(drawn) % 64 == 0
        assert pick is Pick.RANDOM or drawn == sorted(drawn)
        assert pool.port(f"{host}:5000") is None
        blocks.append(min(drawn))
    assert blocks[0] != blocks[1]


def test_there_may_be_fewer_blocks_than_hosts() -> None:
    """A host that comes when all blocks are given out gets no port."""
    ports = Ports(allocation=Allocation.BLOCK, low=2048, high=2111, block_size=64)
    assert [port is None for port in Pool(Behavior(ports=ports)).ports(["A:1", "C:1"])] == [False, True]


@pytest.mark.parametrize("allocation", [Allocation.SEQUENTIAL, Allocation.RANDOM])
def test_parity_is_kept_where_it_is_promised(allocation: Allocation) -> None:
    """RFC 4787, REQ-4."""
    pool = Pool(Behavior(mapping=APDM, ports=Ports(allocation=allocation, keeps_parity=True)))
    internals = random.Random(3).sample(range(4000, 9000), 50)
    assert all((port or 0) % 2 == internal % 2 for internal, port in ((i, pool.port(f"A:{i}")) for i in internals))


@pytest.mark.parametrize(("pooling", "addresses_of_a_host"), [(Pooling.PAIRED, 1), (Pooling.ARBITRARY, 4)])
def test_pooling(pooling: Pooling, addresses_of_a_host: int) -> None:
    """RFC 4787, REQ-2: paired, all mappings of a host have one external address; arbitrary, any."""
    pool = Pool(Behavior(external_addresses=4, pooling=pooling))
    seen = {
        host: {binding.external.address for n in range(4000, 4060) if (binding := pool.connect(f"{host}:{n}", "R:80"))}
        for host in "AC"
    }
    assert {len(addresses) for addresses in seen.values()} == {addresses_of_a_host}
    assert pooling is Pooling.ARBITRARY or seen["A"] != seen["C"]


def test_a_binding_is_gone_with_its_last_remote() -> None:
    """Its port is free again, and the table forgets it."""
    pool = Pool(Behavior(ports=Ports()))
    binding = pool.connect("A:4000", "R:80")
    assert pool.connect("A:4000", "S:80") is binding
    pool.disconnect(binding, "R:80")
    assert list(pool.bindings) == [binding]
    pool.disconnect(binding, "S:80")
    assert list(pool.bindings) == []
    assert pool.port("C:4000") == 4000


def test_the_same_seed_gives_the_same_ports() -> None:
    """All chance comes from the dice."""
    internals = [f"A:{number}" for number in range(4000, 4020)]
    runs = [Pool(_random(APDM), seed).ports(internals) for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]
