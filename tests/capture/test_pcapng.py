"""The pcapng writer, judged by tshark, by scapy's reader and by the toolkit's own reader."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import PcapNgReader

from rawpunch.capture.blocks import Walk
from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, Statistics, write_pcapng
from rawpunch.errors import BadParameter, PartialData
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment

A, B = Endpoint("10.1.0.2", 4000), Endpoint("203.0.113.2", 5000)
SYN = encode(Segment(A, B, Flags.SYN, 100))
FRAME = bytes(12) + b"\x08\x00" + SYN
TIME_NS = 1_700_000_000_123_456_789

PACKETS = [
    Recorded(TIME_NS, 0, FRAME, len(FRAME), outgoing=True),
    Recorded(TIME_NS + 1, 1, SYN, len(SYN), outgoing=False),
    Recorded(TIME_NS + 2, 1, SYN[:39], 1500, outgoing=None),
]
INTERFACES = [Interface("hostA:eth0"), Interface("natA:in", RAW_IP, "the inside of NAT A")]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file with two interfaces and three packets."""
    counted = {0: Statistics(received=7, dropped=2), 1: Statistics(received=2)}
    return write_pcapng(tmp_path / "some.pcapng", INTERFACES, PACKETS, comment="two vantage points", statistics=counted)


def tshark(*arguments: str) -> list[list[str]]:
    """What tshark prints, split at tabs."""
    done = subprocess.run(["tshark", *arguments], capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.tool("tshark")
def test_wireshark_reads_every_field(written: Path) -> None:
    """Names, nanoseconds, directions and lengths arrive in Wireshark as they were given."""
    fields = ("frame.time_epoch", "frame.interface_name", "frame.interface_description", "frame.p2p_dir")
    lengths = ("frame.cap_len", "frame.len", "tcp.seq_raw")
    rows = tshark("-r", str(written), "-T", "fields", *(word for name in fields + lengths for word in ("-e", name)))
    assert rows[0] == ["1700000000.123456789", "hostA:eth0", "", "0", "54", "54", "100"]
    assert rows[1] == ["1700000000.123456790", "natA:in", "the inside of NAT A", "1", "40", "40", "100"]
    assert [row[4:6] for row in rows] == [["54", "54"], ["40", "40"], ["39", "1500"]]


@pytest.mark.tool("tshark", "capinfos")
def test_wireshark_shows_comment_and_losses(written: Path) -> None:
    """Whoever opens the file learns what it is and how many packets the capture lost."""
    told = subprocess.run(["capinfos", str(written)], capture_output=True, text=True, check=True).stdout
    for line in ("two vantage points", "rawpunch", "hostA:eth0", "natA:in", "(9)"):
        assert line in told
    blocks = subprocess.run(
        ["tshark", "-r", str(written), "-X", "read_format:MIME Files Format", "-V"], capture_output=True, text=True, check=True
    ).stdout
    assert "Number of Received Packets: 7" in blocks
    assert "Number of Dropped Packets: 2" in blocks


def test_scapy_reads_the_same_packets(written: Path) -> None:
    """Scapy's reader is the second oracle: bytes, nanoseconds and comment."""
    with PcapNgReader(str(written)) as reader:
        packets = list(reader)
    assert [bytes(packet) for packet in packets[:2]] == [FRAME, SYN]
    assert [int(packet.time * 1_000_000_000) for packet in packets] == [packet.time_ns for packet in PACKETS]
    assert [packet.wirelen for packet in packets] == [54, 40, 1500]


packets_of_any_kind = st.lists(
    st.builds(
        Recorded,
        time_ns=st.integers(0, 2**63 - 1),
        interface=st.integers(0, 2),
        data=st.binary(max_size=70),
        original_length=st.integers(70, 70_000),
        outgoing=st.sampled_from([None, False, True]),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(packets=packets_of_any_kind)
def test_own_reader_reads_what_was_written(tmp_path: Path, packets: list[Recorded]) -> None:
    """Whatever is written is read back: times, interfaces, octets, lengths, directions."""
    interfaces = [Interface("one"), Interface("two", RAW_IP), Interface("dréi")]
    path = write_pcapng(tmp_path / "any.pcapng", interfaces, packets)
    walk = Walk(path)
    back = [
        Recorded(
            int(piece.time_ns[i]),
            int(piece.interface[i]),
            bytes(piece.data[piece.at[i] : piece.at[i] + piece.captured[i]]),
            int(piece.original[i]),
            (None, False, True)[piece.direction[i]],
        )
        for piece in walk.pieces()
        for i in range(len(piece.at))
    ]
    assert back == packets
    assert not walk.findings.skipped
    assert [(described.name, described.link_type) for described in walk.findings.interfaces] == [
        ("one", 1),
        ("two", 101),
        ("dréi", 1),
    ]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Written whole or not at all: the file of before stays, and no temporary file is left."""
    path = write_pcapng(tmp_path / "kept.pcapng", INTERFACES, PACKETS)
    before = path.read_bytes()
    with pytest.raises(BadParameter, match="names interface 9"):
        write_pcapng(path, INTERFACES, [*PACKETS, Recorded(0, 9, b"", 0)])
    with pytest.raises(BadParameter, match="does not fit"):
        write_pcapng(path, INTERFACES, [Recorded(-1, 0, b"", 0)])
    with pytest.raises(BadParameter, match="statistics name interface"):
        write_pcapng(path, INTERFACES, PACKETS, statistics={5: Statistics()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_such_folder_says_so(tmp_path: Path) -> None:
    """A folder that is not there is an error of our own, with the reason."""
    with pytest.raises(PartialData, match="No such file"):
        write_pcapng(tmp_path / "none" / "x.pcapng", INTERFACES, PACKETS)
