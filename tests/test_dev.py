"""The set-up script: at once when nothing is missing, plain when it cannot help, and built on pins that name no registry."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_PYTHON = "/nonexistent/python3"
"""The interpreter that these calls are told to use: any attempt to set up fails, quickly and visibly."""
PINS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is set up: a stand-in for .venv with one command, and the stamp that ./dev leaves."""
    root = tmp_path / "a checkout"
    root.mkdir()
    for name in ("dev", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "requirements", root / "requirements")
    commands = root / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, text in {
        "python": "exit 0",
        "where": 'echo "$PWD|$VIRTUAL_ENV|$*"',
        "rawpunch": 'echo "rawpunch $*"; exit 5',
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    sources = [*sorted((root / "requirements").glob("*.txt")), root / "pyproject.toml"]
    fingerprint = hashlib.sha256(f"{root} {NO_PYTHON}\n".encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()
    (root / ".venv" / "set-up-for").write_text(f"{fingerprint}  -\n")
    return root


def _dev(root: Path, *words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"/usr/bin:/bin:{os.environ['PATH']}"
    return subprocess.run(
        [str(root / "dev"), *words],
        cwd=cwd or root,
        env={"PATH": path, "RAWPUNCH_PYTHON": NO_PYTHON, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_done_when_nothing_is_missing(checkout: Path, tmp_path: Path) -> None:
    """A second call starts at once, from any folder, without HOME, says nothing of its own, and stays in the user's folder."""
    start = time.perf_counter()
    done = _dev(checkout, "run", "where", "a b", "c", cwd=tmp_path)
    assert time.perf_counter() - start < 2
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}|{checkout}/.venv|a b c\n", "")


def test_demo_passes_words_and_exit_code(checkout: Path) -> None:
    """`./dev demo --json` is `rawpunch demo --json`, its stdout and its exit code included."""
    done = _dev(checkout, "demo", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (5, "rawpunch demo --json\n", "")


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/dev.txt", ".venv/set-up-for"])
def test_a_change_or_an_interruption_is_noticed(checkout: Path, changed: str) -> None:
    """Whatever the environment is made from is watched; the set-up that follows stops here, having no interpreter."""
    (checkout / changed).write_text("")
    done = _dev(checkout, "run", "where")
    assert done.returncode == 3
    assert f"rawpunch needs Python 3.11, 3.12 or 3.13: none of {NO_PYTHON} starts" in done.stderr
    assert done.stdout == ""


def test_an_unfit_python_is_named(checkout: Path, tmp_path: Path) -> None:
    """A Python that is too old is told by path and version, and what to do about it."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3.10\n")
    old.chmod(0o755)
    done = _dev(checkout, "run", "where", RAWPUNCH_PYTHON=str(old))
    assert done.returncode == 3
    assert f"{old} is 3.10" in done.stderr
    assert "RAWPUNCH_PYTHON=" in done.stderr


def test_help_and_usage(checkout: Path) -> None:
    """Help needs no set-up and lists every command; an unknown command is a usage error."""
    shutil.rmtree(checkout / ".venv")
    helped = _dev(checkout, "help")
    assert helped.returncode == 0
    assert all(f"  {word} " in helped.stdout for word in ("demo", "test", "run", "lock", "help"))
    unknown = _dev(checkout, "frobnicate")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no command frobnicate" in unknown.stderr


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_pins_carry_hashes_and_name_no_registry(path: Path) -> None:
    """Each requirement is one version with its hashes, and no file says where it comes from."""
    text = path.read_text()
    assert "://" not in text
    assert "index-url" not in text
    requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert requirements
    assert all(re.match(r"[a-z0-9._-]+==\S+( ;.*)? \\$", line) for line in requirements)
    assert text.count("--hash=sha256:") >= len(requirements)


def test_every_dependency_is_pinned() -> None:
    """What pyproject.toml asks for stands in requirements/dev.txt: `./dev lock` was not forgotten."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=!~\[ ;]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    assert names - pinned == set()
