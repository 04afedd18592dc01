"""Do the machines of the simulator and the kernels, rules and boxes of the lab tell the same story?

The same attempts are made by the lab and by the simulator, in one run. Where they differ, the differences are listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawpunch.analysis.drivers import side_by_side
from rawpunch.analysis.statistics import wilson
from rawpunch.scene import Nat, Scene
from rawpunch.study.aiming import Aim
from rawpunch.study.experiment import Attempt, Cell, Factor, Verdict, Word
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

QUESTION = "Do the simulator and the lab tell the same story of the same attempts?"
CLAIMS = ()
_NATS = ("linux-masquerade", "rst-sender", "icmp-sender", "full-cone", "crossing-blocker", "symmetric-sequential")
FACTORS = {
    "nat_a": Factor(_NATS, "A's NAT: a persona, or the file of one"),
    "nat_b": Factor(_NATS, "B's NAT"),
    "offset": Factor((0.5, 2.5), "start of B after A, in one-way delays"),
    "ends": Factor(("raw-raw",), "what makes end A and end B"),
}
REPEATS = 2
BESIDE = ("sim",)

ONE_WAY_NS = 20 * MS


def scene(cell: Cell) -> Scene:
    """Two NATs, half of the delay on each leg."""
    return Scene.between(Nat(persona=str(cell["nat_a"])), Nat(persona=str(cell["nat_b"])), ONE_WAY_NS)


def attempt(cell: Cell) -> Attempt:
    """Both know what an observer saw of the other; B starts later."""
    end_a, end_b = str(cell["ends"]).split("-")
    return Attempt(end_a, end_b, round(float(cell["offset"]) * ONE_WAY_NS), 1_500 * MS, aim=Aim.LEARNED)


def verdicts(attempts: pd.DataFrame) -> list[Verdict]:
    """Outcomes at both ends, and then the whole story: patterns and counts of SYNs, RSTs and ICMP errors too."""
    return [
        _alike(attempts, "simulator and lab agree how each cell ends, at both ends", ("outcome", "outcome_a", "outcome_b")),
        _alike(attempts, "they agree in the wire patterns too", ("pattern", "pattern_a", "pattern_b")),
        _alike(
            attempts, "they agree in the SYNs sent, and in the RSTs and ICMP errors that came", ("syn_a", "syn_b", "rst", "icmp")
        ),
    ]


def _alike(attempts: pd.DataFrame, statement: str, columns: tuple[str, ...]) -> Verdict:
    cells = side_by_side(attempts, ("sim", "lab"), columns)
    decided = [cell for cell in cells if cell.decided]
    if not decided:
        return Verdict("calibrate", statement, "undecided", 0, why="no cell has undisturbed attempts of both: run it --on lab")
    differing = [str(cell) for cell in decided if not cell.agrees]
    rate = wilson(len(decided) - len(differing), len(decided))
    left_out = len(cells) - len(decided)
    why = "; ".join([*differing, *([f"{left_out} cells without undisturbed attempts of both"] if left_out else [])])
    word: Word = "refuted" if differing else "upheld"
    return Verdict("calibrate", statement, word, len(decided), rate.estimate, rate.low, rate.high, why)
