"""rawpunch claims: a line for each claim on stdout, one document with --json, and a refusal of options that would do nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from rawpunch.cli.app import main
from rawpunch.cli.claims_command import _show
from rawpunch.dataset.store import load
from rawpunch.study.claims import claims, report

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"


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
    assert (document["tests"], document["runs"]) == (0, [])
    assert all(claim["together"] and claim["verdict"] == "undecided" and claim["why"] for claim in document["claims"])


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_a_terminal_shows_what_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer than it is wide; each claim begins a paragraph with its verdict and what that rests on."""
    found = report(runs=[load(next((SAMPLE / name).iterdir())) for name in ("mixed_open", "binding")])
    stdout = _Terminal()
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    _show(found)
    text = stdout.getvalue()
    assert max(map(len, text.splitlines())) <= min(columns, 120)
    paragraphs = {part.split()[0]: part for part in text.split("\n\n")}
    assert [name for name in paragraphs if name.startswith("C")] == list(claims())
    assert "     upheld" in paragraphs["C4"]
    assert "holds only when" in paragraphs["C5"]
    assert "n=" in paragraphs["C5"]
    assert "the NAT filters nobody" in " ".join(paragraphs["C5"].split())
    assert "undecided: none of these runs" in " ".join(paragraphs["C22"].split())


@pytest.mark.parametrize("words", [["--quick"], ["--seed", "3"], ["--on", "sim"]])
def test_options_that_would_do_nothing_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """They are about making runs."""
    assert main(["claims", *words]) == 2
    assert "add --run" in capsys.readouterr().err
