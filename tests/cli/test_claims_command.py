"""rawpunch claims: a line for each claim on stdout, one document with --json, and a refusal of options that would do nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rawpunch.cli.app import main
from rawpunch.study.claims import claims


def test_without_runs_everything_is_undecided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says what would decide it; that is no failure."""
    assert main(["claims", "--data", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(claims())
    assert all(line.split()[1] == "undecided" for line in lines)
    assert any("rawpunch run timing_window" in line for line in lines)


def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a schema, all claims and the runs that were asked."""
    assert main(["claims", "--data", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "rawpunch.claims/1"
    assert [claim["claim"] for claim in document["claims"]] == list(claims())
    assert document["runs"] == []


@pytest.mark.parametrize("words", [["--quick"], ["--seed", "3"], ["--on", "sim"]])
def test_options_that_would_do_nothing_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """They are about making runs."""
    assert main(["claims", *words]) == 2
    assert "add --run" in capsys.readouterr().err
