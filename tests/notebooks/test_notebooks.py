"""Notebooks run on the committed sample, are stripped of outputs, and equal their paired scripts."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    """The glob below finds something."""
    assert any(path.stem == "01_first_punch" for path in NOTEBOOKS)


@pytest.mark.filterwarnings("ignore")  # of the kernel's own event loop
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_the_sample(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first cell to its last, on the committed data alone, and it draws at least one picture."""
    for name in ("sample", "captures"):
        if (ROOT / "data" / name).is_dir():
            (tmp_path / name).symlink_to(ROOT / "data" / name)
    monkeypatch.setenv("RAWPUNCH_DATA", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    shown = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert shown & {"image/png", "image/svg+xml"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_and_paired(path: Path) -> None:
    """No outputs or counters are committed, and the script beside it has the same cells."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    script = jupytext.read(path.with_suffix(".py"))
    assert [cell.source for cell in script.cells] == [cell.source for cell in notebook.cells]
