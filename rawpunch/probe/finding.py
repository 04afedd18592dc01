"""A finding: a class, or why there is none; how many observations it rests on, how sure it is, and which packets show it.

**Confidence.** Three things can mislead: packets that got lost, ports that are equal by chance, and a NAT that changes its mind.
For the first two the chance is computed: that all repeats of one packet were lost, at the upper estimate of the loss that
controls showed; that as many ports coincided by chance. One minus that is the confidence, and nothing is called surer than
0.9999. The third shows as trials that disagree; then nothing is determined.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from rawpunch.probe.facts import Facts, Tally

SUREST: Final = 0.9999
ENOUGH: Final = 0.999
"""Below this confidence nothing is determined."""


class Status(enum.StrEnum):
    """Whether there is a class."""

    FOUND = "found"
    NOT_DETERMINED = "not_determined"
    """It was tried, and what was seen does not decide."""
    NOT_TESTED = "not_tested"
    """It was not tried, or cannot be told from outside here."""


class Finding(BaseModel):
    """One axis."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    klass: str | None = Field(default=None, serialization_alias="class")
    n: int = 0
    """Trials, samples or packets that it rests on, whatever is the smallest independent thing."""
    confidence: float | None = None
    evidence: list[int] = []
    """Packet numbers in the run's capture."""
    why: str = ""
    """Why nothing was determined, or what to keep in mind."""
    detail: dict[str, Any] = {}


_MOST_EVIDENCE: Final = 60


def found(klass: str, n: int, confidence: float, evidence: Iterable[int], why: str = "", **detail: Any) -> Finding:
    """A class, if it is sure enough."""
    numbers = sorted(set(evidence))[:_MOST_EVIDENCE]
    sure = min(confidence, SUREST)
    if sure < ENOUGH:
        doubt = f"{klass} is likely, but only with confidence {sure:.3f}"
        return Finding(status=Status.NOT_DETERMINED, n=n, confidence=sure, evidence=numbers, why=doubt, detail=detail)
    return Finding(status=Status.FOUND, klass=klass, n=n, confidence=sure, evidence=numbers, why=why, detail=detail)


def undetermined(why: str, n: int = 0, evidence: Iterable[int] = (), **detail: Any) -> Finding:
    """Tried, without an answer."""
    numbers = sorted(set(evidence))[:_MOST_EVIDENCE]
    return Finding(status=Status.NOT_DETERMINED, n=n, evidence=numbers, why=why, detail=detail)


def untested(why: str, **detail: Any) -> Finding:
    """Not tried."""
    return Finding(status=Status.NOT_TESTED, why=why, detail=detail)


def silence(tally: Tally, loss: float) -> float:
    """How sure it is that packets that did not come were kept away, and did not get lost."""
    return 1 - loss**tally.sent if tally.sent else 0.0


def passes(tally: Tally, control: Tally, loss: float) -> bool | None:
    """Whether packets of a kind pass; None where their absence may be chance."""
    if tally.came:
        return True
    if control.came and silence(tally, loss) >= ENOUGH:
        return False
    return None


def agreed(votes: Sequence[bool | None]) -> bool | None:
    """What all trials that say something say, if there are two such."""
    said = [vote for vote in votes if vote is not None]
    return said[0] if len(said) >= 2 and len(set(said)) == 1 else None


def missing(known: Facts, what: str) -> Finding:
    """The finding where there are no facts: why not."""
    if known.broken_off:
        return undetermined(f"the probe was broken off: {known.broken_off}")
    if not known.observer_raw:
        return untested(f"{what} needs an observer with raw sockets")
    return untested(f"{what} did not come about")


def untranslated(known: Facts) -> bool:
    """Whether there is no NAT."""
    contact = known.contact
    return contact is not None and bool(contact.openings) and all(one.mapped == one.inside for one in contact.openings)
