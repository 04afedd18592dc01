"""How long mappings live on after an error: the later looks are added where something lived, and find the timers of the NAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.dataset.store import Dataset
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, run

CLOSES = "answer=SYN 0; RST 1; SYN-ACK 0 1"
AT_ONCE = "answer=RST-ACK 0 1; SYN 0"


def _run(root: Path, *settings: str, driver: str = "sim", repeats: int = 4) -> Dataset:
    job = Job(Experiment.load("rst_behaviour").with_settings(settings), repeats, 3, driver)
    return run(job, begin(job, root=root))


def _lifetimes(dataset: Dataset) -> list[Verdict]:
    return [found for found in (Verdict(**verdict) for verdict in dataset.manifest.verdicts) if found.claim == "lifetime"]


def test_a_mapping_ends_when_its_timer_does(tmp_path: Path) -> None:
    """Conntrack's CLOSE after 10 s, a box's after its own; a NAT that believes no RST has none. One look at each instant."""
    dataset = _run(tmp_path, CLOSES, "near=closes,closes in 1 s,keeps", "end=raw")
    closes, quick, keeps = _lifetimes(dataset)
    assert {found.verdict for found in (closes, quick, keeps)} == {"upheld"}
    assert (closes.low, closes.high, closes.unit, closes.n) == (9.7, 10.3, "s", 14)
    assert (quick.low, quick.high) == (0.9, 1.1)
    assert (keeps.low, keeps.high) == (None, None)
    assert "outlives 1.5 s" in keeps.statement
    attempts = dataset.attempts
    later = attempts[attempts["after_ns"] > 60_000_000]
    assert later.groupby(["near", "after_ns"]).size().unique().tolist() == [1]


def test_what_is_gone_at_once_is_not_looked_at_again(tmp_path: Path) -> None:
    """A RST that fits ends a session in SYN-SENT there and then; the looks after 60 ms say so."""
    dataset = _run(tmp_path, AT_ONCE, "near=closes", "end=raw")
    (found,) = _lifetimes(dataset)
    assert (found.verdict, found.low, found.n) == ("upheld", 0.0, 4)
    assert found.statement.endswith("ends at once")
    assert set(dataset.attempts["after_ns"]) == {60_000_000}


def test_too_few_looks_decide_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a watch that ends before the timer."""
    (found,) = _lifetimes(_run(tmp_path / "1", AT_ONCE, "near=closes", "end=raw", repeats=2))
    assert (found.verdict, found.why) == ("undecided", "fewer than 4 looks count")
    monkeypatch.setattr(Experiment, "refine", lambda _self, _run: [])
    (found,) = _lifetimes(_run(tmp_path / "2", CLOSES, "near=closes", "end=raw"))
    assert (found.verdict, found.n) == ("undecided", 4)
    assert "after 60 ms, it was there" in found.why


def test_a_kernels_end_is_not_watched(tmp_path: Path) -> None:
    """It would send what keeps the mapping alive, or opens another."""
    dataset = _run(tmp_path, CLOSES, "near=closes", "end=kernel")
    assert _lifetimes(dataset) == []
    assert len(dataset.attempts) == 4


@pytest.mark.lab
def test_a_real_mapping_outlives_a_rst_by_its_timer(tmp_path: Path) -> None:
    """A box between real hosts; each look has some tens of ms to spare, and counts its own waiting, not the planned one."""
    dataset = _run(tmp_path, CLOSES, "near=closes in 1 s", "end=raw", driver="lab")
    (found,) = _lifetimes(dataset)
    assert found.verdict == "upheld", found
    assert found.low is not None
    assert found.high is not None
    assert 0.85 < found.low <= 1.0 <= found.high < 1.2
