"""Notebooks run on the committed sample, are stripped of outputs, and equal their paired scripts."""

from __future__ import annotations

import asyncio
import os
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


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nbformat.NotebookNode | BaseException]:
    """All notebooks, two at a time, on the committed data alone: half of each one's time is a process that imports."""
    data = tmp_path_factory.mktemp("data")
    for name in ("sample", "captures"):
        if (ROOT / "data" / name).is_dir():
            (data / name).symlink_to(ROOT / "data" / name)

    async def one(path: Path, turn: asyncio.Semaphore) -> nbformat.NotebookNode:
        where = {"metadata": {"path": str(path.parent)}}
        client = nbclient.NotebookClient(nbformat.read(path, as_version=4), timeout=60, kernel_name="python3", resources=where)
        async with turn:
            return await client.async_execute(env=os.environ | {"RAWPUNCH_DATA": str(data)})

    async def all_of_them() -> list[nbformat.NotebookNode | BaseException]:
        turn = asyncio.Semaphore(2)
        return await asyncio.gather(*(one(path, turn) for path in NOTEBOOKS), return_exceptions=True)

    return dict(zip((path.stem for path in NOTEBOOKS), asyncio.run(all_of_them()), strict=True))


@pytest.mark.timeout(300)  # the first one waits for all
@pytest.mark.filterwarnings("ignore")  # of the kernels' own event loops
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_the_sample(path: Path, executed: dict[str, nbformat.NotebookNode | BaseException]) -> None:
    """From its first cell to its last, and it draws at least one picture."""
    notebook = executed[path.stem]
    if isinstance(notebook, BaseException):
        raise notebook
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
