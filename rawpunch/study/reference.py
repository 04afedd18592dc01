"""The reference captures: each wire pattern and outcome once, from kernel and raw ends, at all vantage points of the lab.

    python -m rawpunch.study.reference data/captures              # makes them anew, and their index
    python -m rawpunch.study.reference data/captures simultaneous # those of one pattern

A capture whose attempt a stall of the machine disturbed, so that something else happened than was planned, is made again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rawpunch.capture.blocks import Walk
from rawpunch.capture.classify import classify
from rawpunch.capture.pcapng import Interface, Recorded, write_pcapng
from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.errors import LabBroken
from rawpunch.live.end import Order
from rawpunch.record.words import Outcome, Pattern
from rawpunch.replay.text import parse_text
from rawpunch.rng import draw_seed
from rawpunch.scene import Nat, Scene, UnsolicitedAnswer
from rawpunch.study.bench import LabBench, Planned
from rawpunch.study.experiment import Attempt
from rawpunch.study.measure import rows_of
from rawpunch.study.replaying import Replay
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import PROTO_TCP
from rawpunch.wire.endpoint import Endpoint

ONE_WAY_NS: Final = 20 * MS
INDEX: Final = "README.md"

_TRIES: Final = 10
_ANSWER_NS: Final = MS
"""An end that takes longer than this to answer a SYN was stalled."""
_PROTOCOL_AT: Final = 23
"""Where in an Ethernet frame IPv4 names what it carries."""
_LOOPBACK: Final = "hostA:lo"
_PORT: Final = 4000
_LOSS: Final = """
table ip loss {
  chain forward {
    type filter hook forward priority raw; policy accept;
    iifname "a" tcp flags & (syn | ack) == ack drop
  }
}
"""
"""The core loses what A sends after its SYN."""

_SPLIT: Final = """
0      A > B  SYN      seq 1000000000 <mss 1460>
+22ms  B > A  SYN      seq 3000000000 <mss 1460>
+20ms  A > B  SYN-ACK  seq 1000000000 ack 3000000001 <mss 1460>
+24ms  B > A  ACK      seq 3000000001 ack 1000000001
"""
"""B answers a SYN with a SYN. Its segments leave by the clock, a little later than what they answer comes."""
_RESET: Final = """
0      A > B  SYN      seq 1000000000 <mss 1460>
+0ms   B > A  SYN      seq 3000000000 <mss 1460>
+20ms  A > B  SYN-ACK  seq 1000000000 ack 3000000001 <mss 1460>
+24ms  B > A  RST      seq 3000000001
"""
"""B resets where its SYN-ACK is due."""


Maker = Callable[[LabBench, Path], bool]
"""Makes one in the lab and writes what was recorded; whether no stall of the machine disturbed it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference capture."""

    name: str
    pattern: Pattern
    outcome: Outcome | None
    ends: str
    what: str
    """How it came about."""
    make: Maker

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.name}.pcapng"


def make_all(folder: Path, *, only: str = "", seed: int | None = None) -> Iterator[Reference]:
    """Make the captures in the lab, and then the index.

    Args:
        folder: where they go.
        only: a pattern; all by default.
        seed: of initial sequence numbers; drawn if absent.

    Yields:
        Each capture that was made.

    Raises:
        MachineCannot: this machine cannot build the lab.
        LabBroken: a capture did not become what it should, however often it was tried.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with LabBench(draw_seed() if seed is None else seed) as bench:
        for reference in REFERENCES:
            if only in ("", reference.pattern):
                make(reference, bench, folder)
                yield reference
    (folder / INDEX).write_text(index(folder), encoding="utf-8")


def make(reference: Reference, bench: LabBench, folder: Path) -> None:
    """Make one capture, again and again until it shows what it is to show.

    Raises:
        LabBroken: it never did.
    """
    with tempfile.TemporaryDirectory(prefix="rawpunch-") as scratch:
        for _ in range(_TRIES):
            recorded = Path(scratch) / "recorded.pcapng"
            undisturbed = reference.make(bench, recorded)
            found = classify(recorded).rows()
            told = [(row["pattern"], row["outcome"]) for row in found]
            if undisturbed and told == [(reference.pattern, reference.outcome)]:
                rewrite(recorded, folder / reference.file, comment=f"{reference.pattern}, {reference.ends}: {reference.what}")
                return
    came = "; ".join(f"{row['flow']}: {row['pattern']}, {row['outcome']}" for row in found)
    why = f"it was{' not' * undisturbed} disturbed, and {came or 'nothing'} was recorded"
    raise LabBroken(f"{reference.name} could not be made in {_TRIES} tries", why=why, todo="try again on an idle machine")


def rewrite(source: Path, target: Path, *, comment: str, keep: Callable[[Recorded], bool] = lambda _: True) -> None:
    """Write some packets of a capture anew, all its interfaces kept."""
    walk = Walk(source)
    packets = [
        Recorded(
            int(piece.time_ns[i]),
            int(piece.interface[i]),
            piece.data[piece.at[i] : piece.at[i] + piece.captured[i]].tobytes(),
            int(piece.original[i]),
            (None, False, True)[piece.direction[i]],
        )
        for piece in walk.pieces()
        for i in range(len(piece.at))
    ]
    interfaces = [Interface(each.name, each.link_type) for each in walk.findings.interfaces]
    write_pcapng(target, interfaces, [packet for packet in packets if keep(packet)], comment=comment)


# --- how they are made ---


def _scene(answer: UnsolicitedAnswer = UnsolicitedAnswer.DROP, *, open_b: bool = False) -> Scene:
    """Two NATs of that answer; B without one where it is to be called."""
    scene = Scene.symmetric(ONE_WAY_NS, answer)
    return scene.model_copy(update={"nat_b": None, "nat_a": Nat(unsolicited=answer)}) if open_b else scene


def _attempt(scene: Scene, attempt: Attempt) -> Maker:
    def make(bench: LabBench, path: Path) -> bool:
        bench.use(scene)
        recording = bench.make([Planned("reference", "reference", {}, 0, attempt)], path)
        (row,) = rows_of(recording, driver=bench.name, capture_name="", one_way_ns=scene.nat_to_nat_ns).attempts
        answers_ns = (row.syn_ack_delay_a_ns or 0, row.syn_ack_delay_b_ns or 0)
        return not row.disturbed and max(answers_ns) < _ANSWER_NS

    return make


def _played(scene: Scene, text: str, sides: str) -> Maker:
    def make(bench: LabBench, path: Path) -> bool:
        with tempfile.TemporaryDirectory(prefix="rawpunch-") as folder:
            return _attempt(scene, Replay(parse_text(text), sides).attempt(Path(folder)))(bench, path)

    return make


def _with_loss(scene: Scene, attempt: Attempt) -> Maker:
    def make(bench: LabBench, path: Path) -> bool:
        bench.use(scene)
        bench.lab.run("core", ["nft", "-f", "-"], _LOSS)
        try:
            return _attempt(scene, attempt)(bench, path)
        finally:
            bench.lab.run("core", ["nft", "delete", "table", "ip", "loss"])

    return make


def _cut(scene: Scene, attempt: Attempt, *, begins: bool) -> Maker:
    """The part of a recording before or behind the instant at which the SYN-ACK is half way."""

    def make(bench: LabBench, path: Path) -> bool:
        whole = path.with_name("whole.pcapng")
        undisturbed = _attempt(scene, attempt)(bench, whole)
        frame = classify(whole).packets_of(0)
        half_ns = int(frame["time_ns"][frame["kind"] == "SYN-ACK"].min()) + ONE_WAY_NS // 4
        rewrite(whole, path, comment="", keep=lambda packet: (packet.time_ns >= half_ns) == begins)
        return undisturbed

    return make


def _itself(kind: str) -> Maker:
    """An end of host A that calls itself, recorded on the loopback device."""

    def make(bench: LabBench, path: Path) -> bool:
        bench.use(_scene())
        lab = bench.lab
        own = Endpoint(lab.scene.host_address("a"), _PORT)
        with _worker(bench, "hostA", "rawpunch.live.worker:serve", {}) as host:
            vantages = {"vantages": {_LOOPBACK: lab.nodes["hostA"]}}
            with _worker(bench, "core", "rawpunch.lab.recorder:serve", vantages) as recorder:
                at_ns = now_ns() + 200 * MS
                order = Order(
                    attempt="self",
                    kind=kind,
                    local=own,
                    remote=own,
                    at_ns=at_ns,
                    give_up_ns=at_ns + SECOND,
                    iss=1 << 30,
                    profile="linux",
                )
                host.send({"order": order.to_message()})
                host.receive()
                host.ask({"finish": "self"})
                both = path.with_name("both.pcapng")
                recorder.ask({"flush": str(both), "comment": ""})
        # the loopback shows each packet twice, leaving and coming, and what the worker sends itself to keep warm
        rewrite(both, path, comment="", keep=lambda packet: packet.outgoing is True and packet.data[_PROTOCOL_AT] == PROTO_TCP)
        return True

    return make


@contextmanager
def _worker(bench: LabBench, node: str, entry: str, arguments: dict[str, dict[str, int]]) -> Iterator[Channel]:
    channel = bench.lab.start(node, entry, arguments)
    try:
        channel.receive()
        yield channel
    finally:
        channel.close()


# --- what there is ---


def _references() -> Iterator[Reference]:
    late = 2 * ONE_WAY_NS
    for ends in ("kernel-kernel", "raw-kernel", "raw-raw"):
        a, b = ends.split("-")
        both = Attempt(end_a=a, end_b=b)
        yield Reference(
            f"simultaneous-{ends}",
            Pattern.SIMULTANEOUS,
            Outcome.ESTABLISHED,
            ends,
            "both dial at once, through silent NATs",
            _attempt(_scene(), both),
        )
    for ends in ("kernel-kernel", "raw-raw"):
        a, b = ends.split("-")
        dial = Attempt(end_a=a, end_b=b, offset_ns=late)
        for pattern, outcome, answer, what in (
            (Pattern.HALF_SIMULTANEOUS, Outcome.ESTABLISHED, UnsolicitedAnswer.DROP, "a silent NAT drops A's SYN"),
            (Pattern.REFUSED, Outcome.REFUSED, UnsolicitedAnswer.RST, "B's NAT answers A's SYN with a RST, then A's NAT B's"),
            (Pattern.ICMP_ENDED, Outcome.UNREACHABLE, UnsolicitedAnswer.ICMP, "B's NAT answers A's SYN with an ICMP error"),
        ):
            yield Reference(
                f"{pattern}-{ends}",
                pattern,
                outcome,
                ends,
                f"B dials two one-way delays late; {what}",
                _attempt(_scene(answer), dial),
            )
    for kind in ("kernel", "raw"):
        call = Attempt(end_a=kind, end_b="listening", give_up_ns=3 * SECOND // 2)
        ends = f"{kind}-kernel"
        yield Reference(
            f"three_way-{ends}",
            Pattern.THREE_WAY,
            Outcome.ESTABLISHED,
            ends,
            "A calls a listening socket",
            _attempt(_scene(open_b=True), call),
        )
        yield Reference(
            f"three_way-half_open-{ends}",
            Pattern.THREE_WAY,
            Outcome.HALF_OPEN,
            ends,
            "A calls a listening socket; everything that A sends after its SYN is lost in the core",
            _with_loss(_scene(open_b=True), call),
        )
        yield Reference(
            f"unanswered-{ends}",
            Pattern.UNANSWERED,
            Outcome.TIMED_OUT,
            ends,
            "A calls a listening socket behind a silent NAT, and gives up after 1.5 s",
            _attempt(_scene(), call),
        )
        yield Reference(
            f"split-{kind}-raw",
            Pattern.SPLIT,
            Outcome.ESTABLISHED,
            f"{kind}-raw",
            "A calls; B answers the SYN with a SYN of its own",
            _played(_scene(open_b=True), _SPLIT, "b" if kind == "kernel" else "ab"),
        )
        yield Reference(
            f"reset_midway-{kind}-raw",
            Pattern.RESET_MIDWAY,
            Outcome.RESET,
            f"{kind}-raw",
            "both dial at once; B answers A's SYN-ACK with a RST",
            _played(_scene(), _RESET, "b" if kind == "kernel" else "ab"),
        )
        yield Reference(
            f"self_connect-{kind}",
            Pattern.SELF_CONNECT,
            Outcome.ESTABLISHED,
            kind,
            "A calls its own endpoint; recorded on the loopback device",
            _itself(kind),
        )
    given_up = Attempt(end_a="kernel", end_b="listening", offset_ns=5 * ONE_WAY_NS, give_up_ns=ONE_WAY_NS // 2)
    yield Reference(
        "reset_midway-kernel-kernel",
        Pattern.RESET_MIDWAY,
        Outcome.RESET,
        "kernel-kernel",
        "A calls a listening socket and closes before the SYN-ACK comes, which its kernel then resets",
        _attempt(_scene(open_b=True), given_up),
    )
    call = Attempt(end_a="kernel", end_b="listening")
    for begins, name, what in (
        (False, "ends-inside", "the recording ends while the SYN-ACK is on its way"),
        (True, "begins-inside", "the recording begins while the SYN-ACK is on its way"),
    ):
        yield Reference(
            f"truncated-{name}",
            Pattern.TRUNCATED,
            None,
            "kernel-kernel",
            f"A calls a listening socket; {what}",
            _cut(_scene(open_b=True), call, begins=begins),
        )


REFERENCES: Final = tuple(_references())


# --- their index ---


def index(folder: Path) -> str:
    """The text of the index: what is said of each capture, made by classifying it."""
    lines = [
        "# Reference captures",
        "",
        "Handshakes of the lab, one attempt in each file, seen at all its vantage points: each wire pattern and outcome, from",
        "kernel sockets and from raw ends. Nanoseconds; the interfaces are the vantage points; Wireshark opens them as they are.",
        f"The one-way delay is {ONE_WAY_NS // MS} ms. What follows an open is its closing: a RST from each end.",
        "",
        "This file is made from what `rawpunch classify` says of them:",
        "`./dev run python -m rawpunch.study.reference data/captures` makes all anew.",
        "",
        "| file | pattern | outcome | ends | SYN | SYN-ACK | RST | ICMP | segments | decided by | how |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for reference in REFERENCES:
        (row,) = classify(folder / reference.file).rows()
        counts = [row[name] for name in ("syn", "syn_ack", "rst", "icmp_errors", "segments")]
        cells = [
            reference.file,
            row["pattern"],
            row["outcome"] or "-",
            reference.ends,
            *counts,
            row["decided_by"] or "-",
            reference.what,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the captures in the folder that the command line names."""
    folder, only = Path(sys.argv[1]), "".join(sys.argv[2:3])
    for reference in make_all(folder, only=only):
        sys.stderr.write(f"{reference.name}\n")


if __name__ == "__main__":
    main()
