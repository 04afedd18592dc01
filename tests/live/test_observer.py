"""The observer on the loopback: stock STUN clients, sessions, and what strangers, garbage and sloths get."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aioice.ice
import aioice.stun
import pytest

from rawpunch.errors import MachineCannot, PartialData
from rawpunch.live.limits import ObserverLimits
from rawpunch.live.observer import Observer
from rawpunch.live.observer_client import ObserverClient
from rawpunch.live.stun_client import binding
from rawpunch.probe import messages
from rawpunch.probe.messages import Connect, Connected, Hello, Hold, Outcome, Prove, Proved, Refusal, Refused, SendPacket, Where
from rawpunch.probe.site import Site
from rawpunch.wire import stun
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import ChangeRequest, ErrorCode, Kind, Message, OtherAddress, ResponseOrigin, Software

ADDRESSES = ("127.0.0.1", "127.0.0.2")
GARBAGE = 300


def _free_ports(count: int) -> tuple[int, ...]:
    socks = [socket.socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.bind(("0.0.0.0", 0))  # noqa: S104  a port that is free on both addresses
        return tuple(sock.getsockname()[1] for sock in socks)
    finally:
        for sock in socks:
            sock.close()


@asynccontextmanager
async def _observer(limits: ObserverLimits | None = None, addresses: tuple[str, ...] = ADDRESSES) -> AsyncIterator[Observer]:
    async with Observer(Site(addresses, _free_ports(2)), limits, raw=False) as observer:
        yield observer


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[bytes, Endpoint]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.came.put_nowait((data, Endpoint(*addr[:2])))


@asynccontextmanager
async def _udp(local: str = "127.0.0.1") -> AsyncIterator[tuple[asyncio.DatagramTransport, _Datagrams]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(_Datagrams, local_addr=(local, 0))
    try:
        yield transport, protocol
    finally:
        transport.close()


async def _silence(protocol: _Datagrams, within_s: float = 0.2) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(protocol.came.get(), within_s)


def _request(*attributes: stun.Attribute) -> Message:
    return Message(Kind.REQUEST, secrets.token_bytes(12), attributes)


def _padded(*attributes: stun.Attribute) -> Message:
    return _request(*attributes, Software("x" * 120))


# --- STUN ---


def test_a_mapping_query_over_tcp_names_our_endpoint() -> None:
    """Over TCP every endpoint answers with ours, its own, and the one that differs in address and port."""

    async def test() -> None:
        async with _observer() as observer:
            for endpoint in observer.site.endpoints:
                (port,) = _free_ports(1)
                answer = await binding(endpoint, local=Endpoint("127.0.0.1", port))
                assert answer.mapped == Endpoint("127.0.0.1", port)
                assert answer.attribute(ResponseOrigin) == ResponseOrigin(endpoint)
                other = answer.attribute(OtherAddress)
                assert other is not None
                assert other.endpoint.address != endpoint.address
                assert other.endpoint.port != endpoint.port

    _run(test)


def test_a_stock_client_finds_its_endpoint_over_udp() -> None:
    """The bare request of aioice earns no answer, its retransmission does, and it reads its mapped endpoint from it."""

    async def test() -> None:
        async with _observer() as observer:
            here = observer.site.endpoints[0]
            connection = aioice.ice.Connection(ice_controlling=True)
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: aioice.ice.StunProtocol(connection), local_addr=("127.0.0.1", 0)
            )
            try:
                request = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
                answer, _ = await protocol.request(request, (here.address, here.port))
                assert answer.attributes["XOR-MAPPED-ADDRESS"] == protocol.transport.get_extra_info("sockname")
            finally:
                await protocol.close()

    _run(test)


def test_udp_answers_come_from_where_they_are_wished() -> None:
    """RFC 5780: a CHANGE-REQUEST moves the answer to the other address, the other port, or both."""

    async def test() -> None:
        async with _observer() as observer, _udp() as (transport, protocol):
            here = observer.site.endpoints[0]
            for change in (ChangeRequest(a, p) for a in (False, True) for p in (False, True)):
                request = _padded(change)
                transport.sendto(stun.encode(request), (here.address, here.port))
                octets, source = await protocol.came.get()
                answer = stun.decode(octets)
                assert answer.transaction == request.transaction
                assert answer.attribute(ResponseOrigin) == ResponseOrigin(source)
                assert (source.address != here.address, source.port != here.port) == (change.address, change.port)

    _run(test)


def test_a_change_that_cannot_be_is_420() -> None:
    """With one address, or over TCP, a changed address is not understood, and the answer names CHANGE-REQUEST."""

    async def test() -> None:
        async with _observer(addresses=ADDRESSES[:1]) as observer, _udp() as (transport, protocol):
            here = observer.site.endpoints[0]
            transport.sendto(stun.encode(_padded(ChangeRequest(address=True, port=False))), (here.address, here.port))
            octets, _ = await protocol.came.get()
            assert stun.decode(octets).attribute(ErrorCode) == ErrorCode(420, "Unknown Attribute")
            reader, writer = await asyncio.open_connection(here.address, here.port)
            writer.write(stun.encode(_request(ChangeRequest(address=False, port=True))))
            answer = stun.decode(await reader.read(1_000))
            assert answer.attribute(stun.UnknownAttributes) == stun.UnknownAttributes((3,))
            writer.close()
            assert (await binding(here)).attribute(OtherAddress) is None

    _run(test)


def test_many_stun_messages_share_a_stream() -> None:
    """Over TCP requests may follow each other in one write, or come octet by octet; each is answered, in order."""

    async def test() -> None:
        async with _observer() as observer:
            here = observer.site.endpoints[0]
            reader, writer = await asyncio.open_connection(here.address, here.port)
            requests = [_request() for _ in range(5)]
            writer.write(b"".join(map(stun.encode, requests)))
            for octet in stun.encode(requests[0]):
                writer.write(bytes((octet,)))
                await asyncio.sleep(0)
            for request in (*requests, requests[0]):
                head = await reader.readexactly(20)
                body = await reader.readexactly(int.from_bytes(head[2:4], "big"))
                assert stun.decode(head + body).transaction == request.transaction
            writer.close()

    _run(test)


def test_an_unproved_address_never_gets_more_than_it_sent() -> None:
    """However requests are mixed, octets back to an address stay below octets from it; a proved one is answered at once."""

    async def test() -> None:
        async with _observer() as observer, _udp() as (transport, protocol):
            here = observer.site.endpoints[0]
            dice, sent, got = random.Random(3), 0, 0
            transport.sendto(stun.encode(_request()), (here.address, here.port))
            await _silence(protocol)
            sent += 20
            for _ in range(60):
                request = dice.choice([_request(), _padded(), _request(ChangeRequest(address=True, port=True)), None])
                octets = stun.encode(request) if request else dice.randbytes(dice.randrange(40))
                transport.sendto(octets, (here.address, here.port))
                sent += len(octets)
                await asyncio.sleep(0.002)
                while not protocol.came.empty():
                    got += len(protocol.came.get_nowait()[0])
                assert got <= sent
            assert got > 0
            async with await ObserverClient.connect(here, local=Endpoint("127.0.0.1", 0)) as client:
                await client.begin()
                transport.sendto(stun.encode(_request()), (here.address, here.port))
                octets, _ = await protocol.came.get()
                assert stun.decode(octets).attribute(OtherAddress) is not None

    _run(test)


# --- the observer's own protocol ---


def test_a_session_begins_with_a_nonce() -> None:
    """Before the nonce is echoed nothing but one's own endpoint is told; a wrong or used nonce proves nothing."""

    async def test() -> None:
        async with _observer() as observer:
            here = observer.site.endpoints[0]
            async with await ObserverClient.connect(here) as client:
                place = await client.want(Where(), messages.Place)
                assert (place.you, place.here) == (client.local, here)
                target = Endpoint("127.0.0.1", 9)
                for request in (Hold(), Connect(to=target), SendPacket(kind=messages.Craft.RST, source=here, to=target)):
                    refused = await client.want(request, Refused)
                    assert refused.word == Refusal.NOT_PROVED
                await client.want(Hello(), messages.Welcome)
                assert (await client.want(Prove(nonce="guess"), Refused)).word == Refusal.WRONG_NONCE
                welcome = await client.want(Hello(), messages.Welcome)
                proved = await client.want(Prove(nonce=welcome.nonce), Proved)
                assert proved.addresses == ["127.0.0.1"]
                assert (await client.want(Prove(nonce=welcome.nonce), Refused)).word == Refusal.WRONG_NONCE

    _run(test)


def test_three_wrong_nonces_end_the_connection() -> None:
    """Guessing is cut short."""

    async def test() -> None:
        async with _observer() as observer, await ObserverClient.connect(observer.site.endpoints[0]) as client:
            for _ in range(2):
                assert (await client.want(Prove(nonce="guess"), Refused)).word == Refusal.WRONG_NONCE
            with pytest.raises(PartialData, match="gone"):
                await client.want(Prove(nonce="guess"), Refused)

    _run(test)


def test_a_connection_back_tells_what_became_of_it() -> None:
    """To a listener it is connected, to nobody refused; it comes from the observer's address and port that were asked for."""

    async def test() -> None:
        came: list[Endpoint] = []
        server = await asyncio.start_server(
            lambda _, writer: came.append(Endpoint(*writer.get_extra_info("peername"))), "127.0.0.1", 0
        )
        listener = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        async with _observer() as observer, await ObserverClient.connect(observer.site.endpoints[0]) as client:
            await client.begin()
            ports = observer.site.ports
            for address, port in ((0, ports[1]), (1, ports[0]), (1, ports[0]), (1, 0)):
                answer = await client.want(Connect(address=address, port=port, to=listener), Connected)
                assert answer.outcome == Outcome.CONNECTED
                await asyncio.sleep(0.05)
                assert came.pop() == answer.source
                assert answer.source.address == ADDRESSES[address]
                assert port in (0, answer.source.port)
            nobody = Endpoint("127.0.0.1", _free_ports(1)[0])
            assert (await client.want(Connect(to=nobody), Connected)).outcome == Outcome.REFUSED
        server.close()

    _run(test)


def test_nothing_goes_to_an_address_that_the_session_has_not_proved() -> None:
    """Another address is refused until it joins the session by a connection of its own; a foreign session cannot be joined."""

    async def test() -> None:
        async with _observer() as observer:
            here = observer.site.endpoints[0]
            nobody = Endpoint("127.0.0.3", _free_ports(1)[0])
            async with await ObserverClient.connect(here) as client:
                await client.begin()
                assert (await client.want(Connect(to=nobody), Refused)).word == Refusal.NOT_YOURS
                async with await ObserverClient.connect(here, local=Endpoint("127.0.0.3", 0)) as second:
                    with pytest.raises(PartialData, match="no_session"):
                        await second.begin("guess")
                    await second.begin(client.session)
                    assert (await client.want(Connect(to=nobody), Connected)).outcome == Outcome.REFUSED
                    assert (await second.want(Connect(address=1, port=1, to=nobody), Refused)).word == Refusal.NOT_YOURS

    _run(test)


def test_without_raw_sockets_the_answer_says_so() -> None:
    """Holding a port is refused in words, and the welcome says it beforehand."""

    async def test() -> None:
        async with _observer() as observer, await ObserverClient.connect(observer.site.endpoints[0]) as client:
            assert not (await client.begin()).raw
            assert (await client.want(Hold(), Refused)).word == Refusal.NO_RAW

    _run(test)


def test_packets_to_an_address_are_rationed() -> None:
    """Beyond the burst a connection back is refused with the time to wait."""

    async def test() -> None:
        async with (
            _observer(ObserverLimits(packets_per_s=5)) as observer,
            await ObserverClient.connect(observer.site.endpoints[0]) as client,
        ):
            await client.begin()
            nobody = Endpoint("127.0.0.1", _free_ports(1)[0])
            answers = await asyncio.gather(*(client.ask(Connect(to=nobody)) for _ in range(12)))
            refused = [answer for answer in answers if isinstance(answer, Refused)]
            assert 5 <= len(refused) <= 7
            assert all(answer.word == Refusal.TOO_FAST and 0 < answer.retry_ms <= 200 for answer in refused)

    _run(test)


# --- bad luck and bad manners ---


def test_garbage_is_survived() -> None:
    """Noise over TCP and UDP, mutated requests, lines that are none: afterwards it answers as before, and holds nothing."""

    async def test() -> None:
        dice = random.Random(9)
        seeds = [
            stun.encode(_padded(ChangeRequest(address=True, port=True))),
            messages.encode(Hello()) + messages.encode(Prove(nonce="x")),
            messages.encode(Connect(to=Endpoint("127.0.0.1", 9))),
            b"{" * 1_000 + b"\n",
            b'{"do":"hello","id":' + b"9" * 1_000 + b"}\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ]
        async with _observer(ObserverLimits(new_connections_per_s=10_000, requests_per_s=10_000)) as observer:
            here = observer.site.endpoints[0]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                for _ in range(GARBAGE):
                    octets = bytearray(dice.choice([*seeds, dice.randbytes(200)]))
                    for _ in range(dice.randrange(4)):
                        octets[dice.randrange(len(octets))] = dice.randrange(256)
                    datagrams.sendto(octets, (here.address, here.port))
                    _, writer = await asyncio.open_connection(here.address, here.port)
                    writer.write(octets[: dice.randrange(len(octets) + 1)])
                    if dice.random() < 0.5:
                        writer.transport.abort()
                    else:
                        writer.close()
            assert (await binding(here)).mapped is not None
            await asyncio.sleep(0.1)
            assert observer._door.inside == 0
            assert not observer.sessions.all

    _run(test)


async def _ask_for_ever(sock: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(sock, messages.encode(Where()) * 100)


def test_silent_and_slow_clients_are_cut_off() -> None:
    """A connection that says nothing, one that stops inside a message, and one that takes no answers end by their deadlines."""

    async def test() -> None:
        limits = ObserverLimits(first_s=0.2, message_s=0.2, silence_s=0.4, requests_per_s=100_000)
        async with _observer(limits) as observer:
            here = observer.site.endpoints[0]
            for beginning in (b"", b"\x00", b'{"do":', stun.encode(_request())[:-1], messages.encode(Where())):
                reader, writer = await asyncio.open_connection(here.address, here.port)
                writer.write(beginning)
                async with asyncio.timeout(1):
                    with suppress(ConnectionResetError):
                        await reader.read()
                writer.transport.abort()
            with socket.socket() as glutton:
                for room in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    glutton.setsockopt(socket.SOL_SOCKET, room, 4_096)
                glutton.connect((here.address, here.port))
                glutton.setblocking(False)
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    await asyncio.wait_for(_ask_for_ever(glutton), 10)

    _run(test)


def test_too_many_connections_are_closed() -> None:
    """One address may not take all places; when it gives some back, it is served again."""

    async def test() -> None:
        async with _observer(ObserverLimits(connections_per_address=3)) as observer:
            here = observer.site.endpoints[0]
            clients = [await ObserverClient.connect(here) for _ in range(5)]
            answers = await asyncio.gather(*(client.ask(Where()) for client in clients), return_exceptions=True)
            assert sum(isinstance(answer, PartialData) for answer in answers) == 2
            for client in clients:
                await client.__aexit__()
            await asyncio.sleep(0.1)
            assert (await binding(here)).mapped is not None

    _run(test)


def test_an_observer_that_goes_is_named() -> None:
    """A probe in the middle of a request learns that the observer has gone; a later one cannot connect."""

    async def test() -> None:
        async with _observer() as observer:
            here = observer.site.endpoints[0]
            client = await ObserverClient.connect(here)
            await client.begin()
            waiting = asyncio.create_task(client.arrivals(wait_ms=5_000))
            await asyncio.sleep(0.05)
        with pytest.raises(PartialData, match="gone"):
            await waiting
        with pytest.raises(PartialData, match="no connection"):
            await ObserverClient.connect(here)
        await client.__aexit__()

    _run(test)


def test_a_session_outlives_its_connection_for_a_while() -> None:
    """A probe whose connection broke may come back; after the grace the session is gone."""

    async def test() -> None:
        async with _observer(ObserverLimits(grace_s=0.3)) as observer:
            here = observer.site.endpoints[0]
            async with await ObserverClient.connect(here) as client:
                await client.begin()
            await asyncio.sleep(0.1)
            async with await ObserverClient.connect(here) as again:
                await again.begin(client.session)
                await asyncio.sleep(0.4)
                assert again.session in observer.sessions.all
            await asyncio.sleep(0.6)
            assert not observer.sessions.all

    _run(test)


def test_a_port_in_use_is_reported() -> None:
    """A second observer on the same port does not share it in silence."""

    async def test() -> None:
        async with _observer() as observer:
            with pytest.raises(MachineCannot, match="cannot listen"):
                async with Observer(observer.site, raw=False):
                    pass
            assert (await binding(observer.site.endpoints[0])).mapped is not None

    _run(test)


# --- the command ---


def test_the_command_says_where_it_listens_and_ends_quietly() -> None:
    """`rawpunch observe` prints its endpoints as data, serves, and Ctrl-C is its normal end."""
    ports = _free_ports(2)
    words = [sys.executable, "-m", "rawpunch.cli.app", "observe", "--address", "127.0.0.1", "--json", "--no-raw"]
    process = subprocess.Popen(
        [*words, *(word for port in ports for word in ("--port", str(port)))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        assert document["schema"] == "rawpunch.observe/1"
        assert document["listening"] == [f"127.0.0.1:{port}" for port in ports]
        with socket.create_connection(("127.0.0.1", ports[0])) as sock:
            sock.sendall(struct.pack("!HHI12s", 1, 0, stun.MAGIC_COOKIE, bytes(12)))
            assert stun.decode(sock.recv(1_000)).mapped == Endpoint(*sock.getsockname())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()
