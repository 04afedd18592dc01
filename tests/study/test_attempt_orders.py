"""From an attempt to its two orders: the same fields for every driver, and nothing lost on the way to a host's process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rawpunch.errors import BadParameter
from rawpunch.live.end import Order
from rawpunch.live.listening_end import poke_of
from rawpunch.live.machines import machine_of
from rawpunch.scene import Scene
from rawpunch.study.experiment import Attempt
from rawpunch.study.orders import orders_of
from rawpunch.study.planned import Planned
from rawpunch.tcp import Handshake
from rawpunch.tcp.trying import Trying
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

AT = (1_000 * MS, 1_020 * MS)
AIMS = {"a": Endpoint("198.51.100.2", 50_001), "b": Endpoint("203.0.113.2", 50_002)}


def _orders(attempt: Attempt, seed: int = 1) -> tuple[Order, Order]:
    planned = Planned("c000-r0000", "cell", {}, 0, attempt)
    return orders_of(planned, Scene(), port=20_005, at_ns=AT, seed=seed, aims={"a": AIMS["a"], "b": AIMS["b"]})


def test_each_aims_at_the_other() -> None:
    """From its inside endpoint, at its instant, for as long as it is to try."""
    a, b = _orders(Attempt(give_up_ns=500 * MS))
    assert (str(a.local), a.remote) == ("10.1.0.2:20005", AIMS["b"])
    assert (str(b.local), b.remote) == ("10.2.0.2:20005", AIMS["a"])
    assert (a.at_ns, b.at_ns, b.give_up_ns) == (*AT, AT[1] + 500 * MS)


def test_kernels_follow_their_own_profile() -> None:
    """A raw end that of the attempt."""
    a, b = _orders(Attempt("raw", "kernel", profile="rfc9293"))
    assert (a.profile, b.profile) == ("rfc9293", "linux")


def test_numbers_come_from_the_seed_and_are_told_to_the_other() -> None:
    """Another seed, other numbers; each end knows the peer's for when it is told of its SYN."""
    a, b = _orders(Attempt("raw", "raw", told_ns=30 * MS))
    assert (a.peer_iss, b.peer_iss) == (b.iss, a.iss)
    assert (a.told_ns, b.told_ns) == (AT[0] + 30 * MS, AT[1] + 30 * MS)
    assert _orders(Attempt())[0].iss == a.iss != _orders(Attempt(), seed=2)[0].iss


def test_an_order_survives_its_way_to_another_process() -> None:
    """With all that it may ask for."""
    for order in _orders(
        Attempt("raw", "listening", first_ttl_a=2, first_ttl_b=3, poke_port=9, retry_ns=5 * MS, script_a="SYN 0")
    ):
        assert Order.from_message(order.to_message()) == order


def test_only_who_tries_harder_gets_the_machine_for_it() -> None:
    """Otherwise it is a plain handshake."""
    plain, _ = _orders(Attempt("raw", "raw"))
    assert type(machine_of(plain)) is Handshake
    assert type(machine_of(replace(plain, retry_ns=MS))) is Trying


@pytest.mark.parametrize(
    "asked", [{"first_ttl_a": 2}, {"end_b": "udp", "first_ttl_b": 2}, {"retry_ns": MS}, {"told_ns": MS, "end_a": "listening"}]
)
def test_what_a_kernel_cannot_do_is_refused(asked: dict[str, Any]) -> None:
    """Before anything is made."""
    with pytest.raises(BadParameter):
        Attempt(**asked)


def test_a_listener_pokes_only_if_its_syn_is_to_die() -> None:
    """At the peer's very endpoint, or at a port of its address."""
    plain, _ = _orders(Attempt("listening", "kernel"))
    assert poke_of(plain) is None
    poke = poke_of(replace(plain, first_ttl=2))
    assert poke is not None
    assert (poke.destination, poke.ttl, poke.kind) == (AIMS["b"], 2, "SYN")
    elsewhere = poke_of(replace(plain, first_ttl=2, poke_port=9))
    assert elsewhere is not None
    assert str(elsewhere.destination) == "203.0.113.2:9"
