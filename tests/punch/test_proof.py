"""The proof: who knows the token passes, and nobody else does, whatever he has heard or sends back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import Malformed
from rawpunch.punch.proof import HELLO_OCTETS, MAGIC, PROOF_OCTETS, Challenge, Hello, Role, key_of
from rawpunch.punch.rendezvous import room_name

NONCES = st.binary(min_size=32, max_size=32)
ROLES = st.sampled_from([(Role.A, Role.B), (Role.B, Role.A), (Role.NONE, Role.NONE)])


def _challenges(roles: tuple[Role, Role], mine: bytes, theirs: bytes) -> tuple[Challenge, Challenge]:
    one, other = Hello(roles[0], mine), Hello(roles[1], theirs)
    return Challenge(one, other), Challenge(other, one)


@given(ROLES, st.lists(NONCES, min_size=2, max_size=2, unique=True), st.text())
def test_two_who_know_the_token_convince_each_other(roles: tuple[Role, Role], nonces: list[bytes], token: str) -> None:
    """Each one's proof is verified by the other, and exactly one of them leads."""
    one, other = _challenges(roles, *nonces)
    key = key_of(token)
    assert other.verify(key, one.proof(key))
    assert one.verify(key, other.proof(key))
    assert one.leads is not other.leads


@given(ROLES, st.lists(NONCES, min_size=2, max_size=2, unique=True), st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_another_token_convinces_nobody(roles: tuple[Role, Role], nonces: list[bytes], tokens: list[str]) -> None:
    """A proof by another key is refused."""
    one, other = _challenges(roles, *nonces)
    assert not other.verify(key_of(tokens[0]), one.proof(key_of(tokens[1])))


@given(ROLES, st.lists(NONCES, min_size=3, max_size=3, unique=True))
def test_what_was_heard_is_of_no_use_later(roles: tuple[Role, Role], nonces: list[bytes]) -> None:
    """An old proof does not fit a new nonce, nor does our own proof sent back to us."""
    key = key_of("token")
    one, _ = _challenges(roles, *nonces[:2])
    _, later = _challenges(roles, nonces[0], nonces[2])
    assert not later.verify(key, one.proof(key))
    assert not one.verify(key, one.proof(key))


def test_a_mirror_is_no_peer() -> None:
    """Our own hello, said back to us, is refused before any proof; so is somebody of our own side."""
    mine = Hello(Role.NONE, bytes(32))
    with pytest.raises(Malformed, match="own words"):
        Challenge(mine, mine)
    with pytest.raises(Malformed, match="own side"):
        Challenge(Hello(Role.A, bytes(32)), Hello(Role.A, bytes([1]) * 32))


@given(ROLES, NONCES)
def test_a_hello_survives_the_wire(roles: tuple[Role, Role], nonce: bytes) -> None:
    """What is written is read again."""
    hello = Hello(roles[0], nonce)
    assert len(hello.encode()) == HELLO_OCTETS
    assert Hello.decode(hello.encode()) == hello


@given(st.binary(max_size=2 * HELLO_OCTETS))
def test_other_octets_are_no_hello(octets: bytes) -> None:
    """Garbage is refused as such."""
    if not octets.startswith(MAGIC):
        with pytest.raises(Malformed):
            Hello.decode(octets)


def test_a_role_must_exist() -> None:
    """A hello of the right length with a role that does not exist is refused."""
    with pytest.raises(Malformed, match="role"):
        Hello.decode(MAGIC + b"c" + bytes(32))


def test_the_server_learns_nothing_that_proves() -> None:
    """The room's name, which the server is told, is not the key nor a part of it."""
    assert room_name("token") not in key_of("token").hex()
    assert len(key_of("token")) == PROOF_OCTETS
