"""The diagram is the table: every transition of the table is in it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rawpunch.errors import UnknownName
from rawpunch.tcp import LINUX, PROFILES, RFC9293, Override, Profile, State
from rawpunch.tcp.diagram import label, listing, mermaid, transitions
from rawpunch.tcp.profiles import profile


def drawn(text: str) -> set[tuple[str, str]]:
    """The arrows of a Mermaid text, without the initial one."""
    arrows = [line.split(":")[0].split("-->") for line in text.splitlines() if "-->" in line and "[*]" not in line]
    return {(before.strip().replace("_", "-"), after.strip().replace("_", "-")) for before, after in arrows}


@pytest.mark.parametrize("name", PROFILES)
def test_every_transition_is_drawn_and_nothing_else(name: str) -> None:
    """With all states shown, the arrows are the table's changes of state."""
    stack = profile(name)
    assert drawn(mermaid(stack, tuple(State))) == {(before.value, after.value) for before, after, _ in transitions(stack)}


def test_the_states_of_rfc_9293_are_connected_as_in_its_figure() -> None:
    """The arrows of RFC 9293, section 3.3.2, figure 5, are all there."""
    figure = {
        ("CLOSED", "LISTEN"),
        ("CLOSED", "SYN-SENT"),
        ("LISTEN", "CLOSED"),
        ("LISTEN", "SYN-SENT"),
        ("LISTEN", "SYN-RECEIVED"),
        ("SYN-SENT", "CLOSED"),
        ("SYN-SENT", "SYN-RECEIVED"),
        ("SYN-SENT", "ESTABLISHED"),
        ("SYN-RECEIVED", "LISTEN"),
        ("SYN-RECEIVED", "ESTABLISHED"),
        ("SYN-RECEIVED", "FIN-WAIT-1"),
        ("ESTABLISHED", "FIN-WAIT-1"),
        ("ESTABLISHED", "CLOSE-WAIT"),
        ("FIN-WAIT-1", "FIN-WAIT-2"),
        ("FIN-WAIT-1", "CLOSING"),
        ("FIN-WAIT-2", "TIME-WAIT"),
        ("CLOSING", "TIME-WAIT"),
        ("CLOSE-WAIT", "LAST-ACK"),
        ("LAST-ACK", "CLOSED"),
        ("TIME-WAIT", "CLOSED"),
    }
    found = {(before.value, after.value) for before, after, _ in transitions()}
    assert figure <= found
    assert {after for _, after in found - figure} == {"CLOSED"}  # beyond the figure: resets, errors, aborts, timeouts


def test_the_opening_speaks_the_fields_words() -> None:
    """The arrows that a simultaneous open goes along say what comes in and what goes out."""
    text = mermaid()
    assert "SYN_SENT --> SYN_RECEIVED: SYN / SYN-ACK" in text
    assert "SYN_SENT --> ESTABLISHED: SYN-ACK / ACK" in text
    assert "crossing SYN-ACK / ACK" in text
    assert "crossing SYN-ACK / ACK with DSACK" in mermaid(LINUX)
    assert all(label(row) for _, _, row in transitions())


def test_the_listing_has_every_row_with_its_source() -> None:
    """One line a row, and a profile's evidence beside its own rows."""
    lines = listing(LINUX).splitlines()
    assert len(lines) == 2 + len(LINUX.table)
    assert all(len(line.split(" | ")) == 7 for line in lines[2:])
    assert any("23e89e8ee7be" in line for line in lines)


def test_an_override_of_nothing_is_refused() -> None:
    """A profile that overrides a row that does not exist says which."""
    wrong = Override("no-such-row", RFC9293.table[0], "none")
    with pytest.raises(UnknownName, match="no-such-row"):
        assert Profile("wrong", replace(RFC9293.habits), (wrong,)).table
