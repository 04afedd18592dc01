"""What does a RST or an ICMP error do to an opening, at the end that gets it and at the NAT that it passes?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.lifetimes import Lifetime, lifetime, looks_by, reached
from rawpunch.analysis.statistics import wilson
from rawpunch.analysis.tables import keep
from rawpunch.nat.behavior import CLOSABLE, Allocation, Behavior, Mapping, Ports, SessionState, Timers, UnsolicitedAnswer
from rawpunch.scene import Nat, Scene
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word, cell_name
from rawpunch.study.make_up import make_up
from rawpunch.tcp.branches import GAP_NS
from rawpunch.units import MS, SECOND, format_duration

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
WATCHED: Final = {
    "RST-ACK 0 1; SYN 0": SessionState.NONE,
    "RST-ACK 0 7; SYN 0": SessionState.SYN_SENT,
    "ICMP 3/13 0; SYN 0": SessionState.SYN_SENT,
    "SYN 0; RST 1; SYN-ACK 0 1": SessionState.CLOSE,
    "SYN 0; ICMP 3/13 0; SYN-ACK 0 1": SessionState.SYN_RECV,
}
"""After which of them mappings are watched until they end, and where a NAT that believes RSTs has its session then."""
IN_A_SECOND: Final = "closes in 1 s"
_QUICK: Final = (500 * MS, 900 * MS, 1100 * MS, 1500 * MS)
WATCH_NS: Final = {
    "closes": (500 * MS, *(number * SECOND for number in (1, 2, 4, 6, 8, 9)), 9700 * MS, 10_300 * MS, 10_600 * MS),
    IN_A_SECOND: _QUICK,
    "keeps": _QUICK,
}
"""When each NAT's mappings are looked at: the first is conntrack, the others have a CLOSE that lasts a second."""
LEAST: Final = 4
"""Looks without which nothing is said of a lifetime."""

QUESTION = "What does a RST or an ICMP error do to an opening, at the end that gets it and at the NAT that it passes?"
CLAIMS = ("C18",)
FACTORS = {
    "answer": Factor(
        (FAR_NAT, SILENCE, *PUTS), "what A's SYN meets: B's NAT, which resets it, nobody, or a peer that puts packets"
    ),
    "near": Factor(
        ("closes", IN_A_SECOND, "keeps", "closes, new ports", "keeps, new ports"),
        "whether (and how soon) a RST ends a session in A's NAT, and whether each session gets a new port",
        fixed=True,
    ),
    "end": Factor(
        ("kernel", "raw"),
        "what makes A (and B behind the far NAT); through far NATs a raw end opens again 300 ms after a RST",
        fixed=True,
    ),
    "one_way_ns": Factor((10 * MS,), "one-way delay between the hosts"),
    "after_ns": Factor((GAP_NS,), "from the packet in question to the last one; what lives then is looked at later, too"),
}
REPEATS = 8

RETRY_NS: Final = 300 * MS


def sensible(cell: Cell) -> bool:
    """New ports matter where a SYN is sent again; time matters to mappings, whatever made the end."""
    put = cell["answer"] not in {FAR_NAT, SILENCE}
    if cell["near"] == IN_A_SECOND:
        return cell["answer"] in WATCHED and cell["end"] == "raw"
    return ("new" not in str(cell["near"]) or not put) and (put or cell["after_ns"] == GAP_NS)


def scene(cell: Cell) -> Scene:
    """A behind the NAT in question; B behind one that resets, or behind none."""
    far = Nat(unsolicited=UnsolicitedAnswer.RST) if cell["answer"] == FAR_NAT else None
    return Scene.between(Nat(behavior=_behavior(cell)), far, int(cell["one_way_ns"]))


def _behavior(cell: Cell) -> Behavior:
    near = str(cell["near"])
    new = "new" in near
    return Behavior(
        unsolicited=UnsolicitedAnswer.RST if cell["answer"] == FAR_NAT else UnsolicitedAnswer.DROP,
        rst_closes=CLOSABLE if near.startswith("closes") else (),
        mapping=Mapping.PER_CONNECTION if new else Mapping.ENDPOINT_INDEPENDENT,
        ports=Ports(allocation=Allocation.RANDOM, overloading=True) if new else Ports(overloading=True),
        timers=Timers(close_ns=SECOND) if near in {IN_A_SECOND, "keeps"} else Timers(),
    )


def attempt(cell: Cell) -> Attempt:
    """A dials; B does so two one-way delays later, or is a prober."""
    end, answer = str(cell["end"]), str(cell["answer"])
    if answer == FAR_NAT:
        late_ns, retry_ns = 2 * int(cell["one_way_ns"]), RETRY_NS if end == "raw" else 0
        return Attempt(end_a=end, end_b=end, offset_ns=late_ns, give_up_ns=SECOND, retry_ns=retry_ns)
    branch, after_ns = "" if answer == SILENCE else answer, int(cell["after_ns"])
    if after_ns == GAP_NS:
        return Attempt(end_a=end, end_b="prober", script_b=branch, give_up_ns=3 * SECOND // 2)
    return Attempt(
        end_a=end,
        end_b="prober",
        script_b=f"{branch} after {after_ns}ns",
        give_up_ns=after_ns + 400 * MS,
        tolerance_ns=50 * MS,  # no two looks on both sides of a timer are nearer than twice that
    )


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:
    """As many again as were disturbed; then the later looks at mappings, all at once, so that they take no longer than one."""
    lacking = [cell for cell in make_up(run, FACTORS) if cell["after_ns"] == GAP_NS]
    return lacking or list(_watch(attempts, run.segments))


def _watch(attempts: pd.DataFrame, segments: pd.DataFrame) -> Iterator[dict[str, Level]]:
    """The later looks at what was there at the first: one at each instant, once. To make up for one would take as long as all."""
    came, good = reached(segments), keep(attempts).attempts
    soon = _to_watch(good)
    soon = soon[soon["after_ns"] == GAP_NS]
    for levels, group in soon.groupby(["answer", "near", "one_way_ns"], observed=True):
        answer, near, one_way_ns = str(levels[0]), str(levels[1]), int(group["one_way_ns"].iloc[0])
        if came.reindex(group["attempt"]).fillna(False).mean() <= 0.5:
            continue
        for after_ns in WATCH_NS[near]:
            cell: dict[str, Level] = {
                "answer": answer,
                "near": near,
                "end": "raw",
                "one_way_ns": one_way_ns,
                "after_ns": after_ns,
            }
            if not (attempts["cell"] == cell_name(cell)).any():
                yield cell


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """From the undisturbed attempts and their packets."""
    good = keep(attempts).attempts
    far = good[good["answer"] == FAR_NAT]
    soon = good[good["after_ns"] == GAP_NS]
    return [_futile(far), _sender(far), *_ports(good, run.segments), *_lives(soon, run.segments), *_lifetimes(good, run.segments)]


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
        last = str(answer).rpartition("; ")[2]
        share = wilson(int(came.reindex(group["attempt"]).fillna(False).sum()), len(group))
        lives = "lives on" if share.estimate > 0.5 else "is gone"
        endings = ", ".join(f"{count} {word}" for word, count in group["outcome_a"].value_counts().items())
        word: Word = "upheld" if share.low > 0.5 or share.high < 0.5 else "undecided"
        text = (
            f"{cause_of(str(answer))}, {end} end: the mapping of a NAT that {near} {lives} (share of {last} that comes through)"
        )
        found.append(Verdict("mapping", text, word, share.n, share.estimate, share.low, share.high, f"the end was {endings}"))
    return found


def _to_watch(good: pd.DataFrame) -> pd.DataFrame:
    return good[good["answer"].isin(WATCHED) & good["near"].isin(WATCH_NS) & (good["end"] == "raw")]


def _lifetimes(good: pd.DataFrame, segments: pd.DataFrame) -> Iterator[Verdict]:
    """How long each mapping lives on: between the last look at which it was there, and the first at which it was not."""
    for (answer, near), looks in looks_by(_to_watch(good), segments, ["answer", "near"]).items():
        yield _lifetime(
            f"{cause_of(answer)}: the mapping of a NAT that {near}", lifetime(looks), _due_ns(answer, near), WATCH_NS[near][-1]
        )


def _due_ns(answer: str, near: str) -> int:
    """How long the session's state lets it live, by the NAT's behaviour."""
    state = WATCHED[answer]
    if near == "keeps" and state in {SessionState.NONE, SessionState.CLOSE}:
        state = SessionState.SYN_RECV if answer.startswith("SYN 0;") else SessionState.SYN_SENT
    return _behavior({"answer": answer, "near": near}).timers.of(state)


def _lifetime(what: str, found: Lifetime, due_ns: int, watch_ns: int) -> Verdict:
    """Whether it ends when it ought to; what ought to outlive the watch is only seen to live."""
    outlives = due_ns > watch_ns
    ends = (
        f"outlives {format_duration(watch_ns)}"
        if outlives
        else f"ends after {format_duration(due_ns)}"
        if due_ns
        else "ends at once"
    )
    statement, why = f"{what} {ends}", ""
    word: Word = "upheld" if found.allows(due_ns) else "refuted"
    if found.gone_ns is None:
        why = f"at the latest look, after {format_duration(found.there_ns)}, it was there"
        if found.there_ns < min(due_ns, watch_ns):
            word = "undecided"
    if not found.is_one:
        word, why = "undecided", "it was there after it had been gone: not one lifetime"
    if found.n < LEAST:
        word, why = "undecided", f"fewer than {LEAST} looks count"
    if found.gone_ns is None:
        return Verdict("lifetime", statement, word, found.n, why=why)
    middle_s, low_s, high_s = ((found.there_ns + found.gone_ns) / 2 / SECOND, found.there_ns / SECOND, found.gone_ns / SECOND)
    return Verdict("lifetime", statement, word, found.n, middle_s, low_s, high_s, why, "s")


def cause_of(answer: str) -> str:
    """What precedes the last look, in words."""
    *before, _ = answer.split("; ")
    return f"{before[-1]} in {'SYN-RECEIVED' if before[0] == 'SYN 0' else 'SYN-SENT'}"
