"""Declared worlds: which hosts, which NATs, which delays. A scene says what is there, never how it is made.

The lab builds a scene from namespaces, the simulator from machines; both read the same file.
"""

from __future__ import annotations

import enum
import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rawpunch.errors import BadParameter, Unreadable
from rawpunch.units import MS


class UnsolicitedAnswer(enum.StrEnum):
    """What a NAT does with a SYN that no mapping expects."""

    DROP = "drop"
    """It says nothing."""
    RST = "rst"
    """It answers with a RST."""
    ICMP = "icmp"
    """It answers with ICMP administratively prohibited (type 3, code 13)."""
    STACK = "stack"
    """It has no rule for it: the box's own TCP answers."""


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Leg(_Declared):
    """The path between a NAT and the core, one-way delays in ns."""

    up_ns: int = Field(default=10 * MS, ge=0)
    """Delay towards the core."""
    down_ns: int = Field(default=10 * MS, ge=0)
    """Delay from the core."""


class Nat(_Declared):
    """A NAT of the kernel: nft masquerade."""

    unsolicited: UnsolicitedAnswer = UnsolicitedAnswer.DROP
    """What it answers to a SYN that no mapping expects, on its own address and towards the inside."""


class Scene(_Declared):
    """hostA - natA - core - natB - hostB, and the observers at the core."""

    nat_a: Nat | None = Nat()
    """A's NAT; None for a plain router and a public host address."""
    nat_b: Nat | None = Nat()
    """B's NAT; None for a plain router and a public host address."""
    leg_a: Leg = Leg()
    leg_b: Leg = Leg()

    @property
    def one_way_ns(self) -> tuple[int, int]:
        """The one-way delay from A to B and from B to A, in ns, as declared."""
        return self.leg_a.up_ns + self.leg_b.down_ns, self.leg_b.up_ns + self.leg_a.down_ns

    @classmethod
    def symmetric(cls, one_way_ns: int, unsolicited: UnsolicitedAnswer = UnsolicitedAnswer.DROP) -> Self:
        """Two equal NATs and the same one-way delay each way, half of it on each leg."""
        leg = Leg(up_ns=one_way_ns // 2, down_ns=one_way_ns - one_way_ns // 2)
        return cls(nat_a=Nat(unsolicited=unsolicited), nat_b=Nat(unsolicited=unsolicited), leg_a=leg, leg_b=leg)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The scene in a TOML file.

        Raises:
            Unreadable: there is no such file, or it is not TOML.
            BadParameter: a field is unknown or has an impossible value.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Unreadable(
                f"cannot read the scene {path}", why=str(error), todo="give a TOML file of tables nat_a, nat_b, leg_a, leg_b"
            ) from error
        except ValidationError as error:
            why = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise BadParameter(f"the scene {path} is not valid", why=why, todo="mend the fields named") from error
