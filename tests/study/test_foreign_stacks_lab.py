"""Other stacks than the lab's kernel under test: programs in its place, and stacks elsewhere, by a prober without a lab."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rawpunch.dataset.store import Dataset, load
from rawpunch.errors import BadParameter, PolicyRefused
from rawpunch.scene import Scene
from rawpunch.study.bench import LabBench
from rawpunch.study.experiment import Attempt, Experiment, Verdict
from rawpunch.study.live_bench import LOOPBACK, LiveBench
from rawpunch.study.planned import Planned
from rawpunch.study.runner import Job, begin, run
from rawpunch.units import MS
from rawpunch.wire.endpoint import Endpoint

ROOT = Path(__file__).resolve().parents[2]
CROSSING = "SYN 0; SYN-ACK 0 1"
BRANCHES = f"branch={CROSSING},SYN-ACK 0 1,RST-ACK 0 1,RST-ACK 0 7,SYN 0; RST 1"
PYTHON = f"cd {shlex.quote(str(ROOT))} && exec {shlex.quote(sys.executable)}"
KERNEL = f"cmd:{PYTHON} -m rawpunch.live.stack_program"
DEAF = f"cmd:{PYTHON} -m tests.live.deaf_stack"


def _verdicts(dataset: Dataset) -> list[Verdict]:
    return [Verdict(**verdict) for verdict in dataset.manifest.verdicts]


@pytest.fixture(scope="module")
def bench() -> Iterator[LabBench]:
    """One lab for all."""
    with LabBench(5) as built:
        built.use(Experiment.load("stack_conformance").scene({}))
        yield built


def _lab_run(bench: LabBench, root: Path, *stacks: str, branches: str = BRANCHES) -> Dataset:
    job = Job(Experiment.load("stack_conformance").with_settings([branches, f"stack={','.join(stacks)}"]), 2, 5, "lab")
    return run(job, begin(job, root=root), bench=bench)


@pytest.mark.lab
def test_a_stack_that_is_wrong_is_found_out_and_one_that_is_right_is_not(bench: LabBench, tmp_path: Path) -> None:
    """One that is deaf to crossing SYNs, with packets of its own, beside the kernel as a program: C19 differs by stack."""
    dataset = _lab_run(bench, tmp_path, KERNEL, DEAF)
    attempts = dataset.attempts
    assert set(attempts["end_b"]) == {"stack"}
    seen = attempts.groupby(["stack", "branch"])["outcome_b"].agg(set)
    assert seen[KERNEL, CROSSING] == seen[KERNEL, "SYN-ACK 0 1"] == seen[DEAF, "SYN-ACK 0 1"] == {"established"}
    assert seen[DEAF, "RST-ACK 0 1"] == {"refused"}
    assert seen[KERNEL, "SYN 0; RST 1"] == {"reset"}
    claims = {verdict.statement: verdict for verdict in _verdicts(dataset) if verdict.claim == "C19"}
    (deaf,) = [verdict for statement, verdict in claims.items() if "deaf_stack" in statement]
    (kernel,) = [verdict for statement, verdict in claims.items() if "stack_program" in statement]
    assert deaf.verdict == "upheld"
    assert kernel.verdict != "upheld"
    wrong = [verdict for verdict in _verdicts(dataset) if "deaf_stack" in verdict.statement and verdict.verdict == "refuted"]
    assert any(f", {CROSSING} (RFC 9293, 3.5, figure 7" in verdict.statement for verdict in wrong)


@pytest.mark.lab
def test_what_is_no_stack_ends_the_run_and_is_named(bench: LabBench, tmp_path: Path) -> None:
    """Before anything is attempted."""
    with pytest.raises(BadParameter, match="'exit 3' is no program that is a stack") as caught:
        _lab_run(bench, tmp_path, "cmd:exit 3")
    assert caught.value.why == "it ended with status 3"


@pytest.mark.lab
def test_a_stack_that_dies_leaves_attempts_that_are_not_measured(bench: LabBench, tmp_path: Path) -> None:
    """They say so; none is called timed out."""
    dataset = _lab_run(bench, tmp_path, "cmd:echo ready sockets; read line", branches="branch=SYN-ACK 0 1")
    assert set(dataset.attempts["outcome"]) == {"not_measured"}
    assert dataset.attempts["cause"].str.contains("ended|is gone").all()


def _live(bench: LabBench, root: Path, *words: str) -> tuple[dict[str, Any], Dataset]:
    """What a user on hostA gets by `rawpunch run --on live`."""
    command = [sys.executable, "-m", "rawpunch.cli.app", "run", "stack_conformance", "--on", "live", "--set", BRANCHES]
    more = ["--repeat", "2", "--seed", "5", "--data", str(root), "--json", *words]
    bench.lab.run(
        "hostA", ["env", f"PYTHONPATH={ROOT}", "sh", "-c", f"cd {shlex.quote(str(ROOT))}; {shlex.join([*command, *more])}; true"]
    )
    (folder,) = (root / "runs" / "stack_conformance").iterdir()
    dataset = load(folder)
    return dataset.manifest.verdicts[-1], dataset


@pytest.mark.lab
def test_the_users_own_kernel_is_judged_over_the_loopback(bench: LabBench, tmp_path: Path) -> None:
    """Nothing leaves the host, nobody has to be asked; the words are those of the lab."""
    claim, dataset = _live(bench, tmp_path)
    assert set(dataset.attempts["driver"]) == {"live"}
    outcomes = dataset.attempts.groupby("branch")["outcome_b"].agg(set).to_dict()
    assert outcomes[CROSSING] == outcomes["SYN-ACK 0 1"] == {"established"}
    assert outcomes["RST-ACK 0 1"] == {"refused"}
    assert outcomes["RST-ACK 0 7"] == {"timed_out"}
    assert claim["claim"] == "C19"
    assert not [verdict.statement for verdict in _verdicts(dataset) if verdict.verdict == "refuted" and verdict.is_expectation]
    assert set(dataset.segments["vantage"]) == {"hostA:eth0"}
    assert {"127.0.0.1", "127.0.0.2"} == set(dataset.segments["source_address"])


@pytest.mark.lab
def test_a_stack_in_another_namespace_is_led_to_by_a_program(bench: LabBench, tmp_path: Path) -> None:
    """From one host of a lab to another one, over its delay; here the deaf one is found out too."""
    there = f"nsenter --net=/proc/{bench.lab.pid}/fd/{bench.lab.nodes['hostB']}"
    deaf = f"cmd:cd {shlex.quote(str(ROOT))} && exec {there} {shlex.quote(sys.executable)} -m tests.live.deaf_stack"
    claim, dataset = _live(bench, tmp_path, "--target", "198.18.2.2", "--stack", deaf)
    outcomes = dataset.attempts.groupby("branch")["outcome_b"].agg(set).to_dict()
    assert outcomes["SYN-ACK 0 1"] == {"established"}
    assert claim["verdict"] == "upheld"
    assert set(dataset.segments["source_address"]) == {"198.18.1.2", "198.18.2.2"}


def test_a_target_that_nobody_allowed_is_refused(tmp_path: Path) -> None:
    """By the safety policy, before a socket is opened; so is a file that allows somebody else."""
    with pytest.raises(PolicyRefused):
        LiveBench(1, Endpoint("192.168.7.9", 4000))
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[target]]\naddress = "192.168.7.9"\nports = [4000]\nconsent = "me, today, by mail"\nexpires = 2999-01-01\n'
    )
    with pytest.raises(PolicyRefused, match="4001"):
        LiveBench(1, Endpoint("192.168.7.9", 4001), policy)
    with pytest.raises(BadParameter, match="IPv6"):
        LiveBench(1, Endpoint("::1", 0))
    with pytest.raises(BadParameter, match="without a port"):
        LiveBench(1, Endpoint("192.168.7.9", 0), policy)


def _planned(**changes: Any) -> Planned:
    experiment = Experiment.load("stack_conformance")
    cell = {"branch": CROSSING, "stack": changes.pop("stack", "kernel")}
    attempt = experiment.attempt(cell)
    assert isinstance(attempt, Attempt)
    return Planned("x", "x", cell, 0, attempt, scene=experiment.scene(cell))


def test_what_a_live_path_cannot_do_is_said(tmp_path: Path) -> None:
    """NATs of its own, profiles, samples; packets to oneself."""
    bench = LiveBench(1, LOOPBACK)
    with pytest.raises(BadParameter, match="NATs that it has"):
        bench.use(Scene.symmetric(MS))
    with pytest.raises(BadParameter, match="end B is raw"):
        bench.make([_planned(stack="rfc9293")], tmp_path / "x.pcapng")
    with pytest.raises(BadParameter, match="no ports are sampled"):
        bench.sample([_planned()], tmp_path / "x.pcapng")
    assert bench.describe()["prober"] == "127.0.0.2"
    assert LiveBench(1, Endpoint("127.0.0.2", 0)).describe()["prober"] != "127.0.0.2"
    assert list(tmp_path.iterdir()) == []
