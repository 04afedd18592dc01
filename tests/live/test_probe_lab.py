"""The probe in the lab, through real packets and NATs of every make: what it says of them, and how it ends if things go wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.errors import LabBroken, PartialData
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.live.probe_run import Probed
from rawpunch.probe.confusion import Match, compare
from rawpunch.scene import EXTERNAL, Nat, Scene
from rawpunch.study import probing
from rawpunch.units import MS, SECOND

pytestmark = pytest.mark.lab

ONE_WAY_NS = 5 * MS
AT_ONCE = 6
"""Labs side by side: probes mostly wait."""
MASQUERADE = (
    "/usr/sbin/nft 'add table ip mine; add chain ip mine post { type nat hook postrouting priority srcnat; }; "
    "add rule ip mine post oifname out masquerade'"
)
AFTER_300_PACKETS = "while [ $(awk '$1 == \"out:\" {print $11}' /proc/net/dev) -lt 300 ]; do sleep 0.1; done"


@dataclass(frozen=True)
class Case:
    """A NAT and how it is made."""

    persona: str | None = "linux-masquerade"
    made: str = wiring.AUTO
    carrier: str | None = None
    loss: float = 0.0
    poor: bool = False
    """Whether the observer has one address and no raw sockets."""

    @property
    def nat(self) -> Nat | None:
        return Nat(persona=self.persona) if self.persona else None


CASES = {
    "masquerade by rules": Case(made=wiring.RULES),
    "masquerade by a box": Case(made=wiring.BOX),
    "symmetric by a program": Case(
        "symmetric-sequential", f"{wiring.PROGRAM}{sys.executable} -m rawpunch.lab.box_program symmetric-sequential"
    ),
    "full cone": Case("full-cone"),
    "rst sender": Case("rst-sender"),
    "no nat": Case(None),
    "proxy": Case(made=f"{wiring.PROGRAM}{sys.executable} {Path(__file__).with_name('tcp_proxy.py')}"),
    "loss": Case(loss=0.1),
    "two nats": Case(carrier="linux-masquerade-band"),
    "poor observer": Case("linux-sequential", wiring.RULES, poor=True),
    "dies": Case(made=f"{wiring.PROGRAM}{MASQUERADE}; {AFTER_300_PACKETS}; exit 7"),
    "never forwards": Case(made=f"{wiring.PROGRAM}sleep 60"),
}


def _scene(case: Case) -> Scene:
    carrier = Nat(persona=case.carrier) if case.carrier else None
    return probing.scene_for(case.nat, one_way_ns=ONE_WAY_NS, carrier=carrier, loss=case.loss)


def _probed(case: Case, capture: Path) -> Probed:
    with Lab(_scene(case), nats={"a": case.made}, seed=5) as lab:
        probing.observe(lab, addresses=1 if case.poor else 2, raw=not case.poor)
        return probing.probe_from(lab, seed=5, capture=capture)


@dataclass(frozen=True)
class Probes:
    """All probes of these tests, under way side by side."""

    folder: Path
    futures: dict[str, Future[Probed]]

    def of(self, name: str) -> Probed:
        """What came of one."""
        return self.futures[name].result(timeout=110)

    def capture(self, name: str) -> Path:
        """Its packets."""
        return self.folder / f"{name}.pcapng"


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probes]:
    """Each case, probed once."""
    folder = tmp_path_factory.mktemp("probes")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {name: pool.submit(_probed, case, folder / f"{name}.pcapng") for name, case in CASES.items()}
        yield Probes(folder, futures)


@pytest.mark.parametrize(
    "name", ["masquerade by rules", "masquerade by a box", "symmetric by a program", "full cone", "rst sender"]
)
def test_a_probe_finds_what_the_nat_was_told_to_be(probes: Probes, name: str) -> None:
    """Nothing is wrong; and next to nothing is undetermined, though the machine may stall now and then."""
    nat = CASES[name].nat
    assert nat is not None
    rows = compare(probes.of(name).report, nat.behavior)
    assert [row for row in rows if row.match is Match.WRONG] == []
    assert sum(row.match is Match.NOT_DETERMINED for row in rows) <= 2
    assert probes.of(name).report.broken_off == ""


def test_evidence_is_in_the_capture(probes: Probes) -> None:
    """The packets that a finding names are there: the SYNs of the mapping, inside with our port, outside with the mapped one."""
    probed = probes.of("rst sender")
    frame = read_capture(probes.capture("rst sender"))
    assert len(frame) == probed.packets
    assert list(frame.number) == list(range(1, probed.packets + 1))
    named = frame[frame.number.isin(probed.report.findings["mapping"].evidence)]
    assert set(named.interface) == {"inside", "observer"}
    syns = named[named.kind == "SYN"]
    assert set(syns[syns.interface == "observer"].source_address) == {EXTERNAL["a"]}
    answers = frame[frame.number.isin(probed.report.findings["unsolicited_syn"].evidence)]
    assert "RST-ACK" in set(answers.kind)


def test_no_nat_is_told_as_such(probes: Probes) -> None:
    """The observer sees the inside endpoint itself; RFC 5382 has nothing to say."""
    report = probes.of("no nat").report
    assert report.mapping.klass == "none"
    assert report.addresses == ["198.18.1.2"]
    assert {requirement.verdict.value for requirement in report.rfc5382} == {"not_tested"}


def test_a_proxy_that_terminates_tcp_is_named(probes: Probes) -> None:
    """And nothing is said of a NAT that could not be seen behind it."""
    report = probes.of("proxy").report
    assert report.terminates_tcp is True
    assert (report.mapping.klass, report.filtering.klass) == (None, None)


def test_loss_makes_no_finding_wrong(probes: Probes) -> None:
    """A tenth of the packets lost each way: what is said is right, and the loss is seen."""
    nat = CASES["loss"].nat
    assert nat is not None
    probed = probes.of("loss")
    rows = compare(probed.report, nat.behavior)
    assert [row for row in rows if row.match is Match.WRONG] == []
    assert sum(row.match is Match.RIGHT for row in rows) >= len(rows) // 2
    assert 0.05 < probed.report.loss_at_most < 0.5


def test_two_nats_in_a_row_are_seen(probes: Probes) -> None:
    """The mapping is what both make of it together, and the way out shows a second private network."""
    report = probes.of("two nats").report
    assert report.path.second_nat_likely is True
    assert report.port_allocation.klass == "banded"
    assert report.addresses == [EXTERNAL["a"]]


def test_an_observer_that_can_do_little_makes_no_finding_wrong(probes: Probes) -> None:
    """One address, no raw sockets: less is said, by what its kernel tells, and what is said is right."""
    nat = CASES["poor observer"].nat
    assert nat is not None
    report = probes.of("poor observer").report
    rows = compare(report, nat.behavior)
    assert [row for row in rows if row.match is Match.WRONG] == []
    assert (report.observer_addresses, report.observer_raw) == (1, False)
    assert report.port_allocation.klass == "sequential"
    assert report.rst_in_syn_sent.mapping is None


# --- when things go wrong ---


def test_an_observer_that_dies_leaves_what_was_found() -> None:
    """The rest is not determined and says why; it ends within seconds."""
    with Lab(_scene(CASES["masquerade by rules"])) as lab:
        observer = probing.observe(lab)
        died: list[float] = []

        def kill(packets: int) -> None:
            if packets > 250 and not died:
                died.append(time.monotonic())
                observer.close()

        report = probing.probe_from(lab, seed=1, told=kill).report
        assert time.monotonic() - died[0] < 30
    assert "gone" in report.broken_off
    assert report.terminates_tcp is False
    assert report.hairpin is None
    assert report.findings["hairpin"].why.startswith("the probe was broken off")


def test_a_nat_program_that_dies_is_named_with_what_was_found(probes: Probes) -> None:
    """The probe ends at once and reports; its forwarding went on, but nobody can vouch for it."""
    probed = probes.of("dies")
    assert "the NAT program in natA ended with status 7" in probed.report.broken_off
    assert probed.report.terminates_tcp is False
    assert probed.took_ns < 12 * SECOND


def test_a_nat_program_that_never_forwards_is_named(probes: Probes) -> None:
    """With what is known of it."""
    with pytest.raises(PartialData, match="nothing comes through the NAT program 'sleep 60'") as told:
        probes.of("never forwards")
    assert "the program runs" in told.value.why


def test_a_nat_program_that_dies_at_once_is_named() -> None:
    """Before the probe begins."""
    with pytest.raises(LabBroken, match="status 3"):
        probing.probe_in_lab(_scene(Case()), nats={"a": "cmd:exit 3"}, seed=1)
