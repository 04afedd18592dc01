"""The samples: small, sound, made by what is written down, and their datasheets are what they themselves say."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.dataset.datasheet import datasheet, facts, limits
from rawpunch.dataset.store import Dataset, verify
from rawpunch.study.experiment import Experiment, experiment_files
from rawpunch.study.samples import DRAWING, SHEETS, as_made, drawing, main, samples, sheets

ROOT = Path(__file__).resolve().parents[2]
SHELF = ROOT / "data" / "sample"
RUNS = sorted(path.parent for path in SHELF.glob("*/*/manifest.json"))
MOST_OCTETS = 8_000_000


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_a_sample_is_sound_and_the_only_one(path: Path) -> None:
    """Hashes, schemas, counts; and one run an experiment."""
    assert verify(path) == []
    assert list(path.parent.iterdir()) == [path]


def test_samples_are_small() -> None:
    """All of them, with their manifests."""
    assert sum(file.stat().st_size for file in SHELF.rglob("*") if file.is_file()) <= MOST_OCTETS


def test_every_experiment_has_a_sample_that_can_be_made() -> None:
    """Settings are levels; the driver can make it; the command names what is not the default."""
    assert {sample.experiment for sample in samples()} == {
        name for name in experiment_files() if getattr(Experiment.load(name), "claims", ()) or (SHELF / name).is_dir()
    }
    for sample in samples():
        experiment = Experiment.load(sample.experiment).with_settings(sample.settings)
        assert any(True for _ in experiment.cells())
        assert sample.driver in experiment.drivers
        assert f"--repeat {sample.repeats} --seed {sample.seed}" in sample.command
        assert sample.command.count("--set ") == len(sample.settings)


def test_a_run_tells_how_to_make_it() -> None:
    """Levels that are the experiment's own go without saying; the settings that were given are found again."""
    for path in RUNS:
        made = Dataset(path)
        told = as_made(made, Experiment.load(path.parent.name))
        again = Experiment.load(told.experiment).with_settings(told.settings)
        assert {name: again.factors[name].levels for name in made.manifest.grid} == made.manifest.grid
        assert (told.seed, told.repeats, told.driver) == (made.manifest.seed, made.manifest.repeats, made.manifest.driver)


def test_the_datasheets_and_the_drawing_are_what_the_runs_say() -> None:
    """To make them anew: python -m rawpunch.study.samples data/sample --sheets."""
    assert (SHELF / SHEETS).read_text(encoding="utf-8") == sheets(SHELF)
    assert (SHELF / DRAWING).read_text(encoding="utf-8") == drawing(SHELF)


def test_a_datasheet_says_what_does_not_count() -> None:
    """Disturbed attempts are counted, and that a simulated run is one is among its limits."""
    lab, simulated = (Dataset(next((SHELF / name).iterdir())) for name in ("mixed_open", "nat_matrix"))
    told = dict(facts(lab))
    assert f"{int(lab.attempts['disturbed'].sum())} disturbed" in told["attempts"]
    assert lab.manifest.machine.kernel in told["machine"]
    assert any("clock" in limit for limit in limits(lab))
    assert any("Virtual time" in limit for limit in limits(simulated))
    assert any("No packets" in limit for limit in limits(simulated))
    text = datasheet(lab, "Why?", meanings={"ends": "who"}, command="make it")
    for part in ("## mixed_open", "Why?", "`make it`", "(who)", str(lab.manifest.seed)):
        assert part in text


def test_a_sample_is_made_anew_in_place_of_the_old_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Condensed and sound; what is no sample is refused; what cannot be drawn for want of a run is said."""
    shelf = tmp_path / "data" / "sample"
    old = shelf / "spray" / "20200101-000000-0000"
    old.mkdir(parents=True)
    assert main([str(shelf), "spray"]) == 2  # there is no raw_vs_kernel to draw
    (made,) = (shelf / "spray").iterdir()
    assert made != old
    assert verify(made) == []
    assert "## spray" in (shelf / SHEETS).read_text()
    assert main([str(shelf), "sprays"]) == 2
    assert "there is no sample sprays" in capsys.readouterr().err
