"""Samples by the contract: the same SYNs on every driver, each accounted for, every mapping a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.analysis.ports import own, ports_by, samples
from rawpunch.dataset.check import verify
from rawpunch.dataset.store import Dataset
from rawpunch.errors import BadParameter
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import MOST_SYNS, Attempt, Experiment, Sampling, Sources
from rawpunch.study.planned import Planned
from rawpunch.study.runner import Job, begin, run
from rawpunch.study.sampling import sample_of
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

NATS = "nat_a=linux-masquerade,symmetric-sequential,sequence-rewriter,tiny-table"


def _run(root: Path, driver: str, *settings: str, repeats: int = 1) -> Dataset:
    experiment = Experiment.load("port_allocation").with_settings([NATS, *settings])
    job = Job(experiment, repeats, 7, driver)
    return run(job, begin(job, root=root))


def _planned(name: str, **fields: object) -> Planned:
    return Planned(name, "cell", {}, 0, Attempt(), Sampling(**fields))  # type: ignore[arg-type]


def test_a_sample_is_what_was_asked_for() -> None:
    """So many SYNs of our own from such ports, foreign ones among them, and no pair of endpoints a second time."""
    scene = Scene.between(Nat(), None, 4 * MS)
    made = 0
    used: set[tuple[Endpoint, Endpoint]] = set()
    for number, sources in enumerate([*Sources] * 3):
        sample = sample_of(_planned(f"s{number}", connections=30, sources=sources, foreign=2), scene, 1, made)
        mine = [one for one in sample.connections if one.source.address == "10.1.0.2"]
        assert len(mine) == 30
        assert {one.source.address for one in sample.connections} == {"10.1.0.2", "10.1.0.3"}
        distinct = len({one.source.port for one in mine}), len({one.remote for one in mine})
        assert distinct == ((1, 30) if sources is Sources.SAME else (30, 1))
        assert [one.number for one in sample.connections] == list(range(made + 1, made + 1 + len(sample.connections)))
        pairs = {(one.source, one.remote) for one in mine}
        assert not pairs & used
        used |= pairs
        made += len(sample.connections)


def test_the_same_seed_asks_the_same(tmp_path: Path) -> None:
    """Samples depend on seed and name, and two runs in the simulator are byte-identical."""
    scene = Scene.between(Nat(), None, 4 * MS)
    one, same, other = (sample_of(_planned("s", sources=Sources.RANDOM), scene, seed, 0) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    files = [
        {path.name: path.read_bytes() for path in sorted((_run(tmp_path / n, "sim").path / "mappings").iterdir())} for n in "ab"
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("fields", [{"connections": 0}, {"connections": MOST_SYNS, "foreign": 1}, {"destinations": 0}])
def test_an_impossible_sample_is_refused(fields: dict[str, int]) -> None:
    """Nothing to send, too much, or nowhere to."""
    with pytest.raises(BadParameter, match="a sample of"):
        Sampling(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("driver", ["sim", pytest.param("lab", marks=pytest.mark.lab)])
def test_each_syn_is_a_mapping_whatever_the_nat_does_to_it(driver: str, tmp_path: Path) -> None:
    """Sequence numbers shifted, tables of eight: sent = mapped, the dataset is sound, and ports are what the persona says."""
    run = _run(tmp_path, driver, "foreign=0,2")
    assert verify(run.path) == []
    attempts, table = run.attempts, samples(run)
    assert set(attempts["outcome"]) == {"sampled"}
    assert set(attempts["pattern"]) == {"unanswered"}
    counted = own(table).groupby("attempt", observed=True).size()
    good = attempts[~attempts["disturbed"]].set_index("attempt")
    assert len(good) >= len(attempts) // 2
    assert (counted[good.index] == good["syn_a"]).all()
    ports = dict(ports_by(run, ["nat_a", "sources", "foreign"]))
    assert ports["linux-masquerade", "random", 0].kept == 1
    assert ports["linux-masquerade", "same", 2].step == 0
    assert ports["symmetric-sequential", "random", 0].step == 1
    assert ports["symmetric-sequential", "random", 2].next_port.estimate < 0.6
    assert {verdict["verdict"] for verdict in run.manifest.verdicts if verdict["claim"] == "accounted"} == {"upheld"}
    assert {verdict["verdict"] for verdict in run.manifest.verdicts if verdict["claim"] == "alike"} <= {"upheld"}
    assert set(attempts["driver"]) == {driver, "sim"}
