"""The datasheet of a run: who made it, when, on what, how much of it counts, and what it cannot tell; all from the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rawpunch.dataset.layout import CAPTURES, TABLES
from rawpunch.dataset.manifest import Level, Manifest
from rawpunch.dataset.reader import Dataset
from rawpunch.record.words import Outcome
from rawpunch.units import format_duration

_SHOWN: Final = 8
"""Levels of a factor that are named; of more, how many there are."""
_LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    "lab": (
        "One machine: both hosts share its clock, its kernel and its two or more cores, and a stall of it disturbs an attempt.",
        "Delays are those of the lab, without jitter or loss.",
    ),
    "sim": ("Virtual time: nothing is late or lost but what the experiment asks for; ends and NATs do what their tables say.",),
    "live": ("One NAT, one network, on one day: what others do, it cannot say.",),
}


def facts(run: Dataset) -> list[tuple[str, str]]:
    """What is to be known of a run, as names and values, in the order in which one asks."""
    made = run.manifest
    rows = {table: sum(entry.rows or 0 for entry in made.files() if entry.path.startswith(f"{table}/")) for table in TABLES}
    size = sum(entry.size for entry in made.files())
    libraries = ", ".join(f"{name} {version}" for name, version in made.machine.libraries.items())
    return [
        ("made by", f"rawpunch {made.rawpunch_version}, by the driver {made.driver}, seed {made.seed}"),
        ("made on", f"{made.created:%Y-%m-%d %H:%M} UTC{_took(made)}; {made.status}"),
        ("machine", f"Linux {made.machine.kernel}, {made.machine.cpus} CPUs, Python {made.machine.python}, {libraries}"),
        ("clock", made.clock_source or "not recorded"),
        ("attempts", _counted(run)),
        ("rows", ", ".join(f"{table} {count}" for table, count in rows.items() if count)),
        ("captures", _captures(made)),
        ("size", f"{size / 1e6:.1f} MB"),
    ]


def datasheet(run: Dataset, question: str, *, meanings: Mapping[str, str] | None = None, command: str = "") -> str:
    """A run's datasheet in Markdown.

    Args:
        run: the run.
        question: what it was made for.
        meanings: factor -> what it is.
        command: what makes such a run again.
    """
    made = run.manifest
    lines = [f"## {made.experiment}", "", question, "", f"`{made.experiment}/{made.run_id}`", ""]
    lines += [f"- {name}: {value}" for name, value in facts(run)]
    if command:
        lines.append(f"- again: `{command}`")
    lines += ["- levels, each with each but for what the experiment leaves out:"]
    lines += [f"    - `{name}`: {_levels(name, levels)}{_meaning(name, meanings or {})}" for name, levels in made.grid.items()]
    lines += ["- limits:", *(f"    - {limit}" for limit in limits(run))]
    return "\n".join([*lines, ""])


def limits(run: Dataset) -> list[str]:
    """What a run cannot tell, because of who made it and of what was kept."""
    attempts = run.attempts
    found = [limit for driver in sorted(set(attempts["driver"])) for limit in _LIMITS.get(str(driver), ())]
    if run.manifest.capture_drops and sum(run.manifest.capture_drops.values()):
        found.append(f"The captures lack {sum(run.manifest.capture_drops.values())} packets that the kernel could not hand over.")
    if not any(entry.path.startswith("segments/") for entry in run.manifest.files()):
        found.append("No packets were kept, only what attempts and mappings say.")
    good = int((~attempts["disturbed"].astype(bool)).sum())
    if len(attempts) and good < 0.8 * len(attempts):
        found.append(f"The machine was busy: only {good / len(attempts):.0%} of the attempts count.")
    return found


def _took(made: Manifest) -> str:
    if made.ended is None:
        return ""
    return f", in {format_duration(round((made.ended - made.created).total_seconds()) * 1_000_000_000)}"


def _counted(run: Dataset) -> str:
    attempts = run.attempts
    disturbed = attempts["disturbed"].astype(bool)
    missing = int(((attempts["outcome"] == Outcome.NOT_MEASURED.value) & ~disturbed).sum())
    return (
        f"{len(attempts)}, {run.manifest.repeats} per cell at least; left out by rule: {int(disturbed.sum())} disturbed, "
        f"{missing} not measured"
    )


def _captures(made: Manifest) -> str:
    kept = sum(entry.path.startswith(f"{CAPTURES}/") for entry in made.files())
    of = made.policy.get("captures_made", kept)
    if not kept:
        return "none"
    return f"{kept}" if of == kept else f"{kept} of {of}, that show each pattern and outcome; the segments table has all packets"


def _levels(name: str, levels: tuple[Level, ...]) -> str:
    words = [format_duration(level) if name.endswith("_ns") and isinstance(level, int) else str(level) for level in levels]
    more = f" ... {len(words)} in all" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _meaning(name: str, meanings: Mapping[str, str]) -> str:
    return f" ({meanings[name]})" if name in meanings else ""
