"""Every column of every capture for trying things out, compared with tshark's fields."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, IPOption_RR, TCPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from rawpunch.capture.columns import read_capture
from rawpunch.capture.pcapng import Interface, Recorded, write_pcapng

tshark_needed = pytest.mark.tool("tshark")

ROOT = Path(__file__).parents[2]
CAPTURES = sorted(
    path for folder in (ROOT / ".." / "shared" / "captures", ROOT / "data" / "captures") for path in folder.glob("**/*.pcap*")
)
FIELDS = (
    "frame.number",
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq",
    "tcp.ack_raw",
    "tcp.window_size_value",
    "tcp.options",
    "tcp.len",
    "ip.ttl",
    "ipv6.hlim",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
    "ip.flags.mf",
    "ipv6.fraghdr.more",
)
OPTIONS = (
    "tcp.relative_sequence_numbers:FALSE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.check_checksum:FALSE",
)
"""Each packet for itself, as a decoder of packets sees it; reassembly would move a segment to its last fragment."""


def tsharks(path: Path) -> pd.DataFrame:
    """The same rows as `read_capture` gives, made of what tshark says."""
    command = ["tshark", "-r", str(path), "-n", "-Y", "tcp", "-T", "fields", "-E", "separator=;", "-E", "occurrence=a"]
    command += [word for option in OPTIONS for word in ("-o", option)] + [word for name in FIELDS for word in ("-e", name)]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return pd.DataFrame([_row(dict(zip(FIELDS, line.split(";"), strict=True))) for line in lines])


def _row(told: dict[str, str]) -> dict[str, Any]:
    def number(name: str) -> int | None:
        return int(told[name].split(",")[0], 0) if told[name] else None

    seconds, _, fraction = told["frame.time_epoch"].partition(".")
    ipv6 = bool(told["ipv6.src"])
    icmp = "icmpv6" if told["icmpv6.type"] else "icmp"
    error = bool(told[f"{icmp}.type"])
    ports = (number("tcp.srcport"), number("tcp.dstport"))
    flags = (number("tcp.flags") or 0) & 0x1FF  # the three reserved bits are no control bits
    row: dict[str, Any] = {
        "number": number("frame.number"),
        "time_ns": int(seconds) * 1_000_000_000 + int(fraction),
        "source_address": told["ipv6.src" if ipv6 else "ip.src"].split(",")[0],
        "destination_address": told["ipv6.dst" if ipv6 else "ip.dst"].split(",")[0],
        "source_port": ports[1] if error else ports[0],
        "destination_port": ports[0] if error else ports[1],
        "seq": number("tcp.seq"),
        "ttl": number("ipv6.hlim" if ipv6 else "ip.ttl"),
        "icmp_type": number(f"{icmp}.type"),
        "icmp_code": number(f"{icmp}.code"),
        "flags": None if error else flags,
        "ack": number("tcp.ack_raw") if flags & 0x10 and not error else None,
        "window": None if error else number("tcp.window_size_value"),
        "options": None if error else bytes.fromhex(told["tcp.options"]),
        "payload_length": None if error else number("tcp.len"),
        "first_fragment": not error and "1" in (told["ip.flags.mf"] or told["ipv6.fraghdr.more"]),
    }
    return row


def compare(path: Path, *, rows: int | None = None) -> None:
    """Equal in every field of every row, and no row more or less."""
    expected = tsharks(path)
    frame = read_capture(path)
    assert rows is None or len(frame) == rows
    assert frame["number"].tolist() == expected["number"].tolist()
    # tshark names no length for a first fragment; the column has what that fragment carries.
    fragments = expected.pop("first_fragment").to_numpy()
    assert frame.attrs["noted"].get("first fragment", 0) == fragments.sum()
    frame.loc[fragments, "payload_length"] = pd.NA
    for name in expected.columns:
        own = [None if null else value for value, null in zip(frame[name].tolist(), frame[name].isna(), strict=True)]
        theirs = [None if value != value else value for value in expected[name].tolist()]  # noqa: PLR0124 - NaN is an empty field
        different = [(number, a, b) for number, a, b in zip(frame["number"], own, theirs, strict=True) if a != b]
        assert not different, f"{name}: {different[:5]}"


@tshark_needed
@pytest.mark.skipif(not CAPTURES, reason="the captures for trying things out are not here (../shared/captures)")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_every_field_is_as_tshark_says(path: Path) -> None:
    """All captures for trying things out, and the project's own."""
    compare(path)


# --- packets that those captures lack ---

V4: Final = IP(src="10.1.0.2", dst="203.0.113.2", ttl=61)
V6: Final = IPv6(src="2001:db8::1", dst="2001:db8:1::2", hlim=59)
TIMED: Final = TCP(sport=4000, dport=5000, seq=7, flags="S", options=[("MSS", 1460), ("Timestamp", (5, 0)), ("NOP", None)])
DATA: Final = TCP(sport=4000, dport=5000, seq=8, ack=2**32 - 1, flags="PA", window=501) / (b"x" * 100)
ETHER: Final = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

NETWORK: Final[dict[str, ScapyPacket]] = {
    "IPv4": V4 / TIMED,
    "IPv4 with data": V4 / DATA,
    "IPv4 with options": IP(src="10.1.0.2", dst="203.0.113.2", options=[IPOption_RR(), IPOption_RR()]) / TIMED,
    "all nine flags": V4 / TCP(sport=1, dport=2, flags=0x1FF),
    "no flags": V4 / TCP(sport=1, dport=2, flags=0),
    "first fragment": IP(src="10.1.0.2", dst="203.0.113.2", flags="MF", id=9) / DATA,
    "later fragment": IP(src="10.1.0.2", dst="203.0.113.2", frag=100, id=9) / DATA,
    "total length zero": IP(src="10.1.0.2", dst="203.0.113.2", len=0) / DATA,
    "total length too long": IP(src="10.1.0.2", dst="203.0.113.2", len=900) / DATA,
    "UDP": V4 / UDP(sport=4000, dport=5000) / b"no TCP",
    "echo": V4 / ICMP(type=8) / b"no error",
    "unreachable": V4 / ICMP(type=3, code=13) / IPerror(src="203.0.113.2", dst="10.9.9.9") / TCPerror(sport=9, dport=10, seq=77),
    "eight octets quoted": V4 / ICMP(type=11, code=0) / Raw(bytes(V4 / TIMED)[:28]),
    "seven octets quoted": V4 / ICMP(type=11, code=0) / Raw(bytes(V4 / UDP())[:27]),
    "about UDP": V4 / ICMP(type=3, code=3) / IPerror(src="203.0.113.2", dst="10.9.9.9") / UDPerror(sport=9, dport=10),
    "IPv6": V6 / TIMED,
    "IPv6 with data": V6 / DATA,
    "IPv6 hop by hop": V6 / IPv6ExtHdrHopByHop() / TIMED,
    "IPv6 three extension headers": V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / DATA,
    "IPv6 first fragment": V6 / IPv6ExtHdrFragment(m=1, offset=0, nh=6) / DATA,
    "IPv6 later fragment": V6 / IPv6ExtHdrFragment(m=0, offset=10, nh=6) / DATA,
    "IPv6 unreachable": V6 / ICMPv6DestUnreach(code=1) / Raw(bytes(IPv6(src="2001:db8:1::2", dst="2001:db8::1") / TIMED)),
    "IPv6 time exceeded": V6
    / ICMPv6TimeExceeded()
    / Raw(bytes(IPv6(src="2001:db8:1::2", dst="2001:db8::1") / IPv6ExtHdrDestOpt() / TIMED)),
    "IPv6 echo": V6 / ICMPv6EchoRequest(),
}
ROWS: Final = 17
"""How many of those are segments, or ICMP errors that quote one."""


def framed(link: str) -> list[bytes]:
    """The packets in frames of a link type."""
    frames = []
    for packet in NETWORK.values():
        raw, ipv6 = bytes(packet), packet.version == 6
        kind = b"\x86\xdd" if ipv6 else b"\x08\x00"
        match link:
            case "ethernet":
                frames.append(bytes(ETHER / packet))
            case "vlan":
                frames.append(bytes(ETHER / Dot1Q(vlan=5) / packet))
            case "two vlans":
                frames.append(bytes(ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / packet))
            case "padded":
                frames.append(bytes(ETHER / packet).ljust(60, b"\x55") + b"\xaa" * 4)
            case "raw":
                frames.append(raw)
            case "cooked":
                frames.append(b"\0\4\0\1\0\6" + bytes(8) + kind + raw)
            case "cooked v2":
                frames.append(kind + b"\0\0" + bytes(4) + b"\0\1\0\6" + bytes(8) + raw)
            case "null":
                frames.append((30 if ipv6 else 2).to_bytes(4, "little") + raw)
            case "loop":
                frames.append((24 if ipv6 else 2).to_bytes(4, "big") + raw)
    return frames


LINKS: Final = {
    "ethernet": 1,
    "vlan": 1,
    "two vlans": 1,
    "padded": 1,
    "raw": 101,
    "cooked": 113,
    "cooked v2": 276,
    "null": 0,
    "loop": 108,
}


def write_pcap(
    path: Path, link_type: int, frames: list[bytes], *, order: str = "<", magic: int = 0xA1B2C3D4, cut: int = 9999
) -> None:
    """A pcap file of any byte order and resolution."""
    with path.open("wb") as file:
        file.write(struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262_144, link_type))
        for index, frame in enumerate(frames):
            taken = frame[:cut]
            file.write(struct.pack(f"{order}IIII", 1_700_000_000 + index, 123_456 + index, len(taken), len(frame)) + taken)


@tshark_needed
@pytest.mark.parametrize("link", LINKS)
def test_every_link_type(link: str, tmp_path: Path) -> None:
    """The same packets behind every link layer."""
    path = tmp_path / "some.pcap"
    write_pcap(path, LINKS[link], framed(link))
    compare(path, rows=ROWS)
    assert sum(read_capture(path).attrs["skipped"].values()) == len(NETWORK) - ROWS


@tshark_needed
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_every_pcap(order: str, magic: int, tmp_path: Path) -> None:
    """Both byte orders, micro- and nanoseconds."""
    path = tmp_path / "some.pcap"
    write_pcap(path, 1, framed("ethernet"), order=order, magic=magic)
    compare(path, rows=ROWS)


@tshark_needed
@pytest.mark.parametrize("snaplen", [66, 74, 80, 94, 120])
def test_packets_cut_short(snaplen: int, tmp_path: Path) -> None:
    """A snaplen that leaves the TCP header whole costs nothing but options and payload octets."""
    path = tmp_path / "cut.pcap"
    frames = [bytes(ETHER / packet) for name, packet in NETWORK.items() if "exceeded" not in name and "three" not in name]
    short = [frame for frame in frames if len(frame) <= snaplen or (frame[12:14] == b"\x08\x00" and len(frame) > 100)]
    write_pcap(path, 1, short, cut=snaplen)
    compare(path)


@tshark_needed
def test_several_interfaces_in_one_pcapng(tmp_path: Path) -> None:
    """Each interface with its own link type and name."""
    path = tmp_path / "many.pcapng"
    interfaces = [Interface(name, link_type) for name, link_type in LINKS.items()]
    packets = [
        Recorded(1_700_000_000_000_000_000 + 1000 * index, index, frame, len(frame), outgoing=bool(index % 2))
        for index, link in enumerate(LINKS)
        for frame in framed(link)
    ]
    packets.sort(key=lambda packet: hash(packet.data))
    write_pcapng(path, interfaces, packets)
    compare(path, rows=ROWS * len(LINKS))
    frame = read_capture(path)
    assert set(frame["interface"]) == set(LINKS)
    assert set(frame["direction"]) == {"in", "out"}
