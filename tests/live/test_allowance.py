"""Nobody is sprayed for a server's word alone: what each is missing has a name, and nothing is taken before all is there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rawpunch.errors import PolicyRefused
from rawpunch.live import allowance
from rawpunch.live.allowance import FEW, Allowance
from rawpunch.punch.consent import MOST_PACKETS, PER_S, REPEATED, Consent
from rawpunch.punch.proof import key_of
from rawpunch.wire.endpoint import Endpoint

KEY = key_of("token")
PEER = "9.9.9.9"
MANY = [Endpoint(PEER, port) for port in range(2_000, 2_000 + FEW + 1)]
ENTRY = """
[[target]]
address = "{address}"
ports = ["{ports}"]
consent = "the peer's owner, by telephone"
expires = {expires}
packets_per_s = {per_s}
"""


def _policy(
    folder: Path, *, address: str = PEER, ports: str = "1024-65535", expires: str = "2099-01-01", per_s: int = PER_S
) -> Path:
    path = folder / "policy.toml"
    path.write_text(ENTRY.format(address=address, ports=ports, expires=expires, per_s=per_s), encoding="utf-8")
    return path


def _consent(key: bytes = KEY, address: str = PEER, packets: int = MOST_PACKETS, ago_s: int = 0) -> Consent:
    return Consent.give(key, address, packets, int(time.time()) - ago_s)


@pytest.fixture(autouse=True)
def _no_file_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_the_loopback_is_free() -> None:
    """As many as one likes."""
    assert Allowance("127.0.0.1").take([Endpoint("127.0.0.1", 9)] * 100_000) > PER_S


def test_anybody_gets_a_few_in_all_tries_together() -> None:
    """As a forecast of ports needs, slowly; and not once more."""
    allowed = Allowance(PEER)
    for _ in range(2):
        assert allowed.take(MANY[: FEW // 2]) * REPEATED <= PER_S
    with pytest.raises(PolicyRefused, match="too many") as raised:
        allowed.take(MANY[:1])
    assert "did not agree" in raised.value.why
    assert "--accept-spray" in raised.value.todo


def test_who_agreed_and_is_in_the_policy_file_gets_what_he_agreed_to(tmp_path: Path) -> None:
    """Repetitions counted; then no more."""
    allowed = Allowance(PEER, KEY, _consent(packets=REPEATED * (FEW + 10)), _policy(tmp_path))
    assert allowed.take(MANY) * REPEATED <= PER_S
    allowed.take(MANY[:FEW])  # the few that anybody gets
    with pytest.raises(PolicyRefused) as raised:
        allowed.take(MANY[:10])
    assert "9 are left" in raised.value.why
    allowed.take(MANY[:9])


@pytest.mark.parametrize(
    ("consent", "entry", "why"),
    [
        (None, {}, "did not agree"),
        (_consent(key_of("the server's guess")), {}, "knows the room's token"),
        (_consent(address="9.9.9.8"), {}, "its consent is for 9.9.9.8"),
        (_consent(ago_s=86_400), {}, "does not hold now"),
        (_consent(packets=REPEATED * FEW), {}, "64 are left"),
        (_consent(), None, "no entry for its address"),
        (_consent(), {"address": "9.9.9.8"}, "no entry for its address"),
        (_consent(), {"ports": "2000-2010"}, "its ports 2000-2010 only"),
        (_consent(), {"expires": "2020-01-01"}, "expired"),
        (_consent(), {"per_s": 50}, "allows 50 packets a second"),
    ],
)
def test_one_thing_missing_is_enough(tmp_path: Path, consent: Consent | None, entry: dict[str, str] | None, why: str) -> None:
    """Consent alone does not do, nor does an entry; and what was refused has cost nothing."""
    allowed = Allowance(PEER, KEY, consent, _policy(tmp_path, **entry) if entry is not None else None)  # type: ignore[arg-type]
    with pytest.raises(PolicyRefused, match=f"{len(MANY)} SYNs to 9.9.9.9 are too many") as raised:
        allowed.take(MANY)
    assert why in raised.value.why
    allowed.take(MANY[:FEW])


def test_a_third_party_gets_nothing(tmp_path: Path) -> None:
    """Whatever the peer agreed to."""
    with pytest.raises(PolicyRefused, match="somebody else"):
        Allowance(PEER, KEY, _consent(), _policy(tmp_path)).take([Endpoint("9.9.9.8", 2_000)])


def test_the_lab_is_free_only_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses may belong to somebody."""
    address = Endpoint("203.0.113.2", 9)
    monkeypatch.setattr("rawpunch.live.confines.within_a_lab", lambda: False)
    with pytest.raises(PolicyRefused):
        Allowance(address.address).take([address] * (FEW + 1))
    monkeypatch.setattr(allowance, "is_free", lambda _: True)
    Allowance(address.address).take([address] * (FEW + 1))
