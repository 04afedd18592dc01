"""Dialling again where there is no delay: tries decide, those that gave up count as longer, and the lab makes what is planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.analysis.statistics import at_confidence
from rawpunch.dataset.check import verify
from rawpunch.dataset.store import Dataset
from rawpunch.ending import Ending
from rawpunch.errors import BadParameter
from rawpunch.record.words import Pattern
from rawpunch.study.dialling import patterns_of
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, bench_of, run
from rawpunch.study.staged import EPHEMERAL_PORTS, Dialling, Session, Way

SMALL = ("ephemeral_ports=512",)
OPEN = {"ending": Ending.ESTABLISHED.value}


def _rows(way: str, tries: list[int], *, gave_up: int = 0, ports: int = EPHEMERAL_PORTS) -> list[dict[str, Any]]:
    """Made-up attempts, the last of which gave up."""
    return [
        {
            "way": way,
            "sockets": "new",
            "ephemeral_ports": ports,
            "outcome": "refused" if place >= len(tries) - gave_up else "established",
            "disturbed": False,
            "tries_a": count if way == "itself" else 7 * count,
            "tries_b": None if way == "itself" else count,
        }
        for place, count in enumerate(tries)
    ]


def _verdicts(rows: list[dict[str, Any]]) -> list[Verdict]:
    frame = pd.DataFrame(rows).astype({"tries_a": "Int64", "tries_b": "Int64"})
    module = Experiment.load("loopback")
    return module._verdicts(frame)


def _new(rows: list[dict[str, Any]]) -> Verdict:
    """What is said of two programs with new sockets."""
    return _verdicts(rows)[1]


def test_tries_of_the_one_that_began_last_decide() -> None:
    """A median of some dozens refutes thousands, one of thousands upholds them, and one near a thousand is undecided."""
    few = _new(_rows("loopback", [*range(1, 41)]))
    assert (few.claim, few.verdict, few.n, few.value, few.unit) == ("C15", "refuted", 40, 20, "tries")
    assert few.low is not None
    assert few.high is not None
    assert 1 < few.low < 20 < few.high < 40
    assert "nine in ten do with 36" in few.why
    assert _new(_rows("loopback", [*range(2_000, 4_000, 50)])).verdict == "upheld"
    assert _new(_rows("loopback", [*range(500, 1_700, 30)])).verdict == "undecided"
    assert _new(_rows("loopback", [1, 2, 3])).verdict == "undecided"
    assert {found.verdict for found in _verdicts(_rows("link", [1] * 30))} == {"undecided"}


def test_who_gave_up_would_have_needed_more() -> None:
    """Half of the attempts that gave up make the median infinite; where all did, what they tried is the least that it can be."""
    half = _new(_rows("loopback", [10] * 15 + [5_000] * 25, gave_up=25))
    assert (half.verdict, half.value) == ("undecided", None)
    most = _new(_rows("loopback", [10] * 3 + [5_000] * 37, gave_up=37))
    assert (most.verdict, most.low, most.high) == ("upheld", None, None)
    assert "the median is 5000 tries at least" in most.why
    every = _new(_rows("loopback", [5_000] * 20, gave_up=20))
    assert (every.verdict, every.value) == ("upheld", None)
    assert "the median is 5000 tries at least" in every.why
    assert "20 of 20 gave up" in every.why
    assert _new(_rows("loopback", [900] * 20, gave_up=20)).verdict == "undecided"


def test_a_stricter_confidence_decides_less() -> None:
    """What seven attempts say at 95 % they do not at 99.99 %."""
    rows = _rows("loopback", [5_000] * 7, gave_up=7)
    assert _new(rows).verdict == "upheld"
    with at_confidence(0.9999):
        assert _new(rows).verdict == "undecided"


def test_a_narrow_range_is_accounted_for() -> None:
    """Tries through a range of an eighth count eightfold, and it is said; a link is said beside the loopback."""
    rows = (
        _rows("itself", [*range(400, 800, 10)], ports=EPHEMERAL_PORTS // 8)
        + _rows("loopback", [3] * 30)
        + _rows("link", [2] * 30)
    )
    found = _verdicts(rows)
    assert (found[2].claim, found[2].verdict) == ("self-connect", "upheld")
    assert found[2].is_expectation
    assert found[2].value == pytest.approx(8 * 590)
    assert f"scaled from a range of {EPHEMERAL_PORTS // 8}" in found[2].statement
    assert "on a link without delay 2 [2, 2] (n = 30, 0 gave up)" in found[1].why


@given(st.lists(st.sampled_from([0, 1]), min_size=2, max_size=2), st.lists(st.integers(1, 4), min_size=2, max_size=2))
def test_patterns_are_those_of_two_ends(dups: list[int], got: list[int]) -> None:
    """Both crossed, or one heard nothing and the other answered; whatever else the counters say is not known how."""
    evidence = [{"dsack_dups": one, "segs_in": other} for one, other in zip(dups, got, strict=True)]
    a, b, both = patterns_of([OPEN, OPEN], evidence)
    if dups == [1, 1]:
        assert a == b == both == Pattern.SIMULTANEOUS
    elif both is Pattern.HALF_SIMULTANEOUS:
        assert {a, b} == {Pattern.THREE_WAY, Pattern.HALF_SIMULTANEOUS}
        assert got[a is not Pattern.THREE_WAY] == 1
    else:
        assert a == b == both == Pattern.TRUNCATED
    refused = {"ending": Ending.REFUSED.value}
    assert patterns_of([refused, refused], evidence) == (Pattern.REFUSED,) * 3
    assert patterns_of([refused, OPEN], evidence) == (Pattern.REFUSED, Pattern.TRUNCATED, Pattern.TRUNCATED)


def test_plans_that_make_no_sense_are_refused() -> None:
    """More tries than a program may have, an odd range, octets below nothing, an unknown method."""
    for plan, words in (
        (Dialling, {"way": Way.ITSELF, "most_tries": 0}),
        (Dialling, {"way": Way.ITSELF, "ephemeral_ports": 3}),
        (Dialling, {"way": Way.ITSELF, "ephemeral_ports": EPHEMERAL_PORTS + 2}),
        (Session, {"octets": -1}),
        (Session, {"octets": 1, "method": "magic"}),
    ):
        with pytest.raises(BadParameter):
            plan(**words)


def test_the_simulator_stages_no_programs(tmp_path: Path) -> None:
    """An experiment that forgot to say so is told."""
    path = tmp_path / "mine.py"
    text = Path(Experiment.load("loopback").path).read_text(encoding="utf-8")
    path.write_text(text.replace('DRIVERS = ("lab",)\n', ""), encoding="utf-8")
    job = Job(Experiment.load(str(path)), 1, 1, "sim")
    with pytest.raises(BadParameter, match="cannot stage programs"):
        run(job, begin(job, root=tmp_path))
    with pytest.raises(BadParameter, match="the driver sim cannot make loopback"):
        Job(Experiment.load("loopback"), 1, 1, "sim")


@pytest.mark.lab
def test_the_lab_stages_them_between_recorded_attempts(tmp_path: Path) -> None:
    """On one bench: programs dial until they are connected, attempts are recorded as ever, and programs dial again."""
    with bench_of("lab", 5, {}) as bench:

        def made(name: str, *settings: str, repeats: int) -> Dataset:
            job = Job(Experiment.load(name).with_settings(settings), repeats, 5)
            return run(job, begin(job, root=tmp_path), bench=bench)

        first = made("loopback", *SMALL, repeats=3)
        recorded = made("raw_vs_kernel", "nat_answer=drop", "offset=0.0", "one_way_ns=5ms", "ends=kernel-kernel", repeats=1)
        again = made("loopback", *SMALL, "way=loopback,itself", repeats=1)
    assert len(recorded.segments) > 0
    for found in (first, again):
        assert verify(found.path) == []
        attempts = found.attempts
        assert set(attempts["outcome"]) == {"established"}
        assert attempts["tries_a"].min() >= 1
        pairs, itself = attempts[attempts["way"] != "itself"], attempts[attempts["way"] == "itself"]
        assert pairs["tries_b"].min() >= 1
        assert set(pairs["pattern"]) <= {"simultaneous", "half_simultaneous", "truncated"}
        assert (itself["pattern"] == "self_connect").all()
        assert (itself["local_a"] == itself["remote_a"]).all()
        assert itself["tries_b"].isna().all()
        assert len(found.segments) == 0
    assert len(first.attempts) == 5 * 3
    assert {verdict["claim"] for verdict in first.manifest.verdicts} == {"C15", "self-connect"}
