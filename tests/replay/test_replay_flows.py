"""Scripts out of capture files: the right flow, its payload, and a clear word where there is none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rawpunch.capture.pcapng import RAW_IP, Interface, Recorded, write_pcapng
from rawpunch.errors import Malformed, UnknownName, Unreadable
from rawpunch.record.pattern import View
from rawpunch.record.words import Pattern
from rawpunch.replay.flows import Captures
from rawpunch.replay.part import Part
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment
from tests.replay.stage import A, B, opened

SHARED = Path(__file__).parents[3] / "shared" / "captures"


def written(path: Path, *views: View, names: tuple[str, ...] = ("hostA:eth0", "hostB:eth0")) -> Path:
    """A capture of what some hosts saw."""
    packets = []
    for index, view in enumerate(views):
        own = view.a if view.at == "a" else view.b
        for seen in view.seen:
            assert isinstance(seen.packet, Segment)
            data = encode(seen.packet)
            packets.append(Recorded(seen.time_ns, index, data, len(data), seen.packet.source == own))
    packets.sort(key=lambda packet: packet.time_ns)
    return write_pcapng(path, [Interface(name, RAW_IP) for name in names[: len(views)]], packets)


def test_a_capture_of_both_hosts_is_one_script(tmp_path: Path) -> None:
    """Interfaces of one file, and several files, give the same script."""
    views = opened(offset_ns=7 * MS)
    together = Captures([written(tmp_path / "both.pcapng", *views)])
    apart = Captures([written(tmp_path / "a.pcapng", views[0]), written(tmp_path / "b.pcapng", views[1], names=("hostB:eth0",))])
    for captures in (together, apart):
        assert len(captures) == 1
        script = captures.script(1)
        assert script.told.pattern is Pattern.SIMULTANEOUS
        assert script.offset_ns == 7 * MS
        assert [line.packet.kind for line in script.a.sent] == ["SYN", "SYN-ACK", "ACK"]
        assert (script.a.local, script.b.local) == (A, B)


def test_payload_bytes_come_along(tmp_path: Path) -> None:
    """What was said is said again, byte for byte; what the capture cut off is zeros of the same length."""
    data = Segment(A, B, Flags.ACK | Flags.PSH, 101, 301, payload=b"hello")
    segments = [Segment(A, B, Flags.SYN, 100), Segment(B, A, Flags.SYN | Flags.ACK, 300, 101), data]
    recorded = [Recorded(at * MS, 0, encode(segment), len(encode(segment))) for at, segment in enumerate(segments)]
    cut = encode(data)
    recorded.append(Recorded(9 * MS, 0, cut[:-3], len(cut)))
    captures = Captures([write_pcapng(tmp_path / "x.pcapng", [Interface("x", RAW_IP)], recorded)])
    sent = [line.packet for line in captures.script(1).a.sent]
    assert isinstance(sent[1], Segment)
    assert isinstance(sent[2], Segment)
    assert sent[1].payload == b"hello"
    assert (sent[2].payload, sent[2].payload_length) == (b"he", 5)
    part = Part(captures.script(1).a)
    part.write(tmp_path / "part.json")
    again = Part.read(tmp_path / "part.json").track.sent[2].packet
    assert isinstance(again, Segment)
    assert again.payload == b"he\0\0\0"


def test_a_part_of_a_replay_reads_back(tmp_path: Path) -> None:
    """Each side survives its way to the process that plays it; anything else in the file is said so."""
    captures = Captures([written(tmp_path / "x.pcapng", *opened())])
    for track in (captures.script(1).a, captures.script(1).b):
        Part(track, 2.0, 5 * SECOND).write(tmp_path / "p.json")
        assert Part.read(tmp_path / "p.json") == Part(track, 2.0, 5 * SECOND)
    for text in ("", "{}", "[]", '{"format": "other"}', "\x00"):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(Unreadable, match="no part of a replay"):
            Part.read(tmp_path / "p.json")
    with pytest.raises(Unreadable):
        Part.read(tmp_path / "absent.json")


def test_flows_have_numbers(tmp_path: Path) -> None:
    """In order of their first packets; another number is refused with what there is."""
    pairs = [(Endpoint("10.0.0.1", 1000 + n), Endpoint("10.0.0.2", 80)) for n in range(3)]
    recorded = [Recorded(n * SECOND, 0, encode(Segment(a, b, Flags.SYN, 77 + n)), 40) for n, (a, b) in enumerate(pairs)]
    captures = Captures([write_pcapng(tmp_path / "x.pcapng", [Interface("x", RAW_IP)], recorded)])
    assert [captures.script(number).a.local.port for number in (1, 2, 3)] == [1000, 1001, 1002]
    for number in (0, 4, -1):
        with pytest.raises(UnknownName, match=f"no flow {number}"):
            captures.script(number)


def test_a_flow_without_syn_is_no_script(tmp_path: Path) -> None:
    """The capture begins inside the connection."""
    data = encode(Segment(A, B, Flags.ACK, 5, 6, payload=b"x"))
    captures = Captures([write_pcapng(tmp_path / "x.pcapng", [Interface("x", RAW_IP)], [Recorded(1, 0, data, len(data))])])
    with pytest.raises(Malformed, match=r"flow 1 .* has no SYN"):
        captures.script(1)


def test_a_truncated_file_gives_what_lies_before(tmp_path: Path) -> None:
    """The flow up to the damage is played, and what was skipped is counted; a file that is no capture is refused."""
    path = written(tmp_path / "x.pcapng", *opened(offset_ns=7 * MS))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    captures = Captures([path])
    script = captures.script(1)
    assert sum(captures.skipped.values()) == 1
    assert 0 < len(script.a.sent) + len(script.b.sent) < 6
    path.write_bytes(whole[:10])
    with pytest.raises(Malformed, match="no TCP") as caught:
        Captures([path])
    assert "file ends inside a record" in caught.value.why
    path.write_bytes(b"not a capture at all, but long enough to look at")
    with pytest.raises(Unreadable):
        Captures([path])
    with pytest.raises(Unreadable):
        Captures([tmp_path / "absent.pcap"])


def test_a_capture_without_tcp_is_refused(tmp_path: Path) -> None:
    """UDP alone makes no script; the message says what was there."""
    udp = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes(4), bytes(4)) + bytes(8)
    path = write_pcapng(tmp_path / "x.pcapng", [Interface("x", RAW_IP)], [Recorded(1, 0, udp, len(udp))])
    with pytest.raises(Malformed, match="no TCP") as caught:
        Captures([path])
    assert "neither TCP" in caught.value.why


@pytest.mark.skipif(not SHARED.is_dir(), reason="the captures for trying things out are not here")
@pytest.mark.parametrize("hosts", ["A", "B", "AB", "NANB", "ANANBB"])
def test_captures_of_others_lab_make_a_crossing(hosts: str) -> None:
    """However few of its vantage points are given, the true simultaneous open is one script that starts on both sides."""
    names = {"A": ["A"], "B": ["B"], "AB": ["A", "B"], "NANB": ["NA", "NB"], "ANANBB": ["A", "NA", "NB", "B"]}[hosts]
    captures = Captures([SHARED / f"lab-crossing-{name}.pcap" for name in names])
    script = captures.script(1)
    assert script.told.pattern is Pattern.SIMULTANEOUS
    assert script.offset_ns is not None
    assert abs(script.offset_ns) < MS
    assert [line.packet.kind for line in script.a.sent[:3]] == ["SYN", "SYN-ACK", "ACK"]
