"""A capture that does not fit into memory is classified as one that does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from rawpunch.capture.classified import Classified, Whole
from rawpunch.capture.classify import classify
from rawpunch.capture.parted import Parted
from rawpunch.capture.pcapng import Interface, Recorded, write_pcapng
from rawpunch.capture.spill import _shared
from rawpunch.errors import MachineCannot, UnknownName, Unreadable
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.segment import Flags, Segment

FOLDER = Path(__file__).parents[2] / "data" / "captures"
CAPTURES = sorted(FOLDER.glob("*-raw-raw.pcapng")) + sorted(FOLDER.glob("truncated*.pcapng"))


def both(*paths: Path) -> tuple[Classified, Classified]:
    """Classified in memory, and in parts."""
    in_memory, in_parts = classify(paths), classify(paths, held=0)
    assert isinstance(in_memory, Whole)
    assert isinstance(in_parts, Parted)
    return in_memory, in_parts


def alike(*paths: Path) -> None:
    """Whether both say the same of everything."""
    in_memory, in_parts = both(*paths)
    assert in_parts.rows() == in_memory.rows()
    assert in_parts.rows(1, 3) == in_memory.rows(1, 3)
    assert (len(in_parts), in_parts.segments, in_parts.by_pattern()) == (
        len(in_memory),
        in_memory.segments,
        in_memory.by_pattern(),
    )
    assert (in_parts.files, in_parts.vantages, in_parts.skipped()) == (in_memory.files, in_memory.vantages, in_memory.skipped())
    for attempt in range(len(in_memory)):
        one, other = (found.packets_of(attempt).drop(columns="view") for found in (in_parts, in_memory))  # their numbers are free
        assert one.equals(other)
        assert in_parts.views_of(attempt) == in_memory.views_of(attempt)
    assert in_parts.flows.equals(in_memory.flows)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_one_file_of_eight_vantage_points(path: Path) -> None:
    """The views of an attempt are found together, whatever NATs made of them."""
    alike(path)


def test_several_files() -> None:
    """Some attempts from several files, their vantage points named after these."""
    alike(*CAPTURES)


def many(path: Path, flows: int) -> None:
    """Handshakes of many clients, each seen on both sides of a NAT by one interface; every third one's ISN is a scanner's."""
    packets = []
    server = Endpoint("198.51.100.7", 443)
    for flow in range(flows):
        inside, outside = Endpoint(f"10.0.{flow >> 8}.{flow & 255}", 4000), Endpoint("203.0.113.1", 1024 + flow)
        isn = 77 if flow % 3 == 0 else 1_000_003 * flow
        for step, (seq, ack, flags) in enumerate(((isn, 0, "S"), (9 * flow, isn + 1, "SA"), (isn + 1, 9 * flow + 1, "A"))):
            for hop, client in enumerate((inside, outside) if step != 1 else (outside, inside)):
                source, destination = (server, client) if step == 1 else (client, server)
                bits = Flags(sum({"S": Flags.SYN, "A": Flags.ACK}[letter] for letter in flags))
                octets = encode(Segment(source, destination, bits, seq, ack, ttl=64 - hop))
                at_ns = 10**18 + flow * 3_000 + step * 20_000_000 + hop * 40_000
                packets.append(Recorded(at_ns, 0, octets, len(octets)))
    packets.sort(key=lambda packet: packet.time_ns)
    write_pcapng(path, [Interface("any", 101)], packets)


def test_many_flows(tmp_path: Path) -> None:
    """A thousand, half of them the other half's translations."""
    many(tmp_path / "many.pcapng", 500)
    in_memory, in_parts = both(tmp_path / "many.pcapng")
    assert in_parts.rows() == in_memory.rows()
    assert len(in_memory) < 1000  # some were found to be the same on both sides of the NAT


def test_its_bounds(tmp_path: Path) -> None:
    """It is used above so many packets, not before; a number too high is refused; what is no capture is told."""
    many(tmp_path / "many.pcapng", 10)
    assert isinstance(classify(tmp_path / "many.pcapng", held=60), Whole)
    found = classify(tmp_path / "many.pcapng", held=59)
    assert isinstance(found, Parted)
    with pytest.raises(UnknownName):
        found.packets_of(len(found))
    (tmp_path / "none.pcap").write_bytes(b"no capture at all")
    with pytest.raises(Unreadable):
        classify([tmp_path / "many.pcapng", tmp_path / "none.pcap"], held=5)


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is told, not a traceback."""
    many(tmp_path / "many.pcapng", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(MachineCannot, match="room for temporary files"):
        classify(tmp_path / "many.pcapng", held=0)


def test_flows_with_an_isn_in_common() -> None:
    """They are found among many, and only they."""
    flows = np.arange(1000, dtype=np.uint64)
    keys = flows.copy()
    keys[[3, 500]] = 7, 7
    shared = _shared(np.concatenate([keys, keys]), np.concatenate([flows, flows]))
    assert shared.tolist() == [3, 7, 500]
