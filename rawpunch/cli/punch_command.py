"""rawpunch punch: a direct connection with a peer behind another NAT, for a chat, a pipe or a command."""

from __future__ import annotations

import json as codec
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rawpunch.cli import output
from rawpunch.cli.head_start import PORT, Line, under_way
from rawpunch.cli.hosts import resolved
from rawpunch.cli.run_command import JsonOption
from rawpunch.errors import BadParameter, NoConnection, Unreadable, UsageError

if TYPE_CHECKING:
    from rawpunch.live.connecting import Method
    from rawpunch.live.meeting import Met
    from rawpunch.live.punch_log import PunchLog
    from rawpunch.live.punching import Begun, Punched
    from rawpunch.punch.rendezvous import Finding
    from rawpunch.wire.endpoint import Endpoint

SCHEMA = "rawpunch.punch/1"

EXAMPLES = (
    "rawpunch punch --rendezvous meet.example.org --room correct-horse --chat",
    "rawpunch punch --rendezvous 192.0.2.2 --room correct-horse < letter.txt",
    "rawpunch punch --rendezvous 192.0.2.2:7800 --room correct-horse --kernel --exec 'tar xf -'",
    "rawpunch punch --rendezvous 192.0.2.2 --room correct-horse --findings found --explain --json",
    "rawpunch punch --rendezvous 192.0.2.2 --room correct-horse --findings found --accept-spray 2048 --policy consented.toml",
    "rawpunch punch --peer 203.0.113.2:4000 --local-port 4000 --room correct-horse --at 18:30:00",
    "rawpunch punch --peer 203.0.113.2:4000 --local-port 4000 --room correct-horse --retries 20",
)

_WAIT_S: Final = 60.0
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d):([0-5]\d(?:\.\d{1,9})?)")
_DAY_S: Final = 86_400
_ALIGNED_TRIES: Final = 3


def command(
    room: Annotated[str, typer.Option(metavar="TOKEN", help="What both sides know and nobody else; the server learns a digest.")],
    rendezvous: Annotated[str, typer.Option(metavar="HOST[:PORT]", help="Where `rawpunch rendezvous` runs.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Open by raw packets, and hand over to the kernel.")] = False,
    kernel: Annotated[bool, typer.Option("--kernel", help="Open by the kernel's connect(); takes no privilege.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Raw where that is possible, else kernel; this is the default.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Talk line by line.")] = False,
    pipe: Annotated[bool, typer.Option("--pipe", help="Carry stdin and stdout, as nc does; this is the default.")] = False,
    execute: Annotated[
        str, typer.Option("--exec", metavar="CMD", help="Run a command with the connection as stdin/stdout.")
    ] = "",
    peer: Annotated[str, typer.Option(metavar="HOST:PORT", help="Without a server: the peer's public endpoint.")] = "",
    local_port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to punch from; 0 for any free one.")] = 0,
    at: Annotated[str, typer.Option(metavar="HH:MM:SS", help="With --peer: begin at this time of day, on both sides.")] = "",
    retries: Annotated[int, typer.Option(min=0, max=10_000, help="With --peer: try that often, 3 s each.")] = 0,
    findings: Annotated[
        Path | None, typer.Option(help="Report of `rawpunch probe -o`, or its folder: what NAT is in front of this side.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0.1, max=86_400, help="How many seconds to wait for the other side.")] = _WAIT_S,
    accept_spray: Annotated[
        int,
        typer.Option(
            min=0,
            max=2_048,
            metavar="SYNS",
            help="How many the other side may send to our public address in a spray.",
        ),
    ] = 0,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file; it has to name the other side's address before we spray it.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say the plan in words before it is carried out.")] = False,
    json: JsonOption = False,
) -> None:
    """Connect directly with a peer behind another NAT: the server only introduces the two, and no data pass it.

    Both sides start this with the same token. Who is at the other end proves to know it before a byte goes on.
    """
    import shlex
    import shutil

    from rawpunch.live.punch_log import PunchLog
    from rawpunch.live.punching import begin

    method = _method(raw=raw, kernel=kernel, auto=auto)
    if sum((chat, pipe, bool(execute), json)) > 1:
        raise BadParameter("--chat, --pipe, --exec and --json exclude each other", todo="choose one")
    _check_way(rendezvous, peer, aimed=bool(local_port), timed=bool(at) + bool(retries), sprayed=bool(accept_spray or policy))
    if not room:
        raise BadParameter("the room's token is empty", todo="give both sides the same --room, and nobody else")
    try:
        words = shlex.split(execute)
    except ValueError as error:
        raise BadParameter(f"--exec {execute!r} is no command", why=str(error)) from error
    if execute and (not words or shutil.which(words[0]) is None):
        raise UsageError(f"cannot run {execute!r}", why="there is no such command")
    known = read_findings(findings) if findings is not None else {}
    _check_policy(policy)
    usual = (local_port, findings, wait, accept_spray, policy, explain) == (0, None, _WAIT_S, 0, None, False)
    ahead = under_way(Line(rendezvous, room, method)) if usual else None
    with ahead.log if ahead else PunchLog(output.say, packets=True) as log:
        try:
            if ahead:
                far, punched = ahead.far, ahead.take()
            elif peer:
                far, at_ns = resolved(peer, None)[0], _instant(at) if at else None
                punched = _alone(far, room, local_port, retries or _ALIGNED_TRIES, at_ns, method, log)
            else:
                far = resolved(rendezvous, PORT)[0]
                begun = begin(far, local_port=local_port, method=method, log=log)
                how: dict[str, Any] = {"findings": known, "wait_s": wait, "accept_spray": accept_spray, "policy": policy}
                punched = _introduced(begun, room, explain=explain, **how)
        except NoConnection:
            _show_ladder(log, None if peer else ahead.far if ahead else far)
            raise
        output.say(f"connected from {punched.won.local} to {punched.won.remote}, {_how(punched)}")
    if json:
        output.document(SCHEMA, _document(punched))
        punched.won.sock.close()
        return
    _use(punched, chat=chat, execute=execute)


def _check_way(rendezvous: str, peer: str, *, aimed: bool, timed: int, sprayed: bool) -> None:
    """Either with a server or without, and what goes with that.

    Args:
        rendezvous: the server, if one is given.
        peer: the peer's endpoint, if it is given.
        aimed: whether a local port is.
        timed: how many of --at and --retries are.
        sprayed: whether anything is said about sprays.
    """
    if bool(rendezvous) is bool(peer):
        raise UsageError("either --rendezvous or --peer has to be given", todo="rawpunch punch --help has examples")
    if peer and (not aimed or timed != 1):
        raise UsageError("--peer needs --local-port, and one of --at and --retries", todo="rawpunch punch --help has examples")
    if peer and sprayed:
        raise UsageError("--accept-spray and --policy go with --rendezvous", todo="without a server nothing is sprayed")
    if not peer and timed:
        raise UsageError("--at and --retries go with --peer", todo="the rendezvous server says when to begin")


def _method(*, raw: bool, kernel: bool, auto: bool) -> Method:
    if raw + kernel + auto > 1:
        raise BadParameter("--raw, --kernel and --auto exclude each other", todo="choose one")
    return "raw" if raw else "kernel" if kernel else "auto"


def _introduced(begun: Begun, room: str, *, explain: bool, **how: Any) -> Punched:
    import asyncio

    from rawpunch.live.punching import punch

    def planned(met: Met) -> None:
        if explain:
            output.complain(f"the plan; our side is {met.side.upper()}\n{met.plan.explain()}")

    return asyncio.run(punch(begun, room, planned=planned, **how))


def _alone(peer: Endpoint, room: str, local_port: int, tries: int, at_ns: int | None, method: Method, log: PunchLog) -> Punched:
    import asyncio

    from rawpunch.live.punching import punch_at

    return asyncio.run(punch_at(peer, room, local_port=local_port, tries=tries, at_ns=at_ns, method=method, log=log))


def _use(punched: Punched, *, chat: bool, execute: str) -> None:
    from rawpunch.live import piping

    sock = punched.won.sock
    with sock:
        if execute:
            code = piping.execute(sock, execute)
            output.say(f"{execute!r} ended with {code}")
            if code:
                raise typer.Exit(1)
            return
        if chat:
            output.say("say something; Ctrl-D ends it")
            lines = piping.Lines("peer: ")
            carried = piping.pipe(sock, shown=lines.shown, until_either=True)
        else:
            carried = piping.pipe(sock, until_either=sys.stdin.isatty())
    output.say(f"over: {carried.sent} octets went, {carried.received} came")


# --- what is said ---


def _how(punched: Punched) -> str:
    won, step = punched.won, punched.slot.step
    method = won.method + (f", as raw is not possible: {won.why}" if won.why else "")
    return f"{step.strategy.replace('_', ' ')}, try {punched.slot.number}, {method}; the peer has proved itself"


def _document(punched: Punched) -> dict[str, Any]:
    won, step, timing = punched.won, punched.slot.step, punched.timing
    times = {name: getattr(timing, name) for name in ("registered_ns", "introduced_ns", "start_ns", "opened_ns", "proved_ns")}
    return {
        "local": str(won.local),
        "remote": str(won.remote),
        "you": str(punched.you) if punched.you else None,
        "method": won.method,
        "why_not_raw": won.why or None,
        "strategy": step.strategy,
        "certainty": step.certainty,
        "odds": step.overall,
        "try": punched.slot.number,
        "predicted": punched.plan.predicted.strategy if punched.plan else None,
        "after_begin_ns": {name: at - timing.began_ns if at is not None else None for name, at in times.items()},
    }


def _show_ladder(log: PunchLog, server: Endpoint | None) -> None:
    from rawpunch.live.punch_ladder import ladder

    output.say("what was seen:")
    for line in ladder(log, without=server):
        output.say(line)
    if not log.has_packets:
        output.say("(packets are seen by who may open packet sockets: CAP_NET_RAW)")


# --- what is given ---


def read_findings(path: Path) -> dict[str, Finding]:
    """What a plan needs of a probe's report.

    Raises:
        Unreadable: it is none.
    """
    from rawpunch.live.registering import finding_of

    file = path / "report.json" if path.is_dir() else path
    try:
        document = codec.loads(file.read_text(encoding="utf-8"))
        report = document.get("report", document)
        return {axis: finding_of(found) for axis, found in report["findings"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, BadParameter) as error:
        why = getattr(error, "strerror", None) or (f"no {error}" if isinstance(error, KeyError) else str(error))
        raise Unreadable(f"{file} is no report of a probe", why=why, todo="rawpunch probe -o FOLDER writes one") from error


def _check_policy(path: Path | None) -> None:
    """Say what is wrong with it before anybody waits."""
    if path is not None:
        from rawpunch.live.policy import read_policy

        read_policy(path)


def _instant(text: str) -> int:
    """The next instant that a clock shows this time of day, in ns since the epoch.

    Raises:
        BadParameter: it is no time of day.
    """
    import datetime as dt

    found = _CLOCK.fullmatch(text)
    if found is None:
        raise BadParameter(f"{text!r} is no time of day", todo="write HH:MM:SS, by the clock of this machine")
    now = dt.datetime.now().astimezone()
    seconds = float(found[3])
    then = now.replace(hour=int(found[1]), minute=int(found[2]), second=int(seconds), microsecond=round(seconds % 1 * 1e6))
    if then <= now:
        then += dt.timedelta(seconds=_DAY_S)
    output.say(f"beginning at {then.isoformat(timespec='seconds')}, in {(then - now).total_seconds():.0f} s")
    return round(then.timestamp() * 1e9)
