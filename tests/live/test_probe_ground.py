"""The live driver of a probe: what it numbers, whom it sends to, and that it ends whatever its observer does."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.errors import BadParameter, MachineCannot, PartialData, PolicyRefused
from rawpunch.live import probe_outside
from rawpunch.live.probing import LiveGround
from rawpunch.probe import messages
from rawpunch.probe.ground import NotOffered, Place
from rawpunch.probe.messages import Answer, Craft, Refusal, Refused, Request, SendPacket
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import Flags, IcmpError, Segment
from tests.live.fake_observer import FakeObserver, fake_observer

ELSEWHERE = "198.18.7.7"


class FakeTap:
    """Raw sockets that lead nowhere; a test says what comes."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.sent: list[tuple[bytes, str]] = []
        self.lost = 0
        self.closed = False
        self._came: deque[bytes] = deque()

    def fileno(self) -> int:
        return self._reader

    def send(self, packet: bytes, address: str) -> None:
        if address == "127.0.0.9":
            raise OSError("no way")
        self.sent.append((packet, address))

    def comes(self, packet: bytes) -> None:
        self._came.append(packet)
        os.write(self._writer, b"x")

    def receive(self) -> Iterator[bytes]:
        os.read(self._reader, 65_536)
        while self._came:
            yield self._came.popleft()

    def stamp_ns(self) -> int | None:
        return 77

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._reader)
            os.close(self._writer)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(probe_outside, "PATIENCE_S", 0.4)
    monkeypatch.setattr(probe_outside, "CONNECT_S", 0.4)
    monkeypatch.setattr(probe_outside, "_PAUSE_S", 0.02)
    monkeypatch.setattr(probe_outside, "_POLL_MS", 200)


def _run(
    test: Callable[[LiveGround, FakeObserver, FakeTap], Awaitable[None]],
    *others: str,
    before: Callable[[FakeObserver], None] = lambda _: None,
    insiders: tuple[str, ...] = ("127.0.0.1",),
) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(15), fake_observer("127.0.0.1", *others) as observer:
            before(observer)
            tap = FakeTap()
            try:
                async with LiveGround(observer.endpoint, insiders=insiders, seed=1, tap=tap) as ground:
                    await test(ground, observer, tap)
            finally:
                tap.close()

    asyncio.run(bounded())


def _arrival(number: int, source: Endpoint, here: Endpoint) -> messages.Arrival:
    octets = encode(Segment(source, here, Flags.SYN, 5))
    return messages.Arrival(number=number, at_ns=1_000 + number, octets=octets.hex())


# --- packets and their numbers ---


def test_every_packet_has_the_number_that_it_has_in_the_capture(tmp_path: Path) -> None:
    """Sent, crafted there, come there, come here: one count over both interfaces, in the file as in what was handed back."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        here = ground.reserve()
        held = await ground.hold()
        sent = await ground.send(Segment(here, held, Flags.SYN, 9, ttl=33))
        mapped = Endpoint("127.0.0.1", 555)
        observer.arrivals.append(_arrival(0, mapped, held))
        await ground.settle()
        (came,) = ground.seen(Place.OBSERVER, held)
        crafted = await ground.craft(SendPacket(kind=Craft.SYN_ACK, source=held, to=mapped, seq=3, ack=10))
        tap.comes(encode(Segment(held, here, Flags.SYN | Flags.ACK, 3, 10)))
        assert await ground.until(lambda: bool(ground.seen(Place.INSIDE, here)), ground.now() + SECOND)
        (back,) = ground.seen(Place.INSIDE, here)
        assert [seen.number for seen in (sent, came, crafted, back)] == [1, 2, 3, 4]
        assert [seen.outgoing for seen in (sent, came, crafted, back)] == [True, False, True, False]
        assert (came.at_ns, crafted.at_ns, back.at_ns) == (1_000, 1, 77)
        frame = read_capture(ground.write(tmp_path / "probe.pcapng"))
        assert list(frame.number) == [1, 2, 3, 4]
        assert list(frame.interface) == ["inside", "observer", "observer", "inside"]
        assert list(frame.kind) == ["SYN", "SYN", "SYN-ACK", "SYN-ACK"]
        assert frame.ttl[0] == 33

    _run(test)


def test_what_a_crafted_packet_causes_has_a_higher_number() -> None:
    """Its number is taken when it is asked for: the answer may be here before the observer's word is."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        here, held = ground.reserve(), await ground.hold()

        def quicker(request: Request) -> Answer | None:
            if isinstance(request, SendPacket):
                tap.comes(encode(Segment(held, here, Flags.SYN, 3)))
            return None

        observer.handler = quicker
        crafted = await ground.craft(SendPacket(kind=Craft.SYN, source=held, to=Endpoint("127.0.0.1", 5)))
        await ground.until(lambda: bool(ground.seen(Place.INSIDE, here)), ground.now() + SECOND)
        assert ground.seen(Place.INSIDE, here, after=crafted.number)

    _run(test)


def test_a_packet_that_was_not_crafted_leaves_an_empty_place(tmp_path: Path) -> None:
    """The numbers of the others stay what they were."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        here, held = ground.reserve(), await ground.hold()
        observer.handler = lambda request: Refused(word=Refusal.NOT_YOURS) if isinstance(request, SendPacket) else None
        with pytest.raises(NotOffered, match="not_yours"):
            await ground.craft(SendPacket(kind=Craft.SYN, source=held, to=Endpoint("127.0.0.1", 5)))
        assert (await ground.send(Segment(here, held, Flags.SYN, 9))).number == 2
        assert list(read_capture(ground.write(tmp_path / "probe.pcapng")).number) == [2]

    _run(test)


def test_only_what_is_for_a_reserved_port_is_seen_here() -> None:
    """Segments to it and ICMP errors that quote it; neither other ports, nor what comes after it was given back, nor garbage."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del observer
        here, other, there = ground.reserve(), ground.reserve(), Endpoint("127.0.0.1", 9)
        ground.release(other)
        quoted = encode(Segment(here, there, Flags.SYN, 1))
        error = IcmpError("127.0.0.1", here.address, 3, 1, Flow(here, there), 1)
        for octets in (
            b"",
            b"E" * 30,
            encode(Segment(there, other, Flags.SYN, 1)),
            encode(Segment(there, Endpoint(here.address, 1), Flags.SYN, 1)),
            encode_icmp_error(error, quoted),
        ):
            tap.comes(octets)
        assert await ground.until(lambda: bool(ground.seen(Place.INSIDE, here)), ground.now() + SECOND)
        assert [seen.packet.kind for seen in ground.seen(Place.INSIDE, here)] == ["ICMP 3/1"]
        assert not ground.seen(Place.INSIDE, other)

    _run(test)


# --- ports ---


def test_a_reserved_port_is_reserved_once() -> None:
    """Nobody else gets it meanwhile, and this probe never again; parity is as wished."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del observer, tap
        even, odd = ground.reserve(parity=0), ground.reserve(parity=1)
        assert (even.port % 2, odd.port % 2) == (0, 1)
        ground.release(even)
        with pytest.raises(BadParameter, match="before"):
            ground.reserve(port=even.port)
        second = ground.reserve(1, port=odd.port)
        assert (second.address, second.port) == ("127.0.0.3", odd.port)
        with pytest.raises(BadParameter, match="not to be had"):
            ground.reserve(port=ground.outside.ports[0])

    _run(test, insiders=("127.0.0.1", "127.0.0.3"))


def test_an_address_that_is_not_ours_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(BadParameter, match=ELSEWHERE):
        _run(lambda *_: asyncio.sleep(0), insiders=("127.0.0.1", ELSEWHERE))


# --- whom it sends to ---


def test_packets_go_to_nobody_who_did_not_answer() -> None:
    """An observer may name any address; only one that knows this connection's nonce gets packets."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        assert ground.outside.addresses == ("127.0.0.1",)
        here = ground.reserve()
        with pytest.raises(PolicyRefused, match=ELSEWHERE):
            await ground.send(Segment(here, Endpoint("198.18.7.7", 80), Flags.SYN, 1))
        with pytest.raises(PolicyRefused):
            await ground.send(Segment(here, Endpoint("127.0.0.2", 80), Flags.SYN, 1))
        assert tap.sent == []
        with pytest.raises(NotOffered, match="no_such_address"):
            await ground.hold(1)
        assert observer.asked(messages.Hold) == 0

    def lies(observer: FakeObserver) -> None:
        observer.addresses = ["127.0.0.1", "127.0.0.2"]  # where nobody listens

    _run(test, before=lies)


def test_a_second_address_that_answers_counts() -> None:
    """Whichever of them was asked first: it is ours to number them, the observer's index is its own."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        assert ground.outside.addresses == ("127.0.0.1", "127.0.0.2")
        assert (await ground.hold(1)).address == "127.0.0.2"
        here = ground.reserve()
        await ground.send(Segment(here, Endpoint("127.0.0.2", 80), Flags.SYN, 1))
        assert [address for _, address in tap.sent] == ["127.0.0.2"]
        assert observer.connections == 2

    _run(test, "127.0.0.2", before=lambda observer: observer.addresses.reverse())


def test_packets_have_a_pace() -> None:
    """In a second no more than allowed leave, after a burst."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        here, there = ground.reserve(), Endpoint("127.0.0.1", observer.endpoint.port)
        began = time.monotonic()
        for _ in range(600):
            await ground.send(Segment(here, there, Flags.SYN, 1))
        assert len(tap.sent) == 600
        assert time.monotonic() - began >= 0.09

    _run(test)


def test_a_packet_without_a_way_is_lost() -> None:
    """The kernel's refusal is counted, and no error to the plan."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del observer
        await ground.send(Segment(ground.reserve(), Endpoint("127.0.0.9", 80), Flags.SYN, 1))
        assert ground.lost["not sent"] == 1
        assert tap.sent == []

    _run(test, "127.0.0.9")


# --- the observer's moods ---


def test_too_fast_is_waited_out() -> None:
    """The plan does not notice."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        refusals = iter([30, 30])

        def slow_down(request: Request) -> Answer | None:
            if isinstance(request, messages.Hold) and (wait := next(refusals, None)):
                return Refused(word=Refusal.TOO_FAST, retry_ms=wait)
            return None

        observer.handler = slow_down
        began = time.monotonic()
        assert await ground.hold()
        assert time.monotonic() - began >= 0.06
        assert observer.asked(messages.Hold) == 3

    _run(test)


def test_a_broken_connection_is_made_anew_and_joins_the_session() -> None:
    """Twice; the plan does not notice."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        for _ in range(2):
            observer.cut()
            assert await ground.hold()
        joined = [request.session for request in observer.requests if isinstance(request, messages.Prove)]
        assert joined[0] == ""
        assert set(joined[1:]) == {"s"}

    _run(test)


def test_a_connection_is_renewed_under_requests() -> None:
    """What was asked over the old one is asked again over the new one; the session goes on."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        held = asyncio.Event()

        def slow(request: Request) -> Answer | None:
            if isinstance(request, messages.Hold):
                held.set()
            return None

        observer.handler = slow
        observer.silent = True
        asked = asyncio.create_task(ground.hold())
        await held.wait()
        observer.silent = False
        await ground.renew()
        assert await asked
        assert observer.connections == 2
        assert observer.asked(messages.Hold) == 2

    _run(test)


def test_the_old_connection_stays_where_no_new_one_comes_about() -> None:
    """A full table may refuse it."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        observer.handler = lambda request: Refused(word=Refusal.TOO_MANY) if isinstance(request, messages.Prove) else None
        await ground.renew()
        assert await ground.hold()
        if observer.server is not None:
            observer.server.close()
        await ground.renew()
        assert await ground.hold()

    _run(test)


def test_a_beginning_that_breaks_is_begun_again() -> None:
    """Where packets get lost an answer may be too late; the next connection is another chance."""
    late = iter([True])

    def begins_badly(observer: FakeObserver) -> None:
        def cut(request: Request) -> Answer | None:
            if isinstance(request, messages.Hello) and next(late, False):
                observer.cut()
            return None

        observer.handler = cut

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        assert await ground.hold()
        assert observer.connections == 2

    _run(test, before=begins_badly)


@pytest.mark.parametrize("way", ["dies", "falls silent"])
def test_an_observer_that_is_gone_is_called_so_in_time(way: str) -> None:
    """Requests, waits and `settle` all end with it, at once where one has found out; and nothing hangs."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        here = ground.reserve()
        if way == "dies":
            observer.die()
        else:
            observer.silent = True
        with pytest.raises(PartialData, match="gone"):
            await ground.until(lambda: bool(ground.seen(Place.INSIDE, here)), ground.now() + 12 * SECOND)
        began = time.monotonic()
        for ask in (ground.settle, ground.hold, ground.prove):
            with pytest.raises(PartialData, match="gone"):
                await ask()
        assert time.monotonic() - began < 1

    _run(test)


def test_what_is_there_is_seen_though_the_observer_is_gone() -> None:
    """A condition that holds already holds."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        observer.die()
        with pytest.raises(PartialData):
            await ground.settle()
        assert await ground.until(lambda: True, 0)

    _run(test)


def test_an_observer_that_forgot_the_session_is_gone() -> None:
    """Held ports went with it: to begin a new one would mean other ports."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        observer.handler = lambda request: Refused(word=Refusal.NO_SESSION) if isinstance(request, messages.Prove) else None
        observer.cut()
        with pytest.raises(PartialData, match="forgotten"):
            await ground.hold()

    _run(test)


@pytest.mark.parametrize("word", [Refusal.WRONG_NONCE, Refusal.TOO_MANY])
def test_an_observer_that_refuses_the_session_is_named(word: Refusal) -> None:
    """With its word."""

    def refuses(observer: FakeObserver) -> None:
        observer.handler = lambda request: Refused(word=word, why="so") if isinstance(request, messages.Prove) else None

    with pytest.raises(PartialData, match=word.value):
        _run(lambda *_: asyncio.sleep(0), before=refuses)


def test_an_observer_behind_a_nat_is_named() -> None:
    """Its packets would come from another address than its answers."""

    def elsewhere(observer: FakeObserver) -> None:
        observer.here = "10.9.9.9"

    with pytest.raises(MachineCannot, match=r"takes itself for 10\.9\.9\.9"):
        _run(lambda *_: asyncio.sleep(0), before=elsewhere)


def test_an_observer_that_is_not_there_is_named() -> None:
    """Nobody listens at the port."""

    async def absent() -> None:
        async with fake_observer() as observer:
            endpoint = observer.endpoint
        with pytest.raises(PartialData, match=str(endpoint.port)):
            async with LiveGround(endpoint, insiders=("127.0.0.1",), tap=FakeTap()):
                pass

    asyncio.run(asyncio.wait_for(absent(), 10))


def test_a_connection_that_does_not_come_about_proves_nothing() -> None:
    """The observer is asked whether it is there at all; if so, there is no endpoint to tell."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        found = await ground.prove()
        assert found is not None
        assert found.address == "127.0.0.1"
        observer.handler = lambda request: Refused(word=Refusal.TOO_MANY) if isinstance(request, messages.Prove) else None
        assert await ground.prove() is None

    _run(test)


def test_without_raw_sockets_there_is_nothing_to_settle() -> None:
    """Arrivals are not asked for; the rest works."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del tap
        assert not ground.outside.raw
        await ground.settle()
        answer = await ground.connect_back(Endpoint("127.0.0.1", 5), wait_ns=20 * MS)
        assert answer.outcome is messages.Outcome.SILENT
        assert observer.asked(messages.Arrivals) == 0

    def without(observer: FakeObserver) -> None:
        observer.raw = False

    _run(test, before=without)


def test_plans_run_together_and_fail_together() -> None:
    """Results in order; the first error ends the others."""

    async def test(ground: LiveGround, observer: FakeObserver, tap: FakeTap) -> None:
        del observer, tap

        async def after(ns: int, value: int) -> int:
            await ground.sleep(ns)
            return value

        async def fails() -> None:
            raise NotOffered(Refusal.NO_RAW)

        assert await ground.together(after(3 * MS, 1), after(MS, 2)) == [1, 2]
        began = time.monotonic()
        with pytest.raises(NotOffered):
            await ground.together(after(60 * SECOND, 1), fails())
        assert time.monotonic() - began < 5

    _run(test)
