"""What does a RST or an ICMP error do to an opening, at the end that gets it and at the NAT that it passes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.nat.behavior import CLOSABLE, Allocation, Behavior, Mapping, Ports, UnsolicitedAnswer
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word
from rawpunch.study.make_up import make_up
from rawpunch.units import MS, SECOND

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

FAR_NAT: Final = "far NAT"
SILENCE: Final = "silence"
PUTS: Final = (
    "RST-ACK 0 1; SYN 0",
    "RST-ACK 0 7; SYN 0",
    "RST 0; SYN 0",
    "ICMP 3/13 0; SYN 0",
    "SYN 0; RST 1; SYN-ACK 0 1",
    "SYN 0; RST-ACK 1 1; SYN-ACK 0 1",
    "SYN 0; RST 70000; SYN-ACK 0 1",
    "SYN 0; ICMP 3/13 0; SYN-ACK 0 1",
)
"""What a peer without a NAT puts to A behind its one; the last packet shows whether the mapping still lives."""

QUESTION = "What does a RST or an ICMP error do to an opening, at the end that gets it and at the NAT that it passes?"
CLAIMS = ("C18",)
FACTORS = {
    "answer": Factor(
        (FAR_NAT, SILENCE, *PUTS), "what A's SYN meets: B's NAT, which resets it, nobody, or a peer that puts packets"
    ),
    "near": Factor(
        ("closes", "keeps", "closes, new ports", "keeps, new ports"),
        "whether a RST ends a session in A's NAT, and whether each session gets a new port",
        fixed=True,
    ),
    "end": Factor(
        ("kernel", "raw"),
        "what makes A (and B behind the far NAT); through far NATs a raw end opens again 300 ms after a RST",
        fixed=True,
    ),
    "one_way_ns": Factor((10 * MS,), "one-way delay between the hosts"),
}
REPEATS = 8

RETRY_NS: Final = 300 * MS
_IN_SYN_SENT: Final = ("RST", "ICMP")


def sensible(cell: Cell) -> bool:
    """New ports matter where a SYN is sent again."""
    return "new" not in str(cell["near"]) or cell["answer"] in {FAR_NAT, SILENCE}


def scene(cell: Cell) -> Scene:
    """A behind the NAT in question; B behind one that resets, or behind none."""
    near = str(cell["near"])
    new = "new" in near
    behavior = Behavior(
        unsolicited=UnsolicitedAnswer.RST if cell["answer"] == FAR_NAT else UnsolicitedAnswer.DROP,
        rst_closes=CLOSABLE if near.startswith("closes") else (),
        mapping=Mapping.PER_CONNECTION if new else Mapping.ENDPOINT_INDEPENDENT,
        ports=Ports(allocation=Allocation.RANDOM, overloading=True) if new else Ports(overloading=True),
    )
    far = Nat(unsolicited=UnsolicitedAnswer.RST) if cell["answer"] == FAR_NAT else None
    return Scene.between(Nat(behavior=behavior), far, int(cell["one_way_ns"]))


def attempt(cell: Cell) -> Attempt:
    """A dials; B does so two one-way delays later, or is a prober."""
    end, answer = str(cell["end"]), str(cell["answer"])
    if answer == FAR_NAT:
        late_ns, retry_ns = 2 * int(cell["one_way_ns"]), RETRY_NS if end == "raw" else 0
        return Attempt(end_a=end, end_b=end, offset_ns=late_ns, give_up_ns=SECOND, retry_ns=retry_ns)
    branch = "" if answer == SILENCE else answer
    return Attempt(end_a=end, end_b="prober", script_b=branch, give_up_ns=3 * SECOND // 2)


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:  # noqa: ARG001  the run holds them
    """As many again as were disturbed."""
    return make_up(run, FACTORS)


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """From the undisturbed attempts and their packets."""
    good = keep(attempts).attempts
    far = good[good["answer"] == FAR_NAT]
    return [_futile(far), _sender(far), *_ports(good, run.segments), *_lives(good, run.segments)]


def _futile(far: pd.DataFrame) -> Verdict:
    """The claim, of ends that do try again, by what the near NAT does with the RST."""
    statement = "after the far NAT's RST the near NAT has closed the session, and SYNs that are sent again are futile"
    retried = far[(far["syn_a"] > 1) & ~far["near"].astype(str).str.contains("new")]
    failed = retried["outcome"] != "established"
    shares = {near: wilson(int(failed[group.index].sum()), len(group)) for near, group in retried.groupby("near", observed=True)}
    if "closes" not in shares:
        return Verdict("C18", statement, "undecided", len(retried), why="no undisturbed attempt in which a SYN was sent again")
    closes, keeps = shares["closes"], shares.get("keeps")
    word: Word = "undecided"
    why = f"closing NAT: {closes.successes} of {closes.n} failed"
    if closes.low > 0.5:
        word = "upheld"
        if keeps is not None and keeps.high < 0.5:
            word = "conditional"
            otherwise = f"where it does not, {keeps.successes} of {keeps.n}"
            why = f"the near NAT closes at a RST ({closes.successes} of {closes.n} failed; {otherwise})"
    elif closes.high < 0.5:
        word = "refuted"
    return Verdict("C18", statement, word, closes.n, closes.estimate, closes.low, closes.high, why)


def _sender(far: pd.DataFrame) -> Verdict:
    statement = "the RST that ends a kernel's attempt is B's NAT's, not B's"
    ended = far[(far["end"] == "kernel") & (far["outcome"] != "established")]
    if ended.empty:
        return Verdict("sender", statement, "undecided", 0, why="no undisturbed attempt of kernel ends failed")
    share = wilson(int(ended["decided_by"].astype(str).str.startswith("natB:").sum()), len(ended))
    word: Word = "upheld" if share.low > 0.5 else "refuted" if share.high < 0.5 else "undecided"
    return Verdict("sender", statement, word, share.n, share.estimate, share.low, share.high)


def _ports(good: pd.DataFrame, segments: pd.DataFrame) -> list[Verdict]:
    """Whether a SYN that is sent again leaves the NAT by the port of the first one."""
    syns = segments[(segments["vantage"] == "natA:out") & (segments["direction"] == "out") & (segments["kind"] == "SYN")]
    ports = syns.groupby("attempt", observed=True)["source_port"].agg(["nunique", "size"])
    found = []
    again = good.join(ports, on="attempt")
    again = again[(again["size"] > 1) & again["answer"].isin([FAR_NAT, SILENCE])]
    for (answer, near), group in again.groupby(["answer", "near"], observed=True):
        share = wilson(int((group["nunique"] == 1).sum()), len(group))
        kept = "keeps its port" if share.estimate > 0.5 else "gets another port"
        cause = "in silence" if answer == SILENCE else "after the far NAT's RST"
        word: Word = "upheld" if share.low > 0.5 or share.high < 0.5 else "undecided"
        text = f"a SYN sent again {cause} {kept} in a NAT that {near} (share that keeps it)"
        found.append(Verdict("port", text, word, share.n, share.estimate, share.low, share.high))
    return found


def _lives(good: pd.DataFrame, segments: pd.DataFrame) -> list[Verdict]:
    """Whether the last packet that a prober puts comes through, and what the end has made of what came before."""
    came = reached(segments)
    found = []
    for (answer, near, end), group in good[good["answer"].isin(PUTS)].groupby(["answer", "near", "end"], observed=True):
        *before, last = str(answer).split("; ")
        state = "SYN-RECEIVED" if before[0] == "SYN 0" else "SYN-SENT"
        share = wilson(int(came.reindex(group["attempt"]).fillna(False).sum()), len(group))
        lives = "lives on" if share.estimate > 0.5 else "is gone"
        endings = ", ".join(f"{count} {word}" for word, count in group["outcome_a"].value_counts().items())
        word: Word = "upheld" if share.low > 0.5 or share.high < 0.5 else "undecided"
        text = (
            f"{before[-1]} in {state}, {end} end: the mapping of a NAT that {near} {lives} (share of {last} that comes through)"
        )
        found.append(Verdict("mapping", text, word, share.n, share.estimate, share.low, share.high, f"the end was {endings}"))
    return found


def reached(segments: pd.DataFrame) -> pd.Series:
    """Attempt -> whether the last packet that B sent of its own reached A's host."""
    sent = segments[(segments["vantage"] == "hostB:eth0") & (segments["direction"] == "out")]
    sent = sent[~sent["kind"].str.startswith("RST") | (sent["ack"] == 0)]
    last = sent.sort_values("time_ns").groupby("attempt", observed=True).last()[["kind", "seq", "time_ns"]].add_suffix("_sent")
    arrived = segments[(segments["vantage"] == "hostA:eth0") & (segments["direction"] == "in")]
    both = arrived.join(last, on="attempt")
    matching = both[
        (both["kind"] == both["kind_sent"]) & (both["seq"] == both["seq_sent"]) & (both["time_ns"] > both["time_ns_sent"])
    ]
    return last.index.to_series().isin(matching["attempt"])
