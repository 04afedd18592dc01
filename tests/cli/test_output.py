"""What is printed: documents that machines read, tables that people read, colour only where it is wanted."""

from __future__ import annotations

import enum
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rawpunch.cli import output


class Word(enum.Enum):
    """An outcome word."""

    ESTABLISHED = "established"


@dataclass(frozen=True)
class Point:
    """Something with fields."""

    x: int
    word: Word


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_documents_carry_their_schema_and_take_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line of stdout is the last document, whatever kinds of values it holds."""
    body = {
        "run": Path("data/runs/1"),
        "n": np.int64(7),
        "rate": np.float64(0.5),
        "none": float("nan"),
        "words": (Word.ESTABLISHED, None, True),
        "point": Point(3, Word.ESTABLISHED),
        Word.ESTABLISHED.value: {1: "two\nlines"},
    }
    output.document("rawpunch.demo/1", body)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "schema": "rawpunch.demo/1",
        "run": "data/runs/1",
        "n": 7,
        "rate": 0.5,
        "none": None,
        "words": ["established", None, True],
        "point": {"x": 3, "word": "established"},
        "established": {"1": "two\nlines"},
    }
    assert next(iter(json.loads(out))) == "schema"


def test_documents_refuse_what_json_has_no_form_for() -> None:
    """An object does not end up as its repr in a document."""
    with pytest.raises(TypeError, match="object has no JSON form"):
        output.document("rawpunch.demo/1", {"thing": object()})


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their widest cell, numbers flush right, no line ends in spaces."""
    output.table(["pattern", "n", "share"], [("simultaneous", 7, 0.5), ("split", 120, 1)], right=["n"])
    assert capsys.readouterr().out.splitlines() == [
        "pattern         n  share",
        "simultaneous    7  0.5",
        "split         120  1",
    ]


def test_a_table_without_rows_still_names_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table is a header."""
    output.table(["run", "n"], [])
    assert capsys.readouterr().out == "run  n\n"


@pytest.mark.parametrize(
    ("environment", "stream", "coloured"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
    ],
)
def test_colour(environment: dict[str, str], stream: io.StringIO, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour is for terminals, and a non-empty NO_COLOR or a dumb one turns it off."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert output.styled("x", "red", stream) == ("\x1b[31mx\x1b[0m" if coloured else "x")


def test_progress_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar counts its steps on a terminal; a pipe or -q sees nothing of it; stdout never does."""
    with output.progress(4, "attempts") as advance:
        advance(4)
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress(4, "attempts") as advance:
        advance(4)
    assert "attempts" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    output.set_level(-1)
    try:
        with output.progress(4, "attempts") as advance:
            advance(4)
    finally:
        output.set_level(0)
    assert quiet.getvalue() == ""
    assert capsys.readouterr().out == ""
