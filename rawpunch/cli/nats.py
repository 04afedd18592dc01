"""What `--nat-a` and `--nat-b` say: which NAT, and how it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rawpunch.scene import Nat, Side

NatOption = Annotated[
    str,
    typer.Option(
        metavar="PERSONA|FILE|cmd:PROGRAM",
        help="The NAT: a persona, a persona's TOML file, or a program started in the NAT's namespace; "
        "nft: or box: before a persona says how it is made; none for a plain router.",
    ),
]


def parse_nat(text: str) -> tuple[Nat | None, str]:
    """The NAT that a word names, and how it is to be made (a word of `wiring.made_by`).

    Raises:
        UnknownName: there is no such persona.
        Unreadable: its file cannot be read.
        BadParameter: a field of it is wrong.
    """
    from rawpunch.lab.wiring import AUTO, BOX, PROGRAM, RULES  # noqa: PLC0415  for commands that ask for a NAT
    from rawpunch.scene import Nat  # noqa: PLC0415  the same

    if text == "none":
        return None, AUTO
    if text.startswith(PROGRAM):
        return Nat(), text
    make, _, persona = text.rpartition(":")
    if make in (RULES, BOX):
        return _nat(persona), make
    return _nat(text), AUTO


def _nat(persona: str) -> Nat:
    from rawpunch.scene import Nat  # noqa: PLC0415  see above

    return Nat(persona=str(Path(persona).resolve()) if persona.endswith(".toml") else persona)


def makes(nat_a: str, nat_b: str) -> tuple[dict[Side, Nat | None], dict[Side, str]]:
    """The NATs that the two options name, and how they are made; a side whose option is empty is in neither."""
    nats: dict[Side, Nat | None] = {}
    made: dict[Side, str] = {}
    sides: tuple[tuple[Side, str], ...] = (("a", nat_a), ("b", nat_b))
    for side, text in sides:
        if text:
            nats[side], made[side] = parse_nat(text)
    return nats, made
