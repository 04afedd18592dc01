"""A stack's conduct beside the RFC's, as a table: one paragraph's branches together, and a word for each."""

from __future__ import annotations

import pytest

from rawpunch.analysis.conformance import (
    AS_KNOWN,
    AS_RFC,
    DIFFERS,
    OTHERWISE,
    Compared,
    Conduct,
    by_paragraph,
    expected,
    paragraph,
)
from rawpunch.tcp.profiles import LINUX, RFC9293
from rawpunch.units import MS


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("RFC 9293, 3.10.7.3, fourth; 3.5, figure 7", "RFC 9293, 3.10.7.3, fourth"),
        ("RFC 9293, 3.5, figure 7, and the ACK of 3.10.7.4, first", "RFC 9293, 3.5, figure 7"),
        ("RFC 9293, 3.8.1: it was not answered in time", "RFC 9293, 3.8.1"),
        ("RFC 9293, 3.9.2.2 (MUST-56: soft errors do not abort)", "RFC 9293, 3.9.2.2"),
        ("measured", "measured"),
    ],
)
def test_a_citation_begins_with_its_paragraph(source: str, name: str) -> None:
    """RFC, section, and step or figure; anything else is left as it is."""
    assert paragraph(source) == name


def _compared(branch: str, *done: Conduct) -> Compared:
    tables = [expected(branch, profile, one_way_ns=4 * MS, give_up_ns=600 * MS) for profile in (RFC9293, LINUX)]
    return Compared(branch, list(done), *tables)


def test_a_stacks_branches_are_told_paragraph_by_paragraph() -> None:
    """In the order of the sections; what is as expected is not repeated, and a stack that was not seen does not conform."""
    as_rfc = Conduct("SYN 0", "refused")
    as_known = Conduct("SYN 0, RST 7, SYN 0", "timed_out")
    rows = by_paragraph(
        [
            _compared("SYN 0; RST 1", Conduct("SYN 0", "timed_out"), Conduct("SYN 0", "timed_out")),
            _compared("RST-ACK 0 1", as_rfc, as_rfc),
            _compared("SYN-ACK 0 7", as_known),
            _compared("ACK 1 7", as_known, Conduct("SYN 0, RST 7", "timed_out")),
            _compared("RST 0"),
        ]
    )
    assert [(row[0], row[1], row[4], row[5]) for row in rows] == [
        ("RFC 9293, 3.10.7.3, first", "SYN-ACK 0 7", "1", AS_KNOWN),
        ("", "ACK 1 7", "2", OTHERWISE),
        ("RFC 9293, 3.10.7.3, second", "RST-ACK 0 1", "2", AS_RFC),
        ("", "RST 0", "0", OTHERWISE),
        ("RFC 9293, 3.10.7.4, second", "SYN 0; RST 1", "2", DIFFERS),
    ]
    assert [row[3] for row in rows] == [
        "SYN 0, RST 7, SYN 0; timed_out",
        "SYN 0, RST 7, SYN 0; timed_out or SYN 0, RST 7; timed_out",
        "",
        "nothing",
        "SYN 0; timed_out",
    ]
    assert rows[2][2] == "SYN 0; refused"


def test_a_branch_may_end_otherwise_before_it_always_does() -> None:
    """One attempt that ends otherwise than by the RFC is enough for the one, and every attempt is needed for the other."""
    refused, timed_out = Conduct("SYN 0", "refused"), Conduct("SYN 0", "timed_out")
    for done, always, may in (
        ((), False, False),
        ((refused, refused), False, False),
        ((refused, timed_out), False, True),
        ((timed_out, timed_out), True, True),
    ):
        compared = _compared("RST-ACK 0 1", *done)
        assert (compared.ends_otherwise, compared.may_end_otherwise) == (always, may)
