"""Findings to verdicts: each requirement passes and fails for its own reason, and nothing is judged that was not found."""

from __future__ import annotations

from typing import Any

import pytest

from rawpunch.probe.facts import Facts, Tally
from rawpunch.probe.finding import Finding, Status, agreed, found, passes, undetermined, untested
from rawpunch.probe.inference import conclude
from rawpunch.probe.report import report_of
from rawpunch.probe.rfc5382 import Verdict, judge
from rawpunch.units import SECOND

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "mapping": ("endpoint_independent", {}),
    "filtering": ("address_dependent", {}),
    "unsolicited_syn": ("icmp", {"delay_ns": 6_100_000_000, "icmp_codes": [3]}),
    "crossing_syn": ("passes", {}),
    "syn_ack_out": ("after_syn", {}),
    "overloading": ("false", {}),
    "hairpin": ("true", {"source": "external_source"}),
    "icmp_translated": ("translated", {}),
    "icmp_in_syn_sent": ("survives", {}),
    "syn_timer": ("lasts", {"at_least_ns": 250 * SECOND, "at_most_ns": None}),
    "established_timer": ("lasts", {"at_least_ns": 7_500 * SECOND, "at_most_ns": None}),
}


def findings(**changed: tuple[str, dict[str, Any]] | Finding) -> dict[str, Finding]:
    """Those of a model pupil, some changed."""
    rows = {axis: found(klass, 3, 1, [1], **detail) for axis, (klass, detail) in GOOD.items()}
    for axis, change in changed.items():
        rows[axis] = change if isinstance(change, Finding) else found(change[0], 3, 1, [1], **change[1])
    return rows


def verdict(req: str, rows: dict[str, Finding]) -> tuple[Verdict, str]:
    """That of one requirement, and why."""
    return next((one.verdict, one.why) for one in judge(rows) if one.req == req)


def test_a_model_pupil_passes_all_that_is_tested() -> None:
    """All but REQ-6, which is about application gateways."""
    assert {one.req: one.verdict for one in judge(findings())} == {f"REQ-{n}": Verdict.PASS for n in range(1, 11)} | {
        "REQ-6": Verdict.NOT_TESTED
    }


@pytest.mark.parametrize(
    ("req", "axis", "change", "why"),
    [
        ("REQ-1", "mapping", ("per_connection", {}), "per connection"),
        ("REQ-2", "crossing_syn", ("poisons", {}), "simultaneous open"),
        ("REQ-2", "syn_ack_out", ("never", {}), "simultaneous open"),
        ("REQ-3", "filtering", ("address_and_port_dependent", {}), "address and port dependent"),
        ("REQ-4", "unsolicited_syn", ("rst", {"delay_ns": 40_000_000, "icmp_codes": []}), "by RST after 40 ms, not 6 s"),
        ("REQ-4", "unsolicited_syn", ("rst", {"delay_ns": 6_100_000_000, "icmp_codes": []}), "not by ICMP port unreachable"),
        ("REQ-4", "unsolicited_syn", ("icmp", {"delay_ns": 6_100_000_000, "icmp_codes": [13]}), "not by ICMP port unreachable"),
        ("REQ-5", "syn_timer", ("expires", {"at_least_ns": SECOND, "at_most_ns": 60 * SECOND}), "60 s, not 4 min"),
        ("REQ-5", "established_timer", ("expires", {"at_least_ns": SECOND, "at_most_ns": 60 * SECOND}), "60 s, not 2 h 4 min"),
        ("REQ-7", "overloading", ("true", {}), "one external port at once"),
        ("REQ-8", "hairpin", ("false", {}), "not reached"),
        ("REQ-8", "hairpin", ("true", {"source": "internal_source"}), "REQ-8a"),
        ("REQ-9", "icmp_translated", ("dropped", {}), "dropped"),
        ("REQ-10", "icmp_in_syn_sent", ("closed", {}), "closed"),
    ],
)
def test_each_requirement_fails_for_its_own_reason(req: str, axis: str, change: tuple[str, dict[str, Any]], why: str) -> None:
    """And says it."""
    told = verdict(req, findings(**{axis: change}))
    assert told[0] is Verdict.FAIL
    assert why in told[1]


def test_silence_towards_an_unsolicited_syn_passes() -> None:
    """REQ-4a allows it."""
    assert verdict("REQ-4", findings(unsolicited_syn=("drop", {})))[0] is Verdict.PASS


@pytest.mark.parametrize("axis", ["mapping", "filtering", "unsolicited_syn", "crossing_syn", "overloading", "hairpin"])
def test_what_was_not_found_is_not_judged(axis: str) -> None:
    """The finding's reason is the verdict's."""
    for open_one in (undetermined("trials disagree"), untested("the filter would hide it")):
        rows = judge(findings(**{axis: open_one}))
        assert [one.why for one in rows if one.verdict is Verdict.NOT_TESTED and one.req != "REQ-6"] == [open_one.why]


def test_without_a_nat_nothing_is_required() -> None:
    """There is nobody to require it of."""
    assert {one.verdict for one in judge(findings(mapping=("none", {})))} == {Verdict.NOT_TESTED}


def test_nothing_known_is_nothing_concluded() -> None:
    """A probe that was broken off before its first answer has findings that say so, and a report."""
    known = Facts(broken_off="the observer is gone")
    assert {finding.status for finding in conclude(known).values()} == {Status.NOT_DETERMINED}
    report = report_of(known)
    assert report.mapping.klass is None
    assert report.hairpin is None
    assert {one.verdict for one in report.rfc5382} == {Verdict.NOT_TESTED}
    assert report.to_json()["broken_off"] == "the observer is gone"


def test_absence_counts_only_beside_controls_and_repeats() -> None:
    """One packet that came is enough to know that such pass; none that came says something after repeats, with controls."""
    control, dead = Tally(4, 3), Tally(4, 0)
    assert passes(Tally(4, 1), dead, 0.1) is True
    assert passes(Tally(4, 0), control, 0.1) is False
    assert passes(Tally(4, 0), dead, 0.1) is None
    assert passes(Tally(2, 0), control, 0.1) is None
    assert passes(Tally(0, 0), control, 0.1) is None


def test_trials_that_disagree_say_nothing() -> None:
    """Nor does a single one."""
    assert agreed([True, True, None]) is True
    assert agreed([False, False]) is False
    assert agreed([True, False, True]) is None
    assert agreed([True]) is None
    assert agreed([]) is None


def test_what_is_not_sure_enough_is_not_a_class() -> None:
    """It is named as likely, with its confidence."""
    finding = found("drop", 3, 0.97, [5, 4, 4])
    assert finding.status is Status.NOT_DETERMINED
    assert finding.klass is None
    assert "drop is likely" in finding.why
    assert finding.evidence == [4, 5]
