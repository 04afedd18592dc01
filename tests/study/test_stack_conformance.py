"""The conformance of stacks, told from the segments alone: simulated ones of every profile, and this machine's kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.dataset.store import Dataset
from rawpunch.errors import Malformed, UnknownName
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, run

CROSSING = "branch=SYN 0; SYN-ACK 0 1"


def _run(root: Path, *settings: str, driver: str = "sim", repeats: int = 2) -> Dataset:
    job = Job(Experiment.load("stack_conformance").with_settings(settings), repeats, 5, driver)
    return run(job, begin(job, root=root))


def _verdicts(dataset: Dataset) -> list[Verdict]:
    return [Verdict(**verdict) for verdict in dataset.manifest.verdicts]


def test_the_rfcs_own_table_conforms(tmp_path: Path) -> None:
    """Every branch is answered as the RFC says, and the claim is refuted for it."""
    *branches, claim = _verdicts(_run(tmp_path, "stack=rfc9293"))
    assert len(branches) > 50
    assert {verdict.verdict for verdict in branches} == {"upheld"}
    assert all("as the RFC says" in verdict.statement for verdict in branches)
    assert (claim.claim, claim.verdict, claim.value) == ("C19", "refuted", 0.0)


def test_a_run_is_printed_as_a_table_of_paragraphs(tmp_path: Path) -> None:
    """Each branch once, for each stack; with a single stack its name is below."""
    dataset = _run(tmp_path, "stack=rfc9293", f"{CROSSING},RST-ACK 0 1")
    table = Experiment.load("stack_conformance").table(dataset)
    assert table is not None
    assert [row[1:3] for row in table.rows] == [
        ("SYN 0; SYN-ACK 0 1", "SYN 0, SYN-ACK 0 1, ACK 1 1; established"),
        ("RST-ACK 0 1", "SYN 0; refused"),
    ]
    assert "rfc9293: 2 of 2 branches as the RFC says" in table.foot
    assert len(table.columns) == len(table.rows[0])
    assert Experiment.load("mixed_open").table(dataset) is None


def test_linux_differs_as_it_is_known_to(tmp_path: Path) -> None:
    """Each difference is known; the claim holds under a condition, as the crossing itself opens."""
    *branches, claim = _verdicts(_run(tmp_path, "stack=kernel"))
    assert {verdict.verdict for verdict in branches} == {"upheld"}
    assert sum("as known" in verdict.statement for verdict in branches) >= 10
    assert (claim.claim, claim.verdict) == ("C19", "conditional")
    assert "[ICMP 3/1 0] unreachable for timed_out" in claim.why
    assert claim.value == claim.low == claim.high == claim.why.count("[") / len(branches)


def test_a_stack_that_does_not_open_by_a_crossing_upholds_the_claim(tmp_path: Path) -> None:
    """As Linux before 6.12."""
    dataset = _run(tmp_path, "stack=linux-before-6.12", CROSSING)
    (branch, claim) = _verdicts(dataset)
    assert set(dataset.attempts["outcome_b"]) == {"timed_out"}
    assert "as known" in branch.statement
    assert claim.verdict == "upheld"


def test_too_few_attempts_decide_nothing(tmp_path: Path) -> None:
    """One attempt is not judged; the crossing alone does not clear a stack."""
    assert {verdict.verdict for verdict in _verdicts(_run(tmp_path / "1", CROSSING, repeats=1))} == {"undecided"}
    *_, claim = _verdicts(_run(tmp_path / "2", CROSSING))
    assert claim.verdict == "undecided"
    assert "branches" in claim.why


def test_a_branch_of_ones_own_can_be_put(tmp_path: Path) -> None:
    """It is written in the notation; what the table says of it is found as for any other."""
    branch, _ = _verdicts(_run(tmp_path, "branch=SYN 0; FIN-ACK 1 1; RST 2", "stack=rfc9293"))
    assert branch.verdict == "upheld"
    assert "SYN 0, SYN-ACK 0 1, ACK 1 2; established" in branch.statement


def test_what_cannot_be_put_or_has_no_name_is_refused_at_once(tmp_path: Path) -> None:
    """Before a run is begun: its folder would be empty."""
    with pytest.raises(Malformed, match="'2' is no time"):
        _run(tmp_path, "branch=SYN 0 after 2")
    with pytest.raises(UnknownName, match="no stack 'lwip'"):
        _run(tmp_path, "stack=lwip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.lab
def test_this_machines_kernel_takes_a_crossing_and_believes_no_wrong_rst(tmp_path: Path) -> None:
    """In the lab the same words come from real packets; a stack that differs from its profile would be told."""
    branches = "branch=SYN 0; SYN-ACK 0 1,SYN-ACK 0 1,RST-ACK 0 7,SYN 0; RST 9,SYN 0; RST 1,ICMP 3/3 0"
    dataset = _run(tmp_path, branches, driver="lab", repeats=3)
    outcomes = dataset.attempts.groupby("branch")["outcome_b"].agg(set).to_dict()
    assert outcomes["SYN 0; SYN-ACK 0 1"] == outcomes["SYN-ACK 0 1"] == {"established"}
    assert outcomes["SYN 0; RST 1"] == {"reset"}
    assert outcomes["SYN 0; RST 9"] == outcomes["RST-ACK 0 7"] == {"timed_out"}
    *found, _ = _verdicts(dataset)
    assert not [verdict.statement for verdict in found if verdict.verdict == "refuted"]
