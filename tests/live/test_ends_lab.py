"""The two kinds of ends against real kernels: what they send, what they report, and what stays silent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.scene import Nat, Scene, UnsolicitedAnswer
from rawpunch.study.bench import Done, LabBench, Planned
from rawpunch.study.experiment import Attempt
from rawpunch.study.measure import rows_of
from rawpunch.units import MS

pytestmark = pytest.mark.lab

ONE_WAY_NS = 10 * MS
TRIES = 8


@pytest.fixture(scope="module")
def bench() -> Iterator[LabBench]:
    """One bench for all tests of this file; each test chooses its scene."""
    with LabBench(11) as built:
        yield built


def _made(bench: LabBench, path: Path, *attempts: Attempt, answer: str = "drop") -> tuple[list[Done], pd.DataFrame]:
    """Make attempts; if the machine stalled, so that other cells happened than were planned, make them again."""
    scene = Scene.symmetric(ONE_WAY_NS, UnsolicitedAnswer(answer))
    bench.use(scene)
    for _ in range(TRIES):
        planned = [Planned(f"t{number}", "cell", {}, number, attempt) for number, attempt in enumerate(attempts)]
        recording = bench.make(planned, path / "part.pcapng")
        assert recording.dropped == 0
        rows = rows_of(recording, driver="lab", capture_name="part.pcapng", one_way_ns=scene.one_way_ns)
        if not any(row.disturbed for row in rows.attempts):
            return recording.done, read_capture(path / "part.pcapng")
    pytest.fail(f"the machine stalled in {TRIES} attempts of {TRIES}")


PAIRS = [(a, b) for a in ("kernel", "raw") for b in ("kernel", "raw")]


@pytest.mark.parametrize(("end_a", "end_b"), PAIRS)
def test_crossing_syns_make_one_connection(bench: LabBench, tmp_path: Path, end_a: str, end_b: str) -> None:
    """Both ends reach ESTABLISHED; on the wire are two SYNs and two SYN-ACKs, and a SYN-ACK keeps its SYN's ISN."""
    (done,), frame = _made(bench, tmp_path, Attempt(end_a, end_b))
    assert (done.a.ending, done.b.ending) == ("established", "established")
    for host in ("hostA:eth0", "hostB:eth0"):
        sent = frame[(frame.interface == host) & (frame.direction == "out")]
        kinds = sent.kind.value_counts()
        assert (kinds["SYN"], kinds["SYN-ACK"]) == (1, 1)
        assert sent[sent.kind == "SYN"].seq.iloc[0] == sent[sent.kind == "SYN-ACK"].seq.iloc[0]


@pytest.mark.parametrize(("end_a", "end_b"), PAIRS)
def test_the_kernel_of_a_raw_end_stays_silent(bench: LabBench, tmp_path: Path, end_a: str, end_b: str) -> None:
    """No RST leaves a host before the attempt is over: the guard keeps the kernel from answering for a raw end."""
    (done,), frame = _made(bench, tmp_path, Attempt(end_a, end_b))
    over = max(done.a.at_ns or 0, done.b.at_ns or 0)
    early = frame[frame.kind.str.startswith("RST") & (frame.time_ns < over)]
    assert early.empty


@pytest.mark.parametrize(("end_a", "end_b"), PAIRS)
def test_a_late_syn_through_resetting_nats_is_refused(bench: LabBench, tmp_path: Path, end_a: str, end_b: str) -> None:
    """B starts after A's SYN has arrived: natB resets, natA forgets, and both ends know that they were refused."""
    (done,), frame = _made(bench, tmp_path, Attempt(end_a, end_b, offset_ns=2 * ONE_WAY_NS), answer="rst")
    assert (done.a.ending, done.b.ending) == ("refused", "refused")
    first_rst = frame[frame.kind == "RST-ACK"].sort_values("time_ns").iloc[0]
    assert first_rst.interface == "natB:out"


@pytest.mark.parametrize("kind", ["kernel", "raw"])
def test_icmp_ends_an_opening(bench: LabBench, tmp_path: Path, kind: str) -> None:
    """A NAT that answers ICMP administratively prohibited makes the early end unreachable, not refused."""
    (done,), frame = _made(bench, tmp_path, Attempt(kind, kind, offset_ns=2 * ONE_WAY_NS), answer="icmp")
    assert done.a.ending == "unreachable"
    assert "ICMP 3/13" in set(frame.kind)


@pytest.mark.parametrize("kind", ["kernel", "raw"])
def test_an_end_without_an_answer_gives_up(bench: LabBench, tmp_path: Path, kind: str) -> None:
    """B starts only after A has given up: A retransmits, then times out, and says so."""
    attempt = Attempt(kind, "kernel", offset_ns=1_500 * MS, give_up_ns=1_300 * MS)
    (done,), frame = _made(bench, tmp_path, attempt)
    assert done.a.ending == "timed_out"
    syns = frame[(frame.interface == "hostA:eth0") & (frame.direction == "out") & (frame.kind == "SYN")]
    assert len(syns) == 2
    assert len(set(syns.seq)) == 1
    assert 900 * MS < syns.time_ns.diff().iloc[1] < 1_300 * MS


def test_a_taken_port_is_reported_not_raised(bench: LabBench, tmp_path: Path) -> None:
    """If the local port is in use, the end says so and the attempt is finished without it."""
    bench.use(Scene.symmetric(ONE_WAY_NS))
    code = f"import socket,time; s=socket.socket(); s.bind(('10.1.0.2', {20_000 + bench._ports})); s.listen(); time.sleep(3)"
    bench.lab.run("hostA", ["sh", "-c", f'{sys.executable} -c "{code}" >/dev/null 2>&1 & sleep 0.5'])
    attempts = (Attempt("raw", "kernel"), Attempt("kernel", "kernel"))
    planned = [Planned(f"t{number}", "cell", {}, number, attempt) for number, attempt in enumerate(attempts)]
    done = bench.make(planned, tmp_path / "part.pcapng").done
    assert done[0].a.ending == ""
    assert "in use" in done[0].a.cause
    assert done[1].a.ending == "established"


def test_a_raw_end_records_its_states(bench: LabBench, tmp_path: Path) -> None:
    """The transitions of a crossing are the table's: SYN-SENT, SYN-RECEIVED, ESTABLISHED, each with the row that fired."""
    (done,), _ = _made(bench, tmp_path, Attempt("raw", "raw"))
    for side in (done.a, done.b):
        assert [change["after"] for change in side.transitions] == ["SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "CLOSED"]
        assert all(change["rule"] for change in side.transitions)


@pytest.mark.parametrize("end_b", ["kernel", "handover"])
def test_a_handover_end_is_a_kernel_socket_in_the_end(bench: LabBench, tmp_path: Path, end_b: str) -> None:
    """Its transitions say when the kernel took over; TCP_INFO speaks for the rest, and the crossing looks like any other."""
    (done,), frame = _made(bench, tmp_path, Attempt("handover", end_b))
    assert (done.a.ending, done.b.ending) == ("established", "established")
    *opening, taken = [(change["rule"], change["after"]) for change in done.a.transitions]
    assert [after for _, after in opening] == ["SYN-SENT", "SYN-RECEIVED", "ESTABLISHED"]
    assert taken == ("handed_over", "ESTABLISHED")
    assert done.a.evidence["state"] == 1
    assert done.finish_ns is not None
    assert frame[frame.kind.str.startswith("RST") & (frame.time_ns < done.finish_ns)].empty


@pytest.mark.parametrize(("end_a", "end_b"), [("kernel", "raw"), ("handover", "kernel")])
def test_the_kernels_are_asked_for_their_sockets(bench: LabBench, tmp_path: Path, end_a: str, end_b: str) -> None:
    """While the connection is open each kernel has one at that port, or none where raw packets made the end; else nobody asks."""
    asked, other = _made(bench, tmp_path, Attempt(end_a, end_b, count_sockets=True), Attempt(end_a, end_b))[0]
    assert (asked.a.sockets, asked.b.sockets) == (end_a != "raw", end_b != "raw")
    assert (other.a.sockets, other.b.sockets) == (None, None)


def test_the_kernels_evidence_is_that_of_a_crossing(bench: LabBench, tmp_path: Path) -> None:
    """On Linux 6.12 and later TCP_INFO shows 3 segments each way and one DSACK; its rtt gives offset and delay, clock-free."""
    (done,), _ = _made(bench, tmp_path, Attempt(offset_ns=4 * MS))
    a, b = done.a.evidence, done.b.evidence
    assert (a["segs_out"], a["segs_in"], a["dsack_dups"]) == (3, 3, 1)
    offset_ns, one_way_ns = (b["rtt_ns"] - a["rtt_ns"]) / 2, (a["rtt_ns"] + b["rtt_ns"]) / 2
    assert abs(offset_ns - 4 * MS) < 2 * MS
    assert abs(one_way_ns - ONE_WAY_NS) < 2 * MS


def test_labs_of_other_cables_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scene that comes again finds its lab, its ends and its recording as they were left; else the oldest goes."""
    monkeypatch.setattr("rawpunch.study.bench._MOST_LABS", 2)
    through_nats, direct = (Scene.between(nat, nat, ONE_WAY_NS) for nat in (Nat(), None))
    half = Scene.between(Nat(), None, ONE_WAY_NS)
    with LabBench(12) as bench:
        pids = []
        for number, scene in enumerate([through_nats, direct, through_nats, half, direct]):
            bench.use(scene)
            pids.append(bench.lab.pid)
            recording = bench.make([Planned(f"t{number}", "cell", {}, number, Attempt())], tmp_path / f"{number}.pcapng")
            (done,) = recording.done
            assert (done.a.ending, done.b.ending, recording.dropped) == ("established", "established", 0)
            frame = read_capture(tmp_path / f"{number}.pcapng")
            ports = {done.a.order.local.port, done.b.order.local.port}
            assert set(frame.source_port) | set(frame.destination_port) == ports
    assert pids[2] == pids[0]
    assert len(set(pids)) == 4
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
