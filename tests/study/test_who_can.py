"""Experiments that only one driver can make: another one is refused before anything is written, and the claim says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rawpunch.cli.app import main
from rawpunch.errors import BadParameter
from rawpunch.study import claims
from rawpunch.study.experiment import DRIVERS, Experiment
from rawpunch.study.runner import Job

LAB_ONLY = """
from rawpunch.scene import Scene
from rawpunch.study.experiment import Attempt, Factor, Verdict
QUESTION = "Is it?"
CLAIMS = ("C1",)
DRIVERS = ("lab",)
FACTORS = {"count": Factor((1,), "a number")}
REPEATS = 1
def scene(cell): return Scene()
def attempt(cell): return Attempt("raw", "raw")
def verdicts(attempts): return []
"""


@pytest.fixture
def only(tmp_path: Path) -> Path:
    """The file of an experiment that only the lab can make."""
    path = tmp_path / "only.py"
    path.write_text(LAB_ONLY)
    return path


def test_every_driver_can_make_what_says_nothing_else(only: Path) -> None:
    """The name is optional."""
    assert Experiment.load("raw_vs_kernel").drivers == DRIVERS
    assert Experiment.load(str(only)).drivers == ("lab",)
    Job(Experiment.load(str(only)), 1, 1, "lab")


def test_another_driver_is_refused(only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, with the one that can; no folder is left."""
    with pytest.raises(BadParameter, match="the driver sim cannot make only") as caught:
        Job(Experiment.load(str(only)), 1, 1, "sim")
    assert caught.value.todo == "--on lab"
    assert main(["run", str(only), "--on", "sim", "--data", str(tmp_path / "data")]) == 2
    assert "only lab can" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_list_says_who_can(only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words where not all can, and in the document always."""
    assert main(["experiments", str(only)]) == 0
    assert capsys.readouterr().out.startswith("only  (C1; 1 attempts per cell; only --on lab)\n")
    assert main(["experiments", str(only), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiments"][0]["drivers"] == ["lab"]
    assert main(["experiments", "raw_vs_kernel"]) == 0
    assert "only --on" not in capsys.readouterr().out


def test_a_claim_that_these_runs_cannot_decide_says_so(only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all that decide it need a driver that made none of the runs; with the runs of another one it is merely not decided."""
    monkeypatch.setattr(claims, "experiment_files", lambda: {"only": only})
    monkeypatch.setattr(Experiment, "load", classmethod(lambda cls, _name: cls._from(only)))
    assert claims._missing("C1", False, {"sim"}) == "only lab can decide it: rawpunch run only"
    assert claims._missing("C1", False, {"lab"}) == "none of these runs decides it"
    assert claims._missing("C1", True, set()) == "no run at hand: rawpunch run only"
    assert claims._missing("C2", True, set()) == "no experiment decides it yet"


def test_a_report_is_made_from_what_the_driver_can_make(
    only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are left out, and said to be."""
    planned = [claims.Plan(str(only)), claims.Plan("mixed_open", ("offset=2.0", "ends=raw-raw"), 1)]
    monkeypatch.setattr(claims, "plans", lambda: planned)
    assert main(["claims", "--run", "--quick", "--on", "sim", "--seed", "1", "--data", str(tmp_path / "data"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "only: left out, only lab can make it" in shown.err
    assert [source["experiment"] for source in json.loads(shown.out)["runs"]] == ["mixed_open"]
