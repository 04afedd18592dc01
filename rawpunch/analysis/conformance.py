"""What a stack did in a branch of an opening, read off a run's tables, beside what the table of RFC 9293 does in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rawpunch.ending import Ending
from rawpunch.tcp.branches import GAP_NS, Walked, parse_branch, walk
from rawpunch.tcp.profiles import Profile
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.relative import said
from rawpunch.wire.segment import Flags, Segment

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Conduct:
    """What a stack did: what it said, and how its opening ended."""

    said: str
    """By `wire.relative`."""
    outcome: str
    """A word of `Ending`."""

    def __str__(self) -> str:
        return f"{self.said}; {self.outcome}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a profile does in a branch, and where that is written."""

    conduct: Conduct
    state: str
    """Where it ends."""
    source: str
    """The citation of the row that the branch's last packet fires; of the SYN's retransmission, if nothing is put."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A branch as it was seen, beside the RFC's table and the table that the stack is known by."""

    branch: str
    done: list[Conduct]
    """One for each attempt."""
    rfc: Expected
    known: Expected

    @property
    def as_rfc(self) -> int:
        """Attempts in which it did what the RFC says."""
        return self.done.count(self.rfc.conduct)

    @property
    def as_known(self) -> int:
        """Attempts in which it did what it is known to do."""
        return self.done.count(self.known.conduct)

    @property
    def seen(self) -> str:
        """How its openings ended: each word once."""
        return " or ".join(dict.fromkeys(one.outcome for one in self.done))

    @property
    def ends_otherwise(self) -> bool:
        """Whether every attempt ended otherwise than by the RFC."""
        return bool(self.done) and all(one.outcome != self.rfc.conduct.outcome for one in self.done)

    @property
    def may_end_otherwise(self) -> bool:
        """Whether an attempt did."""
        return any(one.outcome != self.rfc.conduct.outcome for one in self.done)

    @property
    def in_words(self) -> str:
        """What it did, and where that differs from the RFC, how."""
        conducts = list(dict.fromkeys(self.done))
        if conducts == [self.rfc.conduct]:
            return f"as the RFC says: {self.rfc.conduct}"
        seen = " or ".join(map(str, conducts)) or "not seen"
        known = "as known, " if conducts == [self.known.conduct] else ""
        return f"{known}{seen} (RFC: {self.rfc.conduct})"


AS_RFC: Final = "as the RFC"
AS_KNOWN: Final = "as known"
OTHERWISE: Final = "OTHERWISE"
DIFFERS: Final = "ends OTHERWISE"
_PARAGRAPH: Final = re.compile(r"RFC \d+(?:, [\d.]*\d(?:, (?:figure \d+|[a-z]+))?)?")
_IN_WORDS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}


def paragraph(source: str) -> str:
    """The first paragraph that a citation names: RFC, section, and the step there."""
    found = _PARAGRAPH.match(source)
    return found[0] if found else source


def _order(text: str) -> tuple[list[int], str]:
    """RFCs and sections by their numbers, steps by theirs."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return [*numbers, _IN_WORDS.get(text.rpartition(", ")[2], 0)], text


def by_paragraph(compared: Sequence[Compared]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows of a table, one paragraph's together: paragraph, what is put, what the RFC expects, what was seen, how often, a word.

    What was seen as expected is left empty, and so is a paragraph's name below itself.
    """
    rows = []
    before = ""
    for one in sorted(compared, key=lambda one: _order(paragraph(one.rfc.source))):
        name = paragraph(one.rfc.source)
        word = AS_KNOWN if one.done and one.as_known == len(one.done) else DIFFERS if one.ends_otherwise else OTHERWISE
        if one.done and one.as_rfc == len(one.done):
            word = AS_RFC
        seen = "" if word == AS_RFC else " or ".join(map(str, dict.fromkeys(one.done))) or "nothing"
        rows.append(
            (name if name != before else "", one.branch or "(silence)", str(one.rfc.conduct), seen, str(len(one.done)), word)
        )
        before = name
    return rows


def expected(branch: str, profile: Profile, *, one_way_ns: int, give_up_ns: int) -> Expected:
    """What a profile does in a branch; see `tcp.branches`.

    Raises:
        Malformed: it is no branch.
    """
    walked = walk(parse_branch(branch), profile, one_way_ns=one_way_ns, give_up_ns=give_up_ns)
    return Expected(Conduct(walked.said, walked.ending.value), walked.state.value, _source(walked, profile))


def _source(walked: Walked, profile: Profile) -> str:
    if walked.rows:
        return walked.rows[-1].source
    return next(row.source for row in profile.table if row.id == "retransmit")


def conducts(attempts: pd.DataFrame, segments: pd.DataFrame, *, give_up_ns: int) -> dict[str, Conduct]:
    """Attempt -> what the stack at end B did in it, seen at its own host, or where there is no lab, at the prober's.

    What it sends when it is closed in the end does not count: after it gave up, or after the prober's last packet had its time.

    Args:
        attempts: the attempts table.
        segments: the segments table of the same run.
        give_up_ns: how long after its start an end without an answer gives up.
    """
    seen, spoke = ("hostB:eth0", "out") if (segments["vantage"] == "hostB:eth0").any() else ("hostA:eth0", "in")
    at_b = segments[(segments["vantage"] == seen) & segments["flags"].notna()].sort_values("number")
    heard: dict[str, list[dict[str, Any]]] = {}
    for row in at_b.to_dict("records"):
        heard.setdefault(row["attempt"], []).append({str(name): value for name, value in row.items()})
    found: dict[str, Conduct] = {}
    for row in attempts[["attempt", "planned_b_ns", "outcome_b"]].to_dict("records"):
        rows = heard.get(row["attempt"], [])
        until_ns = row["planned_b_ns"] + give_up_ns
        put_ns = [entry["time_ns"] for entry in rows if entry["direction"] != spoke]
        if row["outcome_b"] != "timed_out" and put_ns:
            until_ns = min(until_ns, put_ns[-1] + GAP_NS)
        if rows:
            in_time = [(entry["direction"] == spoke, _segment(entry)) for entry in rows if entry["time_ns"] < until_ns]
            found[row["attempt"]] = Conduct(said(in_time), _outcome(row["outcome_b"], in_time))
    return found


def _outcome(word: str, conversation: list[tuple[bool, Segment]]) -> str:
    """How it ended; what a kernel calls refused without a RST was an ICMP error (port unreachable has that error number too)."""
    reset = any(segment.rst for sent, segment in conversation if not sent)
    return Ending.UNREACHABLE.value if word == Ending.REFUSED.value and not reset else word


def _segment(row: dict[str, Any]) -> Segment:
    flags = Flags(int(row["flags"]))
    return Segment(
        Endpoint(row["source_address"], row["source_port"]),
        Endpoint(row["destination_address"], row["destination_port"]),
        flags,
        row["seq"],
        int(row["ack"]) if flags & Flags.ACK else 0,
        payload_length=int(row["payload_length"]),
    )
