"""Columns of captures: the same as the packet-by-packet decoder says, from every container, whole or damaged."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rawpunch.capture import records, source
from rawpunch.capture.columns import COLUMNS, iter_captures, read_capture, read_table
from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.errors import BadParameter, Unreadable
from rawpunch.wire.codec import encode, encode_icmp_error
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.options import (
    FastOpen,
    Mss,
    Nop,
    Option,
    Sack,
    SackPermitted,
    Timestamps,
    Unknown,
    WindowScale,
    encode_options,
)
from rawpunch.wire.segment import Flags, IcmpError, Packet, Segment

START_NS = 1_700_000_000_000_000_000

words = st.integers(0, 2**32 - 1)
ports = st.integers(0, 65_535)
four = st.builds(lambda last, port: Endpoint(f"192.0.2.{last}", port), st.integers(1, 9), ports)
six = st.builds(lambda last, port: Endpoint(f"2001:db8::{last}", port), st.integers(1, 9), ports)
pairs = st.tuples(four, four) | st.tuples(six, six)
option: st.SearchStrategy[Option] = st.one_of(
    st.just(Nop()),
    st.builds(Mss, ports),
    st.builds(WindowScale, st.integers(0, 14)),
    st.just(SackPermitted()),
    st.builds(Timestamps, words, words),
    st.builds(Sack, st.tuples(st.tuples(words, words))),
    st.builds(FastOpen, st.binary(max_size=8)),
    st.builds(Unknown, st.integers(100, 200), st.binary(max_size=6)),
)
segments = st.builds(
    lambda ends, flags, seq, ack, window, options, payload, ttl: Segment(
        ends[0], ends[1], Flags(flags), seq, ack, window, options, payload, ttl=ttl
    ),
    pairs,
    st.integers(0, 511),
    words,
    words,
    ports,
    st.lists(option, max_size=4).map(tuple).filter(lambda options: len(encode_some(options)) <= 40),
    st.binary(max_size=9),
    st.integers(0, 255),
)


def encode_some(options: tuple[Option, ...]) -> bytes:
    """Their octets, or more than fit."""
    return b"".join(encode_options((each,)).rstrip(b"\0") for each in options) + bytes(8)


def error_about(segment: Segment, kind: tuple[int, int], ttl: int) -> IcmpError:
    """An ICMP error that somebody else reports."""
    ipv6 = segment.source.is_ipv6
    reporter = "2001:db8::99" if ipv6 else "198.51.100.1"
    return IcmpError(reporter, segment.source.address, kind[0], kind[1], segment.flow, segment.seq, ttl)


errors = st.builds(
    lambda segment, kind, ttl: (error_about(segment, (1 if segment.source.is_ipv6 else kind[0], kind[1]), ttl), segment),
    segments,
    st.tuples(st.sampled_from([3, 11]), st.integers(0, 15)),
    st.integers(0, 255),
)


def octets_of(sent: Segment | tuple[IcmpError, Segment]) -> bytes:
    """The IP packet."""
    return encode(sent) if isinstance(sent, Segment) else encode_icmp_error(sent[0], encode(sent[1]))


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows as plain values, None for null."""
    columns = {
        name: [None if null else value for value, null in zip(frame[name].tolist(), frame[name].isna(), strict=True)]
        for name in frame.columns
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def expected(packet: Packet) -> dict[str, object]:
    """What the columns must say of a packet."""
    if isinstance(packet, IcmpError):
        told = packet.quoted
        return {
            "kind": packet.kind,
            "source_address": packet.source,
            "source_port": told.destination.port,
            "destination_address": packet.destination,
            "destination_port": told.source.port,
            "seq": packet.quoted_seq,
            "ttl": packet.ttl,
            "icmp_type": packet.type,
            "icmp_code": packet.code,
            "quoted_address": told.destination.address,
            **dict.fromkeys(("flags", "ack", "window", "options", "payload_length")),
        }
    return {
        "kind": packet.kind,
        "source_address": packet.source.address,
        "source_port": packet.source.port,
        "destination_address": packet.destination.address,
        "destination_port": packet.destination.port,
        "flags": int(packet.flags),
        "seq": packet.seq,
        "ack": packet.ack if packet.has_ack else None,
        "window": packet.window,
        "options": encode_options(packet.options),
        "payload_length": packet.payload_length,
        "ttl": packet.ttl,
        "icmp_type": None,
        "icmp_code": None,
        "quoted_address": None,
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(sent=st.lists(segments | errors, max_size=12))
def test_columns_say_what_was_sent(tmp_path: Path, sent: list[Segment | tuple[IcmpError, Segment]]) -> None:
    """Whatever segments and ICMP errors are written, IPv4 and IPv6 mixed: the rows are they, in their order."""
    recorded = [Recorded(START_NS + i, 0, octets_of(each), len(octets_of(each))) for i, each in enumerate(sent)]
    path = write_pcapng(tmp_path / "any.pcapng", [Interface("somewhere", RAW_IP)], recorded)
    rows = rows_of(read_capture(path))
    assert len(rows) == len(sent)
    for number, (row, each) in enumerate(zip(rows, sent, strict=True), 1):
        packet = each if isinstance(each, Segment) else each[0]
        assert row == expected(packet) | {
            "number": number,
            "time_ns": START_NS + number - 1,
            "interface": "somewhere",
            "direction": None,
        }


A, B = Endpoint("10.1.0.2", 4000), Endpoint("203.0.113.2", 5000)
CONVERSATION = [
    Segment(A, B, Flags.SYN, 100, options=(Mss(1460), SackPermitted(), Timestamps(1, 0), Nop(), WindowScale(7))),
    Segment(B, A, Flags.SYN | Flags.ACK, 500, 101, options=(Mss(1460),)),
    Segment(A, B, Flags.ACK, 101, 501),
    Segment(A, B, Flags.ACK | Flags.PSH, 101, 501, payload=b"hello"),
]
FRAMES = [bytes(12) + b"\x08\x00" + encode(segment) for segment in CONVERSATION]


def pcap(frames: list[bytes], *, order: str = "<", magic: int = 0xA1B23C4D, link_type: int = 1) -> bytes:
    """A pcap file's octets."""
    extra = bytes(8) if magic == 0xA1B2CD34 else b""
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262_144, link_type)
    return head + b"".join(
        struct.pack(f"{order}IIII", 1_700_000_000, index, len(frame), len(frame)) + extra + frame
        for index, frame in enumerate(frames)
    )


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    """A section header block."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", *, options: bytes = b"", snaplen: int = 0) -> bytes:
    """An interface description block."""
    return block(1, struct.pack(f"{order}HHI", 1, 0, snaplen) + options, order)


def enhanced(
    frame: bytes, ticks: int, *, order: str = "<", which: int = 0, options: bytes = b"", original: int | None = None
) -> bytes:
    """An enhanced packet block."""
    head = struct.pack(f"{order}IIIII", which, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), original or len(frame))
    return block(6, head + frame + bytes(-len(frame) % 4) + options, order)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], pd.DataFrame]:
    """Read octets as a capture file."""

    def through_a_file(octets: bytes) -> pd.DataFrame:
        path = tmp_path / "some.capture"
        path.write_bytes(octets)
        return read_capture(path)

    return through_a_file


Read = Callable[[bytes], pd.DataFrame]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1), (0xA1B2CD34, 1000)])
def test_every_pcap(read: Read, order: str, magic: int, unit_ns: int) -> None:
    """Both byte orders; microseconds, nanoseconds and the variant with longer record headers."""
    frame = read(pcap(FRAMES, order=order, magic=magic))
    assert frame["seq"].tolist() == [100, 500, 101, 101]
    assert frame["kind"].tolist() == ["SYN", "SYN-ACK", "ACK", "DATA"]
    assert frame["time_ns"].tolist() == [START_NS + index * unit_ns for index in range(4)]
    assert frame.attrs == {"packets": 4, "skipped": {}, "noted": {}}


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_packet_block(read: Read, order: str) -> None:
    """Enhanced, simple and obsolete packet blocks, with other blocks between them, in both byte orders."""
    old = struct.pack(f"{order}HHIIII", 0, 0, 0, 7, len(FRAMES[1]), len(FRAMES[1])) + FRAMES[1]
    simple = struct.pack(f"{order}I", len(FRAMES[2])) + FRAMES[2]
    octets = b"".join(
        (
            section(order),
            interface(order),
            enhanced(FRAMES[0], 5, order=order),
            block(0x0BAD, b"custom", order),
            block(2, old, order),
            block(3, simple, order),
            enhanced(FRAMES[3], 2**40, order=order),
        )
    )
    frame = read(octets)
    assert frame["seq"].tolist() == [100, 500, 101, 101]
    assert frame["time_ns"].tolist() == [5000, 7000, 0, 2**40 * 1000]
    assert frame["number"].tolist() == [1, 2, 3, 4]


def test_sections_of_both_byte_orders_in_one_file(read: Read) -> None:
    """Captures put one behind the other: each section with its own byte order and interfaces."""
    name = struct.pack("<HH", 2, 4) + b"eth0" + bytes(4)
    other = struct.pack(">HH", 2, 4) + b"eth1" + bytes(4)
    frame = read(
        section()
        + interface(options=name)
        + enhanced(FRAMES[0], 1)
        + section(">")
        + interface(">", options=other)
        + interface(">", options=struct.pack(">HH", 2, 4) + b"eth0" + bytes(4))
        + enhanced(FRAMES[1], 2, order=">")
        + enhanced(FRAMES[2], 3, order=">", which=1)
    )
    assert frame["interface"].tolist() == ["eth0", "eth1", "eth0"]
    assert frame["seq"].tolist() == [100, 500, 101]


@pytest.mark.parametrize(
    ("resolution", "ticks", "time_ns"),
    [
        (0, 1_700_000_000, START_NS),
        (3, 1_700_000_000_123, START_NS + 123_000_000),
        (9, START_NS + 1, START_NS + 1),
        (12, 5_000_001_999, 5_000_001),
        (0x80 | 10, (1_700_000_000 << 10) + 512, START_NS + 500_000_000),
        (0x80 | 32, (1_700_000_000 << 32) + 1, START_NS),
        (0x80 | 40, (5 << 40) + (1 << 39), 5_500_000_000),
    ],
)
def test_every_resolution(read: Read, resolution: int, ticks: int, time_ns: int) -> None:
    """Powers of ten and of two, finer than nanoseconds too; an offset in seconds is added."""
    resolved = struct.pack("<HHB3x", 9, 1, resolution)
    plain = read(section() + interface(options=resolved) + enhanced(FRAMES[0], ticks))
    assert plain["time_ns"].tolist() == [time_ns]
    moved = resolved + struct.pack("<HHq", 14, 8, 100) + bytes(4)
    assert read(section() + interface(options=moved) + enhanced(FRAMES[0], ticks))["time_ns"].tolist() == [
        time_ns + 100_000_000_000
    ]


def test_directions(read: Read) -> None:
    """Found among other options; what is neither in nor out is nothing; Linux cooked headers tell it too."""
    comment = struct.pack("<HH", 1, 5) + b"hello" + bytes(3)
    flags = [comment + struct.pack("<HHII", 2, 4, value, 0) for value in (1, 2, 0, 3)]
    octets = section() + interface() + b"".join(enhanced(FRAMES[0], 1, options=each) for each in flags)
    frame = read(octets)
    assert [None if value != value else value for value in frame["direction"]] == ["in", "out", None, None]  # noqa: PLR0124
    cooked = [bytes([0, kind, 0, 1, 0, 6]) + bytes(8) + b"\x08\x00" + encode(CONVERSATION[0]) for kind in (0, 4)]
    assert read(pcap(cooked, link_type=113))["direction"].tolist() == ["in", "out"]


@pytest.mark.parametrize("pack", [gzip.compress, lambda octets: pa.compress(octets, "zstd", asbytes=True)])
def test_packed_files(read: Read, pack: Callable[[bytes], bytes]) -> None:
    """Gzip and zstd are unpacked on the way; a packed file cut short gives what lies before the cut."""
    frames = [bytes(12) + b"\x08\x00" + encode(Segment(A, B, Flags.SYN, hash((1, i)) % 2**32)) for i in range(8000)]
    packed = pack(pcap(frames))
    assert len(read(packed)) == 8000
    part = read(packed[: len(packed) // 2])
    assert 100 < len(part) < 8000
    assert set(part.attrs["skipped"]) <= {records.CUT, records.UNREADABLE}
    assert sum(part.attrs["skipped"].values()) > 0


def test_pieces_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the file is cut into pieces, the rows are the same."""
    noise = random.Random(5)
    segments = [Segment(A, B, Flags.SYN, i, options=(Timestamps(i, 0),), payload=bytes(noise.randrange(90))) for i in range(500)]
    frames = [bytes(12) + b"\x08\x00" + encode(segment) for segment in segments]
    (tmp_path / "x.pcap").write_bytes(pcap(frames))
    write_pcapng(tmp_path / "x.pcapng", [Interface("one")], [Recorded(START_NS + i, 0, f, len(f)) for i, f in enumerate(frames)])
    for name in ("x.pcap", "x.pcapng"):
        whole = read_capture(tmp_path / name)
        for piece in (300, 1000, 4096):
            monkeypatch.setattr(source, "PIECE_BYTES", piece)
            pd.testing.assert_frame_equal(read_capture(tmp_path / name), whole)
            monkeypatch.undo()


def test_table_and_frame_agree(tmp_path: Path) -> None:
    """The Arrow table has the declared types and the frame's values; columns can be chosen."""
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(FRAMES))
    table = read_table(path)
    assert {field.name: field.type for field in table.schema} == COLUMNS
    assert table.to_pylist() == rows_of(read_capture(path))
    assert table.schema.metadata[b"packets"] == b"4"
    some = read_capture(path, columns=["seq", "kind"])
    assert list(some) == ["seq", "kind"]
    assert read_table(path, columns=["options"]).column_names == ["options"]
    with pytest.raises(BadParameter, match="no column 'sequence'"):
        read_capture(path, columns=["sequence"])


def test_pieces_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that do not fit into memory are read piece by piece, with the same rows and, at last, the same counts."""
    (tmp_path / "x.pcap").write_bytes(pcap(FRAMES * 100 + [bytes(60)]))
    (tmp_path / "y.pcap").write_bytes(pcap([]))
    monkeypatch.setattr(source, "PIECE_BYTES", 4096)
    frames = list(iter_captures([tmp_path / "x.pcap", tmp_path / "y.pcap"]))
    assert len(frames) > 5
    assert [row for frame in frames for row in rows_of(frame)] == rows_of(read_capture(tmp_path / "x.pcap"))
    assert frames[-2].attrs == {"packets": 401, "skipped": {"not IP": 1}, "noted": {}, "path": str(tmp_path / "x.pcap")}
    assert frames[-1].empty
    assert sum(map(len, iter_captures(str(tmp_path / "x.pcap"), columns=["seq"]))) == 400


# --- bad input ---


def test_no_capture_at_all(tmp_path: Path) -> None:
    """Not there, a folder, empty, something else: each is Unreadable and says why."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("this is no capture, is it?")
    (tmp_path / "magic only").write_bytes(b"\xd4\xc3\xb2\xa1")
    (tmp_path / "gzip of nothing").write_bytes(b"\x1f\x8bnonsense")
    for name in ("nowhere", ".", "empty", "text", "magic only", "gzip of nothing"):
        with pytest.raises(Unreadable):
            read_capture(tmp_path / name)


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_every_truncation_keeps_what_lies_before(read: Read, kind: str) -> None:
    """A file cut at any octet gives its whole records, and says that it was cut."""
    head = pcap([]) if kind == "pcap" else section() + interface()
    bodies = [pcap([frame])[24:] if kind == "pcap" else enhanced(frame, 9) for frame in FRAMES]
    octets = head + b"".join(bodies)
    ends = np.cumsum([len(head)] + [len(body) for body in bodies])
    for length in range(len(head), len(octets)):
        frame = read(octets[:length])
        assert len(frame) == np.searchsorted(ends, length, side="right") - 1
        assert frame.attrs["skipped"] == ({} if length in ends else {records.CUT: 1})


@pytest.mark.parametrize(
    ("octets", "rows", "reason"),
    [
        (pcap(FRAMES[:2]) + struct.pack("<IIII", 0, 0, 2**31, 60) + bytes(80), 2, records.BROKEN),
        (section() + interface() + enhanced(FRAMES[0], 1) + struct.pack("<II", 6, 8) + bytes(40), 1, records.BROKEN),
        (section() + interface() + enhanced(FRAMES[0], 1) + struct.pack("<II", 99, 0) + bytes(40), 1, records.BROKEN),
        (section() + interface() + enhanced(FRAMES[0], 1) + struct.pack("<II", 6, 2**31) + bytes(40), 1, records.BROKEN),
        (section() + interface() + enhanced(FRAMES[0], 1)[:-4] + bytes(4) + enhanced(FRAMES[1], 1), 0, records.BROKEN),
        (section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500) + FRAMES[0]), 0, records.LYING),
        (section() + enhanced(FRAMES[0], 1), 0, records.NO_INTERFACE),
        (pcap(FRAMES, link_type=195), 0, "link type 195"),
        (pcap([bytes(5)]), 0, "cut short by the capture"),
        (pcap([FRAMES[0][:40]]), 0, "malformed"),
        (section() + interface() + enhanced(FRAMES[0][:40], 1, original=74), 0, "cut short by the capture"),
        (pcap([bytes(12) + b"\x08\x06" + bytes(30)]), 0, "not IP"),
        (pcap([FRAMES[0][:46] + b"\x10" + FRAMES[0][47:]]), 0, "malformed"),
        (pcap([FRAMES[0][:14] + b"\x43" + FRAMES[0][15:]]), 0, "malformed"),
    ],
)
def test_damage_is_counted_by_its_reason(read: Read, octets: bytes, rows: int, reason: str) -> None:
    """Impossible lengths, lying blocks, unknown interfaces and link types, broken headers."""
    frame = read(octets)
    assert len(frame) == rows
    assert frame.attrs["skipped"][reason] >= 1


def test_rows_and_skipped_packets_add_up(read: Read) -> None:
    """Every packet is a row or is counted."""
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    udp = FRAMES[0][:23] + b"\x11" + FRAMES[0][24:]
    frame = read(pcap([*FRAMES, arp, udp, FRAMES[0][:20], *FRAMES]))
    assert frame.attrs["packets"] == len(frame) + sum(frame.attrs["skipped"].values()) == 11
    assert frame["number"].tolist() == [1, 2, 3, 4, 8, 9, 10, 11]


SEEDS = [
    pcap(FRAMES),
    pcap(FRAMES, order=">", magic=0xA1B2C3D4),
    section() + interface() + b"".join(enhanced(frame, 9, options=struct.pack("<HHII", 2, 4, 1, 0)) for frame in FRAMES),
    pcap([octets_of((error_about(CONVERSATION[0], (3, 13), 60), CONVERSATION[0]))] * 3, link_type=101),
    pcap([encode(Segment(Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2), Flags.SYN, 1))] * 3, link_type=101),
]
boundary = st.sampled_from([0, 1, 4, 6, 43, 44, 60, 127, 128, 254, 255]) | st.integers(0, 255)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
@given(seed=st.sampled_from(SEEDS), changes=st.lists(st.tuples(st.floats(0, 0.999), boundary), max_size=12), cut=st.floats(0, 1))
def test_mutated_files_never_raise_anything_else(
    tmp_path: Path, seed: bytes, changes: list[tuple[float, int]], cut: float
) -> None:
    """Octets changed and cut at will: rows and counted reasons, or Unreadable."""
    octets = bytearray(seed)
    for place, value in changes:
        octets[int(place * len(octets))] = value
    path = tmp_path / "mutated"
    path.write_bytes(octets[: max(4, int(cut * len(octets)))])
    try:
        frame = read_capture(path)
    except Unreadable:
        return
    assert len(frame) <= frame.attrs["packets"]


def flow_of(frame: pd.DataFrame) -> Flow:
    """The first row's flow."""
    row = frame.iloc[0]
    return Flow(
        Endpoint(row["source_address"], row["source_port"]), Endpoint(row["destination_address"], row["destination_port"])
    )


def test_an_error_lies_in_the_flow_of_the_answers(read: Read) -> None:
    """The ports of the quoted segment are turned round: the error is an answer to it."""
    sent = CONVERSATION[0]
    frame = read(pcap([octets_of((error_about(sent, (3, 1), 60), sent))], link_type=101))
    assert flow_of(frame) == Flow(Endpoint("198.51.100.1", B.port), A)
