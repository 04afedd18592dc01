"""Nobody gets a crafted packet who has not consented in writing and in deed, and nobody more of them than agreed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rawpunch.errors import BadParameter, MachineCannot, PolicyRefused, Unreadable
from rawpunch.live.confines import is_free
from rawpunch.live.observer import Observer
from rawpunch.live.policy import CappedPort, Entry, check_consent, check_rate, entry_for, read_policy
from rawpunch.live.replay_alone import check_target, play_alone
from rawpunch.probe.site import Site
from rawpunch.record.pattern import tell
from rawpunch.record.words import Pattern
from rawpunch.replay.part import Part
from rawpunch.replay.script import script_of
from rawpunch.wire.endpoint import Endpoint
from tests.replay.stage import opened

WHOLE = """
[[target]]
address = "10.9.8.7"
ports = [443, "8000-8100"]
consent = "its owner, by letter of 2026-03-01"
expires = 2026-12-31
packets_per_s = 20

[[target]]
address = "10.9.8.7"
ports = ["22"]
consent = "its owner, by letter of 2025-03-01"
expires = 2026-01-01T12:00:00
"""
SOON = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)


def policy(folder: Path, text: str) -> Path:
    """A policy file."""
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def entry(**other: object) -> Entry:
    """An entry for the loopback."""
    given = {"address": "127.0.0.1", "ports": [1], "consent": "ourselves, now", "expires": datetime(2999, 1, 1, tzinfo=UTC)}
    return Entry.model_validate(given | other)


@contextmanager
def observing(port: int) -> Iterator[None]:
    """An observer on the loopback, in a thread of its own."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with Observer(Site(("127.0.0.1",), (port,)), raw=False):
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    try:
        yield
    finally:
        over.set()
        thread.join()


def hang_up(server: socket.socket) -> None:
    """Take one connection and close it."""
    server.accept()[0].close()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_what_an_entry_allows(tmp_path: Path) -> None:
    """Its ports, through its last day, with its rate."""
    entries = read_policy(policy(tmp_path, WHOLE))
    for port in (443, 8000, 8100):
        assert entry_for(Endpoint("10.9.8.7", port), entries, at=SOON).packets_per_s == 20


@pytest.mark.parametrize(
    ("target", "at", "why"),
    [
        ("10.9.8.6:443", SOON, "no entry for its address"),
        ("10.9.8.7:444", SOON, "allows its ports 443, 8000-8100, 22 only"),
        ("10.9.8.7:443", datetime(2027, 1, 1, tzinfo=UTC), "expired at 2027-01-01T00:00:00+00:00"),
        ("10.9.8.7:22", SOON, "expired at 2026-01-01T12:00:00+00:00"),
    ],
)
def test_what_it_does_not(tmp_path: Path, target: str, at: datetime, why: str) -> None:
    """Other addresses, other ports, later times; the refusal says which."""
    entries = read_policy(policy(tmp_path, WHOLE))
    with pytest.raises(PolicyRefused) as refused:
        entry_for(Endpoint.parse(target), entries, at=at)
    assert why in refused.value.why
    assert refused.value.todo


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("443", "0", "target.0.ports.0"),
        ('"8000-8100"', '"8100-8000"', "neither a port"),
        ("443", "true", "neither a port"),
        ('"10.9.8.7"', '"example.org"', "target.0.address"),
        ("consent", "content", "consent"),
        ('"its owner, by letter of 2026-03-01"', '"yes"', "consent"),
        ("2026-12-31", '"for ever"', "expires"),
        ("20\n", "1001\n", "packets_per_s"),
        ("[[target]]", "[[target", "line 2"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, old: str, new: str, why: str) -> None:
    """Whatever is wrong in it, nothing of it holds, and the place is named."""
    with pytest.raises(Unreadable) as unreadable:
        read_policy(policy(tmp_path, WHOLE.replace(old, new, 1)))
    assert why in unreadable.value.why


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was named has to be there; without the usual one only loopback and lab are open."""
    target = Endpoint("10.9.8.7", 443)
    with pytest.raises(Unreadable):
        check_target(target, tmp_path / "none")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(PolicyRefused, match="neither the loopback nor in the lab"):
        check_target(target)
    (tmp_path / "rawpunch").mkdir()
    policy(tmp_path / "rawpunch", WHOLE.replace("2026-12-31", "2999-12-31"))
    found = check_target(target)
    assert found is not None
    assert found.ports == ((443, 443), (8000, 8100))
    assert check_target(Endpoint("127.0.0.1", 9)) is None
    with pytest.raises(PolicyRefused, match="neither the loopback nor in the lab"):
        check_target(Endpoint("198.18.1.2", 9))
    with pytest.raises(BadParameter, match="no port"):
        check_target(Endpoint("127.0.0.1", 0))
    assert not is_free(Endpoint("198.18.1.2", 9))


def test_a_script_that_is_too_fast() -> None:
    """A side that would send more in a second than the entry allows is refused before anything is sent."""
    part = Part(script_of("x", opened(offset_ns=None)).a)
    check_rate(entry(packets_per_s=2), part)
    with pytest.raises(PolicyRefused, match="sends 2 packets in a second"):
        check_rate(entry(packets_per_s=1), part)


def test_consent_in_deed() -> None:
    """An observer at the target's address is asked; silence, and one that speaks something else, are no consent."""
    port = free_port()
    with pytest.raises(PolicyRefused, match="nobody at"):
        check_consent(entry(observer=port))
    with observing(port):
        check_consent(entry(observer=port))
    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        with pytest.raises(PolicyRefused, match="nobody at"):
            check_consent(entry(observer=port))
        thread.join()


@pytest.mark.lab
def test_the_cap() -> None:
    """The port itself sends nothing to others, and stops at its rate."""
    try:
        port = CappedPort(Endpoint("127.0.0.1", 9), 3)
    except MachineCannot as error:
        pytest.skip(error.why)
    try:
        packet = bytes.fromhex("4500001400000000400600007f0000017f000001")
        with pytest.raises(PolicyRefused, match="was to go to"):
            port.send(packet, "127.0.0.2")
        for _ in range(3):
            port.send(packet, "127.0.0.1")
        with pytest.raises(PolicyRefused, match="more than 3 packets a second"):
            port.send(packet, "127.0.0.1")
    finally:
        port.close()


@pytest.mark.lab
def test_a_replay_under_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that is nobody's own is played against when it has an entry and cooperates, and not before."""
    monkeypatch.setattr("rawpunch.live.replay_alone.is_free", lambda _: False)
    part = Part(script_of("x", opened(offset_ns=None)).a)
    consenting = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Endpoint("127.0.0.1", server.getsockname()[1])
        path = policy(
            tmp_path,
            f'[[target]]\naddress = "127.0.0.1"\nports = [{target.port}]\nconsent = "ourselves, now"\n'
            f"expires = 2999-01-01\nobserver = {consenting}\n",
        )
        with pytest.raises(PolicyRefused, match="nobody at"):
            play_alone(part, target, local_port=free_port(), iss=1 << 29, policy=path)
        with observing(consenting):
            player, cause = play_alone(part, target, local_port=free_port(), iss=1 << 29, policy=path)
    assert cause == ""
    assert tell([player.view()]).pattern == Pattern.THREE_WAY
