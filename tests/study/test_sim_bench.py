"""The simulated bench: the same rows as the lab's, byte for byte the same from one seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from rawpunch.dataset.check import verify
from rawpunch.dataset.store import Dataset
from rawpunch.errors import BadParameter
from rawpunch.scene import Nat, Scene, Side
from rawpunch.study.bench import Planned
from rawpunch.study.experiment import Attempt, Experiment
from rawpunch.study.runner import Job, begin, run
from rawpunch.study.sim_bench import EPOCH_NS, SimBench
from rawpunch.units import MS


def _run(
    root: Path,
    *settings: str,
    seed: int = 7,
    repeats: int = 2,
    driver: str = "sim",
    nats: Mapping[Side, Nat | None] | None = None,
    made: Mapping[Side, str] | None = None,
) -> Dataset:
    experiment = Experiment.load("raw_vs_kernel").with_settings(["ends=raw-raw", "one_way_ns=20ms", *settings])
    job = Job(experiment, repeats, seed, driver, nats or {}, made or {})
    return run(job, begin(job, root=root))


def _files(dataset: Dataset) -> dict[str, bytes]:
    return {str(path.relative_to(dataset.path)): path.read_bytes() for path in sorted(dataset.path.glob("*/*.parquet"))}


def test_two_runs_of_one_seed_are_byte_identical(tmp_path: Path) -> None:
    """Every file of every table; another seed differs."""
    one, two, other = (_files(_run(tmp_path / str(n), seed=seed)) for n, seed in enumerate((7, 7, 8)))
    assert set(one) == {f"{table}/part-00000.parquet" for table in ("attempts", "segments", "transitions", "mappings")}
    assert one == two
    assert one != other


def test_its_rows_are_what_the_lab_writes(tmp_path: Path) -> None:
    """A sound dataset: the captures are there, what decided is among the segments, the words are of the lists."""
    dataset = _run(tmp_path)
    assert verify(dataset.path) == []
    attempts = dataset.attempts
    assert set(attempts["driver"]) == {"sim"}
    assert not attempts["disturbed"].any()
    assert (attempts["sent_a_ns"] == attempts["planned_a_ns"]).all()
    assert attempts["planned_a_ns"].min() > EPOCH_NS
    assert dataset.manifest.clock_source == "virtual"
    assert dataset.manifest.sysctls == {}


def test_outcomes_and_patterns_are_those_measured(tmp_path: Path) -> None:
    """Crossings inside the window, half-simultaneous opens through silence outside, refusals by RST."""
    attempts = _run(tmp_path).attempts
    found = {tuple(row) for row in attempts[["nat_answer", "offset", "outcome", "pattern"]].itertuples(index=False)}
    assert found == {
        ("drop", 0.0, "established", "simultaneous"),
        ("drop", 0.5, "established", "simultaneous"),
        ("drop", 2.0, "established", "half_simultaneous"),
        ("rst", 0.0, "established", "simultaneous"),
        ("rst", 0.5, "established", "simultaneous"),
        ("rst", 2.0, "refused", "refused"),
    }
    refused = attempts[attempts["outcome"] == "refused"]
    assert refused["decided_by"].str.startswith("natB:out#").all()


def test_the_nats_own_states_are_rows_too(tmp_path: Path) -> None:
    """Of both NATs, beside those of the hosts, with the rule that fired."""
    dataset = _run(tmp_path, "nat_answer=drop", "offset=0", repeats=1)
    changes = dataset.transitions
    assert set(changes["machine"]) == {"hostA", "hostB", "natA", "natB"}
    nat = changes[(changes["machine"] == "natA")].sort_values("time_ns")
    assert list(nat["after"])[:4] == ["SYN_SENT", "SYN_SENT2", "SYN_RECV", "ESTABLISHED"]
    assert list(nat["rule"])[:2] == ["open-out", "crossing"]


def test_attempts_that_share_an_external_port_are_told_apart(tmp_path: Path) -> None:
    """Each world begins anew, so a sequential NAT gives every attempt the same first port."""
    nats: dict[Side, Nat | None] = {"a": Nat(persona="symmetric-sequential"), "b": None}
    dataset = _run(tmp_path, "offset=0", "nat_answer=drop", repeats=4, nats=nats)
    assert list(dataset.attempts["mapped_a"]) == ["198.51.100.2:40000"] * 4
    per_attempt = dataset.mappings.groupby("attempt", observed=True).size()
    assert list(per_attempt) == [1] * 4
    segments = dataset.segments
    spans = segments.groupby("attempt", observed=True)["time_ns"].agg(["min", "max"]).sort_values("min")
    assert (spans["min"].to_numpy()[1:] > spans["max"].to_numpy()[:-1]).all()


def _planned(**attempt: str) -> Planned:
    return Planned("c000-r0000", "cell", {}, 0, Attempt(**attempt))  # type: ignore[arg-type]


def test_a_listening_end_waits_for_the_other(tmp_path: Path) -> None:
    """An ordinary server, reached without a NAT in front of it."""
    bench = SimBench(1)
    bench.use(Scene.between(Nat(), None, 20 * MS))
    (done,) = bench.make([_planned(end_a="kernel", end_b="listening")], tmp_path / "x.pcapng").done
    assert (done.a.ending, done.b.ending) == ("established", "established")
    assert [change["after"] for change in done.b.transitions][:2] == ["LISTEN", "SYN-RECEIVED"]


def test_what_cannot_be_simulated_is_refused(tmp_path: Path) -> None:
    """Programs and rules are the lab's, and nobody has other kinds of ends."""
    with pytest.raises(BadParameter, match="pigeon"):
        SimBench(1).make([_planned(end_a="pigeon")], tmp_path / "x.pcapng")
    with pytest.raises(BadParameter, match="cmd:"):
        _run(tmp_path, made={"a": "cmd:./nat"})
    with pytest.raises(BadParameter, match="--on lab"):
        _run(tmp_path, driver="dream")


@pytest.mark.lab
def test_lab_and_simulator_tell_the_same_story(tmp_path: Path) -> None:
    """The same cells in kernels and in machines: the same outcomes and patterns, and the same times to half a millisecond."""
    pairs = [_run(tmp_path / driver, repeats=1, driver=driver).attempts for driver in ("sim", "lab")]
    sim, lab = (frame.set_index(["nat_answer", "offset"]).sort_index() for frame in pairs)
    good = lab.index[~lab["disturbed"]]
    assert len(good) >= 1
    for column in ("outcome", "pattern", "pattern_a", "pattern_b", "syn_a", "syn_ack_a", "syn_b", "syn_ack_b"):
        pd.testing.assert_series_equal(sim.loc[good, column], lab.loc[good, column], check_dtype=False, check_categorical=False)
    slower = (lab.loc[good, "connect_b_ns"] - sim.loc[good, "connect_b_ns"]).dropna()
    assert (slower.abs() < 5 * MS).all()
