"""What two kinds of ends take is compared on equal terms, and the packet that differs is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rawpunch.analysis.comparison import compared, effort, first_differences, success_differences
from rawpunch.dataset.store import Dataset, load
from rawpunch.errors import BadParameter
from rawpunch.study.experiment import Experiment

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample" / "raw_vs_kernel"


@pytest.fixture(scope="module")
def sample() -> Dataset:
    """The oldest committed run, of kernel and raw ends."""
    return load(min(SAMPLE.iterdir()))


@pytest.fixture(scope="module")
def taken(sample: Dataset) -> pd.DataFrame:
    """What its attempts took."""
    return effort(sample.attempts, sample.segments)


def test_a_crossing_takes_six_packets(taken: pd.DataFrame) -> None:
    """Two SYNs, two SYN-ACKs, two ACKs; each option counted, so that octets fit the headers."""
    crossed = taken[taken["pattern"] == "simultaneous"]
    assert set(crossed["packets"]) == {6}
    assert set(crossed["octets"]) == {2 * (40 + 20) + 2 * (40 + 20) + 2 * (40 + 24)}
    assert (crossed["retransmissions"] == 0).all()
    assert (taken.loc[taken["opened"], "connect_ns"] > 0).all()
    assert not taken["disturbed"].any()


def test_the_packet_that_differs_is_the_first_syn(sample: Dataset, taken: pd.DataFrame) -> None:
    """Raw ends offer another window scale than this machine's kernel; nothing before that differs."""
    found = first_differences(taken, sample.segments, ["nat_answer"], factor="ends", one="raw-raw", other="kernel-kernel")
    assert set(found["place"]) == {1}
    assert found["raw-raw"].str.startswith("A SYN <mss 1460,sackOK,ts,nop,wscale ").all()
    assert (found["raw-raw"] != found["kernel-kernel"]).all()
    raw = taken[taken["ends"] == "raw-raw"]
    parted = raw.assign(ends=["odd" if number % 2 else "even" for number in range(len(raw))])
    assert first_differences(parted, sample.segments, ["nat_answer", "offset"], factor="ends", one="odd", other="even").empty


def test_success_is_compared_cell_by_cell(taken: pd.DataFrame) -> None:
    """With an interval that holds 0 where both always open, and a p for all cells together."""
    found = success_differences(taken, ["nat_answer", "offset"], factor="ends", one="raw-raw", other="kernel-kernel")
    assert len(found) == 6
    assert (found["difference"] == 0).all()
    assert ((found["low"] < 0) & (found["high"] > 0)).all()
    assert (found["p_holm"] == 1).all()
    with pytest.raises(BadParameter, match="nothing to compare"):
        success_differences(taken, ["nat_answer"], factor="ends", one="raw-raw", other="pigeon")


def test_the_table_counts_all(taken: pd.DataFrame) -> None:
    """One row for each cell and kind of ends, its n adding up to the attempts that count."""
    table = compared(taken, ["nat_answer", "ends"])
    assert table["n"].sum() == len(taken)
    assert list(table.columns) == ["n", "opened", "packets", "octets", "retransmissions", "rst", "connect_ms", "options"]


def test_the_experiment_judges_costs(sample: Dataset) -> None:
    """As many packets and octets, in as much time: three verdicts for each pair with a raw end."""
    costs = [verdict for verdict in Experiment.load("raw_vs_kernel").verdicts(sample) if verdict.claim == "cost"]
    assert len(costs) == 6
    assert {verdict.verdict for verdict in costs if "packets" in verdict.statement} == {"upheld"}
