"""Staging of programs that dial again: who dials what from when on, and the row that is made of what they tell."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.ending import Ending
from rawpunch.lab.lab import Lab
from rawpunch.record.rows import AttemptRow
from rawpunch.record.words import EndKind, Outcome, Pattern
from rawpunch.rng import stream
from rawpunch.scene import SIDES
from rawpunch.study.planned import Planned
from rawpunch.study.staged import MOST_TRIES, Dialling, Way
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint

_LOOPBACK: Final = "127.0.0.1"
_ARMING_NS: Final = 2 * MS
_SETTLE_NS: Final = 2 * MS
_LONGER_NS: Final = 1 * SECOND
"""How much longer A's patience is than B's, who begins last, and whose tries count."""
_FIRST_PORT: Final = 20_000
_PORTS: Final = 10_000
"""All below the ephemeral range."""
_FIRST_EPHEMERAL: Final = 32_768
_ENTRY: Final = "rawpunch.live.dialling:serve"


class Diallings:
    """Attempts of programs that dial again, in a lab, one after the other.

    Args:
        lab: where.
        seed: of what is drawn.
    """

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab = lab
        self._seed = seed
        self._made = 0
        self._programs: dict[tuple[str, int], Channel] = {}

    def make(self, planned: Planned, dialling: Dialling) -> AttemptRow:
        """Have the programs dial.

        Raises:
            LabBroken: a program's process is gone.
        """
        dice = stream(self._seed, "dialling", planned.name)
        at_ns = now_ns() + _ARMING_NS
        if dialling.way is Way.ITSELF:
            return self._itself(planned, dialling, at_ns, dice.randrange(dialling.ephemeral_ports // 2))
        port = _FIRST_PORT + 2 * (self._made % (_PORTS // 2))
        self._made += 1
        scene = self._lab.scene
        link = dialling.way is Way.LINK
        hosts = ("hostA", "hostB") if link else ("hostA", "hostA")
        ends = [Endpoint(scene.host_address(side) if link else _LOOPBACK, port + number) for number, side in enumerate(SIDES)]
        seen = [Endpoint(scene.public_address(side) if link else _LOOPBACK, port + number) for number, side in enumerate(SIDES)]
        a, b = programs = [self._program(host, place) for place, host in enumerate(hosts)]
        first = _words(dialling, ends[0], seen[1], at_ns)
        first["until_ns"] += _LONGER_NS
        first["most_tries"] = MOST_TRIES
        a.send({"dial": first | {"say_so": True}})
        began_ns = _told(a)["began_ns"]
        b_ns = now_ns() + _ARMING_NS + dice.randrange(dialling.lag_ns)
        b.send({"dial": _words(dialling, ends[1], seen[0], b_ns)})
        told = [_told(program) for program in reversed(programs)][::-1]
        time.sleep((sum(scene.one_way_ns) + _SETTLE_NS) / SECOND)  # the last segments
        evidence = [program.ask({"tell": True})["evidence"] for program in programs]
        for program in programs:
            program.ask({"close": True})
        return _row_of_two(planned, ends, seen, (began_ns, b_ns), told, evidence)

    def _itself(self, planned: Planned, dialling: Dialling, at_ns: int, place: int) -> AttemptRow:
        """One program, and a port of its range: an even one, for Linux gives those first (__inet_hash_connect)."""
        last = _FIRST_EPHEMERAL + dialling.ephemeral_ports - 1
        remote = Endpoint(_LOOPBACK, _FIRST_EPHEMERAL + 2 * place)
        program = self._program("hostA", 0)
        program.send({"dial": _words(dialling, None, remote, at_ns) | {"ports": [_FIRST_EPHEMERAL, last]}})
        told = _told(program)
        program.ask({"close": True})
        return _row_of_one(planned, remote, at_ns, told)

    def _program(self, host: str, place: int) -> Channel:
        """The process that dials on a host: the first or the second, each on a processor of its own."""
        if (host, place) not in self._programs:
            cpus = sorted(os.sched_getaffinity(0))
            channel = self._lab.start(host, _ENTRY, {"cpu": cpus[-1 if place else 0]})
            channel.receive()
            self._programs[host, place] = channel
        return self._programs[host, place]


def _words(dialling: Dialling, local: Endpoint | None, remote: Endpoint, at_ns: int) -> dict[str, Any]:
    return {
        "local": str(local) if local else "",
        "remote": str(remote),
        "anew": dialling.anew or local is None,
        "at_ns": at_ns,
        "until_ns": at_ns + dialling.give_up_ns,
        "most_tries": dialling.most_tries,
    }


def _told(program: Channel) -> dict[str, Any]:
    message, _ = program.receive()
    return message


def _row_of_two(
    planned: Planned,
    ends: list[Endpoint],
    seen: list[Endpoint],
    starts: tuple[int, int],
    told: list[dict[str, Any]],
    evidence: list[dict[str, int]],
) -> AttemptRow:
    *at_ends, pattern = patterns_of(told, evidence)
    columns: dict[str, Any] = {}
    for side, one, known, word, end, start_ns in zip("ab", told, evidence, at_ends, ends, starts, strict=True):
        columns |= {f"local_{side}": str(end), f"planned_{side}_ns": start_ns, f"pattern_{side}": word}
        columns |= _columns(side, one)
        if one.get("ending") == Ending.ESTABLISHED:
            columns |= {f"{name}_{side}": known[name] for name in ("segs_out", "segs_in", "dsack_dups")}
            columns[f"rtt_{side}_ns"] = known["rtt_ns"]
    outcome, cause = _outcome(told)
    return AttemptRow(
        **_names(planned),
        end_a=EndKind.DIALLING,
        end_b=EndKind.DIALLING,
        outcome=outcome,
        cause=cause,
        pattern=pattern,
        remote_a=str(seen[1]),
        remote_b=str(seen[0]),
        planned_offset_ns=starts[1] - starts[0],
        disturbed=_missed(told),
        **columns,
    )


def _row_of_one(planned: Planned, remote: Endpoint, at_ns: int, told: dict[str, Any]) -> AttemptRow:
    """A socket that is connected to itself is both ends; there is no other program."""
    outcome, cause = _outcome([told])
    itself = bool(told.get("itself"))
    return AttemptRow(
        **_names(planned),
        end_a=EndKind.UNBOUND,
        end_b=EndKind.UNBOUND if itself else EndKind.SILENT,
        outcome=outcome,
        cause=cause,
        pattern=Pattern.SELF_CONNECT
        if itself
        else Pattern.REFUSED
        if told.get("ending") == Ending.REFUSED
        else Pattern.UNANSWERED,
        local_a=told.get("local") or None,
        remote_a=str(remote),
        planned_a_ns=at_ns,
        disturbed=False,
        **_columns("a", told),
    )


def _names(planned: Planned) -> dict[str, Any]:
    return {"attempt": planned.name, "cell": planned.cell_name, "repeat": planned.repeat, "driver": "lab"}


def _columns(side: str, told: dict[str, Any]) -> dict[str, Any]:
    """What one program tells."""
    connected = told.get("ending") == Ending.ESTABLISHED
    return {
        f"outcome_{side}": told.get("ending"),
        f"tries_{side}": told.get("tries"),
        f"established_{side}_ns": told["ended_ns"] if connected else None,
        f"connect_{side}_ns": told["ended_ns"] - told["began_ns"] if connected else None,
    }


def _missed(told: list[dict[str, Any]]) -> bool:
    """Whether A had given up before B began, because the machine stalled.

    Nothing else makes an attempt a disturbed one: a stall in the middle makes the number of tries larger, and to leave out long
    attempts, which it is likelier to hit, would make the others look typical.
    """
    a, b = told
    return all("began_ns" in one for one in told) and a["ending"] != Ending.ESTABLISHED and a["ended_ns"] < b["began_ns"]


def _outcome(told: list[dict[str, Any]]) -> tuple[Outcome, str | None]:
    unable = [one["unable"] for one in told if "unable" in one]
    if unable:
        return Outcome.NOT_MEASURED, unable[0]
    failed = sorted((one for one in told if one["ending"] != Ending.ESTABLISHED), key=lambda one: one["ended_ns"])
    if not failed:
        return Outcome.ESTABLISHED, None
    cause = f"{failed[0]['cause']}, at the last of {failed[0]['tries']} tries"
    return Outcome.HALF_OPEN if len(failed) < len(told) else next(word for word in Outcome if word == failed[0]["ending"]), cause


def _pattern(told: dict[str, Any]) -> Pattern:
    """How the last try of one program failed."""
    match told.get("ending"):
        case Ending.REFUSED:
            return Pattern.REFUSED
        case Ending.RESET:
            return Pattern.RESET_MIDWAY
        case Ending.TIMED_OUT:
            return Pattern.UNANSWERED
    return Pattern.TRUNCATED


def patterns_of(told: list[dict[str, Any]], evidence: list[dict[str, int]]) -> tuple[Pattern, Pattern, Pattern]:
    """What happened at A, at B and between them, as far as the kernel's counters of the last try say.

    Nobody listens, so that each end that is connected has sent a SYN. If both got the other's SYN twice, the second time with an
    ACK, the SYNs crossed. If neither did, one of the SYNs was not heard; the end whose SYN was heard got one segment, the
    SYN-ACK, and the other end, which answered it, got more.
    """
    if any(one.get("ending") != Ending.ESTABLISHED for one in told):
        a, b = map(_pattern, told)
        return a, b, a if a == b else Pattern.TRUNCATED
    if all(known["dsack_dups"] for known in evidence):
        return Pattern.SIMULTANEOUS, Pattern.SIMULTANEOUS, Pattern.SIMULTANEOUS
    got = [known["segs_in"] for known in evidence]
    if not any(known["dsack_dups"] for known in evidence) and got.count(1) == 1:
        a, b = (Pattern.THREE_WAY if one == 1 else Pattern.HALF_SIMULTANEOUS for one in got)
        return a, b, Pattern.HALF_SIMULTANEOUS
    return Pattern.TRUNCATED, Pattern.TRUNCATED, Pattern.TRUNCATED
