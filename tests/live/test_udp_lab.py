"""UDP ends in the lab: greetings through NATs made by rules, and none through one that answers nobody's port."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.lab.nat_rules import nat_ruleset
from rawpunch.scene import Nat, Scene, UnsolicitedAnswer
from rawpunch.study.bench import LabBench, Planned
from rawpunch.study.experiment import Attempt, Experiment, Verdict
from rawpunch.study.measure import rows_of
from rawpunch.study.runner import Job, begin, run
from rawpunch.units import MS


def test_rules_translate_udp_as_they_do_tcp() -> None:
    """The same translation, so that the two can be compared; what UDP is not expected is dropped, or left to the stack."""
    rules = nat_ruleset(Nat(persona="linux-masquerade-random"))
    assert "meta l4proto tcp masquerade fully-random" in rules
    assert "meta l4proto udp masquerade fully-random" in rules
    assert "meta l4proto udp drop" in rules
    assert "meta l4proto udp drop" not in nat_ruleset(Nat(unsolicited=UnsolicitedAnswer.STACK))


@pytest.mark.lab
def test_greetings_pass_both_ways_or_the_end_gives_up(tmp_path: Path) -> None:
    """Early or late, through NATs that keep ports; never where a NAT draws another port for each connection."""
    attempts = [Attempt("udp", "udp", offset, give_up_ns=500 * MS) for offset in (0, 25 * MS)]
    planned = [Planned(f"t{number}", "cell", {}, number, attempt) for number, attempt in enumerate(attempts)]
    found = {}
    with LabBench(4) as bench:
        for persona in ("rst-sender", "linux-masquerade-random"):
            scene = Scene.between(Nat(persona=persona), Nat(persona=persona), 10 * MS)
            bench.use(scene)
            recording = bench.make(planned, tmp_path / "part.pcapng")
            rows = rows_of(recording, driver="lab", capture_name="part.pcapng", one_way_ns=scene.one_way_ns)
            found[persona] = {row.outcome for row in rows.attempts}
    assert found == {"rst-sender": {"established"}, "linux-masquerade-random": {"timed_out"}}


@pytest.mark.lab
def test_the_baseline_compares_the_two(tmp_path: Path) -> None:
    """TCP that comes too late is reset where UDP is not; with so few attempts that is all that can be said."""
    experiment = Experiment.load("udp_baseline").with_settings(["pair=rst-sender+rst-sender", "transport=udp,kernel"])
    job = Job(experiment, 3, 1)
    dataset = run(job, begin(job, root=tmp_path))
    opened = dataset.attempts[dataset.attempts["outcome"] == "established"]
    assert set(opened[opened["offset"] > 1]["transport"]) == {"udp"}
    verdicts = {verdict["claim"]: Verdict(**verdict) for verdict in dataset.manifest.verdicts}
    assert verdicts["C6"].verdict in {"refuted", "undecided"}
    assert "late TCP 0/" in verdicts["C21"].why
