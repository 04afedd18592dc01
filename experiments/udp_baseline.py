"""How much of hole punching fails because it is TCP? UDP through the same NATs, at the same offsets."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import Proportion, difference, wilson
from rawpunch.analysis.strategies import names_of
from rawpunch.analysis.tables import keep
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word, judge
from rawpunch.study.make_up import make_up
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

ONE_WAY_NS: Final = 10 * MS
NATS: Final = ("linux-masquerade", "rst-sender", "icmp-sender")
"""NATs that nft rules make: one in user space passes no UDP."""
HALF: Final = 0.5
MARGIN: Final = 0.15
"""A share that is smaller by less than this is not less often."""

QUESTION = "Does TCP punching succeed less often than UDP through the same NATs, and where?"
CLAIMS = ("C6", "C21")
FACTORS = {
    "transport": Factor(("udp", "kernel", "raw"), "UDP, TCP by kernel sockets, or TCP by crafted segments", fixed=True),
    "pair": Factor(
        tuple("+".join(pair) for pair in itertools.combinations_with_replacement(NATS, 2)), "the personas in front of A and B"
    ),
    "offset": Factor((0.5, 2.5), "start of B after A, in one-way delays"),
}
REPEATS = 6
DRIVERS = ("lab",)


def scene(cell: Cell) -> Scene:
    """The pair of NATs, the same delay each way."""
    a, b = (Nat(persona=name) for name in names_of(str(cell["pair"])))
    return Scene.between(a, b, ONE_WAY_NS)


def attempt(cell: Cell) -> Attempt:
    """Each aims at the other's inside port, which these NATs keep."""
    kind = str(cell["transport"])
    offset_ns = round(float(cell["offset"]) * ONE_WAY_NS)
    return Attempt(kind, kind, offset_ns, give_up_ns=1_300 * MS, tolerance_ns=3 * MS)


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """UDP against TCP: in all, where both start in time, and where one is too late."""
    good = keep(attempts).attempts
    opened = good["outcome"] == "established"

    def rate(chosen: pd.Series[bool]) -> Proportion:
        return wilson(int(opened[chosen].sum()), int(chosen.sum()))

    udp, in_time = good["transport"] == "udp", good["offset"].abs() < 1
    tcp_early, udp_early, tcp_late, udp_late = (rate(kind & when) for when in (in_time, ~in_time) for kind in (~udp, udp))
    told = f"in time TCP {tcp_early}, UDP {udp_early}; late TCP {tcp_late}, UDP {udp_late}"
    c6, c21 = STATEMENTS["C6"], STATEMENTS["C21"]
    only, less = _only(tcp_early, udp_early), _split(_less(tcp_early, udp_early), _less(tcp_late, udp_late))
    few = f"too few undisturbed attempts: {told}"
    found = []
    if tcp_early.n:
        share = tcp_early.estimate, tcp_early.low, tcp_early.high
        found.append(Verdict("C6", c6, only, tcp_early.n, *share, few if only == "undecided" else told))
    else:
        found.append(Verdict("C6", c6, "undecided", 0, why=few))
    if tcp_late.n and udp_late.n:
        apart = difference(tcp_late, udp_late)
        why = {"undecided": few, "conditional": f"a SYN comes too late for a NAT that answers it: {told}"}.get(less, told)
        found.append(Verdict("C21", c21, less, sum(apart.n), apart.value, apart.low, apart.high, why))
    else:
        found.append(Verdict("C21", c21, "undecided", 0, why=few))
    return found


STATEMENTS: Final = {
    "C6": "punching works for UDP only, because of TCP's handshake (share of TCP that opens where both start in time)",
    "C21": "TCP punching succeeds less often than UDP (share of TCP minus share of UDP, where one is late)",
}


def _less(tcp: Proportion, udp: Proportion) -> Word:
    """Whether TCP succeeds less often, by more than the margin."""
    if not tcp.n or not udp.n:
        return "undecided"
    found = difference(tcp, udp)
    if found.high < 0:
        return "upheld"
    return "refuted" if found.low > -MARGIN else "undecided"


def _only(tcp: Proportion, udp: Proportion) -> Word:
    """Whether UDP opens and TCP does not."""
    if judge(udp, HALF) != "upheld":
        return "undecided"
    return "refuted" if tcp.low > HALF else "upheld" if tcp.high < HALF else "undecided"


def _split(in_time: Word, late: Word) -> Word:
    if "undecided" in (in_time, late):
        return "undecided"
    return in_time if in_time == late else "conditional"
