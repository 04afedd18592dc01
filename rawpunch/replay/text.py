"""Scripts written by hand, in the toolkit's notation, one segment a line with its time before it.

    # two SYNs that cross
    A = 10.1.0.2:4000
    B = 10.2.0.2:5000
    0       A > B  SYN      seq 1000000 <mss 1460>
    +5ms    B > A  SYN      seq 7000000 <mss 1460>
    +15ms   A > B  SYN-ACK  seq 1000000 ack 7000001
    +5ms    B > A  SYN-ACK  seq 7000000 ack 1000001

A time with a plus counts from the line before, one without from the start; a bare number is seconds. It is the instant at which
the segment is sent, and a segment that acknowledges something is not sent before that has come. What follows a # is a comment.
The names A and B are set by lines like those above, and stand for 10.1.0.2:4000 and 10.2.0.2:4000 where they are not; endpoints
may also be written out, the sender of the first line then being A.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from rawpunch.errors import BadParameter, Malformed, Unreadable
from rawpunch.record.pattern import Seen, View
from rawpunch.replay.script import Line, Script, Track, answers_by_numbers
from rawpunch.units import SECOND, parse_duration_ns
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.notation import format_segment, parse_segment
from rawpunch.wire.segment import Segment

_NAME: Final = re.compile(r"([AB])\s*=\s*(\S+)")
_LINE: Final = re.compile(r"(?P<plus>\+?)(?P<time>\d+(?:\.\d+)?(?:ns|us|ms|s|min|h)?)\s+(?P<segment>\S+ > \S+\s.*)")
_ENDS: Final = {"A": Endpoint("10.1.0.2", 4000), "B": Endpoint("10.2.0.2", 4000)}
_MAX_BYTES: Final = 1 << 20


def read_text(path: Path) -> Script:
    """The script in a file.

    Raises:
        Unreadable: it cannot be read, or is no text.
        Malformed: a line does not follow the notation; the message has its number.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Unreadable(f"{path} is too long for a script", why="it has more than 1 MB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path} cannot be read as a script", why=str(error)) from error
    return parse_text(text, name=path.name)


def parse_text(text: str, *, name: str = "script") -> Script:
    """The script in a text.

    Raises:
        Malformed: a line does not follow the notation, with its number; or there is no SYN, or more than two endpoints.
    """
    ends = dict(_ENDS)
    lines: list[tuple[int, int, Segment]] = []
    at_ns = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            if setting := _NAME.fullmatch(line):
                ends[setting[1]] = Endpoint.parse(setting[2])
                continue
            at_ns, segment = _parse(line, at_ns, ends)
        except (Malformed, BadParameter) as error:
            raise Malformed(
                f"{name}, line {number}: {error.what}",
                why=error.why,
                todo=error.todo or "write: +5ms A > B  SYN  seq 1000",
            ) from error
        if lines and at_ns < lines[-1][0]:
            raise Malformed(f"{name}, line {number}: its time lies before that of the line above", todo="order lines by time")
        if lines and {segment.source, segment.destination} != {lines[0][2].source, lines[0][2].destination}:
            raise Malformed(f"{name}, line {number}: {segment.flow} is another flow", why="a script has one flow")
        lines.append((at_ns, number, segment))
    if not any(segment.syn and not segment.rst for _, _, segment in lines):
        raise Malformed(f"{name} has no SYN", why="nothing says where its sequence numbers begin", todo="begin with a SYN")
    first = lines[0][2]
    a, b = (
        (ends["A"], ends["B"]) if {first.source, first.destination} == set(ends.values()) else (first.source, first.destination)
    )
    view = View(name, a, b, "", tuple(Seen(at, number, segment) for at, number, segment in lines))
    return Script(name, _track("a", a, b, lines), _track("b", b, a, lines), (view,))


def format_text(script: Script) -> str:
    """A script's segments as text, at the instants at which their own hosts sent them.

    Reading it again gives the same segments; what is lost are payload bytes, and what each host saw arrive.
    """
    lines = sorted((line.at_ns, side, line) for side, track in enumerate((script.a, script.b)) for line in track.sent)
    out = [f"A = {script.a.local}", f"B = {script.b.local}"]
    before_ns = lines[0][0] if lines else 0
    for at_ns, side, line in lines:
        if isinstance(line.packet, Segment):
            sender, receiver = ("A", "B") if side == 0 else ("B", "A")
            _, _, rest = format_segment(line.packet).partition(f"{line.packet.destination} ")
            out.append(f"+{at_ns - before_ns}ns  {sender} > {receiver} {rest}")
            before_ns = at_ns
    return "\n".join(out) + "\n"


def _parse(line: str, before_ns: int, ends: dict[str, Endpoint]) -> tuple[int, Segment]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise Malformed(f"{line!r} is not a time and a segment")
    time = found["time"]
    span_ns = round(float(time) * SECOND) if time[-1].isdigit() else parse_duration_ns(time)
    source, _, rest = found["segment"].partition(" > ")
    destination, _, tail = rest.partition(" ")
    spelt = [str(ends.get(word, word)) for word in (source, destination)]
    return before_ns + span_ns if found["plus"] else span_ns, parse_segment(f"{spelt[0]} > {spelt[1]} {tail}")


def _track(side: str, local: Endpoint, remote: Endpoint, lines: list[tuple[int, int, Segment]]) -> Track:
    own = [Line(at_ns, segment.source == local, segment, number) for at_ns, number, segment in lines]
    return Track("a" if side == "a" else "b", local, remote, tuple(answers_by_numbers(own, replies=False)), certain=False)


def is_text(path: Path) -> bool:
    """Whether a file looks like a script rather than a capture: its beginning is text.

    Raises:
        Unreadable: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read", why=str(error.strerror or error)) from error
    return bool(head) and all(octet >= 32 or octet in b"\t\n\r" for octet in head) and head.decode("utf-8", "ignore") != ""
