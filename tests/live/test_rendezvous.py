"""The rendezvous server on the loopback: introductions and common starts, and what garbage, sloths and crowds get."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import pytest

from rawpunch.clock import now_ns
from rawpunch.errors import MachineCannot, PartialData
from rawpunch.live.guard import Guard
from rawpunch.live.limits import RendezvousLimits
from rawpunch.live.rendezvous_client import RendezvousClient
from rawpunch.live.rendezvous_server import RendezvousServer
from rawpunch.live.stun_client import binding
from rawpunch.probe.site import Site
from rawpunch.punch import rendezvous as messages
from rawpunch.punch.rendezvous import Go, Introduced, Introducing, Joined, Left, Over, Register, Registered, Start, room_name
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

ROOM = room_name("token")
GARBAGE = 200
RAWPUNCH = [sys.executable, "-m", "rawpunch.cli.app"]
_T = TypeVar("_T")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def _server(
    limits: RendezvousLimits | None = None, rooms: frozenset[str] | None = None, plain_port: int = 0
) -> AsyncIterator[tuple[RendezvousServer, Endpoint]]:
    endpoint = Endpoint("127.0.0.1", _free_port())
    site = Site((endpoint.address,), (endpoint.port,))
    async with RendezvousServer(site, limits, rooms=rooms, plain_port=plain_port) as server:
        yield server, endpoint


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


async def _register(client: RendezvousClient, name: str = "", room: str = ROOM) -> Registered:
    return await client.ask(Register(room=room, name=name, inside=client.local), Registered)


async def _news(client: RendezvousClient, kind: type[_T]) -> _T:
    found, _ = await client.news(3)
    assert isinstance(found, kind), found
    return found


@asynccontextmanager
async def _two(endpoint: Endpoint) -> AsyncIterator[tuple[RendezvousClient, RendezvousClient, int]]:
    """Alice and Bob, introduced by Alice; and the number of their pair."""
    async with await RendezvousClient.connect(endpoint) as alice, await RendezvousClient.connect(endpoint) as bob:
        await _register(alice, "alice")
        number = (await _register(bob, "bob")).number
        await _news(alice, Joined)
        pair = (await alice.ask(messages.Introduce(to=number), Introducing)).pair
        yield alice, bob, pair


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110  what is waited for is not ours to signal
            await asyncio.sleep(0.01)


# --- introductions ---


def test_peers_learn_of_each_other() -> None:
    """Each is told his public endpoint, who is there, who comes, whom he is introduced to, and which side of the plan is his."""

    async def test() -> None:
        async with _server() as (_, endpoint), _two(endpoint) as (alice, bob, pair):
            to_alice, to_bob = await _news(alice, Introduced), await _news(bob, Introduced)
            assert (to_alice.pair, to_bob.pair) == (pair, pair)
            assert (to_alice.side, to_bob.side) == ("a", "b")
            assert (to_alice.peer.name, to_alice.peer.endpoint, to_alice.peer.inside) == ("bob", bob.local, bob.local)
            assert (to_bob.peer.name, to_bob.peer.endpoint) == ("alice", alice.local)
            async with await RendezvousClient.connect(endpoint) as carol:
                registered = await _register(carol, "carol")
                assert registered.you == carol.local
                assert registered.here == endpoint
                assert [peer.name for peer in registered.peers] == ["alice", "bob"]
                assert (await _news(bob, Joined)).peer.name == "carol"
            assert (await _news(bob, Left)).number == registered.number

    _run(test)


def test_who_wants_to_meet_is_introduced_by_registering() -> None:
    """To whoever came last, both without another word; the first one has nobody to be introduced to."""

    async def test() -> None:
        connect = RendezvousClient.connect
        async with _server() as (server, endpoint), await connect(endpoint) as alice, await connect(endpoint) as bob:
            await alice.ask(Register(room=ROOM, name="alice", meet=True), Registered)
            assert not server.pairs.all
            await bob.ask(Register(room=ROOM, name="bob", meet=True), Registered)
            await _news(alice, Joined)
            to_alice, to_bob = await _news(alice, Introduced), await _news(bob, Introduced)
            assert to_alice.pair == to_bob.pair
            assert (to_bob.side, to_bob.peer.name) == ("a", "alice")
            assert (to_alice.side, to_alice.peer.name) == ("b", "bob")
            async with await connect(endpoint) as carol:
                await carol.ask(Register(room=ROOM, name="carol", meet=True), Registered)
                assert (await _news(carol, Introduced)).peer.name == "bob"
                await _news(bob, Joined)
                assert (await _news(bob, Introduced)).peer.name == "carol"
                assert server.counted.introduced == 2
            await _news(alice, Joined)
            assert isinstance(await _news(alice, Left), Left)  # and was not introduced to her

    _run(test)


def test_who_wants_to_meet_somebody_who_is_busy_is_refused() -> None:
    """He is not registered then, and may try again."""

    async def test() -> None:
        connect = RendezvousClient.connect
        limits = RendezvousLimits(pairs_per_peer=1)
        async with _server(limits) as (server, endpoint), _two(endpoint) as (_, bob, _), await connect(endpoint) as carol:
            with pytest.raises(PartialData, match="full: too many introductions"):
                await carol.ask(Register(room=ROOM, name="carol", meet=True), Registered)
            assert server.counted.registered == 2
            await bob.__aexit__()
            await _until(lambda: len(server.connections) == 2)
            await carol.ask(Register(room=ROOM, name="carol", meet=True), Registered)
            assert (await _news(carol, Introduced)).peer.name == "alice"

    _run(test)


def test_an_instant_is_agreed_by_measured_clocks() -> None:
    """Both are told one instant of the server's clock, ahead of them, with both bounds added; here all clocks are one."""

    async def test() -> None:
        async with _server() as (_, endpoint), _two(endpoint) as (alice, bob, pair):
            offsets = [await client.measure_clock() for client in (alice, bob)]
            for offset in offsets:
                assert abs(offset.offset_ns) <= offset.error_ns < 500 * MS
            for client in (alice, bob):
                await _news(client, Introduced)
                await client.ready(pair, tolerance_ns=1_000 * MS)
            starts = [await _news(client, Start) for client in (alice, bob)]
            assert starts[0] == starts[1]
            assert starts[0].error_ns >= sum(offset.error_ns for offset in offsets)
            assert starts[0].at_ns > now_ns()

    _run(test)


def test_without_a_clock_both_are_told_to_go() -> None:
    """One who never asked for the time has no bound: the start is on receipt."""

    async def test() -> None:
        async with _server() as (server, endpoint), _two(endpoint) as (alice, bob, pair):
            await alice.measure_clock()
            for client in (alice, bob):
                await _news(client, Introduced)
                await client.ready(pair, tolerance_ns=1_000 * MS)
            words = [await client.news(3) for client in (alice, bob)]
            assert all(isinstance(word, Go) for word, _ in words)
            assert server.counted.started == 1
            assert not server.pairs.all

    _run(test)


def test_both_may_ask_for_the_same_introduction() -> None:
    """It is one pair, told once."""

    async def test() -> None:
        async with _server() as (server, endpoint), _two(endpoint) as (alice, bob, pair):
            number = (await _news(bob, Introduced)).peer.number
            assert (await bob.ask(messages.Introduce(to=number), Introducing)).pair == pair
            assert len(server.pairs.all) == server.counted.introduced == 1
            await _news(alice, Introduced)
            with pytest.raises(TimeoutError):
                await alice.news(0.1)

    _run(test)


def test_who_goes_is_forgotten_and_the_others_are_told() -> None:
    """The pair is over, the peer has left; an empty room is no room."""

    async def test() -> None:
        async with _server() as (server, endpoint):
            async with _two(endpoint) as (alice, bob, pair):
                await _news(bob, Introduced)
                await alice.__aexit__()
                assert (await _news(bob, Over)).pair == pair
                await _news(bob, Left)
                with pytest.raises(PartialData, match="no_such_pair"):
                    await bob.ready(pair, 0)
            await _until(lambda: not server.connections)
            assert not server.rooms
            assert not server.pairs.all

    _run(test)


def test_an_introduction_waits_so_long_and_no_longer() -> None:
    """If only one is ready, both are told that it is over."""

    async def test() -> None:
        async with _server(RendezvousLimits(pair_s=0.1)) as (server, endpoint), _two(endpoint) as (alice, bob, pair):
            await alice.ready(pair, 0)
            for client in (alice, bob):
                await _news(client, Introduced)
                assert "within 0.1 s" in (await _news(client, Over)).why
            assert not server.pairs.all

    _run(test)


def test_nothing_waits_for_a_delayed_ack() -> None:
    """Neither side gathers small messages: a word to begin leaves at once, although what was said before is not acknowledged."""

    async def test() -> None:
        async with _server() as (server, endpoint), await RendezvousClient.connect(endpoint) as alice:
            await _register(alice)
            (connection,) = server.connections
            for transport in (connection.transport, alice._writer.transport):
                assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    _run(test)


# --- what is refused ---


def test_requests_out_of_place_are_refused_by_name() -> None:
    """Each with a word for the program and a sentence for its user."""

    async def test() -> None:
        other = room_name("other")
        async with (
            _server(rooms=frozenset({ROOM, other})) as (_, endpoint),
            await RendezvousClient.connect(endpoint) as alice,
            await RendezvousClient.connect(endpoint) as bob,
        ):
            with pytest.raises(PartialData, match="not_registered"):
                await alice.ask(messages.Introduce(to=1), Introducing)
            with pytest.raises(PartialData, match="no_such_room"):
                await _register(alice, room=room_name("guessed"))
            me = await _register(alice)
            with pytest.raises(PartialData, match="registered_already"):
                await _register(alice)
            stranger = (await _register(bob, room=other)).number
            for number in (stranger, me.number, 999):
                with pytest.raises(PartialData, match="no_such_peer"):
                    await alice.ask(messages.Introduce(to=number), Introducing)
            with pytest.raises(PartialData, match="no_such_pair"):
                await alice.ready(1, 0)

    _run(test)


def test_rooms_pairs_and_addresses_have_their_limits() -> None:
    """A full room refuses, too many introductions are refused, a further connection of an address is closed at once."""

    async def test() -> None:
        limits = RendezvousLimits(peers_per_room=3, pairs_per_peer=1, connections_per_address=4)
        async with _server(limits) as (server, endpoint), _two(endpoint) as (alice, _, _pair):
            async with await RendezvousClient.connect(endpoint) as carol, await RendezvousClient.connect(endpoint) as dora:
                number = (await _register(carol)).number
                with pytest.raises(PartialData, match="full"):
                    await _register(dora)
                with pytest.raises(PartialData, match="full"):
                    await alice.ask(messages.Introduce(to=number), Introducing)
                async with await RendezvousClient.connect(endpoint) as fifth:
                    with pytest.raises(PartialData, match="is gone"):
                        await _register(fifth)
            assert server.counted.refused == 1

    _run(test)


def test_a_hurry_is_slowed_down_not_refused() -> None:
    """60 requests at 50 a second after a burst of 50 take their time, and all are answered in order."""

    async def test() -> None:
        limits = RendezvousLimits(requests_per_s=50)
        async with _server(limits) as (_, endpoint), await RendezvousClient.connect(endpoint) as alice:
            began = time.monotonic()
            answers = await asyncio.gather(*(alice.ask(messages.Clock(at_ns=number), messages.Time) for number in range(60)))
            assert [answer.at_ns for answer in answers] == list(range(60))
            assert time.monotonic() - began >= 0.15

    _run(test)


def test_octets_are_counted_and_limited() -> None:
    """What the server says it has carried is what went through the socket; who sends more than a session needs is cut off."""

    async def test() -> None:
        async with _server(RendezvousLimits(octets=2_000, requests_per_s=1_000)) as (server, endpoint):
            reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
            line = messages.encode(messages.Clock(id=1, at_ns=1))
            writer.write(line)
            answer = await reader.readline()
            writer.write(account := messages.encode(messages.Account(id=2)))
            accounted = messages.parse_answer(last := await reader.readline())
            assert accounted == messages.Accounted(id=2, came=len(line + account), went=len(answer))
            assert (server.counted.came, server.counted.went) == (len(line + account), len(answer + last))
            writer.write(line * (2_000 // len(line)))
            with suppress(ConnectionResetError):
                await reader.read()
            await _until(lambda: not server.connections)
            assert server.counted.cut_off == 1
            writer.close()
            with suppress(ConnectionResetError):
                await writer.wait_closed()

    _run(test)


# --- the same port ---


def test_it_is_a_stun_server_on_the_same_port() -> None:
    """A Binding request from the port that a peer has registered from names the same endpoint (C9)."""

    async def test() -> None:
        async with _server() as (server, endpoint), await RendezvousClient.connect(endpoint) as alice:
            you = (await _register(alice)).you
            local = Endpoint("127.0.0.1", _free_port())
            assert (await binding(endpoint, local=local)).mapped == local
            assert you == alice.local
            assert server.counted.bindings == 1

    _run(test)


def test_a_guard_can_join_a_registered_port() -> None:
    """The port that a peer is registered from can be guarded for a raw end while the connection goes on."""

    async def test() -> None:
        local = Endpoint("127.0.0.1", _free_port())
        async with _server() as (_, endpoint), await RendezvousClient.connect(endpoint, local=local) as alice:
            try:
                guard = Guard(local, shared=True)
            except MachineCannot:
                pytest.skip("this process may not mute its kernel")
            with guard:
                assert (await _register(alice)).you == local

    _run(test)


# --- garbage, sloths ---


def test_garbage_harms_nobody() -> None:
    """Octets of any kind end their own connection at most; a peer who is there all the while is served as ever."""

    async def throw(endpoint: Endpoint, dice: random.Random) -> None:
        reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        first = dice.choice([b"{", b"\0\1", b"\xff", b"GET / ", b"{}\n", b'{"do":"register"}\n' * 3])
        try:
            with suppress(ConnectionError):
                writer.write(first + dice.randbytes(dice.choice([0, 1, 19, 400, 5_000])) + dice.choice([b"", b"\n", b"\n\n\n"]))
                if dice.random() < 0.5:
                    writer.write_eof()
                async with asyncio.timeout(1):
                    while await reader.read(1 << 16):
                        pass
        finally:
            writer.transport.abort()

    async def test() -> None:
        dice = random.Random(6)
        limits = RendezvousLimits(
            new_connections_per_s=10_000, first_s=0.3, message_s=0.3, silence_s=5, connections_per_address=500
        )
        async with _server(limits) as (server, endpoint), await RendezvousClient.connect(endpoint) as alice:
            await _register(alice)
            thrown = asyncio.gather(*(throw(endpoint, dice) for _ in range(GARBAGE)), return_exceptions=True)
            while not thrown.done():
                await alice.measure_clock(1)
                await asyncio.sleep(0.1)
            assert [found for found in thrown.result() if found is not None and not isinstance(found, TimeoutError)] == []
            await _until(lambda: len(server.connections) == 1)
            assert server.counted.cut_off > GARBAGE / 4
            assert server.counted.registered == 1

    _run(test)


def test_the_silent_and_the_slow_are_cut_off() -> None:
    """No first message, a message that never ends, a peer who says nothing any more: each is closed when its time is up."""

    async def lasted(endpoint: Endpoint, octets: bytes, *, drip: bool = False) -> float:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        writer.write(octets)
        with suppress(ConnectionError):
            while drip:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
                if reader.at_eof():
                    break
            while await reader.read(1 << 16):
                pass
        writer.transport.abort()
        return time.monotonic() - began

    async def test() -> None:
        limits = RendezvousLimits(first_s=0.2, message_s=0.2, silence_s=0.8)
        register = messages.encode(Register(id=1, room=ROOM))
        async with _server(limits) as (server, endpoint):
            silent, slow, forgotten = await asyncio.gather(
                lasted(endpoint, b""), lasted(endpoint, b'{"do":', drip=True), lasted(endpoint, register)
            )
            assert 0.2 <= silent < 2
            assert 0.2 <= slow < 2
            assert 0.8 <= forgotten < 3
            await _until(lambda: not server.connections)
            assert not server.rooms

    _run(test)


def test_who_does_not_read_is_cut_off() -> None:
    """Answers that nobody takes pile up to a limit, then the connection is gone; the memory with it."""

    async def test() -> None:
        limits = RendezvousLimits(octets=1 << 24, requests_per_s=1e9, unsent=4_000)
        async with _server(limits) as (server, endpoint):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
                sock.connect((endpoint.address, endpoint.port))
                sock.setblocking(False)
                line = messages.encode(messages.Clock(id=1, at_ns=1)) * 50
                await _until(lambda: bool(server.connections))
                for _ in range(2_000):
                    with suppress(BlockingIOError, ConnectionError):
                        sock.send(line)
                    await asyncio.sleep(0)
                    if not server.connections:
                        break
                assert server.counted.cut_off == 1

    _run(test)


def test_a_server_that_dies_is_told() -> None:
    """Who waits for news and who asks learn that it is gone, and what to do."""

    async def test() -> None:
        async with _server() as (server, endpoint):
            client = await RendezvousClient.connect(endpoint)
            await _register(client)
            await server.__aexit__()
            with pytest.raises(PartialData, match="is gone") as told:
                await client.news(3)
            assert "rawpunch rendezvous" in told.value.todo
            with pytest.raises(PartialData):
                await client.measure_clock()
            await client.__aexit__()
            with pytest.raises(PartialData, match="no connection"):
                await RendezvousClient.connect(endpoint, within_s=1)

    _run(test)


# --- the plain mode ---


def test_the_plain_mode_is_a_brokers_list() -> None:
    """A count octet and six octets for each of the others: none for the first, who hears of the second when it comes."""

    async def test() -> None:
        plain = Endpoint("127.0.0.1", _free_port())
        async with _server(RendezvousLimits(plain_peers=2), plain_port=plain.port) as (server, _):
            streams = [await asyncio.open_connection(plain.address, plain.port)]
            assert await streams[0][0].readexactly(1) == b"\0"
            streams.append(await asyncio.open_connection(plain.address, plain.port))
            own = [Endpoint(*writer.get_extra_info("sockname")) for _, writer in streams]
            assert messages.decode_plain(await streams[1][0].readexactly(7)) == [own[0]]
            assert messages.decode_plain(await streams[0][0].readexactly(7)) == [own[1]]
            third, writer = await asyncio.open_connection(plain.address, plain.port)
            with suppress(ConnectionError):
                assert await third.read() == b""
            writer.transport.abort()
            streams[0][1].write(b"x" * 1_000)
            with suppress(ConnectionError):
                assert await streams[0][0].read() == b""
            assert (server.counted.refused, server.counted.cut_off) == (1, 1)
            for _, writer in streams:
                writer.transport.abort()

    _run(test)


# --- the command ---


def test_the_command_serves_and_counts() -> None:
    """It prints where it listens, serves those with the token only, and says at Ctrl-C what has passed."""
    port = _free_port()
    words = [*RAWPUNCH, "rendezvous", "--address", "127.0.0.1", "--port", str(port), "--token", "correct-horse"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == f"127.0.0.1:{port}"

        async def test() -> None:
            async with await RendezvousClient.connect(Endpoint("127.0.0.1", port)) as client:
                with pytest.raises(PartialData, match="no_such_room"):
                    await _register(client, room=room_name(secrets.token_hex(4)))
                await _register(client, room=room_name("correct-horse"))

        _run(test)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "1 registered" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--address", "192.0.2.77"], 3),
        (["--address", "nowhere"], 2),
        (["--address", "127.0.0.1", "--port", "7800", "--plain-port", "7800"], 2),
        (["--address", "127.0.0.1", "--plain-port", "70000"], 2),
        ([], 2),
    ],
)
def test_the_command_says_what_is_wrong(words: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> None:
    """An address that is not ours is this machine's lack; the rest is usage. Each with what to try."""
    from rawpunch.cli.app import main  # noqa: PLC0415

    assert main(["rendezvous", *words]) == code
    assert capfd.readouterr().out == ""
