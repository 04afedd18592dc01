"""The arrows point down, the pure floors are pure, and no module escapes those rules by being new."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rawpunch"

PURE = ("errors.py", "units.py", "ending.py", "machine.py", "wire", "tcp", "link", "nat", "record")
"""The floors that are values and functions: what they compute depends on their arguments alone."""

WHAT_PURE_CODE_NEEDS = {
    *("__future__", "abc", "collections", "dataclasses", "enum", "functools", "itertools", "operator", "types", "typing"),
    *("bisect", "copy", "hashlib", "heapq", "ipaddress", "math", "re", "rawpunch", "string", "struct", "textwrap"),
    "zlib",  # the checksum of STUN
}

SCAPY_EDGE = PACKAGE / "wire" / "packets.py"
FILE_EDGE = PACKAGE / "nat" / "personas.py"
MESSAGE_EDGE = PACKAGE / "wire" / "lines.py"
"""Messages of one JSON object a line are msgspec's structs: it checks what strangers send, and acts on nothing."""
EDGES = {SCAPY_EDGE, FILE_EDGE, MESSAGE_EDGE}


def _contracts() -> list[dict[str, Any]]:
    contracts: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return contracts


def _imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def _top_names(path: Path) -> set[str]:
    names = set()
    for node in _imports(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        else:
            names.add("rawpunch" if node.level else str(node.module).partition(".")[0])
    return names


def test_the_contracts_hold() -> None:
    """import-linter, which CI runs too, finds no import that goes up."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_every_room_stands_on_a_floor() -> None:
    """A new package that no contract names would be free to import anything: it has to be put on a floor first."""
    layers = next(contract["layers"] for contract in _contracts() if contract["type"] == "layers")
    placed = {name.strip().removeprefix("rawpunch.") for layer in layers for name in layer.split("|")}
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == placed


@pytest.mark.parametrize("floor", PURE)
def test_pure_floors_import_nothing_that_acts(floor: str) -> None:
    """A pure floor imports from a short list only: no clock, socket, thread, file, logger, and no third-party package."""
    path = PACKAGE / floor
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    strangers = {str(file): _top_names(file) - WHAT_PURE_CODE_NEEDS for file in files if file not in EDGES}
    assert not {file: names for file, names in strangers.items() if names}


def test_scapy_enters_the_pure_floors_in_one_place() -> None:
    """Scapy packets become Segments and back at one edge of `wire`."""
    assert _top_names(SCAPY_EDGE) - WHAT_PURE_CODE_NEEDS == {"scapy"}


def test_files_enter_the_pure_floors_in_one_place() -> None:
    """Personas are TOML files of the package, or a user's own."""
    assert _top_names(FILE_EDGE) - WHAT_PURE_CODE_NEEDS == {"importlib", "pathlib", "tomllib"}


def test_imports_are_honest() -> None:
    """No star imports, no Click beside the one in Typer, and nothing from the tests."""
    for path in PACKAGE.rglob("*.py"):
        assert not _top_names(path) & {"click", "tests"}, path
        assert not [node for node in _imports(path) if any(alias.name == "*" for alias in node.names)], path
