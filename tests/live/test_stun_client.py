"""The STUN client on the loopback: our own observer, and servers that are slow, wrong, silent or no STUN servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rawpunch.errors import UsageError
from rawpunch.live import stun_client
from rawpunch.live.observer import Observer
from rawpunch.live.stun_answer import Cause, Unanswered
from rawpunch.live.stun_client import PATIENCE_S, SENT_AT_NS, Port, TcpPort, UdpPort, ask_any, local_towards
from rawpunch.probe.site import Site
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import ErrorCode, Kind, MappedAddress, Message, Opaque, UnknownAttributes, XorMappedAddress
from tests.live import stun_servers as servers
from tests.live.stun_servers import HOST, Behaviour, tcp_server, udp_server

SOON_S = 0.15
FREE = Endpoint(HOST, 0)
MAPPED = XorMappedAddress(Endpoint("192.0.2.9", 9))
BOTH = pytest.mark.parametrize("kind", [TcpPort, UdpPort])


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def _free_port() -> int:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind((HOST, 0))
        datagrams.bind(stream.getsockname())
        return int(stream.getsockname()[1])


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _failure(port: Port, server: Endpoint, within_s: float = 5.0) -> Unanswered:
    with pytest.raises(Unanswered) as caught:
        await port.ask(server, within_s=within_s)
    return caught.value


# --- what it tells ---


@BOTH
def test_one_port_asks_every_endpoint_of_an_observer(kind: type[Port]) -> None:
    """Each endpoint sees the very port that was bound before, at the first request, and names its opposite."""

    async def test() -> None:
        site = Site((HOST, "127.0.0.2"), (_free_port(), _free_port()))
        async with Observer(site, raw=False), kind(FREE) as port:
            for endpoint in site.endpoints * 2:
                answer = await port.ask(endpoint)
                assert answer.mapped == answer.local == port.local
                assert (answer.requests, answer.transport) == (1, port.transport)
                assert answer.rtt_ns is not None
                assert 0 < answer.rtt_ns < 5_000 * MS
                assert answer.needed_other() == answer.other == site.other(endpoint)
                assert answer.origin == endpoint

    _run(test)


def test_a_tcp_port_stays_connected_and_can_be_connected_from() -> None:
    """A server is connected to once; others of this user connect from the same port meanwhile, strangers to sharing cannot."""

    async def test() -> None:
        async with tcp_server(servers.good) as server, tcp_server(servers.good) as peer, TcpPort(FREE) as port:
            assert (await port.ask(server)).connect_ns is not None
            assert (await port.ask(server)).connect_ns is None
            with socket.socket() as punching:
                punching.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                punching.bind((port.local.address, port.local.port))
                punching.connect((peer.address, peer.port))
            with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
                stranger.bind((port.local.address, port.local.port))
            assert (await port.ask(server)).mapped == port.local

    _run(test)


def test_a_udp_port_greets_peers_from_the_socket_that_asked() -> None:
    """What asked a server is one unconnected socket, which anybody's datagrams reach and leave."""

    async def test() -> None:
        async with udp_server(servers.good) as server, UdpPort(FREE) as port:
            await port.ask(server.here)
            with socket.socket(type=socket.SOCK_DGRAM) as peer:
                peer.bind((HOST, 0))
                peer.settimeout(5)
                port.sock.sendto(b"hello", peer.getsockname())
                assert peer.recvfrom(9) == (b"hello", (port.local.address, port.local.port))
                peer.sendto(b"back", (port.local.address, port.local.port))
                assert (await port.ask(server.here)).mapped == port.local

    _run(test)


def test_without_a_second_address_there_is_no_other() -> None:
    """A plain STUN server's answer is of use; who needs its other address is told that there is none."""

    async def test() -> None:
        async with tcp_server(servers.good) as server, TcpPort(FREE) as port:
            answer = await port.ask(server)
            assert (answer.other, answer.origin, answer.software) == (None, None, None)
            with pytest.raises(Unanswered) as caught:
                answer.needed_other()
            assert caught.value.cause is Cause.NO_OTHER_ADDRESS

    _run(test)


# --- repeating over UDP ---


def test_requests_leave_as_the_rfc_has_it() -> None:
    """At 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, and failure at 39500 ms (RFC 8489 section 6.2.1)."""
    assert tuple(at * MS for at in (0, 500, 1_500, 3_500, 7_500, 15_500, 31_500)) == SENT_AT_NS
    assert stun_client._UNTIL_NS[-1] == round(PATIENCE_S * 1e9)


def test_a_request_is_repeated_and_its_round_trip_is_not_determined_then() -> None:
    """The same request goes out again after 500 ms; which of the two was answered nobody knows."""

    async def test() -> None:
        async with udp_server(servers.good, deaf_to=1) as server, UdpPort(FREE) as port:
            answer = await port.ask(server.here)
            assert (answer.requests, answer.rtt_ns, answer.mapped) == (2, None, port.local)
            (first_at, first), (second_at, second) = server.came
            assert first == second
            assert second_at - first_at > 0.45

    _run(test)


def test_it_gives_up_after_seven_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven times in all, and then no more."""

    async def test() -> None:
        monkeypatch.setattr(stun_client, "_UNTIL_NS", tuple(until // 200 for until in stun_client._UNTIL_NS))
        async with udp_server(servers.silence) as server, UdpPort(FREE) as port:
            assert (await _failure(port, server.here, PATIENCE_S)).cause is Cause.SILENT
            assert len(server.came) == len(SENT_AT_NS)
            assert len({request.transaction for _, request in server.came}) == 1

    _run(test)


# --- bad servers ---

NO_STUN = (
    pytest.param(servers.saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Cause.MALFORMED, "two zero bits", id="http"),
    pytest.param(servers.saying(bytes(20)), Cause.MALFORMED, "cookie", id="zeroes"),
    pytest.param(servers.answering(), Cause.MALFORMED, "no XOR-MAPPED-ADDRESS", id="no-mapped-address"),
    pytest.param(servers.answering(MAPPED, Opaque(0x7777, b"")), Cause.MALFORMED, "0x7777", id="must-be-understood"),
    pytest.param(servers.answering(kind=Kind.ERROR), Cause.MALFORMED, "no ERROR-CODE", id="error-without-code"),
    pytest.param(servers.answering(Opaque(0x0020, b"x"), MAPPED), Cause.MALFORMED, "address of family", id="cut-address"),
    pytest.param(
        servers.answering(ErrorCode(420, "Unknown \x1b[2J"), UnknownAttributes((3,)), kind=Kind.ERROR),
        Cause.ERROR_RESPONSE,
        "420 Unknown ?[2J\nwhy: it does not know the attributes 0x0003",
        id="error-420",
    ),
    pytest.param(servers.answering(ErrorCode(401, ""), kind=Kind.ERROR), Cause.ERROR_RESPONSE, "no credentials", id="401"),
    pytest.param(servers.stale_only, Cause.OTHER_TRANSACTION, "another request", id="other-transaction"),
    pytest.param(servers.answering(MAPPED, kind=Kind.REQUEST), Cause.OTHER_TRANSACTION, "another request", id="echoed"),
    pytest.param(servers.silence, Cause.SILENT, "within 0.15 s", id="silent"),
)


@BOTH
@pytest.mark.parametrize(("behaviour", "cause", "told"), NO_STUN)
def test_a_bad_server_is_told_by_its_fault(kind: type[Port], behaviour: Behaviour, cause: Cause, told: str) -> None:
    """Whatever it does, there is an end in time, a word for the cause, a sentence, and no socket left."""

    async def test() -> None:
        async with kind(FREE) as port:
            if kind is TcpPort:
                async with tcp_server(behaviour) as server:
                    failure = await _failure(port, server, SOON_S)
            else:
                async with udp_server(behaviour) as server_:
                    failure = await _failure(port, server_.here, SOON_S)
            assert failure.cause is cause
            assert told in str(failure)

    before = _descriptors()
    _run(test)
    assert _descriptors() == before


def test_after_a_refusal_or_a_fault_the_same_server_can_be_asked_again() -> None:
    """A refusal leaves the connection as it is; after silence or garbage a new one is made between the same endpoints."""

    async def test() -> None:
        said: list[Behaviour] = [
            servers.answering(ErrorCode(500, "later"), kind=Kind.ERROR),
            servers.saying(bytes(20)),
            servers.stale_only,
            servers.good,
        ]

        async def in_turn(request: Message, source: Endpoint, say: servers.Say) -> None:
            await said.pop(0)(request, source, say)

        async with tcp_server(in_turn) as server, TcpPort(FREE) as port:
            for cause in (Cause.ERROR_RESPONSE, Cause.MALFORMED, Cause.OTHER_TRANSACTION):
                assert (await _failure(port, server, SOON_S)).cause is cause
            assert (await port.ask(server)).mapped == port.local

    _run(test)


@pytest.mark.parametrize("behaviour", [servers.stale_first, servers.by_octets])
def test_a_slow_or_confused_stream_is_read_on(behaviour: Behaviour) -> None:
    """Over TCP an answer may come octet by octet, and after one to another request."""

    async def test() -> None:
        async with tcp_server(behaviour) as server, TcpPort(FREE) as port:
            assert (await port.ask(server)).mapped == port.local

    _run(test)


@pytest.mark.parametrize(("said", "told"), [((), "it said nothing"), ((b"\x01\x01\x00",), "after 3 octets")])
def test_a_server_that_hangs_up_is_told_so(said: tuple[bytes, ...], told: str) -> None:
    """A connection that ends before the answer does is `closed`, and the next question gets a new one."""

    async def test() -> None:
        async with tcp_server(servers.saying(*said), hangs_up=True) as server, TcpPort(FREE) as port:
            for _ in range(2):
                failure = await _failure(port, server)
                assert (failure.cause, failure.why) == (Cause.CLOSED, failure.why)
                assert told in failure.why
                await asyncio.sleep(0.02)

    _run(test)


def test_garbage_and_strangers_datagrams_are_passed_over() -> None:
    """Over UDP an answer counts that comes from the server, to the request, and is one; all else does not disturb it."""

    async def test() -> None:
        async def noisy(request: Message, source: Endpoint, say: servers.Say) -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as stranger:
                stranger.sendto(servers.octets(request, MAPPED), (source.address, source.port))
            await say(b"")
            await say(b"garbage")
            await servers.stale_first(request, source, say)

        async with udp_server(noisy) as server, UdpPort(FREE) as port:
            assert (await port.ask(server.here)).mapped == port.local

    _run(test)


def test_an_answer_from_elsewhere_is_told() -> None:
    """A server that answers from another endpoint is no answer, but the reason is said."""

    async def test() -> None:
        async def elsewhere(request: Message, source: Endpoint, _say: servers.Say) -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.2", 0))
                other.sendto(servers.octets(request, MAPPED), (source.address, source.port))

        async with udp_server(elsewhere) as server, UdpPort(Endpoint(HOST, 0)) as port:
            failure = await _failure(port, server.here, SOON_S)
            assert failure.cause is Cause.OTHER_TRANSACTION
            assert "from 127.0.0.2:" in failure.why

    _run(test)


# --- no server ---


@BOTH
def test_where_nothing_listens_it_is_refused_at_once(kind: type[Port]) -> None:
    """A RST, or an ICMP port unreachable, ends it; and again, and the port is good for another server afterwards."""

    async def test() -> None:
        nobody = Endpoint(HOST, _free_port())
        async with kind(FREE) as port, tcp_server(servers.good) as stream, udp_server(servers.good) as datagrams:
            for _ in range(2):
                assert (await _failure(port, nobody)).cause is Cause.REFUSED
            answer = await port.ask(stream if kind is TcpPort else datagrams.here)
            assert (answer.mapped, answer.requests) == (port.local, 1)

    _run(test)


def test_a_full_backlog_is_silence() -> None:
    """Where a SYN is dropped the deadline ends it."""

    async def test() -> None:
        with socket.socket() as full, socket.socket() as first, socket.socket() as second:
            full.bind((HOST, 0))
            full.listen(0)
            for sock in (first, second):
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            await asyncio.sleep(0.01)
            async with TcpPort(FREE) as port:
                failure = await _failure(port, Endpoint(*full.getsockname()), SOON_S)
                assert (failure.cause, failure.why) == (Cause.SILENT, "nothing answered our SYN")

    _run(test)


@BOTH
def test_the_first_address_that_answers_is_taken(kind: type[Port]) -> None:
    """A name may have several addresses; what failed is told only if all do."""

    async def test() -> None:
        nobody = Endpoint(HOST, _free_port())
        async with tcp_server(servers.good) as stream, udp_server(servers.good) as datagrams:
            server = stream if kind is TcpPort else datagrams.here
            local_port = _free_port()
            port, answer = await ask_any([nobody, server], kind.transport, local_port=local_port)
            async with port:
                assert (answer.server, answer.mapped) == (server, Endpoint(HOST, local_port))
        with pytest.raises(Unanswered, match=f"{nobody} refused.*{server} refused"):
            await ask_any([nobody, server], kind.transport, within_s=5)

    before = _descriptors()
    _run(test)
    assert _descriptors() == before


# --- our own port ---


def test_a_port_in_use_is_a_usage_error() -> None:
    """Somebody else's port, an address that is not ours, and the server itself cannot be asked from."""

    async def test() -> None:
        with socket.socket() as taken, socket.socket(type=socket.SOCK_DGRAM) as taken_too:
            taken.bind((HOST, 0))
            taken_too.bind((HOST, 0))
            for kind, sock in ((TcpPort, taken), (UdpPort, taken_too)):
                with pytest.raises(UsageError, match="already in use"):
                    kind(Endpoint(*sock.getsockname()))
                with pytest.raises(UsageError, match=r"cannot bind 192\.0\.2\.254:0"):
                    kind(Endpoint("192.0.2.254", 0))
                async with kind(FREE) as port:
                    with pytest.raises(UsageError, match="local port itself"):
                        await port.ask(port.local)

    _run(test)


def test_our_endpoint_is_that_of_the_way() -> None:
    """Towards the loopback it is the loopback's; nothing is sent to find out."""
    assert local_towards(Endpoint("127.0.0.7", 9), 4000) == Endpoint(HOST, 4000)


def test_questions_at_once_take_turns() -> None:
    """A port is asked by several at once, each gets its own answer."""

    async def test() -> None:
        async with udp_server(servers.good) as one, udp_server(servers.stale_first) as two, UdpPort(FREE) as port:
            answers = await asyncio.gather(*(port.ask(server.here) for server in (one, two) * 5))
            assert [answer.server for answer in answers] == [one.here, two.here] * 5
            assert {answer.mapped for answer in answers} == {port.local}

    _run(test)


def test_a_mapped_address_in_clear_will_do() -> None:
    """Old servers know MAPPED-ADDRESS only (RFC 3489)."""

    async def test() -> None:
        async with tcp_server(servers.answering(MappedAddress(Endpoint("192.0.2.9", 9)))) as server, TcpPort(FREE) as port:
            assert (await port.ask(server)).mapped == Endpoint("192.0.2.9", 9)

    _run(test)
