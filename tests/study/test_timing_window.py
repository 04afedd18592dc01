"""The experiment on timing finds the edges where the scenes put them, and says so of clean data only."""

from __future__ import annotations

import pytest

from rawpunch.analysis.timing import first_syns, launch_errors, offsets_three_ways, shares_of_delays, window_edges, with_times
from rawpunch.dataset.store import Dataset
from rawpunch.errors import BadParameter
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, run
from rawpunch.units import MS
from tests.study.changed_run import ChangedRun


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two delays, kernel ends, in virtual time."""
    experiment = Experiment.load("timing_window").with_settings(
        ["one_way_ns=5ms,20ms", "ends=kernel-kernel", "path=direct,silent,resetting,lopsided,deep,askew"]
    )
    job = Job(experiment, 2, 5, "sim")
    return run(job, begin(job, root=tmp_path_factory.mktemp("data")))


def _verdicts(found: Dataset) -> dict[str, Verdict]:
    return {verdict["claim"]: Verdict(**verdict) for verdict in found.manifest.verdicts}


def test_every_edge_is_found(simulated: Dataset) -> None:
    """On five paths that reset, at two delays, for both orders: to 50 us, and the declared delay is in its interval."""
    edges = window_edges(with_times(simulated.attempts, simulated.segments), ["path", "ends", "one_way_ns"])
    assert len(edges) == 5 * 2 * 2
    for edge in edges:
        middle, low, high = edge.deviation_us
        assert low <= 0.001
        assert high >= -0.001
        assert high - low <= 100
        assert abs(middle) <= 50
        back = edge.levels["path"] == "lopsided" and edge.first == "b"
        assert edge.one_way_ns == edge.levels["one_way_ns"] // (2 if back else 1)
        longer = edge.one_way_ns / 2 * (1 if edge.first == "a" else -1) if edge.levels["path"] == "askew" else 0
        assert edge.farther_ns == longer
        assert edge.latest_ns == pytest.approx(edge.one_way_ns + longer + middle * 1000)


def test_the_hosts_may_be_as_far_from_their_nats_as_they_like(simulated: Dataset) -> None:
    """Host to host it is four delays then, and the window is one: that delay widens it by itself, and no other does."""
    edges = window_edges(with_times(simulated.attempts, simulated.segments), ["path", "ends", "one_way_ns"])
    for edge in edges:
        away = {"deep": 4.0, "askew": 2.5}.get(edge.levels["path"], 1.0)
        assert edge.host_way_ns == edge.one_way_ns * away
    between, rest = shares_of_delays(edges)
    assert between.value == pytest.approx(1, abs=0.002)
    assert rest.value == pytest.approx(0, abs=0.002)
    assert all(share.low <= share.value <= share.high for share in (between, rest))
    found = _verdicts(simulated)["C20"]
    assert "8 of them would lie 5 to 60 ms farther out" in found.why
    with pytest.raises(BadParameter, match="do not vary apart"):
        shares_of_delays([edge for edge in edges if edge.levels["path"] == "resetting"])
    with pytest.raises(BadParameter, match="cannot be told"):
        shares_of_delays([])


def test_without_hosts_away_from_their_nats_nothing_is_said_of_them(simulated: Dataset) -> None:
    """C20 asks for both delays to be varied; a run that has but the one does not decide it."""
    near = simulated.attempts[~simulated.attempts["path"].isin(["deep", "askew"])]
    verdicts = Experiment.load("timing_window").verdicts(ChangedRun(simulated, near))
    told = {verdict.statement: verdict for verdict in verdicts if verdict.claim in {"C20", "delays"}}
    assert len(told) == 3
    assert {verdict.verdict for verdict in told.values()} == {"undecided"}
    assert all(verdict.why for verdict in told.values())


def test_a_window_that_followed_the_hosts_would_refute_the_claim(simulated: Dataset) -> None:
    """Had all attempts within the delay from host to host opened, C20 would be refuted, and the delays would be told apart."""
    timed = with_times(simulated.attempts, simulated.segments)
    edges = window_edges(timed, ["path", "ends", "one_way_ns"])
    far = {(edge.levels["path"], edge.levels["one_way_ns"]): edge.host_way_ns for edge in edges}
    reach = [far.get(key, 0.0) for key in zip(timed["path"], timed["one_way_ns"], strict=True)]
    opened = (timed["late_ns"] < reach) & timed["path"].isin(["deep", "askew"]) | timed["opened"]
    changed = simulated.attempts.assign(outcome=opened.map({True: "established", False: "refused"}).to_numpy())
    verdicts = {verdict.claim: verdict for verdict in Experiment.load("timing_window").verdicts(ChangedRun(simulated, changed))}
    assert verdicts["C20"].verdict == "refuted"
    assert verdicts["delays"].verdict == "refuted"


def test_the_claims_come_out_as_the_machines_were_made(simulated: Dataset) -> None:
    """In virtual time nothing is blurred."""
    found = _verdicts(simulated)
    words = {claim: verdict.verdict for claim, verdict in found.items() if claim.startswith("C")}
    assert words == {"C1": "upheld", "C2": "upheld", "C3": "upheld", "C10": "upheld", "C11": "refuted", "C20": "upheld"}
    assert {found[claim].verdict for claim in ("edge", "delays", "clock")} == {"upheld"}
    assert found["clock"].n >= 40
    assert found["offset"].verdict == "undecided"


def test_clocks_that_lie_move_the_start(simulated: Dataset) -> None:
    """B ahead by 15 ms starts so much earlier, and one that lost 30 ms comes too late for a path of 20 ms."""
    attempts = simulated.attempts
    ahead = attempts[attempts["ahead_ns"] == 15 * MS]
    assert set(ahead["offset_ns"]) == {-15 * MS}
    assert set(ahead["outcome"]) == {"established"}
    slow = attempts[attempts["drift_ppb"] == -50_000]
    assert slow["offset_ns"].min() > 29 * MS
    assert set(slow["outcome"]) == {"refused"}


def test_a_side_of_an_edge_that_was_lost_is_tried_again(simulated: Dataset) -> None:
    """Stalls took all that came too late, or all that came in time; an edge that is known asks for nothing more."""
    experiment = Experiment.load("timing_window")
    assert experiment.refine(simulated) == []
    timed = with_times(simulated.attempts, simulated.segments)
    mine = (timed["path"] == "askew") & (timed["one_way_ns"] == 20 * MS) & (timed["first"] == "b")
    for opened, offset in ((True, -0.9), (False, -1.1)):
        broken = simulated.attempts.assign(disturbed=(mine & (timed["opened"] == opened)).to_numpy())
        (again,) = experiment.refine(ChangedRun(simulated, broken))
        assert (again["path"], again["one_way_ns"]) == ("askew", 20 * MS)
        assert again["offset"] == pytest.approx(offset)


def test_an_edge_is_followed_until_it_is_decided(simulated: Dataset) -> None:
    """Narrow is not enough: one whose interval reaches across the bar is tried further, as is one found far beyond."""
    experiment = Experiment.load("timing_window")
    timed = with_times(simulated.attempts, simulated.segments)
    mine = (timed["path"] == "resetting") & (timed["one_way_ns"] == 20 * MS)
    for later_us, words in ((80, {"upheld", "undecided"}), (4_000, {"upheld", "refuted"})):
        opened = timed["opened"].mask(mine, timed["too_late_ns"] < later_us * 1_000)
        moved = ChangedRun(
            simulated,
            simulated.attempts.assign(outcome=opened.map({True: "established", False: "refused"}).to_numpy()),
        )
        assert {found.verdict for found in experiment.verdicts(moved) if found.claim == "edge"} == words
        assert {(cell["path"], cell["one_way_ns"]) for cell in experiment.refine(moved)} == {("resetting", 20 * MS)}


def test_a_disturbed_attempt_moves_nothing(simulated: Dataset) -> None:
    """Attempts that a stall disturbed are left out of every verdict."""
    experiment = Experiment.load("timing_window")
    broken = simulated.attempts.assign(disturbed=True)
    verdicts = experiment.verdicts(ChangedRun(simulated, broken))
    assert {verdict.verdict for verdict in verdicts} == {"undecided"}
    assert all(verdict.n == 0 and verdict.why for verdict in verdicts)


def test_first_syns_are_followed_along_the_path(simulated: Dataset) -> None:
    """In virtual time a SYN is at its own NAT at once, and at the other one a one-way delay later."""
    cell = simulated.attempts.query("path == 'silent' and one_way_ns == 20_000_000 and offset == 3.0")
    seen = first_syns(simulated.segments).loc[cell["attempt"]]
    assert (seen["a@natA:out"] == seen["a@hostA:eth0"]).all()
    assert (seen["a@natB:out"] - seen["a@hostA:eth0"] == 20 * MS).all()
    assert seen["a@hostB:eth0"].isna().all()
    assert (seen["b@hostA:eth0"] - seen["b@hostB:eth0"] == 20 * MS).all()


def test_launches_and_offsets_are_tables(simulated: Dataset) -> None:
    """Two launches an attempt, each with its scheduler; no kernel's rtt in virtual time."""
    attempts = simulated.attempts
    errors = launch_errors(attempts)
    assert set(errors["scheduler"]) == {"spin", "sleep", "tick"}
    assert (errors["error_ns"] == 0).all()
    assert offsets_three_ways(attempts).empty
