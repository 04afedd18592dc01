"""A packet that a delay line held too long makes its attempt a disturbed one, wherever the line is."""

from __future__ import annotations

import pytest

from rawpunch.record.rows import SegmentRow
from rawpunch.scene import Inside, Scene
from rawpunch.study.measure import TRANSIT_TOLERANCE_NS, _delays, _held_late
from rawpunch.units import MS

AWAY = Scene.symmetric(20 * MS).model_copy(
    update={"inside_a": Inside(up_ns=30 * MS, down_ns=10 * MS), "inside_b": Inside(up_ns=5 * MS)}
)
HOPS = [
    ("hostA:eth0", "natA:in", 30 * MS),
    ("natA:in", "hostA:eth0", 10 * MS),
    ("core:a", "core:b", 20 * MS),
    ("core:b", "core:a", 20 * MS),
    ("hostB:eth0", "natB:in", 5 * MS),
    ("natB:in", "hostB:eth0", 0),
]


def _seen(vantage: str, direction: str, time_ns: int, seq: int = 7) -> SegmentRow:
    return SegmentRow(
        attempt="one",
        capture="part.pcapng",
        number=1,
        vantage=vantage,
        time_ns=time_ns,
        direction=direction,
        source_address="10.1.0.2",
        source_port=1,
        destination_address="203.0.113.2",
        destination_port=2,
        kind="SYN",
        flags=2,
        seq=seq,
        ack=None,
        window=1,
        options="",
        payload_length=0,
        ttl=64,
    )


def _hop(source: str, target: str, took_ns: int, seq: int = 7) -> list[SegmentRow]:
    """A packet that goes through a line, from one of its ends to the other."""
    came, left = ("in", "out") if source.startswith("core:") else ("out", "in")
    return [_seen(source, came, 1000, seq), _seen(target, left, 1000 + took_ns, seq)]


@pytest.mark.parametrize(("source", "target", "declared_ns"), HOPS)
def test_each_line_is_held_to_its_own_delay(source: str, target: str, declared_ns: int) -> None:
    """Up to the tolerance beyond it, and no further; a wider tolerance of the attempt's own counts."""
    declared = _delays(AWAY, (0, 0))
    most = declared_ns + TRANSIT_TOLERANCE_NS
    assert not _held_late(_hop(source, target, most), declared, 0)
    assert _held_late(_hop(source, target, most + 1), declared, 0)
    assert not _held_late(_hop(source, target, most + 1), declared, TRANSIT_TOLERANCE_NS + 1)


def test_packets_are_told_apart() -> None:
    """One that left in time is no excuse for another one, and one that never left is none that was late."""
    declared = _delays(AWAY, (0, 0))
    good, late = _hop("core:a", "core:b", 20 * MS), _hop("core:a", "core:b", 30 * MS, seq=8)
    assert _held_late([*good, *late], declared, 0)
    assert not _held_late([*good, late[0]], declared, 0)
    assert not _held_late([late[1]], declared, 0)


def test_without_an_inside_only_the_core_is_looked_at() -> None:
    """A cable holds nothing; and who does not know the scene goes by the delay that is given."""
    assert set(_delays(Scene.symmetric(20 * MS), (0, 0))) == {("core:a", "core:b"), ("core:b", "core:a")}
    assert _delays(None, (3, 4)) == {("core:a", "core:b"): 3, ("core:b", "core:a"): 4}
