"""Declared worlds: which hosts, which NATs, which delays. A scene says what is there, never how it is made.

        hostA ---- natA ---- core ---- natB ---- hostB
                   in out    a  b     out in
                              o1 o2 -- obs1, obs2 (two addresses)

The lab builds a scene from namespaces, the simulator from machines; both read the same file, use the same addresses and record
at the same vantage points. Inside a NAT the hosts have private addresses (10.1.0.2, 10.2.0.2); without one they have public ones
(198.18.x.2, RFC 2544). Each has a second one beside it (.3), which to a NAT is a second inside host. Addresses in the core are
documentation prefixes (RFC 5737). In front of A's NAT there may be a second one, a carrier's; between the two are shared
addresses (100.64.1.x, RFC 6598).

Delays lie between NAT and core (`leg_a`, `leg_b`) and, where a scene says so, between host and NAT (`inside_a`, `inside_b`): a
packet takes `Scene.nat_to_nat_ns` from one NAT to the other, and `Scene.one_way_ns` from host to host.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from rawpunch.errors import BadParameter, Unreadable
from rawpunch.link.link import PPM
from rawpunch.nat import personas
from rawpunch.nat.behavior import Behavior, UnsolicitedAnswer
from rawpunch.nat.reading import behavior_of
from rawpunch.units import MS

__all__ = [
    "EXTERNAL",
    "LAB_HARDWARE",
    "OBSERVERS",
    "SHARED",
    "SIDES",
    "VANTAGES",
    "Inside",
    "Leg",
    "Nat",
    "Scene",
    "Side",
    "UnsolicitedAnswer",
    "Zone",
]

Zone = Literal["inside_a", "outside", "inside_b"]
Side = Literal["a", "b"]

SIDES: Final[tuple[Side, Side]] = ("a", "b")

VANTAGES: Final[dict[str, Zone]] = {
    "hostA:eth0": "inside_a",
    "natA:in": "inside_a",
    "natA:out": "outside",
    "core:a": "outside",
    "core:b": "outside",
    "natB:out": "outside",
    "natB:in": "inside_b",
    "hostB:eth0": "inside_b",
}
"""Where packets are recorded, from A to B, and on which side of the NATs that is."""

EXTERNAL: Final = {"a": "198.51.100.2", "b": "203.0.113.2"}
"""The NATs' outside addresses, the first ones where they have several."""

SHARED: Final = "100.64.1.2"
"""Outside address of A's own NAT behind a carrier's, the first one where it has several."""

OBSERVERS: Final = {"obs1": ("192.0.2.2",), "obs2": ("192.0.2.66", "192.0.2.67")}
"""Hosts at the core, with their addresses."""

LAB_HARDWARE: Final = bytes.fromhex("02000000")
"""How the hardware addresses of all devices of a lab begin: locally administered (IEEE 802)."""


_TABLES: Final = "give a TOML file of tables nat_a, nat_b, leg_a, leg_b, inside_a, inside_b"


def _consecutive(first: str, count: int) -> tuple[str, ...]:
    prefix, last = first.rsplit(".", 1)
    return tuple(f"{prefix}.{int(last) + number}" for number in range(count))


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Leg(_Declared):
    """The path between a NAT and the core, one-way delays in ns."""

    up_ns: int = Field(default=10 * MS, ge=0)
    """Delay towards the core."""
    down_ns: int = Field(default=10 * MS, ge=0)
    """Delay from the core."""
    loss: float = Field(default=0.0, ge=0, le=1)
    """Share of the packets that are lost, each way."""

    @property
    def loss_ppm(self) -> int:
        """The same in parts per million."""
        return round(self.loss * PPM)


class Inside(Leg):
    """The path between a host and its NAT (or the plain router in its place): a leg without any delay unless it says so."""

    up_ns: int = Field(default=0, ge=0)
    """Delay from the host to the NAT."""
    down_ns: int = Field(default=0, ge=0)
    """Delay from the NAT to the host."""

    @property
    def is_plain(self) -> bool:
        """Whether it is but a cable, which neither delays nor loses anything."""
        return not (self.up_ns or self.down_ns or self.loss_ppm)


class Nat(_Declared):
    """A NAT: a persona, or one with some fields changed. How it is made, by rules or by a program, is the lab's business.

    In a file: ``persona = "full-cone"``, and what is different in a table ``[nat_a.behavior]``.
    """

    persona: str = personas.LINUX
    """A persona's name, or the path of its TOML file."""
    unsolicited: UnsolicitedAnswer = UnsolicitedAnswer.DROP
    """What it answers to a SYN that no mapping expects: short for `behavior.unsolicited`."""
    behavior: Behavior = Behavior()
    """What it does, whole. Given as a table, it holds the fields that differ from the persona's."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any, info: ValidationInfo) -> Any:
        """Fill in what the persona says.

        Raises:
            UnknownName: there is no such persona.
            Unreadable: its file cannot be read.
            BadParameter: a field is unknown, or the fields contradict each other.
        """
        if not isinstance(given, Mapping):
            return given
        table = dict(given)
        name = table.get("persona", personas.LINUX)
        if not isinstance(name, str):
            raise BadParameter(f"a NAT's persona cannot be {name!r}", todo="give a name, or the path of a TOML file")
        behavior = table.get("behavior", {})
        if not isinstance(behavior, Behavior):
            if not isinstance(behavior, Mapping):
                raise BadParameter(f"a NAT's behavior cannot be {behavior!r}", todo="give a table of fields")
            changes = dict(behavior)
            if "unsolicited" in table:
                changes["unsolicited"] = table["unsolicited"]
            folder = (info.context or {}).get("folder")
            behavior = behavior_of(changes, personas.load(name, folder=folder).behavior)
        return table | {"behavior": behavior, "unsolicited": behavior.unsolicited}


class Scene(_Declared):
    """hostA - natA - core - natB - hostB, and the observers at the core."""

    nat_a: Nat | None = Nat()
    """A's NAT; None for a plain router and a public host address."""
    nat_b: Nat | None = Nat()
    """B's NAT; None for a plain router and a public host address."""
    carrier_a: Nat | None = None
    """A second NAT, between A's own and the core."""
    leg_a: Leg = Leg()
    leg_b: Leg = Leg()
    inside_a: Inside = Inside()
    """Between hostA and natA."""
    inside_b: Inside = Inside()
    """Between hostB and natB."""

    @model_validator(mode="after")
    def _carrier_has_a_nat_behind(self) -> Self:
        """Two NATs in a row are two.

        Raises:
            BadParameter: there is a carrier's NAT, and no own one behind it.
        """
        if self.carrier_a is not None and self.nat_a is None:
            raise BadParameter("a scene has carrier_a and no nat_a", todo="call the one NAT nat_a")
        return self

    @property
    def one_way_ns(self) -> tuple[int, int]:
        """The one-way delay from host to host, from A to B and from B to A, in ns, as declared."""
        there_ns, back_ns = self.nat_to_nat_ns
        return (
            self.inside_a.up_ns + there_ns + self.inside_b.down_ns,
            self.inside_b.up_ns + back_ns + self.inside_a.down_ns,
        )

    @property
    def nat_to_nat_ns(self) -> tuple[int, int]:
        """The one-way delay from the outside of A's NAT to that of B's and back, in ns, as declared."""
        return self.leg_a.up_ns + self.leg_b.down_ns, self.leg_b.up_ns + self.leg_a.down_ns

    @property
    def stops_ns(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How long after its start a packet from A, and one from B, comes to the near NAT, the far NAT and the far host.

        Of stops that follow each other without any delay there is one.
        """
        (there_ns, back_ns), (a_to_b_ns, b_to_a_ns) = self.nat_to_nat_ns, self.one_way_ns
        a_ns, b_ns = self.inside_a.up_ns, self.inside_b.up_ns
        return tuple(sorted({a_ns, a_ns + there_ns, a_to_b_ns})), tuple(sorted({b_ns, b_ns + back_ns, b_to_a_ns}))

    def nat(self, side: Side) -> Nat | None:
        """The NAT of a side."""
        return self.nat_a if side == "a" else self.nat_b

    def leg(self, side: Side) -> Leg:
        """The leg of a side."""
        return self.leg_a if side == "a" else self.leg_b

    def inside(self, side: Side) -> Inside:
        """The path between host and NAT of a side."""
        return self.inside_a if side == "a" else self.inside_b

    def host_address(self, side: Side) -> str:
        """The address of hostA or hostB, the one it uses unless told otherwise."""
        number = 1 if side == "a" else 2
        return f"10.{number}.0.2" if self.nat(side) else f"198.18.{number}.2"

    def host_addresses(self, side: Side) -> tuple[str, str]:
        """Both addresses of hostA or hostB, the usual one first."""
        first = self.host_address(side)
        prefix, last = first.rsplit(".", 1)
        return first, f"{prefix}.{int(last) + 1}"

    def public_address(self, side: Side) -> str:
        """The address under which the core sees hostA or hostB; the first one where a NAT has several."""
        return EXTERNAL[side] if self.nat(side) else self.host_address(side)

    def external_addresses(self, side: Side) -> tuple[str, ...]:
        """The addresses that the core sees of a side's NAT, of the carrier's if there is one; none without a NAT."""
        nat = self.carrier(side) or self.nat(side)
        return _consecutive(EXTERNAL[side], nat.behavior.external_addresses) if nat is not None else ()

    def own_addresses(self, side: Side) -> tuple[str, ...]:
        """The external addresses of a side's own NAT; behind a carrier's they are shared ones."""
        nat = self.nat(side)
        if nat is None or self.carrier(side) is None:
            return self.external_addresses(side)
        return _consecutive(SHARED, nat.behavior.external_addresses)

    def carrier(self, side: Side) -> Nat | None:
        """The NAT between a side's own and the core."""
        return self.carrier_a if side == "a" else None

    @classmethod
    def symmetric(cls, one_way_ns: int, unsolicited: UnsolicitedAnswer = UnsolicitedAnswer.DROP, *, inside_ns: int = 0) -> Self:
        """Two equal NATs and equal delays; see `between`."""
        nat = Nat(unsolicited=unsolicited)
        return cls.between(nat, nat, one_way_ns, inside_ns=(inside_ns, inside_ns))

    @classmethod
    def between(cls, nat_a: Nat | None, nat_b: Nat | None, one_way_ns: int, *, inside_ns: tuple[int, int] = (0, 0)) -> Self:
        """Any two NATs, with the same delays each way.

        Args:
            nat_a: A's.
            nat_b: B's.
            one_way_ns: from NAT to NAT, half of it on each leg.
            inside_ns: from A to its NAT, and from B to its.

        Raises:
            BadParameter: a delay is negative.
        """
        if min(one_way_ns, *inside_ns) < 0:
            raise BadParameter("a delay cannot be negative", todo="give durations from 0 on")
        leg = Leg(up_ns=one_way_ns // 2, down_ns=one_way_ns - one_way_ns // 2)
        inside_a, inside_b = (Inside(up_ns=delay_ns, down_ns=delay_ns) for delay_ns in inside_ns)
        return cls(nat_a=nat_a, nat_b=nat_b, leg_a=leg, leg_b=leg, inside_a=inside_a, inside_b=inside_b)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The scene in a TOML file; files of personas that it names are relative to its folder.

        Raises:
            Unreadable: there is no such file, or it is not TOML.
            UnknownName: it names a persona that does not exist.
            BadParameter: a field is unknown or has an impossible value.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls.model_validate(table, context={"folder": path.parent})
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Unreadable(f"cannot read the scene {path}", why=str(error), todo=_TABLES) from error
        except ValidationError as error:
            why = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise BadParameter(f"the scene {path} is not valid", why=why, todo="mend the fields named") from error
