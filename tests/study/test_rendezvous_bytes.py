"""C22 on its own bench: the verdict comes from the octets, and a server that relays would be found out."""

from __future__ import annotations

import pytest

from rawpunch.study.rendezvous_bytes import SIZES, Session, measure, verdict


def test_the_octets_decide() -> None:
    """A server that only introduces upholds the claim, a relay refutes it, and too little or too noisy data decide nothing."""
    introduced = [Session(size, 3_000 + number % 7) for number, size in enumerate(2 * SIZES)]
    relayed = [Session(size, 3_000 + 2 * size) for size in 2 * SIZES]
    noisy = [Session(size, 1_000_000 * (number % 3)) for number, size in enumerate((0, 9, 18, 27, 36, 45, 54))]
    assert verdict(introduced).verdict == "upheld"
    found = verdict(relayed)
    assert (found.verdict, found.n) == ("refuted", len(relayed))
    assert found.value == pytest.approx(2)
    for sessions in (noisy, introduced[:3], [Session(5, 5)] * 9):
        assert verdict(sessions).verdict == "undecided"
        assert verdict(sessions).why


@pytest.mark.lab
def test_user_data_does_not_touch_the_server() -> None:
    """In the lab, with two megabytes of user data, the server's device carries a few thousand octets, whatever the users send."""
    sessions = measure((0, 1 << 18, 1 << 20), 2)
    assert verdict(sessions).verdict == "upheld"
    assert all(0 < session.server_octets < 20_000 for session in sessions)
