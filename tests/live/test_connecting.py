"""`rawpunch.connect` before a raw packet leaves: what it refuses, what it would offer, and that nobody pays for it unasked."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

import rawpunch
from rawpunch.errors import BadParameter, MachineCannot, Malformed, UsageError
from rawpunch.live.guard import Guard
from rawpunch.live.handover import Prompter, hand_over
from rawpunch.live.offering import kernels_offer
from rawpunch.live.sockets import route_to
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import LINUX
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment


def test_it_is_loaded_when_it_is_asked_for() -> None:
    """`import rawpunch` loads neither sockets nor scapy; naming `connect` does."""
    program = "import sys, rawpunch; print('rawpunch.live' in sys.modules, 'scapy' in sys.modules, rawpunch.connect.__name__)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False", "connect"]


@pytest.mark.parametrize(
    ("peer", "more", "error"),
    [
        ("198.51.100.2", {}, Malformed),
        ("example.org:80", {}, Malformed),
        (("198.51.100.2", 0), {}, BadParameter),
        ("0.0.0.0:80", {}, BadParameter),
        ("239.1.2.3:80", {}, BadParameter),
        ("255.255.255.255:80", {}, BadParameter),
        ("127.0.0.1:4000", {"method": "magic"}, BadParameter),
        ("127.0.0.1:4000", {"timeout": 0}, BadParameter),
        ("127.0.0.1:4000", {"timeout": float("nan")}, BadParameter),
        ("127.0.0.1:4000", {"timeout": float("inf")}, BadParameter),
        ("127.0.0.1:4000", {"local": 4000}, BadParameter),
        ("127.0.0.1:4000", {"local": ("192.0.2.77", 4000)}, UsageError),
    ],
)
def test_what_makes_no_sense_is_refused(peer: Any, more: dict[str, Any], error: type[Exception]) -> None:
    """Both variants refuse the same, before anything is sent."""
    with pytest.raises(error):
        rawpunch.connect(peer, **more)
    with pytest.raises(error):
        asyncio.run(rawpunch.connect_async(peer, **more))


def test_a_refusal_is_an_ordinary_oserror() -> None:
    """By the kernel, on the loopback, nobody is there: ConnectionRefusedError, and the port is free again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match="ECONNREFUSED"):
        rawpunch.connect(("127.0.0.1", 9), local=("127.0.0.1", port), method="kernel")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))


def test_a_listening_peer_is_connected_to_as_well() -> None:
    """The kernel's way is an ordinary connect: an ordinary listener accepts it, and closing it is orderly, by FIN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with rawpunch.connect(listener.getsockname(), method="kernel") as sock:
            accepted, _ = listener.accept()
            assert sock.gettimeout() is None
            sock.sendall(b"words")
        with accepted:
            assert accepted.recv(9) == b"words"
            assert accepted.recv(9) == b""


def test_we_offer_what_the_kernel_would() -> None:
    """The MSS fits the way's MTU, and the window's shift is the one that the kernel shows in TCP_INFO."""
    source, mtu = route_to(Endpoint("127.0.0.1", 9))
    offer = kernels_offer(mtu)
    assert source == "127.0.0.1"
    assert offer.mss == mtu - 40
    with socket.socket() as listener, socket.socket() as sock:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock.connect(listener.getsockname())
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    assert (offer.window_scale or 0) == raw[6] >> 4
    assert (offer.timestamps, offer.sack) == (bool(raw[5] & 1), bool(raw[5] & 2))


class Untold(Prompter):
    """One who opens no socket."""

    def __init__(self) -> None:
        self.mark = 1
        self.told = set()


def test_only_an_open_connection_is_handed_over() -> None:
    """A handshake that has not begun is refused, and no socket stays."""
    machine = Handshake(Endpoint("127.0.0.1", 4000), Endpoint("127.0.0.1", 4001), iss=1 << 30, profile=LINUX)
    with pytest.raises(UsageError, match="CLOSED"):
        hand_over(machine, Untold(), lambda: None)


def test_a_segment_is_told_once() -> None:
    """It comes back from the loopback to who listens there, and is not told again; a firewall that forbids it raises nothing."""
    sent: list[tuple[bytes, tuple[str, int]]] = []

    class Socket:
        def sendto(self, octets: bytes, where: tuple[str, int]) -> None:
            sent.append((octets, where))
            raise PermissionError

    prompter = Untold()
    prompter._sock = Socket()  # type: ignore[assignment]
    first = Segment(Endpoint("192.0.2.1", 5), Endpoint("127.0.0.1", 6), Flags.ACK, 1, 2, payload=b"x")
    for segment in (first, decode(encode(first)), replace(first, seq=2)):
        assert isinstance(segment, Segment)
        prompter.tell(segment)
    assert [where for _, where in sent] == [("127.0.0.1", 0)] * 2
    assert sent[0][0] == encode(first)


def test_two_shared_guards_do_not_share() -> None:
    """A guard lets connections of ours be on its port, but not another guard."""
    try:
        guard = Guard(Endpoint("127.0.0.1", 0), shared=True)
    except MachineCannot:
        pytest.skip("this process may not mute its kernel")
    with guard, pytest.raises(UsageError, match="in use"):
        Guard(guard.local, shared=True)
