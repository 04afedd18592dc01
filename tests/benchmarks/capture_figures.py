"""Figures of decoding and classifying captures, beside tshark and scapy in the same run; medians.

./dev run python tests/benchmarks/capture_figures.py [--segments 300000] [--repeats 5] [--scapy 20000] [--gigabytes 2]

The capture is made of ordinary handshakes that overlap: Ethernet, IPv4, SYN and SYN-ACK with the usual options.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import Flags, Segment

NINE: Final = {
    "time_ns": "frame.time_epoch",
    "source_address": "ip.src",
    "source_port": "tcp.srcport",
    "destination_address": "ip.dst",
    "destination_port": "tcp.dstport",
    "flags": "tcp.flags",
    "seq": "tcp.seq",
    "ack": "tcp.ack_raw",
    "payload_length": "tcp.len",
}
"""Column -> tshark's field."""
BARS: Final = {"tshark": 40, "scapy": 300}

_HEAD: Final = np.dtype([("second", "<u4"), ("nanosecond", "<u4"), ("captured", "<u4"), ("original", "<u4")])
_FRAME: Final = 74
_IP: Final = 14
_TCP: Final = 34
_START_S: Final = 1_700_000_000
_A, _B = Endpoint("10.0.0.0", 1), Endpoint("198.51.100.7", 443)


def handshakes(flows: int, number: int = 0) -> npt.NDArray[np.uint8]:
    """The records of so many three-way handshakes, in order of time; (3 * flows, 90) octets.

    Args:
        flows: how many, up to 2**20.
        number: other endpoints and a later time for each number, up to 255.
    """
    usual = (Mss(1460), SackPermitted(), Timestamps(7, 0), Nop(), WindowScale(7))
    later = (Nop(),) * 20  # all frames are of one length
    kinds = ((_A, _B, Flags.SYN, usual), (_B, _A, Flags.SYN | Flags.ACK, usual), (_A, _B, Flags.ACK, later))
    dice = np.random.default_rng(number)
    flow = np.arange(flows)
    isn = dice.integers(0, 1 << 32, (2, flows), np.uint64).astype(np.uint32)
    address = (10 << 24 | number << 16 | flow >> 12).astype(">u4")
    port = (flow % 4096 + 20_000).astype(">u2")
    parts, times = [], []
    for step, (source, destination, flags, options) in enumerate(kinds):
        frame = bytes(12) + b"\x08\x00" + encode(Segment(source, destination, flags, 0, options=options))
        record = np.zeros((flows, _HEAD.itemsize + _FRAME), np.uint8)
        record[:, _HEAD.itemsize :] = np.frombuffer(frame, np.uint8)
        body = record[:, _HEAD.itemsize :]
        back = source == _B
        body[:, _IP + (16 if back else 12) : _IP + (20 if back else 16)] = address.view(np.uint8).reshape(flows, 4)
        body[:, _TCP + (2 if back else 0) : _TCP + (4 if back else 2)] = port.view(np.uint8).reshape(flows, 2)
        seq = isn[1] if back else isn[0] + np.uint32(step > 0)
        ack = np.zeros(flows, np.uint32) if step == 0 else (isn[0] if back else isn[1]) + np.uint32(1)
        body[:, _TCP + 4 : _TCP + 12] = np.column_stack([seq, ack]).astype(">u4").view(np.uint8).reshape(flows, 8)
        parts.append(record)
        times.append(flow * 10_000 + step * 20_000_000 + dice.integers(0, 1_000_000, flows) + number * 20_000_000_000)
    records, time_ns = np.concatenate(parts), np.concatenate(times)
    order = np.argsort(time_ns)
    head = np.zeros(len(order), _HEAD)
    head["second"], head["nanosecond"] = _START_S + time_ns[order] // 10**9, time_ns[order] % 10**9
    head["captured"] = head["original"] = _FRAME
    records = records[order]
    records[:, : _HEAD.itemsize] = head.view(np.uint8).reshape(len(order), _HEAD.itemsize)
    return records


def write(path: Path, segments: int, octets: int = 0) -> int:
    """A pcap file of so many segments, or of so many octets if that is more; how many segments it has."""
    written = 0
    with path.open("wb") as file:
        file.write(np.array([0xA1B23C4D, 4 << 16 | 2, 0, 0, 262_144, 1], "<u4").tobytes())
        number = 0
        while written == 0 or file.tell() < octets:
            file.write(handshakes(segments // 3, number).tobytes())
            written += segments // 3 * 3
            number += 1
    return written


def timed(work: Callable[[], Any], repeats: int) -> float:
    """The median of some runs, in seconds."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)


def decode_figures(path: Path, segments: int, repeats: int, of_scapy: int) -> None:
    """Decoding to a DataFrame, tshark's and scapy's reading of the same."""
    import scapy.layers.inet  # noqa: PLC0415 - it would lengthen the other figures' imports; without it nothing is dissected
    from scapy.utils import PcapReader  # noqa: PLC0415 - as above

    from rawpunch.capture.columns import read_capture  # noqa: PLC0415 - as above

    read_capture(path, columns=list(NINE))
    own = segments / timed(lambda: read_capture(path, columns=list(NINE)), repeats)
    every = segments / timed(lambda: read_capture(path), repeats)
    print(f"decode of {segments} segments to a DataFrame, warm: {own / 1e6:.2f} M/s (nine columns), {every / 1e6:.2f} M/s (all)")
    if shutil.which("tshark"):
        fields = [word for name in NINE.values() for word in ("-e", name)]
        command = ["tshark", "-n", "-r", str(path), "-T", "fields", *fields]
        theirs = segments / timed(lambda: subprocess.run(command, check=True, capture_output=True), max(1, repeats // 2))
        print(f"  tshark -T fields: {theirs / 1e6:.3f} M/s; ratio {own / theirs:.0f} (bar {BARS['tshark']})")

    def with_scapy() -> None:
        with PcapReader(str(path)) as reader:
            for number, packet in enumerate(reader, 1):
                if number == 1:
                    assert packet.haslayer(scapy.layers.inet.TCP)
                if number == of_scapy:
                    break

    theirs = min(of_scapy, segments) / timed(with_scapy, max(1, repeats // 2))
    print(
        f"  scapy's PcapReader, first {of_scapy} packets: {theirs / 1e6:.4f} M/s; ratio {own / theirs:.0f} (bar {BARS['scapy']})"
    )


def first_call_figures(path: Path, repeats: int) -> None:
    """The first call in a fresh process, over what the imports take."""
    script = (
        "import sys, time; import pandas, rawpunch; rawpunch.read_capture; began = time.perf_counter(); "
        "rawpunch.read_capture(sys.argv[1]); print(time.perf_counter() - began)"
    )
    taken = [
        float(subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats)
    ]
    print(f"first call in a fresh process: {median(taken):.2f} s over the imports (bar 0.8 s)")


def classify_figures(path: Path, segments: int, repeats: int) -> None:
    """Classifying, with and without the reading of the file."""
    from rawpunch.capture.attempts import sort_packets  # noqa: PLC0415 - as above
    from rawpunch.capture.classify import classify  # noqa: PLC0415 - as above
    from rawpunch.capture.counting import count_all  # noqa: PLC0415 - as above
    from rawpunch.capture.merging import merge  # noqa: PLC0415 - as above
    from rawpunch.capture.packets import read_packets  # noqa: PLC0415 - as above
    from rawpunch.capture.readings import read  # noqa: PLC0415 - as above
    from rawpunch.capture.telling import tell_all  # noqa: PLC0415 - as above

    packets = read_packets([path])

    def without_reading() -> None:
        ordered = sort_packets(packets)
        views = merge(packets, ordered)
        tell_all(packets, ordered, views, read(packets, ordered, views))
        count_all(packets, ordered, views)

    alone = segments / timed(without_reading, repeats)
    whole = segments / timed(lambda: classify(path), repeats)
    print(f"classify: {whole / 1e6:.2f} M segments/s from the file, {alone / 1e6:.2f} M/s once decoded (bar 1 M/s)")


def memory_figures(folder: Path, octets: int, segments: int) -> None:
    """A large capture decoded and classified by the command line, and what the process had resident at most."""
    path = folder / "large.pcap"
    there = write(path, segments, octets)
    for words in (["decode", str(path), "-o", str(folder / "out")], ["classify", str(path), "--most", "1"]):
        began = time.perf_counter()
        pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "rawpunch.cli.app", *words], os.environ)
        _, status, usage = os.wait4(pid, 0)
        taken = time.perf_counter() - began
        print(
            f"{words[0]} of {path.stat().st_size / 1e9:.2f} GB, {there / 1e6:.1f} M segments: {taken:.0f} s, "
            f"{usage.ru_maxrss / 1e6:.2f} GB resident at most (bar 1.5 GB), exit code {os.waitstatus_to_exitcode(status)}"
        )


def main() -> None:
    """All figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--segments", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scapy", type=int, default=20_000, help="packets that scapy reads")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the large capture; 0 leaves it out")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rawpunch-") as name:
        folder = Path(name)
        path = folder / "handshakes.pcap"
        segments = write(path, wanted.segments)
        decode_figures(path, segments, wanted.repeats, wanted.scapy)
        first_call_figures(path, wanted.repeats)
        classify_figures(path, segments, wanted.repeats)
        if wanted.gigabytes:
            memory_figures(folder, round(wanted.gigabytes * 1e9), wanted.segments)


if __name__ == "__main__":
    main()
