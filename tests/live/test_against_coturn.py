"""Against coturn, a STUN server and client that others wrote: our client asks its server, its client asks our observer.

`./dev` does not install it: Debian's package starts a public server by itself. `.ci/run` does, without that.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawpunch.live.observer import Observer
from rawpunch.live.observer_client import ObserverClient
from rawpunch.live.stun_answer import Cause, Unanswered
from rawpunch.live.stun_client import Port, TcpPort, UdpPort
from rawpunch.probe.site import Site
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import ChangeRequest, MappedAddress, Opaque

ADDRESSES = ("127.0.0.1", "127.0.0.2")
READY_S = 20

server_needed = pytest.mark.tool("turnserver")
client_needed = pytest.mark.tool("turnutils_stunclient")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        for sock in (one, two):
            sock.bind(("0.0.0.0", 0))  # noqa: S104  a port that is free on both addresses
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A coturn on two loopback addresses and two ports, for STUN alone."""
    folder: Path = tmp_path_factory.mktemp("coturn")
    site = Site(ADDRESSES, _free_ports())
    command = ["turnserver", "-n", "--stun-only", "--no-auth", "--no-tls", "--no-dtls", "--no-cli", "--relay-threads", "1"]
    command += [word for address in site.addresses for word in ("--listening-ip", address)]
    command += ["--listening-port", str(site.ports[0]), "--alt-listening-port", str(site.ports[1])]
    command += ["--log-file", "stdout", "--pidfile", str(folder / "pid"), "--userdb", str(folder / "db")]
    log = folder / "log"
    with log.open("w") as written, subprocess.Popen(command, stdout=written, stderr=written, cwd=folder) as process:
        try:
            for endpoint in site.endpoints:
                _wait_for(endpoint, process, log)
            yield site
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(endpoint: Endpoint, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection((endpoint.address, endpoint.port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"turnserver does not listen on {endpoint}:\n{log.read_text()}")
            time.sleep(0.02)
        else:
            return


@server_needed
@pytest.mark.parametrize("kind", [TcpPort, UdpPort])
def test_our_client_asks_the_real_one(kind: type[Port], coturn: Site) -> None:
    """Every endpoint of it sees the one port that we bound before, over both transports, and says who it is."""

    async def test() -> None:
        async with kind(Endpoint("127.0.0.1", 0)) as port:
            first = await port.ask(coturn.endpoints[0])
            assert first.needed_other() == Endpoint(ADDRESSES[1], coturn.ports[1])
            for endpoint in coturn.endpoints:
                answer = await port.ask(endpoint)
                assert answer.mapped == port.local
                assert answer.message.attribute(MappedAddress) == MappedAddress(port.local)
                assert answer.origin == endpoint
                assert answer.software is not None
                assert answer.software.startswith("Coturn")
                assert not [found for found in answer.message.attributes if isinstance(found, Opaque)]

    asyncio.run(test())


@server_needed
def test_the_real_ones_refusal_is_told(coturn: Site) -> None:
    """A connection's answer cannot come from elsewhere: coturn says 400 to such a wish over TCP, in words of its own."""

    async def test() -> None:
        async with TcpPort(Endpoint("127.0.0.1", 0)) as port:
            with pytest.raises(Unanswered) as caught:
                await port.ask(coturn.endpoints[0], ChangeRequest(address=True, port=True))
            assert (caught.value.cause, caught.value.code) == (Cause.ERROR_RESPONSE, 400)
            assert caught.value.what == f"{coturn.endpoints[0]} answered 400 Wrong request: applicable only to UDP protocol"
            assert (await port.ask(coturn.endpoints[0])).mapped == port.local

    asyncio.run(test())


@client_needed
def test_the_real_client_asks_our_observer() -> None:
    """turnutils_stunclient, whose address has proved itself, is told its own endpoint.

    It asks once, in 20 octets: of an address that has proved nothing such a request alone is not answered. Where there is a
    second address it goes on to RESPONSE-PORT, which the observer does not do (420), and waits for ever.
    """

    async def test() -> str:
        site = Site(ADDRESSES[:1], _free_ports())
        async with Observer(site, raw=False), await ObserverClient.connect(site.endpoints[0]) as proving:
            await proving.begin()
            client = await asyncio.create_subprocess_exec(
                "turnutils_stunclient", "-p", str(site.ports[0]), "-L", ADDRESSES[0], ADDRESSES[0], stdout=asyncio.subprocess.PIPE
            )
            try:
                async with asyncio.timeout(20):
                    said, _ = await client.communicate()
            finally:
                if client.returncode is None:
                    client.kill()
                    await client.wait()
            return said.decode()

    assert "UDP reflexive addr: 127.0.0.1:" in asyncio.run(test())
