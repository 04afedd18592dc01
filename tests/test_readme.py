"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from rawpunch.cli.app import COMMANDS
from rawpunch.tcp.diagram import mermaid
from rawpunch.tcp.profiles import LINUX

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_state_diagram_is_the_tables() -> None:
    """To renew it: python -m rawpunch.tcp.diagram."""
    assert f"```mermaid\n{mermaid(LINUX).strip()}\n```" in README


def test_its_links_lead_somewhere() -> None:
    """Every relative link names a file or folder of the tree."""
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_commands_exist() -> None:
    """Every `rawpunch WORD` in it is a command."""
    words = set(re.findall(r"\brawpunch ([a-z]+) ", README)) - {"run"}
    assert words
    assert words <= set(COMMANDS)
