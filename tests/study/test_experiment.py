"""The experiment contract: what is loaded is checked, what is set is understood, and a mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.errors import BadParameter, UnknownName, Unreadable
from rawpunch.scene import UnsolicitedAnswer
from rawpunch.study.experiment import Attempt, Experiment, cell_name, experiment_files
from rawpunch.study.runner import Job
from rawpunch.units import MS

MINIMAL = """
from rawpunch.scene import Scene
from rawpunch.study.experiment import Attempt, Factor
QUESTION = "?"
CLAIMS = ()
FACTORS = {"quick": Factor((True, False), "a switch"), "count": Factor((1,), "a number")}
REPEATS = 2
def scene(cell): return Scene()
def attempt(cell): return Attempt()
def verdicts(attempts): return []
"""


def test_every_shipped_experiment_follows_the_contract() -> None:
    """Each loads, has cells, and each cell has a scene and an attempt."""
    assert "raw_vs_kernel" in experiment_files()
    for name in experiment_files():
        experiment = Experiment.load(name)
        assert experiment.question.endswith("?")
        for cell in experiment.cells():
            experiment.scene(cell)
            experiment.attempt(cell)


def test_raw_vs_kernel_declares_its_cells() -> None:
    """Three pairs of ends, two answers, three offsets, two delays; the offset is in one-way delays."""
    experiment = Experiment.load("raw-vs-kernel")
    cells = list(experiment.cells())
    assert len(cells) == 36
    late = next(c for c in cells if c["offset"] == 2.0 and c["one_way_ns"] == 5 * MS and c["ends"] == "raw-kernel")
    attempt = experiment.attempt(late)
    assert isinstance(attempt, Attempt)
    assert (attempt.end_a, attempt.end_b, attempt.offset_ns) == ("raw", "kernel", 10 * MS)
    assert experiment.scene(late).one_way_ns == (5 * MS, 5 * MS)
    assert cell_name(late) == "ends=raw-kernel nat_answer=drop offset=2.0 one_way_ns=5ms persona=linux-masquerade"


def test_levels_are_set_by_words() -> None:
    """Times take units, listed levels are checked, hyphens in names are forgiven."""
    experiment = Experiment.load("raw_vs_kernel").with_settings(["one-way-ns=1ms,300us", "ends=raw-raw", "offset=0.25"])
    assert experiment.factors["one_way_ns"].levels == (1 * MS, 300_000)
    assert len(list(experiment.cells())) == 4
    assert experiment.scene(next(experiment.cells())).nat_a is not None


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ends=raw-quantum", "not a level"),
        ("one_way_ns=fast", "not a level|not a duration"),
        ("nosuch=1", "sets no factor"),
        ("offset", "sets no factor"),
        ("offset=x", "not a level"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, words: str) -> None:
    """The message says what is wrong and what would be right."""
    with pytest.raises(BadParameter, match=words) as caught:
        Experiment.load("raw_vs_kernel").with_settings([setting])
    assert caught.value.todo


def test_a_users_own_file_works(tmp_path: Path) -> None:
    """A path to a file that follows the contract is as good as a name; booleans and numbers can be set."""
    path = tmp_path / "mine.py"
    path.write_text(MINIMAL)
    experiment = Experiment.load(str(path)).with_settings(["quick=true", "count=3,4"])
    assert [cell["count"] for cell in experiment.cells()] == [3, 4]
    with pytest.raises(BadParameter):
        experiment.with_settings(["quick=perhaps"])


def test_bad_files_are_told_apart(tmp_path: Path) -> None:
    """Absent, broken, incomplete and unknown each have their own error."""
    with pytest.raises(UnknownName, match="nosuch"):
        Experiment.load("nosuch")
    with pytest.raises(Unreadable, match="no file"):
        Experiment.load(str(tmp_path / "absent.py"))
    broken = tmp_path / "broken.py"
    broken.write_text("1/0")
    with pytest.raises(Unreadable, match="does not run"):
        Experiment.load(str(broken))
    broken.write_text("QUESTION = '?'")
    with pytest.raises(BadParameter, match="FACTORS"):
        Experiment.load(str(broken))


def test_the_order_of_attempts_comes_from_the_seed() -> None:
    """Same seed, same order; another seed, another one; every attempt exactly once, grouped by scene."""

    def names(seed: int) -> list[list[str]]:
        return [[p.name for p in attempts] for _, attempts in Job(Experiment.load("raw_vs_kernel"), 3, seed).groups()]

    assert names(1) == names(1)
    assert names(1) != names(2)
    assert len(names(1)) == 4
    assert len({name for group in names(1) for name in group}) == 36 * 3


def test_the_manifest_holds_grid_and_seed() -> None:
    """What the run was asked to do is written before it starts."""
    manifest = Job(Experiment.load("raw_vs_kernel"), 3, 17).manifest()
    assert manifest.seed == 17
    assert manifest.grid["nat_answer"] == tuple(answer.value for answer in (UnsolicitedAnswer.DROP, UnsolicitedAnswer.RST))
