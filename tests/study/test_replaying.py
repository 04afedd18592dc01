"""Replays in the simulator: captured there or made by hand, through any persona, exactly in time, the same from one seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.dataset.store import load
from rawpunch.dataset.store import verify as verify_run
from rawpunch.errors import BadParameter
from rawpunch.record.words import Outcome, Pattern
from rawpunch.replay.flows import Captures
from rawpunch.replay.script import Script, script_of
from rawpunch.scene import Nat, Scene, UnsolicitedAnswer
from rawpunch.study.bench import Planned
from rawpunch.study.experiment import Attempt
from rawpunch.study.replaying import Replay, Replayed, play, play_and_keep
from rawpunch.study.sim_bench import SimBench
from rawpunch.units import MS
from tests.replay.stage import opened

ONE_WAY_NS = 10 * MS


def crossing(one_way_ns: int = ONE_WAY_NS) -> Script:
    """A crossing of two handshake machines."""
    return script_of("crossing", opened(one_way_ns=(one_way_ns, one_way_ns), offset_ns=2 * MS))


def again(bench: SimBench, folder: Path, replay: Replay) -> Replayed:
    """Play it once."""
    (replayed,), _ = play(replay, bench, folder / "replay.pcapng")
    return replayed


@pytest.mark.parametrize(
    ("answer", "offset_ns", "pattern"),
    [
        ("drop", 0, Pattern.SIMULTANEOUS),
        ("drop", -3 * MS, Pattern.SIMULTANEOUS),
        ("drop", 15 * MS, Pattern.HALF_SIMULTANEOUS),
        ("rst", 2 * ONE_WAY_NS, Pattern.REFUSED),
        ("icmp", 2 * ONE_WAY_NS, Pattern.ICMP_ENDED),
    ],
)
def test_what_the_simulator_did_it_does_again(tmp_path: Path, answer: str, offset_ns: int, pattern: Pattern) -> None:
    """Same pattern, same outcome, every packet as captured, at its very nanosecond."""
    bench = SimBench(4)
    bench.use(Scene.symmetric(ONE_WAY_NS, UnsolicitedAnswer(answer)))
    bench.make([Planned("t", "cell", {}, 0, Attempt(offset_ns=offset_ns))], tmp_path / "original.pcapng")
    script = Captures([tmp_path / "original.pcapng"]).script(1)
    assert script.told.pattern is pattern
    replayed = again(bench, tmp_path, Replay(script))
    assert replayed.comparison.first_difference is None
    assert replayed.comparison.same_outcome
    assert set(replayed.comparison.errors_ns) <= {0}


@pytest.mark.parametrize("sides", ["ab", "a", "b"])
def test_sides_and_stacks(tmp_path: Path, sides: str) -> None:
    """Either side or both; the other host's stack believes it."""
    bench = SimBench(4)
    bench.use(Scene.symmetric(ONE_WAY_NS))
    replayed = again(bench, tmp_path, Replay(crossing(), sides))
    assert replayed.comparison.replayed.pattern is Pattern.SIMULTANEOUS
    assert (replayed.done.a.ending, replayed.done.b.ending) == (Outcome.ESTABLISHED, Outcome.ESTABLISHED)
    assert [end.order.kind for end in (replayed.done.a, replayed.done.b)] == [
        "replay" if "a" in sides else "kernel",
        "replay" if "b" in sides else "kernel",
    ]


def test_a_listening_stack_accepts(tmp_path: Path) -> None:
    """The client side of a three-way handshake, without NATs."""
    bench = SimBench(4)
    bench.use(Scene.between(None, None, ONE_WAY_NS))
    replayed = again(bench, tmp_path, Replay(script_of("client", opened(offset_ns=None)), "a"))
    assert replayed.done.b.order.kind == "listening"
    assert replayed.comparison.replayed.pattern is Pattern.THREE_WAY


def test_through_another_nat(tmp_path: Path) -> None:
    """A NAT that gives another port: A's SYN comes from where B did not look, B's never comes, and both give up."""
    bench = SimBench(4)
    nat = Nat(persona="symmetric-sequential")
    bench.use(Scene.between(nat, Nat(), ONE_WAY_NS))
    replayed = again(bench, tmp_path, Replay(crossing(), patience_ns=100 * MS))
    assert not replayed.comparison.same_outcome
    assert replayed.comparison.replayed.pattern is Pattern.UNANSWERED
    assert "SYN" in replayed.done.a.cause
    assert replayed.comparison.totals["missing"] > 0


def test_a_moved_peer_is_found_where_it_is(tmp_path: Path) -> None:
    """A behind a NAT that gives another port, B in the open and only answering: B answers to where A's SYN came from."""
    bench = SimBench(4)
    bench.use(Scene.between(Nat(persona="symmetric-sequential"), None, ONE_WAY_NS))
    replayed = again(bench, tmp_path, Replay(script_of("client", opened(offset_ns=None))))
    assert replayed.comparison.same_outcome
    assert replayed.comparison.first_difference is None


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_speed_and_offset(tmp_path: Path, speed: float) -> None:
    """Half as fast or four times; the offset of the capture by the speed, or the one asked for."""
    bench = SimBench(4)
    bench.use(Scene.symmetric(ONE_WAY_NS))
    found = again(bench, tmp_path, Replay(crossing(), speed=speed))
    assert found.seen.offset_ns == round(2 * MS / speed)
    assert found.comparison.same_outcome
    moved = again(bench, tmp_path, Replay(crossing(), speed=speed, offset_ns=5 * MS))
    assert moved.seen.offset_ns == 5 * MS
    assert set(moved.comparison.errors_ns) == {0}


def test_one_seed_gives_one_replay(tmp_path: Path) -> None:
    """The same seed, the same bytes."""
    written = []
    for name in ("one", "two"):
        bench = SimBench(9)
        bench.use(Scene.symmetric(ONE_WAY_NS))
        play(Replay(crossing()), bench, tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_a_kept_replay_is_a_run(tmp_path: Path) -> None:
    """Its rows are those of any driver, each repeat an attempt."""
    made, path = play_and_keep(Replay(crossing()), Scene.symmetric(ONE_WAY_NS), seed=3, repeats=3, root=tmp_path, on="sim")
    assert path is not None
    assert verify_run(path) == []
    attempts = load(path).attempts
    assert len(attempts) == len(made) == 3
    assert set(attempts.end_a) == {"replay"}
    assert set(attempts.outcome) == {"established"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"sides": "c"},
        {"sides": ""},
        {"speed": 0.0},
        {"speed": float("nan")},
    ],
)
def test_impossible_replays_are_refused(wrong: dict[str, object]) -> None:
    """No such side, no such speed."""
    with pytest.raises(BadParameter):
        Replay(crossing(), **wrong)  # type: ignore[arg-type]


def test_a_flow_whose_server_answers_has_no_offset() -> None:
    """There is nothing to move where B waits for A."""
    with pytest.raises(BadParameter, match="no offset"):
        Replay(script_of("client", opened(offset_ns=None)), offset_ns=5)
    with pytest.raises(BadParameter, match="no driver"):
        play_and_keep(Replay(crossing()), Scene(), seed=1, on="moon")
