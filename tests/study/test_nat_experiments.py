"""The experiments on pairs of NATs: in the simulator as a whole, in the lab by a pair or two."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.dataset.check import verify
from rawpunch.dataset.store import Dataset, Manifest
from rawpunch.errors import BadParameter
from rawpunch.scene import Nat
from rawpunch.study.experiment import Experiment
from rawpunch.study.runner import Job, begin, run


def _run(root: Path, name: str, driver: str, *settings: str, repeats: int = 1) -> Dataset:
    job = Job(Experiment.load(name).with_settings(settings), repeats, 7, driver)
    return run(job, begin(job, root=root))


FEW = "linux-masquerade,full-cone,rst-killer,crossing-blocker,symmetric-sequential"


def test_the_matrix_is_what_the_oracle_says(tmp_path: Path) -> None:
    """Each pair decided and right; the run is lean, sound, and made again from its seed."""
    dataset = _run(tmp_path, "nat_matrix", "sim", f"nat_a={FEW}", f"nat_b={FEW}", "offset=0.5,2.5")
    assert verify(dataset.path) == []
    assert list((dataset.path / "captures").iterdir()) == []
    assert dataset.segments.empty
    (verdict,) = dataset.manifest.verdicts
    assert (verdict["verdict"], verdict["n"], verdict["why"]) == ("upheld", 50, "")
    attempts = dataset.attempts.set_index(["nat_a", "nat_b", "offset"])
    assert attempts.loc[("linux-masquerade", "full-cone", 0.5), "outcome"] == "established"
    assert attempts.loc[("crossing-blocker", "full-cone", 0.5), "outcome"] == "timed_out"
    assert attempts["mapped_a"].notna().all()
    assert len(dataset.manifest.parts) == 1
    assert dataset.manifest.scenes["scene-00"]["scene"]["nat_a"] == {"persona": "linux-masquerade"}


def test_simulated_calibration_alone_decides_nothing(tmp_path: Path) -> None:
    """It takes two drivers to agree."""
    dataset = _run(tmp_path, "calibrate", "sim", "nat_a=rst-sender", "nat_b=full-cone")
    assert {verdict["verdict"] for verdict in dataset.manifest.verdicts} == {"undecided"}
    assert set(dataset.attempts["driver"]) == {"sim"}


@pytest.mark.lab
def test_lab_and_simulator_make_the_same_attempts_in_one_run(tmp_path: Path) -> None:
    """Both drivers' rows are there, by the same ports learned beforehand; where the lab was undisturbed, the outcomes agree."""
    settings = ("nat_a=rst-sender,symmetric-sequential", "nat_b=linux-masquerade", "offset=0.5")
    dataset = _run(tmp_path, "calibrate", "lab", *settings, repeats=2)
    assert verify(dataset.path) == []
    attempts = dataset.attempts
    assert attempts.groupby("driver", observed=True).size().to_dict() == {"lab": 4, "sim": 4}
    assert attempts["attempt"].str.startswith("sim-").sum() == 4
    stepping = attempts[attempts["nat_a"] == "symmetric-sequential"]
    aimed = stepping["remote_b"].str.rpartition(":")[2].astype(int)
    used = stepping["mapped_a"].str.rpartition(":")[2].astype(int)
    assert (used > aimed).all()  # learned, and by then another one
    good = attempts[~attempts["disturbed"]]
    opened = good[good["nat_a"] == "rst-sender"]["outcome"]
    assert set(opened) == {"established"}
    assert Manifest.read(dataset.path).driver == "lab"
    assert {verdict["verdict"] for verdict in dataset.manifest.verdicts} <= {"upheld", "undecided"}


def test_a_nat_that_an_experiment_varies_is_not_replaced() -> None:
    """Rows that name one NAT and tell of another would be a lie; the very NAT may be made in a certain way."""
    few = Experiment.load("nat_matrix").with_settings(["nat_a=full-cone", "nat_b=rst-sender"])
    with pytest.raises(BadParameter, match="varies nat_a itself") as caught:
        Job(few, 1, 1, "lab", {"a": Nat(persona="rst-sender")})
    assert "--set nat_a=rst-sender" in caught.value.todo
    assert Job(few, 1, 1, "lab", {"a": Nat(persona="full-cone")}, {"a": "box"}).size == 1
    assert Job(few, 1, 1, "lab", {"a": Nat()}, {"a": "cmd:./mine"}).size == 1
