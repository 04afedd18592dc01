"""The way out: who answers when a SYN dies, and what a private address beyond the first router means."""

from __future__ import annotations

import pytest

from rawpunch.probe.facts import Contact, Hop, Tally
from rawpunch.probe.path import is_private, path_of


def contact(*addresses: str) -> Contact:
    """Routers that answered, the nearest one first; "" for one that did not."""
    hops = tuple(Hop(ttl, address, ttl) for ttl, address in enumerate(addresses, 1) if address)
    return Contact((), hops, Tally(), ())


@pytest.mark.parametrize(
    ("addresses", "likely"),
    [
        (("192.168.1.1", "198.51.100.1"), False),
        (("192.168.1.1", "100.64.0.1", "198.51.100.1"), True),
        (("192.168.1.1", "", "10.20.0.1"), True),
        (("192.168.1.1",), None),
        ((), None),
    ],
)
def test_a_private_router_beyond_the_first_makes_a_second_nat_likely(addresses: tuple[str, ...], likely: bool | None) -> None:
    """The first one is ours; if nobody else answers, nothing is said."""
    assert path_of(contact(*addresses), translated=True).second_nat_likely is likely


def test_where_nothing_is_translated_there_is_no_second_nat() -> None:
    """Whatever addresses routers have."""
    assert path_of(contact("10.0.0.1", "10.0.1.1"), translated=False).second_nat_likely is False
    assert path_of(None, translated=True).steps == []


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.1.2.3", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("192.168.0.1", True),
        ("100.64.0.1", True),
        ("100.128.0.1", False),
        ("198.51.100.1", False),
        ("fd00::1", True),
        ("2001:db8::1", False),
    ],
)
def test_private_is_rfc_1918_and_6598(address: str, private: bool) -> None:
    """Documentation prefixes are not: the lab uses them as public ones."""
    assert is_private(address) is private
