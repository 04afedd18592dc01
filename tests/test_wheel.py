"""The wheel carries all that `rawpunch run NAME` needs, from any directory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rawpunch.study.experiment import experiment_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built here without a network."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_it_holds_the_code_the_experiments_and_nothing_else(wheel: Path) -> None:
    """Each source file, experiment and persona is in, the type marker too; no tests, data or caches."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "rawpunch").rglob("*.py")}
    experiments = {f"rawpunch_experiments/{path.name}" for path in (ROOT / "experiments").glob("*.py")}
    personas = {str(path.relative_to(ROOT)) for path in (ROOT / "rawpunch" / "nat" / "personas").glob("*.toml")}
    assert sources | experiments | personas | {"rawpunch/py.typed"} <= names
    assert {name.partition("/")[0] for name in names} == {"rawpunch", "rawpunch_experiments"}
    assert not [name for name in names if "__pycache__" in name]


def test_from_a_checkout_experiments_are_those_of_the_checkout() -> None:
    """An edited experiment is the one that runs, not a copy of it."""
    assert set(experiment_files().values()) == set((ROOT / "experiments").glob("[!_]*.py"))


def test_from_a_wheel_experiments_are_found_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    """Installed, in a folder that knows nothing of the project, every experiment is found, and inside the wheel's own folder."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (tmp_path / "elsewhere").mkdir()
    program = "from rawpunch.study.experiment import experiment_files; print(*experiment_files().values(), sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert {Path(line) for line in found.stdout.split()} == {
        site / "rawpunch_experiments" / path.name for path in (ROOT / "experiments").glob("[!_]*.py")
    }
