"""Finding records many at a time gives what finding them one by one gives, whatever the payloads look like."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rawpunch.capture import chain as chain_module
from rawpunch.capture.blocks import _framing
from rawpunch.capture.chain import Framing, chain
from rawpunch.capture.records import Bytes
from rawpunch.capture.source import PAD

SECONDS = 1_700_000_000


@pytest.fixture
def few_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walk in step from the first handful of records on."""
    monkeypatch.setattr(chain_module, "_FIRST", 4)
    monkeypatch.setattr(chain_module, "_WORTH", 8)
    monkeypatch.setattr(chain_module, "_EACH", 3)


def record(payload: bytes, *, order: str = "<", seconds: int = SECONDS, lie: int = 0) -> bytes:
    """A pcap record; its length is wrong by `lie`."""
    length = len(payload) + lie
    return struct.pack(f"{order}IIII", seconds, 5, length, length) + payload


def padded(octets: bytes) -> Bytes:
    """The octets with what must lie behind them."""
    return np.frombuffer(octets + bytes(PAD), np.uint8)


def found(octets: bytes, order: str = "<") -> tuple[list[int], int, bool]:
    """What `chain` finds."""
    data = padded(octets)
    starts, end, broken = chain(data, 0, len(octets), _framing(data, order, 16))
    return starts.tolist(), end, broken


def one_by_one(octets: bytes, order: str = "<") -> tuple[list[int], int, bool]:
    """The plain loop, as the format's description has it."""
    starts: list[int] = []
    at = 0
    while at + 16 <= len(octets):
        (length,) = struct.unpack_from(f"{order}I", octets, at + 8)
        if length > 262_144:
            return starts, at, True
        if at + 16 + length > len(octets):
            break
        starts.append(at)
        at += 16 + length
    return starts, at, False


fakes = st.builds(lambda lie, count: record(bytes(20), lie=lie) * count, st.integers(-20, 60), st.integers(1, 3))
payloads = st.binary(max_size=60) | st.integers(0, 90).map(bytes) | fakes
conversations = st.lists(payloads, min_size=30, max_size=200)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(payloads=conversations, order=st.sampled_from("<>"), cut=st.integers(0, 90))
@pytest.mark.usefixtures("few_are_worth_it")
def test_payloads_that_look_like_records_deceive_nobody(payloads: list[bytes], order: str, cut: int) -> None:
    """Guesses may be wrong; what is found is not."""
    octets = b"".join(record(payload, order=order) for payload in payloads)
    octets = octets[: len(octets) - cut]
    assert found(octets, order) == one_by_one(octets, order)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(payloads=conversations, place=st.floats(0, 0.999), value=st.integers(0, 255))
@pytest.mark.usefixtures("few_are_worth_it")
def test_damage_is_found_where_it_is(payloads: list[bytes], place: float, value: int) -> None:
    """One octet changed anywhere: the same records, the same end, the same verdict."""
    octets = bytearray(b"".join(record(payload) for payload in payloads))
    octets[int(place * len(octets))] = value
    assert found(bytes(octets)) == one_by_one(bytes(octets))


def test_many_records() -> None:
    """With the true limits: a hundred thousand records of any length, some of them long."""
    noise = random.Random(3)
    octets = b"".join(record(bytes(noise.choice((54, 66, 74, 74, 90, noise.randrange(1500))))) for _ in range(20_000))
    assert found(octets) == one_by_one(octets)
    assert len(found(octets)[0]) == 20_000
    same = record(bytes(74)) * 100_000
    assert found(same) == one_by_one(same)


@pytest.mark.usefixtures("few_are_worth_it")
def test_a_word_may_stop_the_chain() -> None:
    """A section header ends a pcapng section's chain, however far the walk had looked ahead."""

    def block(kind: int) -> bytes:
        return struct.pack("<II", kind, 32) + bytes(20) + struct.pack("<I", 32)

    framing = Framing("<", 4, 0, 12, 1 << 20, 4, lambda data, places: np.frombuffer(data, np.uint8)[places] == 6, 7)
    for before in (0, 1, 5, 50, 500):
        data = padded(block(6) * before + block(7) + block(6) * 100)
        starts, end, broken = chain(data, 0, len(data) - PAD, framing)
        assert (len(starts), end, broken) == (before, 32 * before, False)


def test_nothing_at_all() -> None:
    """No octets, no records."""
    assert found(b"") == ([], 0, False)
    assert found(bytes(15)) == ([], 0, False)


@pytest.mark.usefixtures("few_are_worth_it")
def test_records_that_no_guess_finds() -> None:
    """Times that leap by years make every guess fail; the records are found one by one."""
    octets = b"".join(record(bytes(30), seconds=i * 50_000_000 % 2**32) for i in range(2000))
    assert found(octets) == one_by_one(octets)


def test_a_capture_inside_a_capture() -> None:
    """Payloads full of true-looking records: wrong guesses cost time, within reason, and nothing else."""
    inner = b"".join(record(bytes(17)) for _ in range(12))
    octets = record(inner) * 20_000
    began = time.process_time()
    assert found(octets) == one_by_one(octets)
    assert time.process_time() - began < 5
