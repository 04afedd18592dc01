"""The experiments on mixed opens, the three properties and RSTs, in virtual time: they find what the machines do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rawpunch.dataset.store import Dataset
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, run
from tests.study.changed_run import ChangedRun

Carry = Callable[..., Dataset]


@pytest.fixture
def carry(tmp_path: Path) -> Carry:
    """Carries out an experiment in the simulator."""

    def carried(name: str, *settings: str, repeats: int = 1) -> Dataset:
        job = Job(Experiment.load(name).with_settings(settings), repeats, 4, "sim")
        return run(job, begin(job, root=tmp_path))

    return carried


def _verdicts(found: Dataset) -> list[Verdict]:
    return [Verdict(**verdict) for verdict in found.manifest.verdicts]


def _of(found: Dataset, claim: str) -> Verdict:
    (verdict,) = [verdict for verdict in _verdicts(found) if verdict.claim == claim]
    return verdict


def test_mixed_opens_are_one_connection(carry: Carry) -> None:
    """Late ones are half-simultaneous with A as the end that ran a simultaneous open; forty of each make it sure."""
    found = carry("mixed_open", "ends=raw-raw", "offset=0.5,2.0,60.0", repeats=20)
    assert {claim: _of(found, claim).verdict for claim in ("C3", "C4", "C16")} == dict.fromkeys(("C3", "C4", "C16"), "upheld")
    assert _of(found, "C4").n == 60
    assert "20 after A had sent its SYN again" in _of(found, "C3").why
    few = Experiment.load("mixed_open").verdicts(carry("mixed_open", "ends=raw-raw", "offset=2.0", repeats=3))
    assert {verdict.verdict for verdict in few} == {"undecided"}


def test_a_connection_is_counted_in_the_kernels_too(carry: Carry) -> None:
    """Where they were asked: one socket at a kernel's end, none where raw packets opened; a second one refutes the claim."""
    found = carry("mixed_open", "ends=raw-raw", "offset=0.5", repeats=40)
    for end_b, sockets, share in (("kernel", (0, 1), 1), ("kernel", (0, 2), 0), ("kernel", (1, 1), 0), ("raw", (0, 0), 1)):
        asked = found.attempts.assign(end_b=end_b, sockets_a=sockets[0], sockets_b=sockets[1])
        verdicts = Experiment.load("mixed_open").verdicts(ChangedRun(found, asked))
        (claim,) = [verdict for verdict in verdicts if verdict.claim == "C4"]
        assert (claim.value, claim.verdict) == (share, "upheld" if share else "refuted")
        assert "told their sockets in 40 of them" in claim.why


def test_silence_is_the_property_that_timing_replaces(carry: Carry) -> None:
    """All three are needed when B is late; in time, RSTs do no harm."""
    found = carry("three_properties", repeats=5)
    rule = _of(found, "C13")
    assert rule.verdict == "conditional"
    assert rule.why == (
        "B's SYN leaves after A's has come; always needed is that reply-SYNs pass and that the port is kept; "
        "not needed is that early SYNs are dropped in silence, if B's SYN leaves before A's comes"
    )
    assert rule.n == 80
    early = carry("three_properties", "offset=0.0", "silent=true", repeats=1)
    assert _of(early, "C13").verdict == "undecided"


def test_a_rst_is_final_only_where_the_near_nat_believes_it(carry: Carry) -> None:
    """Ends that try again open through a NAT that keeps its session; a new session may get a new port."""
    found = carry("rst_behaviour", "answer=far NAT", "end=raw", repeats=4)
    claim = _of(found, "C18")
    assert (claim.verdict, claim.value) == ("conditional", 1.0)
    ports = {verdict.statement.split(" again ")[1]: verdict.value for verdict in _verdicts(found) if verdict.claim == "port"}
    assert {near.split(" in a NAT that ")[1].split(" (")[0]: share for near, share in ports.items()} == {
        "closes": 1.0,
        "closes, new ports": 0.0,
        "keeps": 1.0,
        "keeps, new ports": 1.0,
    }


def test_which_errors_end_a_mapping(carry: Carry) -> None:
    """A RST that fits does, where the NAT believes RSTs; one with a wrong acknowledgement or an ICMP error does not."""
    answers = "answer=RST-ACK 0 1; SYN 0,RST-ACK 0 7; SYN 0,ICMP 3/13 0; SYN 0"
    found = carry("rst_behaviour", answers, "end=raw", "near=closes,keeps", repeats=4)
    told = {verdict.statement: (verdict.value, verdict.verdict) for verdict in _verdicts(found) if verdict.claim == "mapping"}
    gone = [statement for statement, (share, _) in told.items() if share == 0]
    assert len(told) == 6
    assert {word for _, word in told.values()} == {"upheld"}
    assert len(gone) == 1
    assert "RST-ACK 0 1 in SYN-SENT" in gone[0]
    assert "a NAT that closes is gone" in gone[0]
    assert _of(found, "C18").verdict == "undecided"
