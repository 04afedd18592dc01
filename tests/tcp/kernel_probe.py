"""Put the same segments and ICMP errors to this machine's kernel and to the `linux` profile, and tell where their answers differ.

The kernel's socket lives behind a TUN device in a network namespace of its own; this program is the wire and the peer. A TUN
write runs the kernel's whole receive path before it returns, so the answer can be read at once, and 2,000 probes take a second.
Run it as root (as a user with --user --map-root-user too):

    unshare --net python -m tests.tcp.kernel_probe

It prints one JSON document: how many probes there were, and those that differ.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rawpunch.errors import Malformed
from rawpunch.machine import Arrived, Open, Send
from rawpunch.tcp import LINUX, Handshake, Offer
from rawpunch.tcp.branches import Put
from rawpunch.wire.codec import decode, encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import WindowScale
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment
from rawpunch.wire.seq import MODULUS

HERE, PEER = "10.9.0.1", Endpoint("10.9.0.2", 80)
ISS_PEER = 3_000_000_000
KERNEL_STATES = ("", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED", "CLOSE-WAIT")
STATES = ("SYN-SENT", "SYN-RECEIVED", "ESTABLISHED")
SETTINGS = {
    "tcp_timestamps": "0",
    "tcp_challenge_ack_limit": "2147483647",  # the per-socket limit is what the profile has
}

_F, _S, _R, _A = Flags.FIN, Flags.SYN, Flags.RST, Flags.ACK
FLAGS = (_S, _S | _A, _A, _R, _R | _A, _F | _A, _S | _F, _F, Flags.NONE, _S | _R, _S | _F | _A, _S | _R | _A)
SEQS = (-5, -1, 0, 1, 2, 70_000)
ACKS = (-70_000, -1, 0, 1, 2)
LENGTHS = (0, 3, 5)
ICMPS = ((3, code) for code in range(17))


@dataclass(frozen=True, slots=True)
class Probe:
    """A state, and what is put to both in it."""

    state: str
    put: Put


def probes() -> Iterator[Probe]:
    """All of them."""
    for state, flags, seq, length in itertools.product(STATES, FLAGS, SEQS, LENGTHS):
        for ack in ACKS if flags & Flags.ACK else (0,):
            yield Probe(state, Put(flags, seq, ack, length))
    errors = [*ICMPS, (4, 0), (5, 1), (11, 0), (11, 1), (12, 0)]
    for state, error, seq in itertools.product(STATES, errors, (-1, 0, 1, 2)):
        yield Probe(state, Put(None, seq, icmp=error))


class Wire:
    """The TUN device: what the kernel sends comes out, what is written goes in."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, 0x4004_54CA, struct.pack("16sH", b"probe0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        for command in (f"addr add {HERE}/24 dev probe0", "link set dev probe0 up", "link set dev lo up"):
            subprocess.run(["ip", *command.split()], check=True)
        for name, value in SETTINGS.items():
            Path("/proc/sys/net/ipv4", name).write_text(value)

    def put(self, packet: Packet) -> list[Segment]:
        """Give the kernel a packet, and return what it sends."""
        if isinstance(packet, IcmpError):
            quoted = Segment(packet.quoted.source, packet.quoted.destination, Flags.SYN, packet.quoted_seq)
            os.write(self.fd, encode_icmp_error(packet, encode(quoted)))
        else:
            os.write(self.fd, encode(packet))
        return self.heard()

    def heard(self) -> list[Segment]:
        """What the kernel has sent."""
        out: list[Segment] = []
        while True:
            try:
                packet = decode(os.read(self.fd, 2000))
            except BlockingIOError:
                return out
            except Malformed:
                continue
            if isinstance(packet, Segment):
                out.append(packet)


def relative(segments: list[Segment], iss: int) -> list[tuple[str, int, int | None]]:
    """Kind, SEQ and ACK of each segment, relative to the ISNs."""
    return [
        (segment.kind, (segment.seq - iss) % MODULUS, (segment.ack - ISS_PEER) % MODULUS if segment.has_ack else None)
        for segment in segments
    ]


def put(wire: Wire, probe: Probe, port: int) -> tuple[object, object, tuple[str, ...]]:
    """Bring both into the probe's state, put it to them: (machine's answer and state, kernel's, rows that fired)."""
    here = Endpoint(HERE, port)
    with socket.socket() as kernel:
        kernel.setblocking(False)
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        kernel.bind((HERE, port))
        kernel.connect_ex((PEER.address, PEER.port))
        syn = next(segment for segment in wire.heard() if segment.source == here)
        scale = syn.option(WindowScale)
        offer = Offer(1460, scale.shift if scale else None, sack=True, timestamps=False)
        machine = Handshake(here, PEER, iss=syn.seq, profile=LINUX, offer=offer)
        machine.step(Open(), now=0)
        for way in (Put(Flags.SYN), Put(Flags.ACK, 1, 1))[: STATES.index(probe.state)]:
            packet = way.packet(PEER, here, ISS_PEER, syn.seq)
            wire.put(packet)
            machine.step(Arrived(packet), now=0)
        packet = probe.put.packet(PEER, here, ISS_PEER, syn.seq)
        effects = machine.step(Arrived(packet), now=time.monotonic_ns())
        said = [effect.packet for effect in effects if isinstance(effect, Send) and isinstance(effect.packet, Segment)]
        # a SYN among the answers is the repetition that a wrong ack hastens, in time for a machine that was stalled
        answered = [segment for segment in wire.put(packet) if segment.source == here and segment.kind != "SYN"]
        state = KERNEL_STATES[kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]]
    wire.heard()
    return (relative(said, syn.seq), machine.state.value), (relative(answered, syn.seq), state), machine.fired


def main() -> None:
    """Put every probe, and print what differs."""
    wire = Wire()
    differing = []
    count = 0
    for count, probe in enumerate(probes(), 1):
        machine, kernel, fired = put(wire, probe, 20_000 + count)
        if machine != kernel:
            put_to = asdict(probe.put) | {"flags": None if probe.put.flags is None else int(probe.put.flags)}
            where = {"state": probe.state, **put_to}
            differing.append({**where, "machine": machine, "kernel": kernel, "fired": fired})
    json.dump({"probes": count, "differing": differing}, sys.stdout)


if __name__ == "__main__":
    main()
