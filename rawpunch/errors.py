"""Everything that can go wrong, as one tree.

RawpunchError                 (exit code 1)
├── UsageError                the caller asked for something that does not exist (2)
│   ├── UnknownName           no experiment, run, host, persona of that name
│   ├── BadParameter          a value that is not one of the allowed ones
│   └── Unreadable            a file that is not there or is not what it should be
├── MachineCannot             this machine lacks a feature, tool or privilege (3)
│   └── LabBroken             the lab was up and something in it died
├── PolicyRefused             the safety policy does not allow it (4)
├── NoConnection              a punch led to no connection with the peer (1)
├── PartialData               some attempts could not be measured; the rest is kept (5)
└── Malformed                 bytes or text that are not what they claim to be (2)

A refused or timed-out handshake is never an exception: it is a row. An exception means that we could not measure.
"""

from __future__ import annotations

from typing import ClassVar


class RawpunchError(Exception):
    """The root: what happened, why, and what to do about it, each in one sentence.

    Args:
        what: what happened.
        why: the cause, if it is known.
        todo: what the user can do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"why: {self.why}")
        if self.todo:
            parts.append(f"try: {self.todo}")
        return "\n".join(parts)


class UsageError(RawpunchError):
    """The caller asked for something that does not exist or makes no sense."""

    exit_code = 2


class UnknownName(UsageError):
    """No experiment, run, host or persona has that name."""


class BadParameter(UsageError):
    """A value that is not one of the allowed ones."""


class Unreadable(UsageError):
    """A file that is not there, or is not what it should be."""


class MachineCannot(RawpunchError):
    """This machine lacks a feature, a tool or a privilege."""

    exit_code = 3


class LabBroken(MachineCannot):
    """The lab was up, and something in it died."""


class PolicyRefused(RawpunchError):
    """The safety policy does not allow it."""

    exit_code = 4


class NoConnection(RawpunchError):
    """No try of a punch led to the peer; its log has what was seen."""


class PartialData(RawpunchError):
    """Some attempts could not be measured; all that could be is kept."""

    exit_code = 5


class Malformed(RawpunchError):
    """Bytes or text that are not what they claim to be."""

    exit_code = 2
