"""The words of --nat-a and --nat-b."""

from __future__ import annotations

import pytest

from rawpunch.cli.nats import makes, parse_nat
from rawpunch.errors import RawpunchError
from rawpunch.nat import personas


@pytest.mark.parametrize(
    ("text", "persona", "make"),
    [
        ("full-cone", "full-cone", "auto"),
        ("box:linux-masquerade", "linux-masquerade", "box"),
        ("nft:linux-sequential", "linux-sequential", "nft"),
        ("cmd:./my-nat --fast", "linux-masquerade", "cmd:./my-nat --fast"),
    ],
)
def test_a_word_names_a_nat_and_its_make(text: str, persona: str, make: str) -> None:
    """Persona, then how it is made."""
    nat, made = parse_nat(text)
    assert nat is not None
    assert (nat.persona, made) == (persona, make)
    assert nat.behavior == personas.load(persona).behavior


def test_none_is_a_plain_router() -> None:
    """No NAT at all; and an option that was not given changes nothing."""
    assert makes("none", "") == ({"a": None}, {"a": "auto"})
    assert makes("", "") == ({}, {})


@pytest.mark.parametrize("text", ["nosuch", "box:nosuch", "absent.toml", "moon:full-cone"])
def test_a_wrong_word_is_an_error_with_a_way_out(text: str) -> None:
    """Never a traceback."""
    with pytest.raises(RawpunchError) as caught:
        parse_nat(text)
    assert caught.value.exit_code == 2
