"""HOST and HOST:PORT as users write them, for all commands."""

from __future__ import annotations

import pytest

from rawpunch.cli.hosts import resolved
from rawpunch.errors import BadParameter
from rawpunch.wire.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "port", "endpoint"),
    [
        ("127.0.0.1", 80, ("127.0.0.1", 80)),
        ("127.0.0.1:81", 80, ("127.0.0.1", 81)),
        ("127.0.0.1:81", None, ("127.0.0.1", 81)),
        ("::1", 80, ("::1", 80)),
        ("[::1]", 80, ("::1", 80)),
        ("[::1]:81", None, ("::1", 81)),
    ],
)
def test_addresses_need_no_lookup(text: str, port: int | None, endpoint: tuple[str, int]) -> None:
    """An address is its own; the port in the text comes before the usual one."""
    assert resolved(text, port) == [Endpoint(*endpoint)]


@pytest.mark.parametrize("text", ["", ":80", "a:b:c", "host:0", "host:65536", "host:http", "[::1", "::1:80x", "host:"])
def test_what_is_no_endpoint(text: str) -> None:
    """The message says how to write one."""
    with pytest.raises(BadParameter, match=r"no endpoint") as raised:
        resolved(text, 80)
    assert "HOST:PORT" in (raised.value.todo or "")


def test_a_port_may_be_asked_for() -> None:
    """Where there is no usual port, the text has to have one, an IPv6 address too."""
    for text in ("127.0.0.1", "::1", "host"):
        with pytest.raises(BadParameter, match="no endpoint"):
            resolved(text, None)


def test_ipv4_only() -> None:
    """An IPv6 address is of no use to who asks for IPv4."""
    with pytest.raises(BadParameter, match="no IPv4 address"):
        resolved("::1", 80, ipv4=True)
