"""`rawpunch stun` on the loopback: what it prints, holds and refuses."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from rawpunch.cli import app
from rawpunch.wire import stun
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import Kind, Message, OtherAddress, Software, XorMappedAddress

HOST = "127.0.0.1"
RAWPUNCH = [sys.executable, "-m", "rawpunch.cli.app"]
TRANSLATED = Endpoint("192.0.2.9", 9)


class Server(threading.Thread):
    """Answers over UDP, with the endpoint that it sees or with one that it is given."""

    def __init__(self, other: Endpoint | None = None, mapped: Endpoint | None = None) -> None:
        super().__init__()
        self.sock = socket.socket(type=socket.SOCK_DGRAM)
        self.sock.bind((HOST, 0))
        self.here = Endpoint(*self.sock.getsockname())
        self.other = other
        self.mapped = mapped
        self.asked = 0

    def run(self) -> None:
        while True:
            octets, address = self.sock.recvfrom(2_048)
            if not octets:
                return
            self.asked += 1
            told = (XorMappedAddress(self.mapped or Endpoint(*address)), Software("test \x1b[2J"))
            rest = (OtherAddress(self.other),) if self.other else ()
            answer = Message(Kind.SUCCESS, stun.decode(octets).transaction, (*told, *rest))
            self.sock.sendto(stun.encode(answer), address)

    def end(self) -> None:
        """Stop."""
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.here.address, self.here.port))
        self.join()
        self.sock.close()


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """One that names the other; the other sees another endpoint."""
    second = Server(mapped=TRANSLATED)
    first = Server(other=second.here)
    for server in (first, second):
        server.start()
    yield first, second
    for server in (first, second):
        server.end()


def test_it_prints_what_was_found(servers: tuple[Server, Server], capsys: pytest.CaptureFixture[str]) -> None:
    """Text tells the mapped and local endpoint, how long it took and what the server is, without its control characters."""
    first, second = servers
    assert app.main(["stun", str(first.here), "--udp"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace(" endpoint", "_endpoint").splitlines())
    assert said["mapped_endpoint"] == f"{said['local_endpoint']} (the local one: no NAT translates it)"
    assert said["server"] == f"{first.here} over UDP"
    assert said["software"] == "test ?[2J"
    assert said["other"].endswith(str(second.here))
    assert second.asked == 0


def test_json_is_one_document(servers: tuple[Server, Server], capsys: pytest.CaptureFixture[str]) -> None:
    """`--json --other` tells both answers about the one port; a NAT that maps by destination shows."""
    first, second = servers
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    assert app.main(["stun", str(first.here), "--udp", "--other", "--json", "--local-port", str(port)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "rawpunch.stun/1"
    assert told["mapped"] == told["local"] == told["second"]["local"] == f"{HOST}:{port}"
    assert (told["second"]["mapped"], told["second"]["server"]) == (str(TRANSLATED), str(second.here))
    assert told["requests"] == 1
    assert told["rtt_ns"] > 0


def test_a_mapping_that_depends_on_the_destination_is_told(
    servers: tuple[Server, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, too."""
    assert app.main(["stun", str(servers[0].here), "--udp", "--other"]) == 0
    assert f"{TRANSLATED} (another one: the mapping depends on the destination)" in capsys.readouterr().out
    assert app.main(["stun", str(servers[1].here), "--udp"]) == 0
    said = capsys.readouterr().out
    assert f"mapped endpoint    {TRANSLATED} (a NAT translates it, and changes the port)" in said
    assert "other address      none" in said


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["127.0.0.1:0"], 2, "is no endpoint"),
        (["127.0.0.1:65536"], 2, "is no endpoint"),
        (["127.0.0.1:port"], 2, "is no endpoint"),
        (["2001:db8::1:3478x"], 2, "is no endpoint"),
        ([""], 2, "is no endpoint"),
        (["a..b"], 2, "is no name"),
        (["127.0.0.1:{nobody}"], 5, "refused"),
        (["stun:127.0.0.1:{nobody}", "--udp"], 5, "refused"),
        (["{first}", "--local-port", "{taken}", "--udp"], 2, "cannot bind"),
        (["{second}", "--other", "--udp"], 5, "names no other address"),
        (["{first}", "--wait", "0"], 2, "--wait"),
    ],
)
def test_what_cannot_be_asked_is_told(
    words: list[str], code: int, told: str, servers: tuple[Server, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no server, and a server that gives no answer, are sentences with an exit code; nothing goes to stdout."""
    with socket.socket() as nobody, socket.socket(type=socket.SOCK_DGRAM) as silent:
        nobody.bind((HOST, 0))
        silent.bind((HOST, 0))
        with socket.socket(type=socket.SOCK_DGRAM) as free:
            free.bind((HOST, 0))
            closed = free.getsockname()[1] if "--udp" in words else nobody.getsockname()[1]
        places = {"nobody": closed, "taken": silent.getsockname()[1], "first": servers[0].here, "second": servers[1].here}
        assert app.main(["stun", *(word.format(**places) for word in words)]) == code
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [(socket.EAI_NONAME, 2, "'stun.invalid' has no address"), (socket.EAI_AGAIN, 3, "cannot look up 'stun.invalid' now")],
)
def test_a_name_without_an_address_is_told(
    error: int, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong name is the user's to mend, a resolver that does not answer is the machine's."""

    def no_address(*_: object, **__: object) -> None:
        raise socket.gaierror(error, "as the resolver says")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    assert app.main(["stun", "stun:stun.invalid:3478"]) == code
    said = capsys.readouterr().err
    assert told in said
    assert "as the resolver says" in said


def test_a_names_addresses_are_tried_in_turn(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the first address refuses, the next one is asked."""
    port = servers[0].here.port
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (address, port)) for address in ("127.0.0.3", HOST)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert app.main(["stun", f"stun.invalid:{port}", "--udp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["server"] == str(servers[0].here)


def test_hold_keeps_the_port_until_ctrl_c(servers: tuple[Server, Server]) -> None:
    """With --hold the answer comes at once, the port stays bound, and Ctrl-C is a good end."""
    command = [*RAWPUNCH, "stun", str(servers[0].here), "--udp", "--hold", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        local = Endpoint.parse(json.loads(process.stdout.readline())["local"])
        with socket.socket(type=socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
            other.bind((local.address, local.port))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert said.strip() == f"the mapping of {local} is kept; Ctrl-C ends it"
