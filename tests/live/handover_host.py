"""What the handover's tests have done in a host of the lab: a worker that carries out one errand after the other."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from rawpunch.channel import Channel
from rawpunch.clock import now_ns, sleep_until
from rawpunch.errors import Malformed, RawpunchError
from rawpunch.live import repair
from rawpunch.live.connecting import open_connection, open_connection_async
from rawpunch.live.guard import Guard
from rawpunch.live.opening import Opened
from rawpunch.live.packet_filter import one_flow
from rawpunch.live.rendezvous_client import RendezvousClient
from rawpunch.live.repair import end_repair
from rawpunch.live.sockets import RawPort
from rawpunch.punch.rendezvous import (
    Account,
    Accounted,
    Go,
    Introduce,
    Introduced,
    Introducing,
    Joined,
    Register,
    Registered,
    Start,
    room_name,
)
from rawpunch.units import MS, US
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import Flags, Segment
from tests.live.lacking import CAP_NET_ADMIN, CAP_NET_RAW, drop_capability

Found = dict[str, Any]
T = TypeVar("T")


class Host:
    """The worker's errands, by name."""

    def __init__(self) -> None:
        self.opened: dict[int, Opened] = {}
        self.descriptors = 0

    # --- connecting ---

    def connect(
        self,
        peer: str,
        local: str,
        method: Any,
        at: int | None = None,
        timeout: float = 5.0,
        deaf_ms: int = 0,
        say: str = "",
    ) -> Found:
        """Connect; what is raised comes back by name.

        With `deaf_ms` the handover takes that much longer than it would; `say` is sent at once.
        """
        began_ns = now_ns()

        def late(sock: socket.socket) -> None:
            time.sleep(deaf_ms / 1000)
            end_repair(sock)

        try:
            with patch.object(repair, "end_repair", late):
                opened = open_connection(peer, local=local, method=method, timeout=timeout, at=at)
            opened.sock.sendall(say.encode())
        except (OSError, RawpunchError) as error:
            return {
                "raised": type(error).__name__,
                "errno": getattr(error, "errno", None),
                "text": str(error),
                "took_ns": now_ns() - began_ns,
            }
        self.opened[opened.local.port] = opened
        return {"method": opened.method, "why": opened.why, "took_ns": now_ns() - (at or began_ns)}

    def exchange(self, port: int, count: int) -> Found:
        """Send that many octets and read as many, at once; returns the digests of both."""
        sock = self.opened[port].sock
        sock.settimeout(10)
        text = os.urandom(count)
        sender = threading.Thread(target=sock.sendall, args=(text,))
        sender.start()
        came = read(sock, count)
        sender.join()
        return {"sent": hashlib.sha256(text).hexdigest(), "came": hashlib.sha256(came).hexdigest(), "count": len(came)}

    def read(self, port: int, count: int) -> Found:
        """Read that many octets; fewer if it ends or fails before."""
        sock = self.opened[port].sock
        sock.settimeout(2)
        try:
            came = read(sock, count)
        except OSError as error:
            return {"raised": type(error).__name__}
        return {"came": came.hex()}

    def push(self, port: int, count: int) -> Found:
        """Send that many octets; returns when it began."""
        text = bytes(count)
        began_ns = now_ns()
        self.opened[port].sock.sendall(text)
        return {"began_ns": began_ns}

    def pull(self, port: int, count: int) -> Found:
        """Read that many octets; returns when the last one was read."""
        came = len(read(self.opened[port].sock, count))
        return {"ended_ns": now_ns(), "count": came}

    def info(self, port: int) -> Found:
        """What TCP_INFO says of options and retransmissions."""
        raw = self.opened[port].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
        return {
            "state": raw[0],
            "timestamps": bool(raw[5] & 1),
            "sack": bool(raw[5] & 2),
            "scaling": bool(raw[5] & 4),
            "send_shift": raw[6] & 15,
            "receive_shift": raw[6] >> 4,
            "send_mss": struct.unpack_from("I", raw, 16)[0],
            "retransmissions": struct.unpack_from("I", raw, 100)[0],
        }

    def close(self, port: int) -> Found:
        """Close in order; whether FIN and FIN have passed is the other one's to see."""
        self.opened.pop(port).sock.close()
        return {}

    def meet(self, server: str, local: str, method: Any, clock: bool, first: bool) -> Found:
        """Meet the other at a rendezvous server, and connect from the same port when the server says so.

        Args:
            server: where it listens.
            local: our endpoint, for the server and for the peer.
            method: as `connect` has it.
            clock: whether to measure the server's clock, so that an instant can be agreed.
            first: whether to wait for the other, and ask for the introduction.
        """

        async def met() -> tuple[Opened, Found]:
            own = Endpoint.parse(local)
            async with await RendezvousClient.connect(Endpoint.parse(server), local=own) as client:
                registered = await client.ask(Register(room=room_name("lab"), inside=own), Registered)
                if clock:
                    await client.measure_clock()
                if first:
                    other = registered.peers[0] if registered.peers else (await told(client, Joined)).peer
                    await client.ask(Introduce(to=other.number), Introducing)
                introduced = await told(client, Introduced)
                await client.ready(introduced.pair, tolerance_ns=5 * MS)
                word, came_ns = await client.news(3)
                assert isinstance(word, Start | Go)
                assert clock == isinstance(word, Start)
                at_ns = came_ns
                if isinstance(word, Start) and client.offset is not None:
                    at_ns = client.offset.to_own(word.at_ns)
                opened = await open_connection_async(introduced.peer.endpoint, local=own, method=method, timeout=3, at=at_ns)
                account = await client.ask(Account(), Accounted)
            found = {
                "you": str(registered.you),
                "at_ns": at_ns,
                "error_ns": word.error_ns,
                "carried": account.came + account.went,
            }
            return opened, found

        opened, found = asyncio.run(met())
        opened.sock.setblocking(True)
        self.opened[opened.local.port] = opened
        return found | {"method": opened.method}

    # --- peers that are no kernel ---

    def crossing_then(self, peer: str, local: str, what: str, at: int) -> Found:
        """Be a raw peer whose SYN-ACK is followed at once by what no kernel would send so early (`data`, `rst`).

        Or one that sends no SYN-ACK, so that its first ACK opens the connection and brings text, with a FIN or without
        (`text`, `text and fin`).
        """
        here, there = Endpoint.parse(local), Endpoint.parse(peer)
        with Guard(here), contextlib.closing(RawPort(one_flow(here, there))) as port:
            iss = 3_000_000_000
            options = (Mss(1460), SackPermitted(), Timestamps(1000, 0), Nop(), WindowScale(7))
            sleep_until(at)
            port.send(encode(Segment(here, there, Flags.SYN, iss, options=options)), there.address)
            syn = self._heard(port, Flags.SYN)
            stamps = syn.timestamps
            assert stamps is not None
            told = (Nop(), Nop(), Timestamps(1001, stamps.value))
            answer = (Mss(1460), SackPermitted(), Timestamps(1001, stamps.value), Nop(), WindowScale(7))
            nxt = (syn.seq + 1) % (1 << 32)
            packets = [encode(Segment(here, there, Flags.SYN | Flags.ACK, iss, nxt, options=answer))]
            sent = b""
            if what == "data":
                for number in range(250):
                    text = bytes([number]) * 80
                    packets.append(encode(Segment(here, there, Flags.ACK, iss + 1 + len(sent), nxt, 502, told, text)))
                    sent += text
                packets.append(encode(Segment(here, there, Flags.ACK | Flags.FIN, iss + 1 + len(sent), nxt, 502, told)))
            elif what == "rst":
                packets.append(encode(Segment(here, there, Flags.RST | Flags.ACK, iss + 1, nxt, 0)))
            elif what.startswith("text"):
                self._heard(port, Flags.SYN | Flags.ACK)
                sent = b"brought by the first ACK"
                flags = Flags.ACK | (Flags.FIN if what == "text and fin" else Flags.PSH)
                packets = [encode(Segment(here, there, flags, iss + 1, nxt, 502, told, sent))]
            start = now_ns()
            for number, packet in enumerate(packets):
                sleep_until(start + number * 25 * US)
                port.send(packet, there.address)
            time.sleep(0.3)
            heard = [segment.kind for segment in self._all(port)]
        return {"sent": sent.hex(), "heard": heard}

    def _heard(self, port: RawPort, flags: Flags) -> Segment:
        until = now_ns() + 2_000 * MS
        while now_ns() < until:
            for segment in self._all(port):
                if segment.flags == flags:
                    return segment
        raise TimeoutError

    def _all(self, port: RawPort) -> list[Segment]:
        found = []
        for octets in port.receive():
            with contextlib.suppress(Malformed):
                packet = decode(octets)
                if isinstance(packet, Segment):
                    found.append(packet)
        return found

    # --- this host alone ---

    def alone(self, what: str) -> Found:
        """One of the functions below that need no peer on another host."""
        found: Found = getattr(sys.modules[__name__], what)()
        return found

    def settings(self, **values: str) -> Found:
        """Set net.ipv4 settings of this host."""
        for name, value in values.items():
            (Path("/proc/sys/net/ipv4") / name).write_text(value, encoding="ascii")
        return {}

    def left(self, port: int) -> Found:
        """States of the kernel's sockets on a port, and how many more files are open here than when this was last asked."""
        word = f":{port:04X}"
        table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        states = [line.split()[3] for line in table if line.split()[1].endswith(word)]
        open_now = len(list(Path("/proc/self/fd").iterdir()))
        more, self.descriptors = open_now - self.descriptors, open_now
        return {"states": states, "more_descriptors": more}


async def told(client: RendezvousClient, kind: type[T]) -> T:
    """The next thing of a kind that the server says."""
    while True:
        found, _ = await client.news(3)
        if isinstance(found, kind):
            return found


def read(sock: socket.socket, count: int) -> bytes:
    """Read that many octets, or until the end."""
    came = bytearray()
    while len(came) < count and (text := sock.recv(min(1 << 16, count - len(came)))):
        came += text
    return bytes(came)


def both_in_one_loop() -> Found:
    """Two ends of one process, over the loopback, with asyncio's streams on top."""

    async def talk(mine: int, theirs: int, at: int) -> tuple[str, bytes]:
        opened = await open_connection_async(("127.0.0.1", theirs), local=("127.0.0.1", mine), method="raw", timeout=3, at=at)
        reader, writer = await asyncio.open_connection(sock=opened.sock)
        writer.write(f"from {mine}".encode())
        writer.write_eof()
        text = await reader.read()
        writer.close()
        await writer.wait_closed()
        return opened.method, text

    async def both() -> list[tuple[str, bytes]]:
        at = now_ns() + 100 * MS
        return list(await asyncio.gather(talk(42_001, 42_002, at), talk(42_002, 42_001, at)))

    return {"talked": [(method, text.decode()) for method, text in asyncio.run(both())]}


def over_ipv6() -> Found:
    """Two ends over ::1, of which one is raw at least: what they read of each other, and what TCP_INFO says afterwards."""
    for device in ("all", "lo"):
        (Path("/proc/sys/net/ipv6/conf") / device / "disable_ipv6").write_text("0", encoding="ascii")
    found: Found = {}
    for place, methods in enumerate((("raw", "raw"), ("raw", "kernel"))):
        ports = 42_060 + 2 * place, 42_061 + 2 * place
        at = now_ns() + 200 * MS
        host = Host()

        def end(mine: int, theirs: int, method: str, host: Host = host, at: int = at) -> None:
            found[str(mine)] = host.connect(f"[::1]:{theirs}", f"[::1]:{mine}", method, at=at)

        both = [threading.Thread(target=end, args=(*way, how)) for way, how in zip((ports, ports[::-1]), methods, strict=True)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()

        def talk(port: int, host: Host = host) -> None:
            found[str(port)] |= host.exchange(port, 1 << 20)

        both = [threading.Thread(target=talk, args=(port,)) for port in ports]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        for port in ports:
            found[str(port)] |= host.info(port)
        for port in ports:
            host.close(port)
    return found


def cancelled() -> Found:
    """An attempt that is cancelled while it waits for an answer; the port must be free at once."""

    async def attempt() -> None:
        async with asyncio.timeout(0.2):
            await open_connection_async("203.0.113.2:9", local=42_003, method="raw", timeout=10)

    with contextlib.suppress(TimeoutError):
        asyncio.run(attempt())
    with socket.socket() as sock:
        sock.bind(("", 42_003))
        sock.listen()
    return {}


def beside_a_connection() -> Found:
    """Connect from a port from which a connection to somebody else is open, as one to a rendezvous server would be."""
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.1", 42_004))
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        at = now_ns() + 500 * MS
        ends: dict[int, Opened] = {}

        def end(mine: int, theirs: int, method: Any) -> None:
            local = ("127.0.0.1", mine)
            ends[mine] = open_connection(("127.0.0.1", theirs), local=local, method=method, timeout=3, at=at)

        threads = [threading.Thread(target=end, args=args) for args in ((42_004, 42_005, "raw"), (42_005, 42_004, "kernel"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.sendall(b"old")
        ends[42_004].sock.sendall(b"new")
        found = {"old": accepted.recv(9).decode(), "new": ends[42_005].sock.recv(9).decode()}
        accepted.close()
        for opened in ends.values():
            opened.sock.close()
    return found


def taken() -> Found:
    """Try ports that others have: one who listens, and one who is connected."""
    found = {}
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 42_006))
        listener.listen()
        client.bind(("127.0.0.1", 42_007))
        client.connect(("127.0.0.1", 42_006))
        for method in ("raw", "kernel"):
            for port in (42_006, 42_007):
                found[f"{method} {port}"] = Host().connect("127.0.0.1:9", f"127.0.0.1:{port}", method)
    return found


def refused() -> Found:
    """Nobody is at the other end."""
    return {method: Host().connect("127.0.0.1:9", "127.0.0.1:42008", method) for method in ("raw", "kernel")}


def disturbed() -> Found:
    """Connect by both methods while the port is disturbed: a third party's SYN, and garbage as if from the punched port."""
    return {method: _disturbed(method, 42_020 + 10 * place) for place, method in enumerate(("raw", "kernel"))}


def _disturbed(method: Any, first: int) -> Found:
    here, there = Endpoint("127.0.0.1", first), Endpoint("127.0.0.1", first + 1)
    at = now_ns() + 300 * MS
    ends: dict[int, Opened] = {}

    def end(mine: Endpoint, theirs: Endpoint, how: Any, at_ns: int) -> None:
        ends[mine.port] = open_connection(theirs, local=mine, method=how, timeout=3, at=at_ns)

    threads = [
        threading.Thread(target=end, args=(here, there, method, at)),
        threading.Thread(target=end, args=(there, here, "raw", at + 500 * MS)),  # its guard is up: nothing is refused before
    ]
    for thread in threads:
        thread.start()
    sleep_until(at + 30 * MS)  # here's SYN has gone, and nobody has answered
    dice = random.Random(1)
    with contextlib.closing(RawPort()) as port, socket.socket() as third:
        for _ in range(300):
            flags = Flags(dice.randrange(512) & ~(Flags.SYN | Flags.RST))  # those two may mean something
            text = dice.randbytes(dice.randrange(60))
            segment = Segment(there, here, flags, dice.randrange(1 << 32), dice.randrange(1 << 32), payload=text)
            octets = bytearray(encode(segment))
            if dice.random() < 0.5:
                octets[dice.randrange(24, len(octets))] ^= 1 << dice.randrange(8)  # and the checksum is wrong
            port.send(bytes(octets), here.address)
        third.settimeout(0.03)
        answered = third.connect_ex((here.address, here.port))
    for thread in threads:
        thread.join()
    found: Found = {"answered": errno.errorcode.get(answered, answered)}
    for mine, theirs in ((here, there), (there, here)):
        ends[mine.port].sock.sendall(f"from {mine.port}".encode())
        ends[theirs.port].sock.settimeout(2)
        found[str(theirs.port - first)] = ends[theirs.port].sock.recv(99).decode() == f"from {mine.port}"
    for opened in ends.values():
        opened.sock.close()
    return found


def hears_one_flow() -> Found:
    """What a packet socket with the filter of one flow hears of several."""
    here, there = Endpoint("127.0.0.1", 42_009), Endpoint("127.0.0.1", 42_010)
    others = [Endpoint("127.0.0.1", 42_011), Endpoint("127.0.0.2", 42_010)]
    with contextlib.closing(RawPort(one_flow(here, there))) as port, Guard(here):
        for source in (there, *others):
            port.send(encode(Segment(source, here, Flags.ACK, 5, 6)), "127.0.0.1")
        port.send(encode(Segment(there, others[0], Flags.ACK, 5, 6)), "127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", 42_012))  # nobody is there: ICMP comes back
        time.sleep(0.05)
        heard = list(port.receive())
    return {"heard": [(octets[9], *struct.unpack_from("!HH", octets, 20)) for octets in heard]}


def without(number: int) -> Found:
    """Connect raw and by whatever works, in a child process that has one capability less."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        import json  # noqa: PLC0415  only the child needs it

        drop_capability(number)
        said = {method: Host().connect("127.0.0.1:9", "127.0.0.1:42013", method) for method in ("raw", "auto")}
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return {"said": text}


def without_net_admin() -> Found:
    """Without the right to repair sockets."""
    return without(CAP_NET_ADMIN)


def without_net_raw() -> Found:
    """Without the right to open raw sockets."""
    return without(CAP_NET_RAW)


def serve(channel: Channel) -> None:
    """Carry errands out until the channel closes."""
    host = Host()
    import rawpunch.wire.packets  # noqa: F401, PLC0415  scapy: now, and not in the middle of a test

    channel.send({"ready": True})
    while True:
        try:
            message, _ = channel.receive()
        except RawpunchError:
            return
        number = message.pop("number")
        errand: Callable[..., Found] = getattr(host, message.pop("do"))
        try:
            answer = errand(**message)
        except Exception as error:  # noqa: BLE001  the test says what was wrong
            answer = {"failed": f"{type(error).__name__}: {error}"}
        channel.send(answer | {"number": number})
