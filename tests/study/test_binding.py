"""Bindings: which mapping an answer is for, and whom it lets in, told from attempts and mappings alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.analysis.bindings import Bindings, lets_in, one_for_all, open_to_all, overloads
from rawpunch.analysis.tables import keep
from rawpunch.dataset.store import Dataset
from rawpunch.nat.behavior import Behavior, Filtering, Mapping, Ports
from rawpunch.scene import Scene
from rawpunch.sim.attempt import following
from rawpunch.study.aiming import RELAY, Aim, Asked, Question, questions, targets
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, run
from rawpunch.wire.endpoint import Endpoint


def _run(root: Path, *settings: str, driver: str = "sim", repeats: int = 2) -> Dataset:
    job = Job(Experiment.load("binding").with_settings(settings), repeats, 9, driver)
    return run(job, begin(job, root=root))


def _words(dataset: Dataset) -> dict[str, str]:
    verdicts = [Verdict(**verdict) for verdict in dataset.manifest.verdicts]
    return {verdict.claim: verdict.verdict for verdict in verdicts}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The default set, each cell five times."""
    return _run(tmp_path_factory.mktemp("binding"), repeats=5)


def test_the_claims_are_decided(simulated: Dataset) -> None:
    """Both correspondents were right, of different NATs; the port must be bound; some NATs overload their ports."""
    assert _words(simulated) == {"binding": "upheld", "C5": "conditional", "C9": "upheld", "C17": "conditional"}


def test_each_nat_lets_in_whom_its_filtering_says(simulated: Dataset) -> None:
    """Strangers, known addresses and known endpoints, one by one."""
    found = Bindings(keep(simulated.attempts).attempts, simulated.mappings)
    opened = found.table[found.table["opened"]].groupby("nat")["trial"].agg(set).to_dict()
    third = {"stranger", "address_known", "endpoint_known"}
    assert opened["full-cone"] & third == third
    assert opened["address-restricted"] & third == {"address_known", "endpoint_known"}
    assert opened["linux-masquerade"] & third == opened["port-restricted"] & third == {"endpoint_known"}
    assert opened["symmetric-sequential"] & third == opened["address-dependent"] & third == set()
    assert found.as_filtered().estimate == 1.0


def test_answers_are_kept_as_mappings_towards_an_observer(simulated: Dataset) -> None:
    """So that what was learned can be compared with what was used."""
    first = simulated.attempts[simulated.attempts["trial"] == "neighbour"].iloc[0]
    rows = simulated.mappings[simulated.mappings["attempt"] == first["attempt"]]
    asked = rows[rows["remote"].str.startswith("192.0.2.")]
    assert list(asked["internal"].str.split(":").str[0]) == ["10.1.0.3"]


def test_too_few_attempts_decide_nothing(tmp_path: Path) -> None:
    """One NAT alone is no comparison."""
    words = _words(_run(tmp_path, "nat=full-cone", repeats=1))
    assert set(words.values()) == {"undecided"}


def test_behaviours_are_sorted_by_their_axes() -> None:
    """Preserving and overloading share a port among hosts; without one mapping for all a poke opens another."""
    linux = Behavior()
    assert (one_for_all(linux), overloads(linux), open_to_all(linux)) == (True, True, False)
    restricted = Behavior(filtering=Filtering.ADDRESS_DEPENDENT, ports=Ports())
    assert [lets_in(restricted, who) for who in ("stranger", "address_known", "endpoint_known")] == [False, True, True]
    symmetric = Behavior(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, filtering=Filtering.ADDRESS_DEPENDENT, ports=Ports())
    assert not any(lets_in(symmetric, who) for who in ("stranger", "address_known", "endpoint_known"))


def test_questions_are_asked_from_where_the_aim_says() -> None:
    """The very port, another one, another host; both observers for a prediction; nobody asks without a NAT."""
    scene = Scene(nat_b=None)
    asked = {aim: [(str(q.local), q.place) for q in questions(aim, scene, "a", 20_007)] for aim in Aim}
    assert asked[Aim.LEARNED] == [("10.1.0.2:20007", 0)]
    assert asked[Aim.PREDICTED] == [("10.1.0.2:20007", 0), ("10.1.0.2:20007", 1)]
    assert asked[Aim.NEIGHBOUR] == [("10.1.0.3:20007", 0)]
    assert asked[Aim.UNBOUND][0][0] != "10.1.0.2:20007"
    assert asked[Aim.ASSUMED] == asked[Aim.RELAY] == []
    assert questions(Aim.LEARNED, scene, "b", 20_007) == ()


def test_targets_follow_from_the_answers() -> None:
    """What was seen, what comes next, or what is assumed; a relay stands for both."""
    scene = Scene()
    local, observer = Endpoint("10.1.0.2", 4000), Endpoint("192.0.2.2", 3478)

    def seen(*ports: int) -> list[Asked]:
        return [Asked(Question("a", local, n), observer, Endpoint("198.51.100.2", port), 0) for n, port in enumerate(ports)]

    assert targets(Aim.LEARNED, scene, 4000, seen(50_000))["a"].port == 50_000
    assert targets(Aim.PREDICTED, scene, 4000, seen(50_000, 50_002))["a"].port == 50_004
    assert str(targets(Aim.LEARNED, scene, 4000, [])["b"]) == "203.0.113.2:4000"
    assert set(targets(Aim.RELAY, scene, 4000, []).values()) == {RELAY}
    assert following(Endpoint("198.51.100.2", 60_000), Endpoint("198.51.100.2", 10)).port == 10


@pytest.mark.lab
def test_the_lab_tells_the_same(tmp_path: Path) -> None:
    """Conntrack overloads its ports and lets in known endpoints only; a cone lets everybody in."""
    settings = ("nat=linux-masquerade,full-cone", "trial=bound,unbound,neighbour,stranger,endpoint_known")
    for number in range(3):
        dataset = _run(tmp_path / str(number), *settings, driver="lab")
        found = Bindings(keep(dataset.attempts).attempts, dataset.mappings)
        if len(found.table.groupby(["nat", "trial"])) == 10:
            break
    else:
        pytest.fail("the machine stalled in three runs of three")
    assert found.as_filtered().estimate == 1.0
    assert found.same("bound", one_for_all).estimate == 1.0
    assert found.same("unbound", one_for_all).estimate == 0.0
    assert found.same("neighbour", overloads).estimate == 1.0
    assert found.same("neighbour", lambda nat: not overloads(nat)).estimate == 0.0
