"""A scene names a NAT for each side, whole or with changes, and both the lab and the simulator read the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rawpunch.errors import BadParameter, RawpunchError, UnknownName
from rawpunch.nat import personas
from rawpunch.nat.behavior import Behavior, CrossingSyn, Filtering
from rawpunch.scene import EXTERNAL, Nat, Scene, UnsolicitedAnswer
from rawpunch.units import MS


def test_a_nat_is_linux_unless_it_says_otherwise() -> None:
    """As before there were personas."""
    assert Nat().behavior == Behavior()
    assert Nat(unsolicited=UnsolicitedAnswer.RST).behavior == Behavior(unsolicited=UnsolicitedAnswer.RST)


def test_a_nat_is_the_persona_that_it_names() -> None:
    """And `unsolicited` says what that persona does."""
    nat = Nat(persona="rst-killer")
    assert nat.behavior == personas.load("rst-killer").behavior
    assert nat.unsolicited is UnsolicitedAnswer.RST


def test_a_nat_may_be_given_as_a_behaviour() -> None:
    """For experiments that vary one axis."""
    behavior = Behavior(crossing_syn=CrossingSyn.BLOCKED, unsolicited=UnsolicitedAnswer.ICMP)
    nat = Nat(behavior=behavior)
    assert nat.behavior is behavior
    assert nat.unsolicited is UnsolicitedAnswer.ICMP


def test_a_file_names_a_persona_per_nat_and_changes_it(tmp_path: Path) -> None:
    """Changes are fields of the behaviour; a persona's file lies beside the scene's."""
    (tmp_path / "mine.toml").write_text("[behavior]\ncapacity = 7\n", encoding="utf-8")
    file = tmp_path / "scene.toml"
    file.write_text(
        '[nat_a]\npersona = "full-cone"\n[nat_a.behavior]\ncrossing_syn = "blocked"\n'
        '[nat_b]\npersona = "mine.toml"\nunsolicited = "icmp"\n[leg_a]\nup_ns = 5\n',
        encoding="utf-8",
    )
    scene = Scene.read(file)
    assert scene.nat_a is not None
    assert scene.nat_b is not None
    assert scene.nat_a.behavior.filtering is Filtering.ENDPOINT_INDEPENDENT
    assert scene.nat_a.behavior.crossing_syn is CrossingSyn.BLOCKED
    assert (scene.nat_b.behavior.capacity, scene.nat_b.unsolicited) == (7, UnsolicitedAnswer.ICMP)
    assert scene.leg_a.up_ns == 5


@pytest.mark.parametrize(
    ("nat", "error"),
    [
        ({"persona": "nobody"}, UnknownName),
        ({"persona": 5}, BadParameter),
        ({"behavior": 5}, BadParameter),
        ({"behavior": {"maping": "x"}}, BadParameter),
        ({"unsolicited": "shout"}, BadParameter),
        ({"persona": "rfc5382-model", "unsolicited": "drop"}, BadParameter),
    ],
)
def test_a_wrong_nat_is_refused(nat: dict[str, Any], error: type[RawpunchError]) -> None:
    """With the toolkit's own errors, that say what to do."""
    with pytest.raises(error) as refused:
        Scene.model_validate({"nat_a": nat})
    assert refused.value.todo


def test_a_scene_is_written_whole_and_read_back() -> None:
    """A manifest holds every field, so that a run can be done again when a persona has changed since."""
    scene = Scene.between(Nat(persona="port-block"), None, 20 * MS)
    written = scene.model_dump(mode="json")
    assert written["nat_a"]["behavior"]["ports"]["block_size"] == 512
    assert Scene.model_validate(written) == scene


def test_equal_scenes_are_one_key() -> None:
    """The runner groups attempts by scene."""
    assert len({Scene.symmetric(20 * MS), Scene.between(Nat(), Nat(), 20 * MS), Scene.symmetric(10 * MS)}) == 2


def test_addresses_are_those_of_the_drawing() -> None:
    """Private behind a NAT, public without one; a pool counts up from the NAT's first address."""
    scene = Scene(nat_a=Nat(persona="carrier-grade-pool"), nat_b=None)
    assert scene.host_address("a") == "10.1.0.2"
    assert scene.public_address("a") == EXTERNAL["a"]
    assert scene.external_addresses("a") == ("198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5")
    assert scene.public_address("b") == scene.host_address("b") == "198.18.2.2"
    assert scene.external_addresses("b") == ()
