"""Mutated captures: whatever a file holds, reading and classifying it neither crashes nor hangs nor takes all memory.

    python -m tests.capture.fuzz 1000000 [SEED]

Each input is a small good capture (pcap and pcapng in all their forms, plain and packed, every link type) with some octets
changed, cut out, doubled or put in, length fields above all. Allowed are a result, or `Unreadable`. Of each, the tables are made,
attempts are told, and now and then compared with the pure forms. A failing input is kept in a file that is named.
"""

from __future__ import annotations

import gzip
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import pyarrow as pa

from rawpunch.capture.classify import classify
from rawpunch.capture.columns import read_table
from rawpunch.capture.pcapng import Interface, Recorded, Statistics, write_pcapng
from rawpunch.errors import Unreadable
from tests.capture.agreement import agree
from tests.capture.test_against_tshark import LINKS, framed, write_pcap

FOLDER: Final = Path(__file__).parents[2] / "data" / "captures"
_SECONDS: Final = 5
"""No input may take longer; the usual one takes some milliseconds."""
_MEMORY: Final = 1 << 30
"""Octets that a process may take beyond what it has when it begins."""
_EVERY: Final = 20
"""So often is an input compared with the pure forms."""
_LENGTHS: Final = (
    0,
    1,
    3,
    4,
    8,
    11,
    12,
    15,
    16,
    28,
    32,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x40000,
    0x40001,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
_MAGICS: Final = (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34, 0x0A0D0D0A, 0x1A2B3C4D)


class Hang(Exception):
    """An input took too long."""


def seeds(folder: Path) -> list[bytes]:
    """Good captures to begin with."""
    found = [(FOLDER / f"{name}.pcapng").read_bytes() for name in ("simultaneous-raw-raw", "icmp_ended-kernel-kernel")]
    path = folder / "seed"
    for link, number in LINKS.items():
        write_pcap(path, number, framed(link))
        found.append(path.read_bytes())
    for order in "<>":
        for magic in (0xA1B2C3D4, 0xA1B23C4D):
            write_pcap(path, 1, framed("ethernet"), order=order, magic=magic, cut=70)
            found.append(path.read_bytes())
    frames = [(index, frame) for index, link in enumerate(LINKS) for frame in framed(link)]
    packets = [
        Recorded(10**18 + 1000 * at, index, frame, len(frame), outgoing=bool(at % 2)) for at, (index, frame) in enumerate(frames)
    ]
    interfaces = [Interface(name, number) for name, number in LINKS.items()]
    write_pcapng(path, interfaces, packets[::5], comment="seed", statistics={0: Statistics(received=5)})
    found.append(path.read_bytes())
    packed = pa.compress(found[0], codec="zstd", asbytes=True)
    return [*found, gzip.compress(found[2]), packed]


def mutated(dice: random.Random, good: list[bytes]) -> bytes:
    """One of them with up to a few changes."""
    data = bytearray(dice.choice(good))
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        dice.choice(_CHANGES)(dice, data)
        if dice.random() < 0.03:
            other = dice.choice(good)
            begin = dice.randrange(len(other))
            data += other[begin : begin + dice.randrange(1, 400)]
    return bytes(data)


def _place(dice: random.Random, data: bytearray) -> int:
    """Somewhere, rather at the beginning."""
    return dice.randrange(max(1, min(len(data), dice.choice((24, 64, 200, 1 << 20)))))


def _flip(dice: random.Random, data: bytearray) -> None:
    if data:
        data[_place(dice, data)] ^= 1 << dice.randrange(8)


def _octet(dice: random.Random, data: bytearray) -> None:
    if data:
        data[_place(dice, data)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def _number(dice: random.Random, data: bytearray) -> None:
    """A length, a magic or any number, of 16 or 32 bits, where such numbers stand."""
    size = dice.choice((2, 4, 4))
    value = dice.choice((dice.choice(_LENGTHS), dice.choice(_MAGICS), dice.randrange(1 << 32))) % (1 << 8 * size)
    at = _place(dice, data) // 4 * 4
    data[at : at + size] = value.to_bytes(size, dice.choice(("little", "big")))


def _cut(dice: random.Random, data: bytearray) -> None:
    del data[_place(dice, data) :]


def _remove(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    del data[at : at + dice.randrange(1, 40)]


def _insert(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    data[at:at] = dice.randbytes(dice.randrange(1, 40))


def _double(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    data[at:at] = data[at : at + dice.randrange(1, 600)]


def _block(dice: random.Random, data: bytearray) -> None:
    """A block of pcapng that says anything of itself."""
    at = _place(dice, data) // 4 * 4
    body = dice.randbytes(dice.randrange(0, 40))
    kind = dice.choice((1, 2, 3, 5, 6, 0x0A0D0D0A, dice.randrange(1 << 32)))
    length = dice.choice((12 + len(body), dice.choice(_LENGTHS)))
    data[at:at] = struct.pack("<II", kind, length) + body + struct.pack("<I", length)


_CHANGES: Final[tuple[Callable[[random.Random, bytearray], None], ...]] = (
    _flip,
    _octet,
    _number,
    _number,
    _cut,
    _remove,
    _insert,
    _double,
    _block,
)


def check(path: Path, *, compare: bool) -> bool:
    """Read and classify a file; whether it could be read at all."""
    try:
        table = read_table(path)
        found = classify(path)
    except Unreadable:
        return False
    assert found.files[0].rows == table.num_rows
    assert len(found.rows()) == len(found)
    if compare:
        agree(found)
    return True


def fuzz(count: int, seed: int, *, kept: Path) -> int:
    """Try so many inputs; how many could be read.

    Raises:
        Exception: whatever an input brought about; the input is in the file `kept`.
    """
    dice = random.Random(seed)
    signal.signal(signal.SIGALRM, _hang)
    readable = 0
    with tempfile.TemporaryDirectory() as folder:
        good = seeds(Path(folder))
        path = Path(folder) / "input"
        for number in range(count):
            data = mutated(dice, good)
            path.write_bytes(data)
            signal.alarm(_SECONDS)
            try:
                readable += check(path, compare=number % _EVERY == 0)
            except BaseException:
                kept.write_bytes(data)
                raise
            finally:
                signal.alarm(0)
    return readable


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang(f"an input took more than {_SECONDS} s ({number} at {frame})")


def main() -> None:
    """Fuzz within limits of memory and time."""
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    with tempfile.TemporaryDirectory() as folder:
        for name in seeds(Path(folder)):  # all libraries are loaded and warm
            (Path(folder) / "warm").write_bytes(name)
            check(Path(folder) / "warm", compare=True)
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, -1))
    kept = Path(tempfile.gettempdir()) / f"rawpunch-fuzz-{seed}"
    began = time.monotonic()
    try:
        readable = fuzz(count, seed, kept=kept)
    except BaseException:
        print(f"failed; seed {seed}, the input is {kept}", file=sys.stderr)  # noqa: T201 - a script's own word
        raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    print(f"{count} inputs, {readable} readable, seed {seed}, {time.monotonic() - began:.0f} s, {peak} MB at most")  # noqa: T201


if __name__ == "__main__":
    main()
