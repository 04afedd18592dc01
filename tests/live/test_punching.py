"""Punches on the loopback: who is the peer gets through; whoever else there is, and whatever a server does, has a named cause."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, NoConnection, PartialData, PolicyRefused, RawpunchError, UsageError
from rawpunch.live import allowance, meeting, punch_tries, registering, rendezvous_client
from rawpunch.live.punch_ladder import ladder
from rawpunch.live.punch_log import PunchLog
from rawpunch.live.punching import Punched, begin, punch, punch_at
from rawpunch.live.rendezvous_client import RendezvousClient
from rawpunch.live.rendezvous_server import RendezvousServer
from rawpunch.probe.site import Site
from rawpunch.punch.consent import Consent
from rawpunch.punch.plan import Plan
from rawpunch.punch.proof import key_of
from rawpunch.punch.rendezvous import Finding
from rawpunch.punch.slots import Slot, slots_of
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from tests.live import false_rendezvous
from tests.live.false_rendezvous import false_server

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*rendezvous:ResourceWarning")


def _findings(**classes: str) -> dict[str, Finding]:
    return {axis: Finding(klass=klass) for axis, klass in classes.items()}


NO_NAT = _findings(mapping="none")
RANDOM = _findings(
    mapping="address_and_port_dependent", filtering="address_and_port_dependent", port_allocation="random", unsolicited_syn="drop"
)

KEPT = _findings(
    mapping="endpoint_independent",
    filtering="address_and_port_dependent",
    port_allocation="preserving",
    unsolicited_syn="drop",
    crossing_syn="passes",
    syn_ack_out="always",
    icmp_in_syn_sent="survives",
)

RESETTING = KEPT | _findings(unsolicited_syn="rst")
"""Between two of these both have to begin at nearly the same time, so they compare clocks and say when they are ready."""


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def _with_server(test: Callable[[Endpoint], Awaitable[None]]) -> None:
    endpoint = Endpoint("127.0.0.1", _free_port())
    async with asyncio.timeout(20), RendezvousServer(Site((endpoint.address,), (endpoint.port,))):
        await test(endpoint)


async def _punch(server: Endpoint, token: str, *, local_port: int = 0, log: PunchLog | None = None, **more: Any) -> Punched:
    return await punch(begin(server, local_port=local_port, method="kernel", log=log), token, **more)


async def _both(server: Endpoint, *, tokens: tuple[str, str] = ("t", "t"), **more: Any) -> list[Punched | BaseException]:
    return await asyncio.gather(*(_punch(server, token, **{"wait_s": 3.0, **more}) for token in tokens), return_exceptions=True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a plan only the first step's first try, for a fraction of a second, and nothing inside."""

    def shortened(plan: Plan, *, inside: bool = False) -> Iterator[Slot]:  # noqa: ARG001  all of the loopback is one NAT's inside
        for slot in itertools.islice(slots_of(plan), 1):
            late = replace(slot.step.b, begins_ns=200 * MS)  # time for others to come first
            yield replace(
                slot, step=replace(slot.step, b=late), opened_by_ns=slot.begins_ns + 600 * MS, ends_ns=slot.begins_ns + 900 * MS
            )

    monkeypatch.setattr(punch_tries, "slots_of", shortened)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No test leaves an open file."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    until = now_ns() + SECOND  # a packet socket takes the kernel 15 ms to close
    while len(left := list(Path("/proc/self/fd").iterdir())) > before and now_ns() < until:
        time.sleep(0.01)
    assert len(left) <= before


# --- the peer ---


def test_two_peers_get_a_socket() -> None:
    """An ordinary, blocking one, on which nothing but the user's octets passes."""

    async def test(server: Endpoint) -> None:
        one, other = await _both(server)
        assert isinstance(one, Punched)
        assert isinstance(other, Punched)
        assert (one.won.local, one.won.remote) == (other.won.remote, other.won.local)
        assert one.won.sock.getblocking()
        assert one.timing.began_ns < one.timing.start_ns < one.timing.opened_ns < one.timing.proved_ns
        one.won.sock.sendall(b"word")
        assert other.won.sock.recv(99) == b"word"
        one.won.sock.close()
        assert other.won.sock.recv(99) == b""
        other.won.sock.close()

    asyncio.run(_with_server(test))


@pytest.mark.usefixtures("short")
def test_strangers_who_come_first_are_passed_over() -> None:
    """Where one side listens, others may come: garbage, silence and an early end take nothing from the peer."""
    said = threading.Event()

    async def test(server: Endpoint) -> None:
        port = _free_port()
        strangers = threading.Thread(target=_intrude, args=(port, said))
        strangers.start()
        log = PunchLog()
        opening = asyncio.create_task(_punch(server, "t", findings=NO_NAT))
        await asyncio.sleep(0.2)  # who comes later is side A, which listens
        found = await _punch(server, "t", local_port=port, findings=NO_NAT, log=log)
        peer = await opening
        said.set()
        for one in (found, peer):
            one.won.sock.close()
        strangers.join()
        assert found.slot.step.strategy == peer.slot.step.strategy == "reversal"
        assert any("does not know the room's token" in note.text for note in log.notes)

    asyncio.run(_with_server(test))


def _intrude(port: int, over: threading.Event) -> None:
    held = []
    until = now_ns() + 5 * SECOND
    while not over.is_set() and now_ns() < until:
        for text in (b"GET / HTTP/1.0\r\n\r\n" + bytes(80), b"", None):
            sock = socket.socket()
            try:
                sock.connect(("127.0.0.1", port))
                if text is not None:
                    sock.sendall(text)
                    held.append(sock)
                else:
                    sock.close()
            except OSError:
                sock.close()
        over.wait(0.05)
    for sock in held:
        sock.close()


def test_without_a_server_both_try_at_once() -> None:
    """Each names the other's endpoint; aligned by the clock, and by trying again and again."""
    for at in (None, now_ns() + 300 * MS):
        ports = _free_port(), _free_port()

        async def both(ports: tuple[int, int] = ports, at_ns: int | None = at) -> list[Punched]:
            ends = (ports, ports[::-1])
            return await asyncio.gather(
                *(
                    punch_at(Endpoint("127.0.0.1", far), "t", local_port=near, tries=2, at_ns=at_ns, method="kernel")
                    for near, far in ends
                )
            )

        one, other = asyncio.run(both())
        other.won.sock.sendall(b"word")
        assert one.won.sock.recv(99) == b"word"
        for punched in (one, other):
            punched.won.sock.close()


# --- nobody, and others ---


def test_other_tokens_are_other_rooms() -> None:
    """Two with different tokens never meet; each is told so when its time is over."""

    async def test(server: Endpoint) -> None:
        for error in await _both(server, tokens=("t", "u"), wait_s=0.4):
            assert isinstance(error, RawpunchError)
            assert error.what.startswith("nobody came within 0.4 s")

    asyncio.run(_with_server(test))


@pytest.mark.usefixtures("short")
def test_a_room_alone_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a server brings two together who have different tokens, both close without a word to the user."""
    monkeypatch.setattr(registering, "room_name", lambda _: "0" * 32)

    async def test(server: Endpoint) -> None:
        for error in await _both(server, tokens=("t", "u")):
            assert isinstance(error, NoConnection)
            assert "did not prove to be the peer" in error.why

    asyncio.run(_with_server(test))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("says", "why"), [(b"SSH-2.0-\r\n" + bytes(99), "did not prove"), (b"", "did not prove"), (None, "answered by a RST")]
)
def test_a_server_that_lies_gains_nothing(says: bytes | None, why: str) -> None:
    """It may send us to somebody else: he gets a few SYNs, and is not taken for the peer."""

    async def test() -> None:
        async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if says:
                writer.write(says)
                writer.close()
            held.append(writer)

        held: list[asyncio.StreamWriter] = []
        third = await asyncio.start_server(other, "127.0.0.1", 0)
        victim = Endpoint(*third.sockets[0].getsockname()[:2])
        if says is None:
            third.close()
        log = PunchLog()
        async with asyncio.timeout(20), third, false_server(victim) as server:
            with pytest.raises(NoConnection, match=re.escape(f"no direct connection with the peer at {victim}")) as raised:
                await _punch(server, "t", findings=NO_NAT, log=log)
        for writer in held:  # one says nothing at all until the try is over
            writer.transport.abort()
        assert why in raised.value.why
        assert any(str(victim) in line for line in ladder(log))

    asyncio.run(test())


@pytest.mark.parametrize("ours", ["random", "kept"], ids=["many ports to one", "one port to many"])
@pytest.mark.parametrize(
    ("forged", "why"),
    [(None, "did not agree"), ("guessed", "knows the room's token"), ("t", "no entry for its address")],
    ids=["none", "forged", "not in the policy file"],
)
def test_a_server_that_lies_has_nobody_sprayed(
    forged: str | None, why: str, ours: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It names a victim whose NAT would take a spray: not one packet goes there, and it is said why, at once.

    Not even for a consent that is right: our own owner has to have named the address.
    """
    monkeypatch.setattr(allowance, "is_free", lambda _: False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    mine, theirs = (RANDOM, KEPT) if ours == "random" else (KEPT, RANDOM)

    async def test() -> None:
        came = []
        third = await asyncio.start_server(lambda *_: came.append(1), "127.0.0.1", 0)
        victim = Endpoint(*third.sockets[0].getsockname()[:2])
        consent = Consent.give(key_of(forged), victim.address, 2_048, now_ns() // SECOND) if forged else None
        log = PunchLog()
        async with asyncio.timeout(3), third, false_server(victim, known=theirs, consent=consent) as server:
            with pytest.raises(PolicyRefused, match=r"SYNs to 127\.0\.0\.1 are too many") as raised:
                await _punch(server, "t", findings=mine, log=log)
        assert why in raised.value.why
        assert not came
        assert any(why in note.text for note in log.notes)

    asyncio.run(test())


def test_an_endpoint_that_is_none_is_refused() -> None:
    """A group of hosts is not sent a packet."""

    async def test() -> None:
        async with false_server(Endpoint("224.0.0.1", 5)) as server:
            with pytest.raises(PartialData, match="no endpoint of a peer"):
                await _punch(server, "t", findings=NO_NAT)

    asyncio.run(test())


@pytest.mark.parametrize("dies_at", ["register", "clock", "ready"])
def test_a_server_that_dies_is_named(dies_at: str) -> None:
    """At whatever point it goes, the attempt ends at once and says so."""

    async def test() -> None:
        async with asyncio.timeout(5), false_server(Endpoint("127.0.0.1", 9), dies_at=dies_at, known=RESETTING) as server:
            with pytest.raises(PartialData, match="is gone"):
                await _punch(server, "t", findings=RESETTING)

    asyncio.run(test())


@pytest.mark.parametrize("hangs_at", ["register", "clock", "ready"])
def test_a_server_that_falls_silent_is_named(hangs_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that stays open and says nothing more is not waited for long."""
    monkeypatch.setattr(rendezvous_client, "_LATE_S", 0.2)

    async def test() -> None:
        async with asyncio.timeout(5), false_server(Endpoint("127.0.0.1", 9), hangs_at=hangs_at, known=RESETTING) as server:
            with pytest.raises(PartialData, match="is gone") as raised:
                await _punch(server, "t", findings=RESETTING)
        assert raised.value.why == f"no answer to '{hangs_at}' in time"

    asyncio.run(test())


def test_a_server_that_never_lets_begin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It introduced the two, and they are ready."""
    monkeypatch.setattr(meeting, "_START_WITHIN_S", 0.2)
    silent = patch.object(false_rendezvous, "BEGINS", new=False)

    async def test() -> None:
        async with asyncio.timeout(5), false_server(Endpoint("127.0.0.1", 9), known=RESETTING) as server:
            with pytest.raises(PartialData, match="never said when to begin"):
                await _punch(server, "t", findings=RESETTING)

    with silent:
        asyncio.run(test())


def test_a_server_that_never_introduces_is_named() -> None:
    """It says that somebody is there, and no more."""

    async def test() -> None:
        async with asyncio.timeout(5), false_server(Endpoint("127.0.0.1", 9), introduces=False) as server:
            with pytest.raises(PartialData, match="never introduced us"):
                await _punch(server, "t", findings=NO_NAT, wait_s=0.2)

    asyncio.run(test())


def test_once_both_know_when_to_begin_the_server_is_not_needed() -> None:
    """It dies as soon as the first try begins; the connection comes about all the same."""

    async def test() -> None:
        endpoint = Endpoint("127.0.0.1", _free_port())
        server = RendezvousServer(Site((endpoint.address,), (endpoint.port,)))
        died: list[asyncio.Task[None]] = []

        def saying(text: str) -> None:
            if "try 1 of" in text and not died:
                died.append(asyncio.create_task(server.__aexit__()))

        await server.__aenter__()
        async with asyncio.timeout(20):
            one, other = await asyncio.gather(*(_punch(endpoint, "t", log=PunchLog(say)) for say in (saying, lambda _: None)))
            await died[0]
        assert not server.connections
        one.won.sock.sendall(b"word")
        assert other.won.sock.recv(99) == b"word"
        for punched in (one, other):
            punched.won.sock.close()

    asyncio.run(test())


def test_a_server_that_never_answers_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host takes SYNs and says nothing: a listener whose queue is full."""
    monkeypatch.setattr(RendezvousClient.connect.__func__, "__kwdefaults__", {"local": None, "within_s": 0.3})  # type: ignore[attr-defined]
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        began = now_ns()
        with pytest.raises(PartialData, match="no connection to the rendezvous server"):
            asyncio.run(_punch(Endpoint(*listener.getsockname()), "t"))
        assert now_ns() - began < 3 * SECOND


def test_clocks_are_suspected_where_they_could_be_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who begin by the time of day one comes minutes late: the other is told to look at both clocks."""
    monkeypatch.setattr(punch_tries, "_BLIND_GIVE_UP_NS", 300 * MS)
    with pytest.raises(NoConnection, match="no connection with") as raised:
        asyncio.run(punch_at(Endpoint("127.0.0.1", 9), "t", local_port=_free_port(), tries=1, at_ns=now_ns(), method="kernel"))
    assert "are both clocks right" in raised.value.todo


def test_no_server_no_port_no_sense() -> None:
    """What is wrong before the first packet is said at once."""
    nowhere = Endpoint("127.0.0.1", _free_port())
    with pytest.raises(PartialData, match="no connection to the rendezvous"):
        asyncio.run(_punch(nowhere, "t"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot use local port"):
            asyncio.run(_punch(nowhere, "t", local_port=taken.getsockname()[1]))
    with pytest.raises(BadParameter, match="instant"):
        asyncio.run(punch_at(nowhere, "t", local_port=0, tries=1, at_ns=now_ns() - 600 * SECOND))


# --- what the plan knows ---


@pytest.mark.parametrize(
    ("findings", "why"),
    [
        (RANDOM, r"both ports are drawn.*odds of"),
        (_findings(mapping="endpoint_independent", terminates_tcp="true"), "terminates TCP"),
    ],
)
def test_what_cannot_work_is_not_tried(findings: dict[str, Finding], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two NATs that draw ports, or something that terminates TCP: no SYN is sent; the reason has the odds, if there are any."""

    def outside(plan: Plan, *, inside: bool = False) -> Iterator[Slot]:  # noqa: ARG001  as if behind two NATs
        return slots_of(plan)

    monkeypatch.setattr(punch_tries, "slots_of", outside)

    async def test(server: Endpoint) -> None:
        began = now_ns()
        for error in await _both(server, findings=findings):
            assert isinstance(error, NoConnection)
            assert re.search(why, error.why)
        assert now_ns() - began < 3 * SECOND

    asyncio.run(_with_server(test))
