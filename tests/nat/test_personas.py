"""The named NATs: each says where every one of its fields is known from, and a user's own file is read strictly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rawpunch.errors import BadParameter, RawpunchError, UnknownName, Unreadable
from rawpunch.nat import personas
from rawpunch.nat.behavior import Allocation, Behavior, CrossingSyn, Filtering, Mapping, UnsolicitedAnswer
from rawpunch.nat.reading import paths_of

KINDS = re.compile(
    r"RFC \d+|kernel:|nft rule:|measured|constructed|it does not step|it has no blocks"
    r"|Guha and Francis, IMC 2005|Richter et al\., IMC 2016"
)
"""What a source may be: a clause, the kernel, a rule of the lab, a measurement, a publication, or our own construction."""


def _field(name: str, path: str) -> object:
    return paths_of(personas.load(name).behavior)[path]


def test_there_are_the_personas_that_were_promised() -> None:
    """At least sixteen, of every kind that a punch may meet."""
    assert len(personas.names()) >= 16
    promised = {
        "linux-masquerade",
        "linux-masquerade-random",
        "linux-masquerade-band",
        "rfc5382-model",
        "full-cone",
        "address-restricted",
        "symmetric-sequential",
        "symmetric-sequential-2",
        "symmetric-random",
        "carrier-grade-band",
        "port-block",
        "rst-sender",
        "icmp-sender",
        "rst-killer",
        "crossing-blocker",
        "sequence-rewriter",
        "short-timer",
        "tiny-table",
    }
    assert promised <= set(personas.names())


@pytest.mark.parametrize("name", personas.names())
def test_every_field_has_a_source(name: str) -> None:
    """An RFC's clause, the kernel, a measurement, a publication, or "constructed": nothing stands there by itself."""
    persona = personas.load(name)
    assert persona.summary
    assert set(persona.sources) == set(paths_of(persona.behavior))
    assert [source for source in persona.sources.values() if not KINDS.search(source)] == []
    assert [value for _, value, source in persona.explained() if source == "not given"] == []


def test_no_two_personas_are_the_same_nat() -> None:
    """A name stands for something of its own."""
    behaviors = [personas.load(name).behavior for name in personas.names()]
    assert len(set(behaviors)) == len(behaviors)


def test_nothing_said_is_linux() -> None:
    """The behaviour without arguments is the persona that is the default."""
    assert personas.load(personas.LINUX).behavior == Behavior()


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("full-cone", "filtering", Filtering.ENDPOINT_INDEPENDENT),
        ("address-restricted", "filtering", Filtering.ADDRESS_DEPENDENT),
        ("symmetric-sequential-2", "ports.stride", 2),
        ("symmetric-sequential-2", "mapping", Mapping.ADDRESS_AND_PORT_DEPENDENT),
        ("port-block", "ports.allocation", Allocation.BLOCK),
        ("rst-killer", "unsolicited", UnsolicitedAnswer.RST),
        ("crossing-blocker", "crossing_syn", CrossingSyn.POISONS),
        ("rfc5382-model", "unsolicited_hold_ns", 6_000_000_000),
        ("rfc5382-model", "ports.overloading", False),
        ("tiny-table", "capacity", 8),
    ],
)
def test_personas_are_what_they_are_called(name: str, path: str, value: object) -> None:
    """Also through `like`."""
    assert _field(name, path) == value


def test_a_name_may_be_spelt_with_underscores() -> None:
    """As experiments are."""
    assert personas.load("full_cone") is personas.load("full-cone")


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """The user need not guess."""
    with pytest.raises(UnknownName, match="full-cone"):
        personas.load("fullcone")


def _file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_users_own_file(tmp_path: Path) -> None:
    """It may be like another one, need not give sources, and is called as its file is."""
    mine = personas.load(_file(tmp_path, 'like = "full-cone"\n[behavior]\nunsolicited = "rst"\n[behavior.ports]\nlow = 2000\n'))
    assert mine.name == "mine"
    assert mine.behavior.filtering is Filtering.ENDPOINT_INDEPENDENT
    assert (mine.behavior.unsolicited, mine.behavior.ports.low) == (UnsolicitedAnswer.RST, 2000)
    explained = {path: source for path, _, source in mine.explained()}
    assert explained["unsolicited"] == explained["ports.low"] == "not given"
    assert explained["mapping"] == "RFC 5382, REQ-1"


def test_a_file_may_be_like_the_file_beside_it(tmp_path: Path) -> None:
    """A relative path is relative to the file that names it."""
    (tmp_path / "base.toml").write_text("[behavior]\ncapacity = 5\n", encoding="utf-8")
    assert personas.load(_file(tmp_path, 'like = "base.toml"')).behavior == Behavior(capacity=5)
    assert personas.load("mine.toml", folder=tmp_path).behavior.capacity == 5


@pytest.mark.parametrize(
    ("text", "error", "named"),
    [
        ("[behavior", Unreadable, "mine"),
        ("colour = 1", BadParameter, "colour"),
        ("behavior = 1", BadParameter, "tables"),
        ("like = 1", BadParameter, "like"),
        ('like = "nobody"', UnknownName, "nobody"),
        ('like = "mine.toml"', BadParameter, "itself"),
        ("[behavior]\nmaping = 1", BadParameter, "maping"),
        ('[behavior]\nfiltering = "endpoint_independent"', BadParameter, "overload"),
        ('[source]\nmapping = "me"', BadParameter, "mapping"),
        ("[behavior.timers]\nsyn_sent_ns = 'soon'", BadParameter, "soon"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, error: type[RawpunchError], named: str) -> None:
    """With what is wrong and what to do, and never a traceback of somebody else's."""
    with pytest.raises(error) as refused:
        personas.load(_file(tmp_path, text))
    assert named in str(refused.value)


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    """And says which."""
    with pytest.raises(Unreadable, match=r"none\.toml"):
        personas.load(str(tmp_path / "none.toml"))
