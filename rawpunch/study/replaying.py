"""A script played in the lab: both sides through the scene's NATs, or one side against the kernel of the other host."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rawpunch.capture.columns import read_capture
from rawpunch.capture.flows import Plan, assign, seen_of, views
from rawpunch.clock import SOURCE
from rawpunch.dataset.store import Manifest, RunWriter, new_run_id
from rawpunch.errors import BadParameter, PartialData
from rawpunch.record.pattern import View
from rawpunch.record.words import Driver
from rawpunch.replay.compare import Comparison, compare
from rawpunch.replay.part import Part
from rawpunch.replay.player import PATIENCE_NS
from rawpunch.replay.script import Script, SideName, script_of
from rawpunch.scene import VANTAGES, Scene, Side
from rawpunch.study.bench import Bench, Done, LabBench, Planned, Recording
from rawpunch.study.experiment import Attempt
from rawpunch.study.measure import rows_of
from rawpunch.study.runner import bench_of, this_machine
from rawpunch.units import SECOND
from rawpunch.version import __version__
from rawpunch.wire.segment import Segment

if TYPE_CHECKING:
    import pandas as pd

SIDES: Final = ("a", "b", "ab")
_CELL: Final = "replay"


@dataclass(frozen=True, slots=True)
class Replay:
    """How a script is to be played."""

    script: Script
    sides: str = "ab"
    """a, b, or ab for both; the host of a side that is not played uses its kernel: it connects if its side began by itself, else
    it listens."""
    offset_ns: int | None = None
    """Start of B after the start of A; None for the script's own, by the speed."""
    speed: float = 1.0
    patience_ns: int = PATIENCE_NS
    """How much later than in the script a packet may arrive before a player gives up."""

    def __post_init__(self) -> None:
        if self.sides not in SIDES:
            raise BadParameter(f"{self.sides!r} names no side of a flow", todo="one of a, b, both")
        if self.script.a.local == self.script.a.remote:
            raise BadParameter(
                "a self-connect cannot be replayed",
                why="it has one end, and a replay has two",
                todo="choose another flow: --flow N",
            )
        if not 0 < self.speed < float("inf"):
            raise BadParameter(f"a speed of {self.speed} makes no sense", todo="--speed 1 is the script's own")
        if self.offset_ns is not None and self.script.offset_ns is None:
            raise BadParameter(
                "this flow has no offset to change", why="one of its sides only answers the other", todo="leave --offset out"
            )

    @property
    def start_ns(self) -> int:
        """Start of B after the start of A, as it is to be."""
        return round((self.script.offset_ns or 0) / self.speed) if self.offset_ns is None else self.offset_ns

    def kind(self, side: SideName) -> str:
        """What makes that side's end."""
        if side in self.sides:
            return "replay"
        return "kernel" if self.script.track(side).starts else "listening"

    def parts(self) -> dict[SideName, Part]:
        """What the sides that are played play."""
        sides: tuple[SideName, SideName] = ("a", "b")
        return {side: Part(self.script.track(side), self.speed, self.patience_ns) for side in sides if side in self.sides}

    def attempt(self, folder: Path) -> Attempt:
        """The attempt that plays it; the parts are written to a folder that has to stay until it is made."""
        files = {}
        for side, part in self.parts().items():
            files[side] = folder / f"{side}.json"
            part.write(files[side])
        longest_ns = max(self.script.a.duration_ns, self.script.b.duration_ns)
        return Attempt(
            end_a=self.kind("a"),
            end_b=self.kind("b"),
            offset_ns=self.start_ns,
            give_up_ns=round(longest_ns / self.speed) + abs(self.start_ns) + self.patience_ns + SECOND,
            script_a=str(files.get("a", "")),
            script_b=str(files.get("b", "")),
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """One replay that was made."""

    done: Done
    seen: Script
    """What the hosts saw of it."""
    comparison: Comparison


def play(replay: Replay, bench: Bench, capture: Path, *, repeats: int = 1) -> tuple[list[Replayed], Recording]:
    """Play a script on a bench whose scene is in use.

    Args:
        replay: what and how.
        bench: where.
        capture: the file that is recorded to.
        repeats: how often, overlapping.

    Raises:
        PartialData: an end could not start.
        LabBroken: something in the lab died.
    """
    with tempfile.TemporaryDirectory(prefix="rawpunch-") as folder:
        attempt = replay.attempt(Path(folder))
        planned = [Planned(f"replay-r{number:04d}", _CELL, {}, number, attempt) for number in range(repeats)]
        recording = bench.make(planned, capture)
    return compare_all(replay, recording), recording


def compare_all(replay: Replay, recording: Recording) -> list[Replayed]:
    """Put each replay of a recording beside its script.

    Raises:
        PartialData: an end could not start, so that there is nothing to compare.
    """
    for done in recording.done:
        for end in (done.a, done.b):
            if not end.ending:
                raise PartialData("a side could not be played", why=end.cause or "its host never reported")
    plans = [_plan(done) for done in recording.done]
    frame = read_capture(recording.capture)
    assigned = assign(frame, plans, VANTAGES)
    made = []
    for done, plan in zip(recording.done, plans, strict=True):
        seen = [_until_finish(_whole(view, frame, done), done) for view in views(assigned, plan, VANTAGES)]
        if not any(view.seen for view in seen):
            raise PartialData("nothing of the replay was recorded", why=_causes(done))
        there = script_of(plan.attempt, seen)
        compared = compare(replay.script, there, speed=replay.speed, offset_ns=replay.offset_ns, sides=replay.sides)
        made.append(Replayed(done, there, compared))
    return made


def _whole(view: View, frame: pd.DataFrame, done: Done) -> View:
    """A host's own view with all that came for its endpoint: a NAT may have moved the peer to where nobody looked for it."""
    if not view.at:
        return view
    own = (done.a if view.at == "a" else done.b).order.local
    here = frame[frame["interface"] == view.vantage]
    mine = [(here[f"{end}_address"] == own.address) & (here[f"{end}_port"] == own.port) for end in ("source", "destination")]
    seen = seen_of(here[mine[0] | mine[1]])
    if done.began_ns is not None and done.over_ns is not None:
        seen = tuple(entry for entry in seen if done.began_ns <= entry.time_ns <= done.over_ns)
    peers = [packet.source for entry in seen if isinstance(packet := entry.packet, Segment) and packet.source != own]
    ends = {"a": view.a, "b": view.b} | ({"b" if view.at == "a" else "a": peers[0]} if peers else {})
    return View(view.vantage, ends["a"], ends["b"], view.at, seen)


def _until_finish(view: View, done: Done) -> View:
    """Without what the ends did when they were told to close."""
    return replace(view, seen=tuple(entry for entry in view.seen if done.finish_ns is None or entry.time_ns < done.finish_ns))


def _plan(done: Done) -> Plan:
    a, b = done.a.order, done.b.order
    return Plan(
        attempt=done.planned.name,
        local_a=a.local,
        remote_a=a.remote,
        local_b=b.local,
        remote_b=b.remote,
        not_before_ns=done.began_ns,
        not_after_ns=done.over_ns,
    )


def _causes(done: Done) -> str:
    causes: Sequence[str] = [end.cause for end in (done.a, done.b) if end.cause]
    return "; ".join(causes)


def play_and_keep(
    replay: Replay,
    scene: Scene,
    *,
    seed: int,
    repeats: int = 1,
    root: Path | None = None,
    on: str = LabBench.name,
    nats: Mapping[Side, str] | None = None,
) -> tuple[list[Replayed], Path | None]:
    """Build a scene, play a script in it, and keep what came of it as a run, if there is a place for it.

    Args:
        replay: what and how.
        scene: the world it is played in.
        seed: of initial sequence numbers and jitter.
        repeats: how often.
        root: the data folder that gets the run; None to keep nothing.
        on: the driver: lab or sim.
        nats: side -> how its NAT is made; see `LabBench`.

    Returns:
        What was made, and the run's folder.

    Raises:
        MachineCannot: this machine cannot build the lab, or it broke.
        PartialData: an end could not start.
        UsageError: the run's folder may not be written.
    """
    with bench_of(on, seed, nats or {}) as bench, tempfile.TemporaryDirectory(prefix="rawpunch-") as scratch:
        bench.use(scene)
        capture = Path(scratch) / "replay.pcapng"
        if root is None:
            return play(replay, bench, capture, repeats=repeats)[0], None
        with RunWriter.create(_manifest(replay, bench, seed, repeats), root=root) as writer:
            made, recording = play(replay, bench, capture, repeats=repeats)
            part = writer.next_part()
            name = writer.capture_name(part)
            rows = rows_of(recording, driver=Driver.REPLAY, capture_name=name, one_way_ns=scene.nat_to_nat_ns)
            writer.write_part(
                part,
                rows.tables(),
                levels={_CELL: _levels(replay)},
                captures={name: capture},
                capture_drops={"all": recording.dropped},
            )
            writer.finish()
            return made, writer.path


def _levels(replay: Replay) -> dict[str, bool | int | float | str]:
    return {"script": replay.script.name, "sides": replay.sides, "speed": float(replay.speed), "start_ns": replay.start_ns}


def _manifest(replay: Replay, bench: Bench, seed: int, repeats: int) -> Manifest:
    return Manifest(
        experiment="replay",
        run_id=new_run_id(),
        rawpunch_version=__version__,
        created=datetime.now(UTC),
        seed=seed,
        driver=Driver.REPLAY,
        grid={name: (level,) for name, level in _levels(replay).items()},
        repeats=repeats,
        policy={"patience_ns": replay.patience_ns},
        machine=this_machine(),
        clock_source=SOURCE if bench.name == LabBench.name else "virtual",
        scenes={"scene-00": bench.describe()},
    )
