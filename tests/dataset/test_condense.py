"""A condensed run says the same as the run it was made from, in fewer files and octets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rawpunch.dataset.condense import condense, telling
from rawpunch.dataset.store import RunWriter, load, verify
from rawpunch.errors import UsageError
from tests.dataset.dataset_rows import CELLS, attempt, manifest, tables

STORIES = (("established", "simultaneous"), ("refused", "refused"), ("established", "simultaneous"))


def _made(root: Path) -> RunWriter:
    """A run of three parts, a capture each; the first and the last tell the same story, the first at greater length."""
    writer = RunWriter.create(manifest(), root=root)
    for number, (outcome, pattern) in enumerate(STORIES):
        part = writer.next_part()
        name = writer.capture_name(part)
        rows = tables(f"a{number}")
        rows["attempts"] = [attempt(f"a{number}", outcome=outcome, pattern=pattern, capture=name)]
        writer.write_part(part, rows, levels=CELLS, captures={name: b"x" * (100 - number)})
    return writer


def test_a_condensed_run_is_sound_and_has_the_same_rows(tmp_path: Path) -> None:
    """One file a table, the fewest captures, `capture` empty where there is none any more, and its manifest says so."""
    writer = _made(tmp_path)
    writer.finish([{"claim": "C10", "verdict": "upheld", "n": 3}])
    target = tmp_path / "kept" / "raw-vs-kernel" / "small"
    manifest_of = condense(writer.path, target)
    assert verify(target) == []
    before, after = load(writer.path), load(target)
    for table in ("attempts", "segments", "transitions", "mappings"):
        one, other = (getattr(run, table).drop(columns="capture", errors="ignore") for run in (before, after))
        pd.testing.assert_frame_equal(one, other)
        assert len(list((target / table).iterdir())) == 1
    assert after.attempts["capture"].isna().tolist() == [True, False, False]
    assert (manifest_of.policy["captures_made"], manifest_of.policy["captures_kept"]) == (3, 2)
    assert (manifest_of.verdicts, manifest_of.run_id) == (before.manifest.verdicts, before.manifest.run_id)


def test_a_run_that_goes_on_is_not_condensed_nor_a_folder_overwritten(tmp_path: Path) -> None:
    """What is in hand would be lost."""
    writer = _made(tmp_path)
    with pytest.raises(UsageError, match="not complete"):
        condense(writer.path, tmp_path / "small")
    writer.finish()
    (tmp_path / "small").mkdir()
    with pytest.raises(UsageError, match="exists"):
        condense(writer.path, tmp_path / "small")


def test_captures_of_disturbed_attempts_tell_nothing() -> None:
    """Each story of an undisturbed attempt is in a capture that is kept; a small one rather than a large one."""
    rows = [
        ("established", "simultaneous", False, "large"),
        ("established", "simultaneous", False, "small"),
        ("refused", "refused", False, "both"),
        ("timed_out", "unanswered", True, "stalled"),
        ("timed_out", "unanswered", False, None),
    ]
    attempts = pd.DataFrame(rows, columns=["outcome", "pattern", "disturbed", "capture"])
    assert telling(attempts, {"large": 90, "small": 9, "both": 5, "stalled": 1}) == ["both", "small"]
    assert telling(attempts.iloc[3:], {"stalled": 1}) == []
