"""A STUN client for any server, from a port that is bound before anything is asked (RFC 8489).

A `TcpPort` or `UdpPort` binds, then asks one server or several: what they answer is the endpoint that the NATs on the way gave to
this very port. An answer to a question from another port would be about another mapping. Until the port is closed its
connections stay open, so that the mappings live:

- A TCP port is bound with SO_REUSEADDR and SO_REUSEPORT, and no socket listens on it: others of this user may bind it too and
  connect from it, which is how it is punched from. Nobody else can take it meanwhile.
- A UDP port is one socket, not connected, for servers and peers alike; two sockets on it would take each other's datagrams.

Over UDP requests are repeated as section 6.2.1 has it; over TCP the kernel does that (section 6.2.2). What answers nothing that
was asked (another transaction, garbage, a stranger's datagram) is passed over, and told if no answer comes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import ClassVar, Final, Self

from rawpunch.errors import Malformed, UsageError
from rawpunch.live import stun_answer
from rawpunch.live.sockets import bound, route_to
from rawpunch.live.stun_answer import Answer, Transport, Unanswered
from rawpunch.units import MS
from rawpunch.version import __version__
from rawpunch.wire import stun
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.stun import Attribute, Kind, Message, Software

DEFAULT_PORT: Final = 3478
"""For STUN over UDP and TCP (section 18.6)."""
PATIENCE_S: Final = 39.5
"""How long a question may take: with the usual numbers of section 6.2.1 over UDP, and Ti of section 6.2.2 over TCP."""
SENT_AT_NS: Final = tuple(at * MS for at in (0, 500, 1_500, 3_500, 7_500, 15_500, 31_500))
"""When a request over UDP goes out, from the first one on: RTO 500 ms, doubled each time, Rc = 7 (section 6.2.1)."""
SOFTWARE: Final = f"rawpunch {__version__}, a laboratory for TCP hole punching"
"""It makes a request longer than its answer: some servers send an unproved address no more octets than came from it."""

_UNTIL_NS: Final = (*SENT_AT_NS[1:], 39_500 * MS)
"""Until when each request is waited for; 16 times RTO after the last (Rm)."""
_MAX_DATAGRAM: Final = 65_535
_DATAGRAMS_AT_ONCE: Final = 64
_RECVERR: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR (ip(7), ipv6(7)), which the socket module does not name."""
_RST_AT_CLOSE: Final = struct.pack("ii", 1, 0)
_EXTENDED_ERROR: Final = struct.Struct("=I12x")
"""struct sock_extended_err (ip(7)), of which the error number is of interest."""
_HARD_ERRORS: Final = (errno.ECONNREFUSED, errno.ENOPROTOOPT)
"""What an ICMP error that ends a transaction is told as (RFC 1122 section 4.1.3.3); the others may pass."""


async def binding(server: Endpoint, *, local: Endpoint | None = None, within_s: float = 5.0) -> Message:
    """The answer to one STUN Binding request over a TCP connection of its own, closed after it.

    Args:
        server: one of its endpoints.
        local: from where; None for a free port.
        within_s: how long it may take.

    Raises:
        Unanswered: there is no answer of use.
        UsageError: the local endpoint cannot be had.
    """
    async with TcpPort(local or local_towards(server)) as port:
        return (await port.ask(server, within_s=within_s)).message


async def ask_any(
    servers: Sequence[Endpoint], transport: Transport, *, local_port: int = 0, within_s: float = PATIENCE_S
) -> tuple[Port, Answer]:
    """Ask a server by the first of its addresses that answers.

    Args:
        servers: its endpoints, the best first.
        transport: over which.
        local_port: the port to ask from; 0 for a free one.
        within_s: for all of it; each address gets an equal part of what is left.

    Returns:
        The port, open, for the caller to close; and the answer.

    Raises:
        Unanswered: none answered.
        UsageError: the local port cannot be had.
        MachineCannot: this process may not bind it.
    """
    loop = asyncio.get_running_loop()
    until, failures = loop.time() + within_s, list[Unanswered]()
    for tried, server in enumerate(servers):
        with ExitStack() as opened:
            try:
                port = _PORTS[transport](local_towards(server, local_port))
                opened.callback(port.close)
                answer = await port.ask(server, within_s=(until - loop.time()) / (len(servers) - tried))
            except Unanswered as failure:
                failures.append(failure)
                continue
            opened.pop_all()
            return port, answer
    if len(failures) == 1:
        raise failures[0]
    why = "; ".join(f"{failure.what}: {failure.why}" if failure.why else failure.what for failure in failures)
    raise Unanswered(failures[-1].cause, "none of the server's addresses answered", why=why, todo=failures[-1].todo)


def local_towards(server: Endpoint, port: int = 0) -> Endpoint:
    """Our endpoint on the way to a server; nothing is sent.

    Raises:
        Unanswered: there is no way.
    """
    try:
        return Endpoint(route_to(server)[0], port)
    except OSError as error:
        raise stun_answer.of_errno(server, error) from error


class Port:
    """A local port that servers are asked from, one question at a time; it is closed by its context, or by `close`.

    Args:
        local: our endpoint; port 0 is a free one.

    Raises:
        UsageError: it is in use, or not this machine's.
        MachineCannot: this process may not bind it.
    """

    transport: ClassVar[Transport]
    _kind: ClassVar[socket.SocketKind]
    _options: ClassVar[tuple[int, ...]]

    def __init__(self, local: Endpoint) -> None:
        self.sock: Final = bound(local, self._kind, *self._options)
        """Bound and not connected. Over TCP it only keeps the port; over UDP it is what asks, and may greet peers too."""
        self.local: Final = Endpoint(*self.sock.getsockname()[:2])
        """Where questions come from; its port is not 0 any more."""
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the port back, and let its mappings die."""
        self.sock.close()

    async def ask(self, server: Endpoint, *attributes: Attribute, within_s: float = PATIENCE_S) -> Answer:
        """What this port's endpoint is, as a server sees it.

        Args:
            server: one of its endpoints.
            attributes: for the request, beside SOFTWARE.
            within_s: how long it may take.

        Raises:
            Unanswered: there is no answer of use; its `cause` says why.
            UsageError: this is the server itself, or another connection between the two is in the way.
        """
        if server == self.local:
            raise UsageError(f"{server} is the local port itself", todo="choose another local port, or another server")
        request = Message(Kind.REQUEST, secrets.token_bytes(stun.TRANSACTION_OCTETS), (Software(SOFTWARE), *attributes))
        async with self._asking:
            return await self._ask(server, request, within_s)

    async def _ask(self, server: Endpoint, request: Message, within_s: float) -> Answer:
        raise NotImplementedError


# --- TCP ---


class TcpPort(Port):
    """A TCP port: each server that is asked gets one connection from it, which stays open. See `Port`."""

    transport = "tcp"
    _kind = socket.SOCK_STREAM
    _options = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)

    def __init__(self, local: Endpoint) -> None:
        super().__init__(local)
        self._connections: dict[Endpoint, socket.socket] = {}

    def close(self) -> None:
        """Give the port back, and end its connections."""
        for sock in self._connections.values():
            sock.close()
        self._connections.clear()
        super().close()

    async def _ask(self, server: Endpoint, request: Message, within_s: float) -> Answer:
        loop = asyncio.get_running_loop()
        sock, connect_ns, mapped = self._connections.pop(server, None), None, None
        nothing = stun_answer.silent(server, within_s, "nothing answered our SYN")
        with ExitStack() as doomed:  # a connection that failed, or was left in the middle of an answer, is of no more use
            try:
                async with asyncio.timeout(within_s):
                    if sock is None:
                        sock = bound(self.local, self._kind, *self._options)
                        doomed.callback(_abort, sock)
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a second request would wait for an ACK
                        began = loop.time()
                        await loop.sock_connect(sock, (server.address, server.port))
                        connect_ns = _since_ns(began)
                    else:
                        doomed.callback(_abort, sock)
                    nothing = stun_answer.silent(server, within_s, "the connection is established, but nothing answers on it")
                    began = loop.time()
                    await loop.sock_sendall(sock, stun.encode(request))
                    while mapped is None:
                        message = await _next_message(server, sock)
                        try:
                            mapped = stun_answer.check(server, request, message)
                        except Unanswered:  # a whole message was read: the connection is as good as before
                            doomed.pop_all()
                            self._connections[server] = sock
                            raise
                        nothing = stun_answer.other_transaction(server, server)
                    rtt_ns = _since_ns(began)
            except OSError as error:
                if isinstance(error, TimeoutError) and error.errno is None:
                    raise nothing from None
                established = connect_ns is not None
                raise stun_answer.of_errno(server, error, established=established) from error
            doomed.pop_all()
        self._connections[server] = sock
        return Answer("tcp", server, self.local, mapped, rtt_ns, connect_ns, 1, message)


def _abort(sock: socket.socket) -> None:
    """Close by RST: the next connection between the same endpoints need not wait for a minute in TIME-WAIT."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
    sock.close()


async def _next_message(server: Endpoint, sock: socket.socket) -> Message:
    """The next message on a connection.

    Raises:
        Unanswered: the connection ends, or what comes is no STUN: where the next message begins is unknown then.
        OSError: the connection broke.
    """
    loop, octets = asyncio.get_running_loop(), b""
    try:
        while (length := stun.framed_length(octets)) is None or len(octets) < length:
            more = await loop.sock_recv(sock, (stun.HEADER_OCTETS if length is None else length) - len(octets))
            if not more:
                raise stun_answer.closed(server, f"it closed after {len(octets)} octets" if octets else "it said nothing")
            octets += more
        return stun.decode(octets)
    except Malformed as error:
        raise stun_answer.malformed(server, stun_answer.spelt(octets, error)) from error


# --- UDP ---


class UdpPort(Port):
    """A UDP port. See `Port`."""

    transport = "udp"
    _kind = socket.SOCK_DGRAM
    _options = ()

    def __init__(self, local: Endpoint) -> None:
        super().__init__(local)
        self.sock.setsockopt(*_RECVERR[self.sock.family], 1)  # else ICMP errors are told to connected sockets only

    async def _ask(self, server: Endpoint, request: Message, within_s: float) -> Answer:
        loop, readable, octets = asyncio.get_running_loop(), asyncio.Event(), stun.encode(request)
        nothing = stun_answer.silent(
            server, within_s, "datagrams may be dropped on the way, and who does not speak STUN is silent"
        )
        began = loop.time()
        deadline = began + within_s
        loop.add_reader(self.sock, readable.set)
        try:
            for requests, until_ns in enumerate(_UNTIL_NS, 1):
                sent = loop.time()
                self._send(server, octets)
                while await _within(readable, min(began + until_ns / 1e9, deadline)):
                    readable.clear()
                    rtt_ns = _since_ns(sent)
                    for came in self._came(server, request):
                        if isinstance(came, Unanswered):
                            nothing = came
                            continue
                        mapped, message = came
                        rtt = rtt_ns if requests == 1 else None
                        return Answer("udp", server, self.local, mapped, rtt, None, requests, message)
                if loop.time() >= deadline:
                    break
        finally:
            loop.remove_reader(self.sock)
        raise nothing

    def _send(self, server: Endpoint, octets: bytes) -> None:
        for again in (True, False):
            try:
                self.sock.sendto(octets, (server.address, server.port))
            except BlockingIOError:
                return  # no room: as good as lost on the way
            except OSError as error:
                # an ICMP error about an earlier datagram is told by whatever call comes next; nothing was sent then
                if not again:
                    raise stun_answer.of_errno(server, error) from error
            else:
                return

    def _came(self, server: Endpoint, request: Message) -> Iterator[tuple[Endpoint, Message] | Unanswered]:
        """What has come: the answer, or what to tell if none comes.

        Raises:
            Unanswered: there will be no answer of use.
        """
        for error in self._icmp_errors(server):
            if error.errno in _HARD_ERRORS:
                raise stun_answer.of_errno(server, error)
            told = stun_answer.of_errno(server, error)
            if isinstance(told, Unanswered):
                yield told
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                octets, address = self.sock.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error that came meanwhile; it is in the queue, which wakes us again
            source = Endpoint(*address[:2])
            try:
                message = stun.decode(octets)
                mapped = stun_answer.check(server, request, message) if source == server else None
            except Malformed as error:
                yield stun_answer.malformed(server, stun_answer.spelt(octets, error))
                continue
            if mapped is None:
                yield stun_answer.other_transaction(server, source)
            else:
                yield mapped, message

    def _icmp_errors(self, server: Endpoint) -> Iterator[OSError]:
        """The ICMP errors about datagrams to a server; those about others are forgotten."""
        level, kind = _RECVERR[self.sock.family]
        while True:
            try:
                _, ancillary, _, about = self.sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                return
            for its_level, its_kind, value in ancillary:
                if (its_level, its_kind) == (level, kind) and Endpoint(*about[:2]) == server:
                    number = _EXTENDED_ERROR.unpack_from(value)[0]
                    yield OSError(number, os.strerror(number))


async def _within(readable: asyncio.Event, until: float) -> bool:
    """Whether something came before an instant of the loop's clock."""
    try:
        async with asyncio.timeout_at(until):
            await readable.wait()
    except TimeoutError:
        return False
    return True


def _since_ns(instant: float) -> int:
    """How long ago an instant of the loop's clock is, in ns."""
    return round((asyncio.get_running_loop().time() - instant) * 1e9)


_PORTS: Final[dict[Transport, type[Port]]] = {"tcp": TcpPort, "udp": UdpPort}
