"""The table of strategies: the simulator agrees with the oracle in every cell, and the claims follow from the attempts alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawpunch.analysis.strategies import FORETELL, Table, behaviors, drawn, reachable, symmetric
from rawpunch.analysis.tables import keep
from rawpunch.dataset.check import verify
from rawpunch.dataset.store import Dataset
from rawpunch.errors import BadParameter
from rawpunch.study.experiment import Experiment, Verdict
from rawpunch.study.runner import Job, begin, run

SOME = (
    "pair=linux-masquerade+rst-sender,rst-sender+full-cone,crossing-dropper+crossing-dropper,linux-sequential+linux-sequential,"
    "rst-sender+linux-sequential,rst-sender+linux-masquerade-random,linux-sequential+linux-masquerade-random,none+linux-masquerade"
)


TRIES = 3


def _run(root: Path, *settings: str, driver: str = "sim", repeats: int = 1) -> Dataset:
    job = Job(Experiment.load("strategies").with_settings(settings), repeats, 3, driver)
    return run(job, begin(job, root=root))


def _verdicts(dataset: Dataset) -> dict[str, Verdict]:
    return {verdict["claim"]: Verdict(**verdict) for verdict in dataset.manifest.verdicts}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Half of the default set, each cell twice."""
    return _run(tmp_path_factory.mktemp("strategies"), SOME, repeats=2)


def test_every_cell_ends_as_the_oracle_says(simulated: Dataset) -> None:
    """Of those strategies that it knows, through every pair; nothing is disturbed, and the dataset is sound."""
    assert verify(simulated.path) == []
    table = Table(keep(simulated.attempts).attempts)
    agreed, against = table.against_the_oracle()
    assert against == []
    assert agreed.successes == agreed.n == 2 * len(FORETELL) * len(table.nats)


def test_the_claims_are_decided(simulated: Dataset) -> None:
    """Punching works without spoofing and without a relay; symmetric NATs can be foretold where their ports are listed."""
    verdicts = _verdicts(simulated)
    assert {claim: verdict.verdict for claim, verdict in verdicts.items()} == {
        "strategies": "upheld",
        "C6": "refuted",
        "C7": "conditional",
        "C8": "refuted",
        "C12": "conditional",
        "C14": "upheld",
    }
    assert all(verdict.low is not None for verdict in verdicts.values())


def test_most_pairs_need_no_syn_that_dies(simulated: Dataset) -> None:
    """What needs nothing but sockets is told apart from low TTLs; of a pair that crossings spoil none is connected."""
    table = Table(keep(simulated.attempts).attempts)
    pairs = ["linux-masquerade+rst-sender", "crossing-dropper+crossing-dropper", "linux-sequential+linux-sequential"]
    assert table.connected(["simultaneous", "prediction"], pairs) == [pairs[0], pairs[2]]
    assert table.connected(["low_ttl_a", "relay of another name"], pairs) == [pairs[0]]
    assert "are connected; with it" in _verdicts(simulated)["C8"].why


def test_trying_again_outlives_the_resets_that_order_brings(simulated: Dataset) -> None:
    """Where the far NAT's RST ends the one that goes first, trying again from the same port opens; so does a SYN that dies."""
    table = Table(simulated.attempts)
    pair = "linux-masquerade+rst-sender"
    opened = {strategy: rate.successes for (where, strategy), rate in table.cells.items() if where == pair}
    assert (opened["ordered_a"], opened["ordered_b"]) == (0, 2)
    assert (opened["retry"], opened["low_ttl_a"]) == (2, 2)


def test_a_listener_passes_a_conntrack_half_of_the_time(tmp_path: Path) -> None:
    """Its SYN-ACK has another number than the SYN that opened the NAT, and one that lies ahead of that is refused."""
    attempts = _run(tmp_path, "pair=linux-masquerade+linux-masquerade", "strategy=stunt_a", repeats=24).attempts
    assert set(attempts["outcome"]) == {"established", "timed_out"}
    assert 5 <= (attempts["outcome"] == "established").sum() <= 19


def test_a_syn_ack_that_nobody_asked_for_passes_no_conntrack(simulated: Dataset) -> None:
    """It leaves only where no NAT tracks connections on its sender's side, as against a public address it may come in."""
    attempts = simulated.attempts
    opened = attempts[(attempts["strategy"] == "syn_ack_out") & (attempts["outcome"] == "established")]
    assert set(opened["pair"]) == {"none+linux-masquerade"}


def test_too_few_attempts_leave_claims_undecided(tmp_path: Path) -> None:
    """One pair and one strategy say nothing of the rest, and no figure is made up."""
    verdicts = _verdicts(_run(tmp_path, "pair=full-cone+full-cone", "strategy=relay"))
    assert {claim: verdict.verdict for claim, verdict in verdicts.items() if claim != "strategies"} == dict.fromkeys(
        ("C6", "C7", "C8", "C12", "C14"), "undecided"
    )
    assert verdicts["C6"].value is None


def test_pairs_are_what_their_names_say() -> None:
    """A side without a NAT is open; symmetric NATs are told from those whose ports are drawn."""
    nobody, cone = behaviors("none+full-cone")
    assert nobody is None
    assert reachable(nobody)
    assert reachable(cone)
    listed, random = behaviors("linux-sequential+linux-masquerade-random")
    assert (symmetric(listed), drawn(listed)) == (True, False)
    assert (symmetric(random), drawn(random), reachable(random)) == (True, True, False)


@pytest.mark.parametrize("pair", ["full-cone", "a+b+c", "+full-cone"])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    """With the way to write one."""
    with pytest.raises(BadParameter, match="no pair"):
        behaviors(pair)


@pytest.mark.lab
def test_the_lab_tells_the_same(tmp_path: Path) -> None:
    """Kernel NATs and boxes, kernel and raw ends: no cell that counts contradicts the oracle."""
    strategies = "strategy=simultaneous,ordered_a,low_ttl_a,stunt_a,retry,prediction,reversal_b,relay"
    for number in range(TRIES):
        dataset = _run(tmp_path / str(number), "pair=rst-sender+full-cone", strategies, driver="lab", repeats=2)
        table = Table(keep(dataset.attempts).attempts)
        agreed, against = table.against_the_oracle()
        assert against == []
        assert agreed.successes == agreed.n
        if len(table.cells) == len(strategies.split(",")):
            break
    else:
        pytest.fail(f"the machine stalled in {TRIES} runs of {TRIES}")
    opened = {strategy: rate.successes > 0 for (_, strategy), rate in table.cells.items()}
    assert opened["retry"]
