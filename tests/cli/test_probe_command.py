"""rawpunch probe as a user types it: what is refused before anything is built, what it prints, what it keeps, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.cli import app, probe_text
from rawpunch.errors import MachineCannot
from rawpunch.live import probing
from rawpunch.probe.report import Report
from rawpunch.study.probing import probe_in_sim, scene_for
from rawpunch.units import MS

SIM = ["--on", "sim", "--one-way", "5ms", "--seed", "3"]
NOWHERE = "127.0.0.1"


def call(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    """What a command line says on stdout and on stderr."""
    ended = app.main(["probe", *words])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert ended == code, told.err
    return told.out, told.err


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind((NOWHERE, 0))
        return int(sock.getsockname()[1])


# --- refused ---


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "nobody is named who could look from outside"),
        (["--on", "moon"], 2, "there is no driver 'moon'"),
        (["--on", "lab", "--observer", "x"], 2, "exclude each other"),
        (["--observer", "a,b,c"], 2, "not one or two hosts"),
        (["--observer", "no-such-host.invalid"], 2, "has no IPv4 address"),
        (["--observer", NOWHERE, "--nat-a", "full-cone"], 2, "--nat-a goes with --on only"),
        (["--observer", NOWHERE, "--truth"], 2, "--truth goes with --on only"),
        (["--observer", NOWHERE, "--inside", NOWHERE], 2, "is probed from anyway"),
        (["--on", "sim", "--nat-a", "cmd:true"], 2, "the simulator runs no programs"),
        (["--on", "sim", "--nat-a", "nobody"], 2, "no persona is called 'nobody'"),
        (["--on", "sim", "--nat-a", "none", "--truth"], 2, "there is no NAT to compare with"),
        (["--on", "sim", "--carrier", "full-cone", "--truth"], 2, "the truth is not known"),
        (["--on", "sim", "--one-way", "soon"], 2, "'soon' is not a duration"),
        (["--on", "sim", "--loss", "2"], 2, "loss"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str) -> None:
    """With what is wrong and what to do, and nothing on stdout."""
    out, err = call(capsys, *words, code=code)
    assert out == ""
    assert says in err


def test_without_raw_sockets_the_ways_out_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3: this machine, or this user, cannot."""

    def refused() -> None:
        raise MachineCannot("cannot open raw sockets", why="Operation not permitted")

    monkeypatch.setattr(probing, "RawPort", refused)
    _, err = call(capsys, "--observer", NOWHERE, code=3)
    assert "sudo" in err
    assert "--on lab" in err


def test_a_folder_with_a_report_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing that was found is written over."""
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    _, err = call(capsys, *SIM, "-o", str(tmp_path), code=2)
    assert "already" in err
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == "{}"


# --- what it says ---


def test_the_report_in_words_has_axes_requirements_and_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout, a line each; the talk is elsewhere."""
    out, err = call(capsys, *SIM, "--nat-a", "symmetric-sequential")
    assert re.search(r"^mapping +address and port dependent +\d+ +0\.\d+", out, re.MULTILINE)
    assert re.search(r"^port allocation +sequential \+1 ", out, re.MULTILINE)
    assert re.search(r"^REQ-1 +fail +mapping is", out, re.MULTILINE)
    assert "way out: 1 10.1.0.1 (private)" in out
    assert "seen from outside as 198.51.100.2" in out
    assert "seed 3" in err
    assert "probing" not in out


def test_the_json_is_one_document_of_the_form_that_was_promised(capsys: pytest.CaptureFixture[str]) -> None:
    """Classes by axis, requirements, findings with evidence, and how to do it again."""
    out, _ = call(capsys, *SIM, "--nat-a", "full-cone", "--json", "--truth")
    document: dict[str, Any] = json.loads(out)
    assert document["schema"] == "rawpunch.probe/1"
    assert document["mapping"]["class"] == "endpoint_independent"
    assert document["filtering"]["class"] == "endpoint_independent"
    assert document["port_allocation"]["class"] == "preserving"
    assert document["unsolicited_syn"]["answer"] in {"drop", "rst", "icmp"}
    assert document["rst_in_syn_sent"]["mapping"] in {"closed", "survives"}
    assert (document["crossing_syn"], document["terminates_tcp"]) == ("passes", False)
    assert {row["req"] for row in document["rfc5382"]} == {f"REQ-{number}" for number in range(1, 11)}
    assert document["findings"]["mapping"]["evidence"]
    assert document["seed"] == 3
    assert [row for row in document["truth"] if row["match"] == "wrong"] == []


def test_what_is_kept_has_the_packets_that_findings_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """report.json and probe.pcapng; the printed numbers are those of the packets in it."""
    folder = tmp_path / "found"
    out, _ = call(capsys, *SIM, "-o", str(folder))
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    frame = read_capture(folder / "probe.pcapng")
    assert list(frame.number) == list(range(1, document["packets"] + 1))
    evidence = document["findings"]["mapping"]["evidence"]
    assert f"#{evidence[0]}," in out
    named = frame[frame.number.isin(evidence)]
    assert set(named.interface) == {"inside", "observer"}
    assert "SYN" in set(named.kind)


def test_the_same_seed_gives_the_same_report(capsys: pytest.CaptureFixture[str]) -> None:
    """In the simulator to the octet."""
    first, _ = call(capsys, *SIM, "--nat-a", "carrier-grade-band", "--json")
    second, _ = call(capsys, *SIM, "--nat-a", "carrier-grade-band", "--json")
    assert first == second


def test_a_wrong_finding_ends_with_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For CI: the truth decides the exit code."""
    from rawpunch.probe import confusion  # noqa: PLC0415  replaced here only

    wrong = [confusion.Row("mapping", "address_dependent", "none", confusion.Match.WRONG)]
    monkeypatch.setattr(confusion, "compare", lambda *_: wrong)
    out, _ = call(capsys, *SIM, "--truth", code=1)
    assert re.search(r"^mapping +address_dependent +none +wrong", out, re.MULTILINE)


def test_a_probe_that_was_broken_off_is_reported_and_ends_with_five(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it found is printed first; the reason stands once, above, and not behind each axis."""
    from rawpunch.study import probing as study  # noqa: PLC0415  replaced here only

    probed = probe_in_sim(scene_for(None, one_way_ns=5 * MS), seed=1)
    findings = dict(probed.report.findings)
    why = "the probe was broken off: the observer is gone"
    findings["hairpin"] = findings["hairpin"].model_copy(update={"why": why})
    report = probed.report.model_copy(update={"broken_off": "the observer is gone", "findings": findings})
    broken = type(probed)(report, probed.packets, {"not taken here": 3}, probed.took_ns)
    monkeypatch.setattr(study, "probe_in_sim", lambda *_, **__: broken)
    out, err = call(capsys, *SIM, code=5)
    assert "broken off: the observer is gone" in out
    assert re.search(r"^hairpin .*the probe was broken off$", out, re.MULTILINE)
    assert "3 packets were not taken here" in err


def test_every_axis_has_words() -> None:
    """No underscore is left in what a person reads."""
    report: Report = probe_in_sim(scene_for(None, one_way_ns=5 * MS), seed=1).report
    for row in probe_text.rows(report, with_packets=True):
        assert "_" not in f"{row[0]}{row[1]}"


# --- against an observer ---


def test_an_observer_that_is_not_there_ends_with_five(capsys: pytest.CaptureFixture[str]) -> None:
    """Named with its port; without the right to raw sockets it does not come to that."""
    ended = app.main(["probe", "--observer", NOWHERE, "--port", str(free_port())])
    assert ended in {3, 5}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.lab
def test_a_probe_from_this_machine_over_the_loopback(tmp_path: Path) -> None:
    """An observer by its command, a probe by its command, in a network of their own: no NAT is there, and that is found."""
    script = f"""
ip link set dev lo up
{sys.executable} -m rawpunch.cli.app observe --address 127.0.0.1 --address 127.0.0.2 > {tmp_path}/observer &
observer=$!
while [ ! -s {tmp_path}/observer ]; do sleep 0.05; done
{sys.executable} -m rawpunch.cli.app probe --observer localhost,127.0.0.2 --inside 127.0.0.5 --json
code=$?
kill $observer
exit $code
"""
    command = ["unshare", "--user", "--map-root-user", "--net", "/bin/sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, err
    document = json.loads(out)
    assert document["mapping"]["class"] == "none"
    assert (document["inside_hosts"], document["observer_addresses"]) == (2, 2)
    assert document["addresses"] == ["127.0.0.1"]
