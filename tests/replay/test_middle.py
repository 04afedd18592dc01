"""What a script shows of the devices between its hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.replay.flows import Captures
from rawpunch.replay.middle import Middle, middle_of
from rawpunch.replay.script import SideName, script_of
from tests.replay.stage import opened

BOTH: frozenset[SideName] = frozenset(("a", "b"))
ONLY_A: frozenset[SideName] = frozenset(("a",))
FOLDER = Path(__file__).parents[2] / "data" / "captures"


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("simultaneous-kernel-kernel", Middle(BOTH, answer="drop")),
        ("refused-kernel-kernel", Middle(BOTH, answer="rst")),
        ("icmp_ended-kernel-kernel", Middle(BOTH, answer="icmp")),
        ("three_way-kernel-kernel", Middle(ONLY_A, answer="drop")),
        ("split-raw-raw", Middle(ONLY_A, answer="drop")),
    ],
)
def test_the_reference_captures(name: str, middle: Middle) -> None:
    """Translated endpoints, and RSTs and ICMP errors that no host sent, are a NAT's."""
    assert middle_of(Captures([FOLDER / f"{name}.pcapng"]).script(1)) == middle


def test_one_view() -> None:
    """Seen at one host only, a peer that resets is the peer."""
    assert middle_of(script_of("x", opened(offset_ns=None)[:1])) == Middle(frozenset(), answer="drop")
