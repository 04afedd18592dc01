"""C22: the verdict comes from the octets, a server that relays would be found out, and a session that failed is no evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rawpunch.dataset.check import verify
from rawpunch.study.experiment import Attempt, Experiment, Verdict
from rawpunch.study.planned import Planned
from rawpunch.study.runner import Job, begin, run
from rawpunch.study.sessions import row_of
from rawpunch.study.staged import Session

SIZES = (0, 1 << 16, 1 << 20, 1 << 22)


def _verdict(sessions: Sequence[tuple[int | None, int | None]]) -> Verdict:
    frame = pd.DataFrame(sessions, columns=["user_octets", "server_octets"]).astype("Int64")
    frame["disturbed"] = False
    frame["outcome"] = ["not_measured" if users is None else "established" for users, _ in sessions]
    (found,) = Experiment.load("rendezvous_bytes")._verdicts(frame)
    assert isinstance(found, Verdict)
    return found


def test_the_octets_decide() -> None:
    """A server that only introduces upholds the claim, a relay refutes it, and too little or too noisy data decide nothing."""
    introduced = [(size, 3_000 + number % 7) for number, size in enumerate(2 * SIZES)]
    assert _verdict(introduced).verdict == "upheld"
    assert "3002 octets at the server in the median session, which had up to 4194304" in _verdict(introduced).why
    found = _verdict([(size, 3_000 + 2 * size) for size in 2 * SIZES])
    assert (found.verdict, found.n) == ("refuted", 8)
    assert found.value == pytest.approx(2e6)
    noisy = [(size, 1_000_000 * (number % 3)) for number, size in enumerate((0, 9, 18, 27, 36, 45, 54))]
    failed = [*introduced[:5], (None, None), (None, None)]
    undecided: list[Sequence[tuple[int | None, int | None]]] = [noisy, introduced[:3], [(5, 5)] * 9, failed]
    for sessions in undecided:
        assert _verdict(sessions).verdict == "undecided"
        assert _verdict(sessions).why


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([{"came": 8}, {"unable": "no direct connection (nothing came)"}], "no direct connection"),
        ([{"unable": "the server is gone"}, {"came": 8}], "the server is gone"),
        ([{"came": 8}, {"came": 7}], "of 8 octets each way came 8 at A and 7 at B"),
    ],
)
def test_a_session_that_failed_was_not_measured(told: list[dict[str, Any]], words: str) -> None:
    """And its octets are not counted."""
    row = row_of(Planned("c000-r0000", "octets=8", {"octets": 8}, 0, Attempt()), Session(8), told, 4_000)
    assert row.outcome == "not_measured"
    assert words in str(row.cause)
    assert row.user_octets is None
    assert row.server_octets is None


@pytest.mark.lab
def test_user_data_does_not_touch_the_server(tmp_path: Path) -> None:
    """In the lab, with two megabytes of user data, the server's device carries a few thousand octets, whatever the users send."""
    experiment = Experiment.load("rendezvous_bytes").with_settings([f"octets=0,{1 << 18},{1 << 20}"])
    job = Job(experiment, 2, 3)
    found = run(job, begin(job, root=tmp_path))
    assert verify(found.path) == []
    (verdict,) = found.manifest.verdicts
    attempts = found.attempts
    assert set(attempts["outcome"]) == {"established"}, list(attempts["cause"].dropna())
    assert verdict["verdict"] == "upheld"
    assert (attempts["user_octets"] == 2 * attempts["octets"]).all()
    assert attempts["server_octets"].between(1, 20_000).all()
    assert attempts["remote_a"].str.startswith("203.0.113.2:").all()
