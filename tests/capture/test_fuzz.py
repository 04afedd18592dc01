"""A bounded number of mutated captures; `tests/capture/fuzz.py` tries as many as one likes."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

from tests.capture.fuzz import check, mutated, seeds

ROOT = Path(__file__).parents[2]


def test_the_seeds_are_good(tmp_path: Path) -> None:
    """What is mutated can be read, and most mutations change it."""
    good = seeds(tmp_path)
    path = tmp_path / "some"
    for data in good:
        path.write_bytes(data)
        assert check(path, compare=True)
    dice = random.Random(1)
    assert sum(mutated(dice, good) not in good for _ in range(200)) > 190


def test_mutated_captures() -> None:
    """A thousand of them, others each time, in a process of bounded memory: no crash, no hang; some remain readable."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.capture.fuzz", "1000"], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    readable = re.search(r"(\d+) readable", done.stdout)
    assert readable is not None
    assert 200 < int(readable[1]) < 1000
