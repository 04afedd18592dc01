"""What does an observer's answer tell of the next connection, and whom does the mapping it saw let in?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.bindings import Bindings, one_for_all, open_to_all, overloads
from rawpunch.analysis.statistics import Proportion
from rawpunch.analysis.tables import keep
from rawpunch.scene import Nat, Scene
from rawpunch.study.aiming import Aim
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word, judge
from rawpunch.study.make_up import make_up
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

ONE_WAY_NS: Final = 8 * MS
OPEN: Final = Attempt(end_b="listening", aim=Aim.LEARNED, give_up_ns=400 * MS, tolerance_ns=4 * MS)
"""A asks an observer, and then connects to B, who has no NAT."""
THIRD: Final = replace(OPEN, end_a="listening", end_b="kernel", offset_ns=3 * ONE_WAY_NS)
"""A asks and then listens; B, of whom its NAT knows nothing, connects to what the observer saw."""
POKED: Final = replace(THIRD, first_ttl_a=2)
TRIALS: Final = {
    "bound": OPEN,
    "unbound": replace(OPEN, aim=Aim.UNBOUND),
    "neighbour": replace(OPEN, aim=Aim.NEIGHBOUR),
    "stranger": THIRD,
    "address_known": replace(POKED, poke_port=9),
    "endpoint_known": replace(POKED, end_a="raw"),
}
STATEMENTS: Final = {
    "binding": "whom a mapping lets in is what the NAT's filtering says (share of third parties)",
    "C5": "a mapping kept alive towards a server lets any third party in (share let in by endpoint-independent filters)",
    "C9": "the port must be bound before asking, or the answer is for another mapping (share of right answers, bound)",
    "C17": "one external port serves several inside hosts (share that got a neighbour's, where ports are overloaded)",
}
HALF: Final = 0.5
OFTEN: Final = 0.9

QUESTION = "Is the mapping that an observer saw the one that the next connection gets, and whom does it let in?"
CLAIMS = ("C5", "C9", "C17")
FACTORS = {
    "nat": Factor(
        (
            "linux-masquerade",
            "carrier-grade-band",
            "linux-sequential",
            "full-cone",
            "address-restricted",
            "port-restricted",
            "address-dependent",
            "symmetric-sequential",
        ),
        "the persona in front of A",
    ),
    "trial": Factor(
        tuple(TRIALS),
        "A connects after the query was made from its port, from another port, or by another inside host; "
        "or A listens, and a third party connects to whose address or endpoint A has sent nothing, or a SYN that died",
        fixed=True,
    ),
}
REPEATS = 5


def scene(cell: Cell) -> Scene:
    """A behind the NAT, B without one."""
    return Scene.between(Nat(persona=str(cell["nat"])), None, ONE_WAY_NS)


def attempt(cell: Cell) -> Attempt:
    """What the trial has both ends do."""
    return TRIALS[str(cell["trial"])]


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """Who is let in, and which mapping the answer is for, by the axes of the personas."""
    found = Bindings(keep(attempts).attempts, run.mappings)
    everybody, nobody = found.opened("stranger", open_to_all), found.opened("stranger", lambda nat: not open_to_all(nat))
    as_said = found.as_filtered()
    bound, elsewhere = found.same("bound", one_for_all), found.same("bound", lambda nat: not one_for_all(nat))
    unbound = found.same("unbound", lambda _nat: True)
    shared, own = found.same("neighbour", overloads), found.same("neighbour", lambda nat: not overloads(nat))
    return [
        _verdict("binding", judge(as_said, OFTEN), as_said),
        _verdict(
            "C5",
            _split(everybody, nobody),
            everybody,
            f"such NATs let in {everybody}, others {nobody}",
            "the NAT filters nobody",
        ),
        _verdict(
            "C9",
            _needs(bound, unbound),
            bound,
            f"right answers bound {bound}, unbound {unbound}; bound, but where each remote gets another mapping, {elsewhere}",
        ),
        _verdict(
            "C17",
            _split(shared, own),
            shared,
            f"hosts shared a port in {shared}, elsewhere in {own}; several destinations of one host did so in {bound}",
            "the NAT overloads its ports, if the hosts are different",
        ),
    ]


def _verdict(claim: str, word: Word, rate: Proportion, told: str = "", when: str = "") -> Verdict:
    """A verdict with what was counted; `when` is the condition under which it holds, if on one."""
    if not rate.n:
        return Verdict(claim, STATEMENTS[claim], "undecided", 0, why=f"no undisturbed attempt of that kind; {told}".rstrip("; "))
    if word == "conditional":
        told = f"{when}: {told}"
    elif word == "undecided":
        told = f"too few undisturbed attempts, or some each way: {told or rate}"
    return Verdict(claim, STATEMENTS[claim], word, rate.n, rate.estimate, rate.low, rate.high, told)


def _split(some: Proportion, others: Proportion) -> Word:
    """A claim on all NATs that holds for some and not for others."""
    one, other = judge(some, HALF), judge(others, HALF)
    if "undecided" in (one, other):
        return "undecided"
    return one if one == other else "conditional"


def _needs(here: Proportion, there: Proportion) -> Word:
    """A claim that something is so here and not there."""
    one, other = judge(here, HALF), judge(there, HALF)
    if (one, other) == ("upheld", "refuted"):
        return "upheld"
    return "undecided" if "undecided" in (one, other) else "refuted"
