"""A program that dials again: it counts its tries, ends when patience does, and can be connected to itself."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.live.dialling import Diallers
from rawpunch.units import MS, SECOND

HERE = "127.0.0.1"


@pytest.fixture
def program() -> Iterator[Channel]:
    """One that serves in a thread."""
    mine, its = Channel.pair("the test", "the program")
    thread = threading.Thread(target=Diallers(its).serve)
    thread.start()
    yield mine
    mine.close()
    thread.join(5)
    its.close()
    assert not thread.is_alive()


@pytest.fixture
def port() -> Iterator[tuple[int, int]]:
    """Two free ports at which nobody listens."""
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HERE, 0))
        found = one.getsockname()[1], other.getsockname()[1]
    yield found  # noqa: PT022  they are to be free by now


def _dial(program: Channel, local: int | None, remote: int, **words: Any) -> dict[str, Any]:
    at_ns = now_ns() + MS
    wanted = {"at_ns": at_ns, "until_ns": at_ns + SECOND, "most_tries": 50, "anew": False} | words
    where = {"local": f"{HERE}:{local}" if local else "", "remote": f"{HERE}:{remote}"}
    return program.ask({"dial": wanted | where})


@pytest.mark.parametrize("anew", [False, True])
def test_refused_tries_are_counted(program: Channel, port: tuple[int, int], anew: bool) -> None:
    """As many as there may be; the last one's error is the cause; one socket, or a new one for each, from the same port."""
    told = _dial(program, *port, anew=anew)
    assert (told["tries"], told["ending"]) == (50, Ending.REFUSED.value)
    assert told["cause"].startswith("ECONNREFUSED")
    assert not told["itself"]
    assert told["began_ns"] < told["ended_ns"]


def test_patience_ends(program: Channel, port: tuple[int, int]) -> None:
    """However many tries there may still be."""
    at_ns = now_ns()
    told = _dial(program, *port, at_ns=at_ns, until_ns=at_ns + 20 * MS, most_tries=10**9)
    assert told["ending"] == Ending.REFUSED.value
    assert told["ended_ns"] >= at_ns + 20 * MS


def test_it_stops_when_connected(program: Channel, port: tuple[int, int]) -> None:
    """It holds the connection and tells what the kernel says of it, until it is to close it, by RST."""
    with socket.create_server((HERE, port[1])) as server:
        told = _dial(program, port[0], port[1])
        assert (told["tries"], told["ending"], told["cause"]) == (1, Ending.ESTABLISHED.value, "")
        assert told["local"] == f"{HERE}:{port[0]}"
        accepted, where = server.accept()
        with accepted:
            assert where == (HERE, port[0])
            assert program.ask({"tell": True})["evidence"]["dsack_dups"] == 0
            program.ask({"close": True})
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)
    assert program.ask({"tell": True})["evidence"] == {}


def test_a_port_in_use_is_said(program: Channel, port: tuple[int, int]) -> None:
    """And the program goes on serving."""
    with socket.create_server((HERE, port[0])):
        assert _dial(program, port[0], port[1]) == {"unable": f"EADDRINUSE: {os.strerror(errno.EADDRINUSE)}"}
    assert _dial(program, port[0], port[1])["tries"] == 50


def test_the_beginning_is_said(program: Channel, port: tuple[int, int]) -> None:
    """Before the first try, if that is wanted."""
    first = _dial(program, *port, say_so=True)
    told, _ = program.receive()
    assert first == {"began_ns": told["began_ns"]}
    assert told["tries"] == 50


def test_a_program_dials_itself(program: Channel) -> None:
    """It is given the very port that it dials, sooner or later, and then it is connected to itself."""
    told = _dial(program, None, 40_000, most_tries=200_000, until_ns=now_ns() + 20 * SECOND)
    assert (told["ending"], told["itself"], told["local"]) == (Ending.ESTABLISHED.value, True, f"{HERE}:40000")
    assert told["tries"] > 1
