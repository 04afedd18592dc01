"""Does a kernel answer as RFC 9293 says when an opening takes any of its turns, the simultaneous one included?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.conformance import AS_RFC, Compared, by_paragraph, conducts, expected
from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.errors import UnknownName
from rawpunch.scene import Scene
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Table, Verdict, Word
from rawpunch.study.make_up import make_up
from rawpunch.tcp.branches import parse_branch
from rawpunch.tcp.profiles import LINUX, PROFILES, RFC9293, Profile, profile
from rawpunch.units import MS

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

ONE_WAY_NS: Final = 4 * MS
GIVE_UP_NS: Final = 600 * MS
PATIENT_NS: Final = 1_600 * MS
"""Beyond the first retransmission."""
SENT: Final = (
    "",
    "SYN-ACK 0 1",
    "SYN-ACK 0 7",
    "SYN-ACK 0 0",
    "SYN 0 len 5",
    "SYN-ACK 0 1 len 5",
    "SYN+FIN 0",
    "ACK 1 0",
    "ACK 1 1",
    "ACK 1 7",
    "RST 0",
    "RST-ACK 0 0",
    "RST-ACK 0 1",
    "RST-ACK 0 7",
    "FIN 0",
    "FIN-ACK 1 1",
    "NONE 0",
    "ICMP 3/1 0",
    "ICMP 3/3 0",
    "ICMP 3/3 9",
    "ICMP 11/0 0",
)
"""What is put to a stack in SYN-SENT."""
RECEIVED: Final = (
    "SYN 0",
    "SYN 4000",
    "SYN -4000",
    "SYN 0 len 5",
    "SYN-ACK 0 1",
    "SYN-ACK 0 1; SYN-ACK 0 1",
    "SYN-ACK 0 1; ACK 1 1",
    "SYN-ACK 0 7",
    "SYN-ACK 4000 1",
    "SYN-ACK -4000 1",
    "SYN-ACK 0 1 len 5",
    "ACK 1 1",
    "ACK 1 1; SYN-ACK 0 1",
    "ACK 1 0",
    "ACK 1 7",
    "ACK 1 -70000",
    "ACK -5 1",
    "ACK 70000 1",
    "ACK 1 1 len 5",
    "ACK 4000 1 len 5",
    "RST 1",
    "RST 0",
    "RST 9",
    "RST -5",
    "RST 70000",
    "RST-ACK 1 1",
    "RST-ACK 1 7",
    "RST-ACK 0 1",
    "FIN 1",
    "FIN-ACK 1 1",
    "FIN-ACK 1 7",
    "FIN-ACK 1 1; FIN-ACK 1 1",
    "NONE 1",
    "ICMP 3/1 0",
    "ICMP 3/3 0",
)
"""What is put to a stack in SYN-RECEIVED, where a crossing SYN has brought it."""

BRANCHES: Final = (*SENT, "SYN 0", *(f"SYN 0; {put}" for put in RECEIVED))
CROSSING: Final = "SYN 0; SYN-ACK 0 1"
PROGRAM: Final = "cmd:"
"""Before a stack that is a program: see `rawpunch.live.stack_program`."""
_LONGEST_NAME: Final = 40
_ANSWER: Final = "SYN-ACK 0 1"
SILENT: Final = ("", "SYN 0")
"""Branches after whose last packet the stack is left to itself."""
LEAST: Final = 2
"""Attempts without which a branch is not judged."""

DRIVERS = ("lab", "sim", "live")
QUESTION = "Does a stack answer as RFC 9293 says in each branch of an opening, from SYN-SENT and from SYN-RECEIVED?"
CLAIMS = ("C19",)
FACTORS = {
    "branch": Factor(BRANCHES, "what is put to a stack that has sent its SYN (see rawpunch.tcp.branches)"),
    "stack": Factor(
        ("kernel",),
        "the stack under test: kernel, cmd:PROGRAM (any other one, by rawpunch.live.stack_program), "
        "or a profile of the table played by a raw end (rfc9293, linux ...)",
    ),
}
REPEATS = 4


def scene(cell: Cell) -> Scene:  # noqa: ARG001  one world serves all branches
    """No NAT, and a delay, without which nothing crosses."""
    return Scene.between(None, None, ONE_WAY_NS)


def attempt(cell: Cell) -> Attempt:
    """A plays the branch, B is the stack; a packet that is held longer than it should does no harm, but for its order."""
    stack, branch = str(cell["stack"]), str(cell["branch"])
    parse_branch(branch)
    kind = "kernel" if stack == "kernel" else "stack" if stack.startswith(PROGRAM) else "raw"
    return Attempt(
        "prober",
        kind,
        give_up_ns=_give_up_ns(branch),
        profile=_known(stack).name,
        script_a=branch,
        script_b=stack.removeprefix(PROGRAM) if kind == "stack" else "",
        tolerance_ns=20 * MS,
    )


def _known(stack: str) -> Profile:
    """The table that a stack is known by: for a program, of which nothing is known, the RFC's own."""
    if stack.startswith(PROGRAM):
        return RFC9293
    if stack != "kernel" and stack not in PROFILES:
        raise UnknownName(f"there is no stack {stack!r}", todo=f"kernel, {PROGRAM}PROGRAM, or a profile: {', '.join(PROFILES)}")
    return LINUX if stack == "kernel" else profile(stack)


def _give_up_ns(branch: str) -> int:
    return PATIENT_NS if branch in SILENT else GIVE_UP_NS


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """For each branch, whether the stack answers as the RFC says or as it is known to; and from all of them, the claim."""
    found: list[Verdict] = []
    for stack, compared in _compared(attempts, run):
        found += [_verdict(stack, one) for one in compared]
        found.append(_claim(stack, compared))
    return found or [_claim("a stack", [])]


def table(attempts: pd.DataFrame, run: Dataset) -> Table:
    """What the RFC expects of a stack, and what it did, paragraph by paragraph."""
    rows: list[tuple[str, ...]] = []
    feet = []
    for stack, compared in _compared(attempts, run):
        mine = by_paragraph(compared)
        rows += [(*row, _called(stack)) for row in mine]
        as_rfc = sum(row[-1] == AS_RFC for row in mine)
        feet.append(f"{_called(stack)}: {as_rfc} of {len(mine)} branches as the RFC says")
    feet.append("numbers count from the initial ones; what is put is written as in rawpunch.tcp.branches")
    columns: tuple[str, ...] = (
        "paragraph",
        "put to it",
        "RFC: what it says; how it ends",
        "seen, if otherwise",
        "n",
        "",
        "stack",
    )
    if len({row[-1] for row in rows}) < 2:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table(columns, rows, "\n".join(feet), ("n",))


def _compared(attempts: pd.DataFrame, run: Dataset) -> Iterator[tuple[str, list[Compared]]]:
    """Each stack, with its branches in the order in which they are listed."""
    for stack, of_stack in keep(attempts).attempts.groupby("stack", observed=True):
        known = _known(str(stack))
        compared = []
        for branch, group in of_stack.groupby("branch", observed=True, sort=False):
            give_up_ns = _give_up_ns(str(branch))
            done = conducts(group, run.segments, give_up_ns=give_up_ns)
            tables = (expected(str(branch), table, one_way_ns=ONE_WAY_NS, give_up_ns=give_up_ns) for table in (RFC9293, known))
            compared.append(Compared(str(branch), list(done.values()), *tables))
        compared.sort(key=lambda one: BRANCHES.index(one.branch) if one.branch in BRANCHES else len(BRANCHES))
        yield str(stack), compared


def _verdict(stack: str, one: Compared) -> Verdict:
    rate = wilson(max(one.as_rfc, one.as_known), len(one.done))
    word: Word = "upheld" if rate.estimate else "refuted"
    if len(one.done) < LEAST or 0 < rate.estimate < 1:
        word = "undecided"
    statement = f"{_called(stack)}, {one.branch or 'silence'} ({one.rfc.source}): {one.in_words}"
    return Verdict("stack_conformance", statement, word, len(one.done), rate.estimate, rate.low, rate.high)


def _called(stack: str) -> str:
    """Its name in a sentence: of a long command the end, which tells more than the interpreter's path."""
    return stack if len(stack) <= _LONGEST_NAME else f"{PROGRAM}...{stack[-_LONGEST_NAME:]}"


def _claim(stack: str, compared: list[Compared]) -> Verdict:
    """Upheld where a crossing is not answered or does not open, conditional where only other branches end otherwise."""
    good = [one for one in compared if len(one.done) >= LEAST]
    otherwise = [one for one in good if one.ends_otherwise]
    word: Word = "conditional" if otherwise else "refuted"
    why = ", ".join(f"[{one.branch}] {one.seen} for {one.rfc.conduct.outcome}" for one in otherwise)
    crossing = next((one for one in good if one.branch == CROSSING), None)
    if crossing is None:
        word, why = "undecided", "the crossing itself was not put to it, or too seldom"
    elif crossing.ends_otherwise:
        word = "upheld"
    elif not any(_ANSWER in one.said.split(", ") for one in crossing.done):
        word, why = "upheld", f"it answers a SYN that crosses its own with no SYN-ACK: {crossing.done[0]}"
    elif otherwise:
        why = f"the branch is another than the crossing, which opens: {why}"
    elif len(good) < len(BRANCHES):
        word, why = "undecided", f"only {len(good)} of {len(BRANCHES)} branches were put to it often enough"
    statement = (
        f"{_called(stack)}: implements simultaneous open incorrectly (share of branches that end otherwise than by RFC 9293; "
        "the branches are all that are listed and no sample, so the interval is of those whose attempts disagree)"
    )
    if not good:
        return Verdict("C19", statement, word, 0, why=why)
    n, share = len(good), len(otherwise) / len(good)
    return Verdict("C19", statement, word, n, share, share, sum(one.may_end_otherwise for one in good) / n, why)
