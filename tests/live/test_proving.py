"""The proof on a connection: strangers of all kinds are told apart from the peer, in time, and nothing of the user's is taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from rawpunch.clock import now_ns
from rawpunch.live.proving import Prover, Stranger
from rawpunch.punch.proof import MAGIC, Challenge, Role, key_of
from rawpunch.units import MS, SECOND

KEY = key_of("token")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.socket() as listener, socket.socket() as one:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        with other:
            one.setblocking(False)
            other.setblocking(False)
            yield one, other


def _prove(one: tuple[Prover, socket.socket], other: tuple[Prover, socket.socket]) -> list[BaseException | None]:
    async def both() -> list[BaseException | None]:
        until = now_ns() + 5 * SECOND
        return await asyncio.gather(*(who.prove(sock, until) for who, sock in (one, other)), return_exceptions=True)

    return asyncio.run(both())


NONCES = (bytes(32), bytes(31) + b"1")
TOLD = {Role.A: Challenge.between(Role.A, *NONCES), Role.B: Challenge.between(Role.B, *reversed(NONCES))}
"""What each of two knows whose nonces were told before."""


@pytest.mark.parametrize("told", [TOLD, {}], ids=["told before", "said now"])
@pytest.mark.parametrize("roles", [(Role.A, Role.B), (Role.NONE, Role.NONE)])
def test_peers_prove_and_what_is_said_next_is_the_users(
    ends: tuple[socket.socket, socket.socket], roles: tuple[Role, Role], told: dict[Role, Challenge]
) -> None:
    """Both prove; not an octet behind the proof is taken away."""
    one, other = ends
    provers = [Prover(KEY, role, challenge=told.get(role)) for role in roles]
    assert _prove((provers[0], one), (provers[1], other)) == [None, None]
    one.send(b"first")
    other.send(b"last")
    for sock, text in ((other, b"first"), (one, b"last")):
        sock.setblocking(True)
        assert sock.recv(99) == text


def test_the_wrong_token_is_found_out_on_both_sides(ends: tuple[socket.socket, socket.socket]) -> None:
    """Each says that the other one does not know the token."""
    found = _prove((Prover(KEY, Role.A), ends[0]), (Prover(key_of("other"), Role.B), ends[1]))
    assert all(isinstance(error, Stranger) and "token" in error.what for error in found)


def test_a_proof_of_another_day_is_worth_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    """Who heard a proof and says it again is told apart by the fresh nonce; so is who sends us our own."""
    old = Challenge.between(Role.B, NONCES[1], bytes(31) + b"2").proof(KEY)
    for said in (old, TOLD[Role.A].proof(KEY)):
        ends[1].send(said)
        with pytest.raises(Stranger, match="token"):
            asyncio.run(Prover(KEY, Role.A, challenge=TOLD[Role.A]).prove(ends[0], now_ns() + SECOND))


def test_the_wrong_token_is_found_out_by_proofs_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    """The same where the hellos are left out."""
    one, other = Prover(KEY, Role.A, challenge=TOLD[Role.A]), Prover(key_of("other"), Role.B, challenge=TOLD[Role.B])
    found = _prove((one, ends[0]), (other, ends[1]))
    assert all(isinstance(error, Stranger) and "token" in error.what for error in found)


def test_of_two_connections_one_is_chosen() -> None:
    """A leader who has chosen one tells no other that it is the one."""
    leader = Prover(KEY, Role.A)

    async def twice() -> tuple[list[BaseException | None], list[BaseException | None]]:
        until = now_ns() + SECOND // 4
        pairs = [socket.socketpair() for _ in range(2)]
        followers = [Prover(KEY, Role.B) for _ in pairs]
        with pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]:
            tasks = []
            for follower, pair in zip(followers, pairs, strict=True):
                for sock, who in zip(pair, (leader, follower), strict=True):
                    sock.setblocking(False)
                    tasks.append(_unix(who, sock, until))
            found = await asyncio.gather(*tasks, return_exceptions=True)
        return list(found[::2]), list(found[1::2])

    leading, following = asyncio.run(twice())
    assert sorted(error is None for error in leading) == [False, True]
    assert [error is None for error in leading] == [error is None for error in following]


async def _unix(who: Prover, sock: socket.socket, until_ns: int) -> None:
    """Prove over a pair of Unix sockets, which know no TCP option."""

    class Plain(socket.socket):
        def setsockopt(self, *_: object) -> None:
            """There is none to set."""

    with Plain(fileno=socket.dup(sock.fileno())) as plain:
        plain.setblocking(False)
        await who.prove(plain, until_ns)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"GET / HTTP/1.0\r\n\r\n" + bytes(99), "no peer"),
        (MAGIC + b"a" + bytes(32), "no peer"),
        (MAGIC + b"b" + bytes(32) + bytes(32), "does not know"),
        (MAGIC, "in time"),
        (b"", "in time"),
        (None, "ended the connection"),
    ],
)
def test_strangers_are_named(ends: tuple[socket.socket, socket.socket], said: bytes | None, why: str) -> None:
    """Garbage, our own side, a false proof, half a hello, silence and an early end are told apart, and none waits for ever."""
    one, other = ends
    if said is None:
        other.close()
    else:
        other.send(said)
    began = now_ns()
    with pytest.raises(Stranger, match=why):
        asyncio.run(Prover(KEY, Role.A).prove(one, began + 200 * MS))
    assert now_ns() - began < 5 * SECOND
