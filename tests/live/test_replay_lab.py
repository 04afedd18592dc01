"""Replays through real kernels and NATs: what this lab did it does again, and a live stack believes a replayed peer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from rawpunch.dataset.store import load
from rawpunch.dataset.store import verify as verify_run
from rawpunch.ending import Ending
from rawpunch.errors import MachineCannot, PartialData
from rawpunch.live.replay_alone import play_alone
from rawpunch.live.sockets import RawPort
from rawpunch.record.pattern import tell
from rawpunch.record.words import Pattern
from rawpunch.replay.compare import Fate
from rawpunch.replay.flows import Captures
from rawpunch.replay.part import Part
from rawpunch.replay.script import Script, script_of
from rawpunch.replay.text import parse_text
from rawpunch.scene import Scene, UnsolicitedAnswer
from rawpunch.study.bench import LabBench, Planned, Recording
from rawpunch.study.experiment import Attempt
from rawpunch.study.measure import rows_of
from rawpunch.study.replaying import Replay, Replayed, play, play_and_keep
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint
from tests.replay.stage import opened

pytestmark = pytest.mark.lab

ONE_WAY_NS = 10 * MS
TRIES = 8
T = TypeVar("T")
SHARED = Path(__file__).parents[3] / "shared" / "captures"


@pytest.fixture(scope="module")
def bench() -> Iterator[LabBench]:
    """One bench for all tests of this file; each test chooses its scene."""
    with LabBench(12) as built:
        yield built


def undisturbed(bench: LabBench, make: Callable[[], tuple[T, Recording]]) -> T:
    """Make something until the machine did not stall in the middle: then another cell would have happened than was planned."""
    for _ in range(TRIES):
        result, recording = make()
        assert recording.dropped == 0
        rows = rows_of(recording, driver="replay", capture_name="x", one_way_ns=bench.lab.scene.one_way_ns)
        if not any(row.disturbed for row in rows.attempts):
            return result
    pytest.fail(f"the machine stalled in {TRIES} attempts of {TRIES}")


def made(bench: LabBench, folder: Path, attempt: Attempt, answer: str) -> Script:
    """The script of a handshake that this lab has just made."""
    bench.use(Scene.symmetric(ONE_WAY_NS, UnsolicitedAnswer(answer)))

    def make() -> tuple[Script, Recording]:
        recording = bench.make([Planned("t", "cell", {}, 0, attempt)], folder / "original.pcapng")
        captures = Captures([folder / "original.pcapng"])
        assert len(captures) == 1
        return captures.script(1), recording

    return undisturbed(bench, make)


def again(bench: LabBench, folder: Path, replay: Replay) -> Replayed:
    """Play it once."""

    def make() -> tuple[Replayed, Recording]:
        (replayed,), recording = play(replay, bench, folder / "replay.pcapng")
        return replayed, recording

    return undisturbed(bench, make)


@pytest.mark.parametrize(("end_a", "end_b"), [("kernel", "kernel"), ("raw", "kernel"), ("raw", "raw")])
@pytest.mark.parametrize(
    ("answer", "offset_ns", "pattern"),
    [
        ("drop", 0, Pattern.SIMULTANEOUS),
        ("drop", 15 * MS, Pattern.HALF_SIMULTANEOUS),
        ("rst", 2 * ONE_WAY_NS, Pattern.REFUSED),
    ],
)
def test_what_this_lab_did_it_does_again(
    bench: LabBench, tmp_path: Path, end_a: str, end_b: str, answer: str, offset_ns: int, pattern: Pattern
) -> None:
    """Both sides through the same NATs: same pattern, same outcome, every packet as captured."""
    script = made(bench, tmp_path, Attempt(end_a, end_b, offset_ns=offset_ns), answer)
    assert script.told.pattern is pattern
    replayed = again(bench, tmp_path, Replay(script))
    assert replayed.comparison.replayed.pattern is pattern
    assert replayed.comparison.same_outcome
    assert replayed.comparison.first_difference is None
    assert (replayed.done.a.cause, replayed.done.b.cause) == ("", "")


def test_another_nat_gives_another_outcome(bench: LabBench, tmp_path: Path) -> None:
    """A half-simultaneous open through silent NATs, played through resetting ones: refused, and the RST is named."""
    script = made(bench, tmp_path, Attempt("kernel", "kernel", offset_ns=2 * ONE_WAY_NS), "drop")
    bench.use(Scene.symmetric(ONE_WAY_NS, UnsolicitedAnswer.RST))
    replayed = again(bench, tmp_path, Replay(script, patience_ns=100 * MS))
    assert replayed.comparison.captured.pattern is Pattern.HALF_SIMULTANEOUS
    assert replayed.comparison.replayed.pattern is Pattern.REFUSED
    assert not replayed.comparison.same_outcome
    others = [row for row in replayed.comparison.rows if row.side == "a" and not row.sent and row.fate is not Fate.AS_CAPTURED]
    assert "RST-ACK" in {row.kind for row in others if row.replayed_number is not None}
    assert "never came" in replayed.done.a.cause + replayed.done.b.cause


def test_another_offset_gives_another_pattern(bench: LabBench, tmp_path: Path) -> None:
    """A crossing whose B starts after A's SYN was dropped is a half-simultaneous open."""
    bench.use(Scene.symmetric(ONE_WAY_NS))
    script = script_of("crossing", opened(one_way_ns=(ONE_WAY_NS, ONE_WAY_NS), offset_ns=2 * MS))
    replayed = again(bench, tmp_path, Replay(script, offset_ns=15 * MS, patience_ns=200 * MS))
    assert replayed.comparison.captured.pattern is Pattern.SIMULTANEOUS
    assert replayed.comparison.replayed.pattern is Pattern.HALF_SIMULTANEOUS


@pytest.mark.parametrize("sides", ["a", "b"])
def test_one_side_against_the_kernel(bench: LabBench, tmp_path: Path, sides: str) -> None:
    """Either side of a crossing, the other host's kernel opening by itself: it believes the replay and is established."""
    script = made(bench, tmp_path, Attempt("kernel", "kernel"), "drop")
    replayed = again(bench, tmp_path, Replay(script, sides=sides, patience_ns=200 * MS))
    kernel = replayed.done.b if sides == "a" else replayed.done.a
    assert kernel.order.kind == "kernel"
    assert kernel.ending == "established"
    assert replayed.comparison.replayed.pattern is Pattern.SIMULTANEOUS


def test_a_client_against_a_listening_kernel(bench: LabBench, tmp_path: Path) -> None:
    """The client side of a three-way handshake, no NAT between: the kernel accepts, with its own ISN and timestamps."""
    bench.use(Scene.between(None, None, ONE_WAY_NS))
    script = script_of("client", opened(offset_ns=None))
    replayed = again(bench, tmp_path, Replay(script, sides="a"))
    assert replayed.done.b.order.kind == "listening"
    assert (replayed.done.a.ending, replayed.done.b.ending) == ("established", "established")
    assert replayed.comparison.replayed.pattern is Pattern.THREE_WAY
    assert not [row for row in replayed.comparison.rows if row.side == "a" and row.sent and row.fate is not Fate.AS_CAPTURED]


def test_a_script_by_hand(bench: LabBench, tmp_path: Path) -> None:
    """A crossing written in the notation crosses."""
    bench.use(Scene.symmetric(ONE_WAY_NS))
    text = """
    0     A > B  SYN      seq 1000000000 <mss 1460>
    +2ms  B > A  SYN      seq 2000000000 <mss 1460>
    +9ms  A > B  SYN-ACK  seq 1000000000 ack 2000000001 <mss 1460>
    +2ms  B > A  SYN-ACK  seq 2000000000 ack 1000000001 <mss 1460>
    +9ms  A > B  ACK      seq 1000000001 ack 2000000001
    +2ms  B > A  ACK      seq 2000000001 ack 1000000001
    """
    replayed = again(bench, tmp_path, Replay(parse_text(text)))
    assert replayed.comparison.replayed.pattern is Pattern.SIMULTANEOUS
    assert (replayed.done.a.ending, replayed.done.b.ending) == ("established", "established")


def test_an_end_that_cannot_start_is_said(bench: LabBench, tmp_path: Path) -> None:
    """A part that is not there: nothing is compared, and the reason is told."""
    bench.use(Scene.symmetric(ONE_WAY_NS))
    script = script_of("crossing", opened())

    class Broken(Replay):
        __slots__ = ()

        def attempt(self, folder: Path) -> Attempt:
            return Attempt("replay", "replay", script_a=str(folder / "absent"), script_b=str(folder / "absent"))

    with pytest.raises(PartialData, match="could not be played"):
        play(Broken(script), bench, tmp_path / "replay.pcapng")


def test_a_kept_replay_is_a_run(tmp_path: Path) -> None:
    """It verifies, it loads, its rows say `replay`, and each repeat is an attempt."""
    script = script_of("crossing", opened(one_way_ns=(ONE_WAY_NS, ONE_WAY_NS)))
    made, path = play_and_keep(Replay(script), Scene.symmetric(ONE_WAY_NS), seed=3, repeats=3, root=tmp_path)
    assert path is not None
    assert verify_run(path) == []
    attempts = load(path).attempts
    assert len(attempts) == len(made) == 3
    assert set(attempts.driver) == set(attempts.end_a) == set(attempts.end_b) == {"replay"}
    assert set(attempts.outcome) == {"established"}
    assert set(attempts.pattern) == {"simultaneous"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the captures for trying things out are not here")
def test_another_labs_crossing_crosses_here(bench: LabBench, tmp_path: Path) -> None:
    """The true simultaneous open that somebody captured, with data and closing, over the same delay."""
    bench.use(Scene.symmetric(50 * MS))
    script = Captures([SHARED / f"lab-crossing-{host}.pcap" for host in "AB"]).script(1)
    replayed = again(bench, tmp_path, Replay(script))
    assert replayed.comparison.same_outcome
    assert replayed.comparison.totals["missing"] == replayed.comparison.totals["differently"] == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the captures for trying things out are not here")
def test_another_labs_refusal_is_refused_here(bench: LabBench, tmp_path: Path) -> None:
    """Both SYNs are answered by the NATs' RSTs."""
    bench.use(Scene.symmetric(50 * MS, UnsolicitedAnswer.RST))
    script = Captures([SHARED / f"lab-late-syn-reset-{host}.pcap" for host in ("A", "NA", "NB", "B")]).script(1)
    replayed = again(bench, tmp_path, Replay(script))
    assert replayed.comparison.replayed.pattern is Pattern.REFUSED
    assert replayed.comparison.first_difference is None


def test_one_side_against_a_server_on_the_loopback() -> None:
    """Without a lab: an ordinary server accepts a replayed client, and hears what the script says."""
    try:
        RawPort().close()
    except MachineCannot as error:
        pytest.skip(f"raw sockets outside a namespace need root: {error.why}")
    script = script_of("client", opened(offset_ns=None))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        accepted: list[tuple[str, int]] = []

        def accept() -> None:
            connection, peer = server.accept()
            accepted.append(peer)
            connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        target = Endpoint("127.0.0.1", server.getsockname()[1])
        try:
            player, cause = play_alone(Part(script.a), target, local_port=47_001, iss=1 << 29)
        finally:
            thread.join()
    assert cause == ""
    assert player.ending() is Ending.ESTABLISHED
    assert tell([player.view()]).pattern is Pattern.THREE_WAY
    assert accepted == [("127.0.0.1", 47_001)]
