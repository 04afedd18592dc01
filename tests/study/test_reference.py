"""The reference captures are what their index says, and can be made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.capture.classify import classify
from rawpunch.capture.columns import read_capture
from rawpunch.record.words import Outcome, Pattern
from rawpunch.scene import VANTAGES
from rawpunch.study.bench import LabBench
from rawpunch.study.reference import INDEX, REFERENCES, Reference, index, make

FOLDER = Path(__file__).parents[2] / "data" / "captures"


def test_the_index_is_what_classify_says() -> None:
    """Whoever changes a capture, or how it is classified, sees it in the index."""
    assert (FOLDER / INDEX).read_text(encoding="utf-8") == index(FOLDER)


def test_the_folder_holds_the_references_and_nothing_else() -> None:
    """One small file each."""
    assert {path.name for path in FOLDER.iterdir()} == {INDEX, *(reference.file for reference in REFERENCES)}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000


def test_every_pattern_and_outcome_is_there() -> None:
    """From kernel ends and from raw ends; what was not measured leaves no packets, and a sample is no attempt at a connection."""
    assert {reference.pattern for reference in REFERENCES} == set(Pattern)
    assert {reference.outcome for reference in REFERENCES} == set(Outcome) - {Outcome.NOT_MEASURED, Outcome.SAMPLED} | {None}
    for pattern in set(Pattern) - {Pattern.TRUNCATED}:
        ends = {word for reference in REFERENCES if reference.pattern is pattern for word in reference.ends.split("-")}
        assert ends == {"kernel", "raw"}, pattern


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: reference.name)
def test_each_shows_what_it_is_to_show(reference: Reference) -> None:
    """One attempt of its pattern and outcome, seen at all vantage points that its packets reached; nothing could not be read."""
    found = classify(FOLDER / reference.file)
    assert [(row["pattern"], row["outcome"]) for row in found.rows()] == [(reference.pattern, reference.outcome)]
    assert found.skipped() == {}
    vantages = set(read_capture(FOLDER / reference.file)["interface"].cat.categories)
    assert vantages == ({"hostA:lo"} if reference.pattern is Pattern.SELF_CONNECT else set(VANTAGES))


@pytest.mark.lab
@pytest.mark.parametrize(
    "name", ["simultaneous-kernel-kernel", "split-raw-raw", "three_way-half_open-kernel-kernel", "self_connect-raw"]
)
def test_they_can_be_made_anew(name: str, tmp_path: Path) -> None:
    """One of each way of making them."""
    reference = next(reference for reference in REFERENCES if reference.name == name)
    with LabBench(7) as bench:
        make(reference, bench, tmp_path)
    assert [row["pattern"] for row in classify(tmp_path / reference.file).rows()] == [reference.pattern]
