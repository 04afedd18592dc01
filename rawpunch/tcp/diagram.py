"""The state diagram, drawn from the table: what the README shows cannot differ from what runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from rawpunch.tcp import guards as when
from rawpunch.tcp.actions import SENDS
from rawpunch.tcp.profiles import RFC9293, Profile
from rawpunch.tcp.row import Guard, On, Row
from rawpunch.tcp.state import State

OPENING_STATES: Final = (State.CLOSED, State.LISTEN, State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED)
"""What a diagram of the opening shows."""

_WORDS: Final[dict[Guard, str]] = {
    when.rst: "RST",
    when.syn: "SYN",
    when.ack: "ACK",
    when.acks_syn: "ACK of our SYN",
    when.acks_iss: "ACK of our ISS",
    when.acks_fin: "ACK of our FIN",
    when.fin_in_order: "FIN",
    when.from_listen: "(from LISTEN)",
    when.hard_error: "hard",
}
_PHRASES: Final[dict[tuple[Guard, ...], str]] = {
    (when.rst, when.ack): "RST",
    (when.syn, when.ack): "SYN-ACK",
    (when.syn, when.at_irs, when.acks_syn): "crossing SYN-ACK",
}


def transitions(profile: Profile = RFC9293) -> list[tuple[State, State, Row]]:
    """Every change of state that the table of a profile allows: from, to, and the row that does it."""
    return [(state, row.to, row) for row in profile.table if row.to is not None for state in row.states if state is not row.to]


def label(row: Row) -> str:
    """A row in the diagram's words: what comes in, and behind a slash what goes out."""
    words = [_PHRASES[row.guards]] if row.guards in _PHRASES else [_WORDS[guard] for guard in row.guards if guard in _WORDS]
    if row.on is not On.SEGMENT:
        words.append("timeout" if row.on is On.TIMER else row.on.value)
    sent = ", ".join(SENDS[action] for action in row.actions if action in SENDS)
    return " ".join(words) + (f" / {sent}" if sent else "")


def mermaid(profile: Profile = RFC9293, states: Collection[State] = OPENING_STATES) -> str:
    """The diagram as Mermaid text (stateDiagram-v2), which GitHub and notebooks draw.

    Args:
        profile: whose table.
        states: the states to show, with the transitions among them; `tuple(State)` for all.
    """
    labels: dict[tuple[State, State], list[str]] = {}
    for before, after, row in transitions(profile):
        if when.more_than_syn in row.guards:
            continue  # the same transition as the row for the bare SYN-ACK
        if before in states and after in states and (text := label(row)) not in labels.setdefault((before, after), []):
            labels[before, after].append(text)
    lines = ["stateDiagram-v2", "    direction TB", "    [*] --> CLOSED"]
    lines += [
        f'    state "{state.value}" as {_name(state)}' for state in State if state in states and _name(state) != state.value
    ]
    for (before, after), texts in labels.items():
        lines.append(f"    {_name(before)} --> {_name(after)}: {' <br/> '.join(texts)}")
    return "\n".join(lines) + "\n"


def listing(profile: Profile = RFC9293) -> str:
    """The table as Markdown: one line a row, with its citation and, where a profile differs, its evidence."""
    evidence = {override.row.id: override.evidence for override in profile.overrides}
    lines = ["| row | in | on | when | does | to | source |", "|---|---|---|---|---|---|---|"]
    for row in profile.table:
        cells = (
            f"`{row.id}`",
            "any" if len(row.states) == len(State) else ", ".join(row.states),
            row.on.value,
            ", ".join(_spoken(guard.__name__) for guard in row.guards),
            ", ".join(_spoken(action.__name__) for action in row.actions),
            (row.to.value if row.to else "") + (", go on" if row.go_on else ""),
            row.source + (f". {evidence[row.id]}" if row.id in evidence else ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _name(state: State) -> str:
    return state.value.replace("-", "_")


def _spoken(name: str) -> str:
    return name.strip("_").replace("_", " ")


if __name__ == "__main__":
    from rawpunch.tcp.profiles import LINUX

    print(mermaid(LINUX))  # noqa: T201  what the README holds
