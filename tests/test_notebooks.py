"""The notebooks run, and print what is committed in them."""

from pathlib import Path

import nbformat
import pages
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
_MOST_BYTES = 150_000


def shown(notebook):
    """Of each cell that is run what it printed, and how many pictures it drew."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        texts = [one.text for one in cell.outputs if one.get("name") == "stdout"]
        drawn = sum("image/png" in one.get("data", ()) for one in cell.outputs)
        yield cell.source, "".join(texts), drawn


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(fresh, timeout=300, kernel_name="python3", resources=where).execute()
    for (source, said, pictures), (_, printed, drawn) in zip(shown(committed), shown(fresh)):
        assert pages.agrees(said, printed), f"{source}\nshows\n{said}\nand prints\n{printed}"
        assert drawn == pictures, source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_shows_what_it_does(path):
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < _MOST_BYTES
    assert sum(drawn for *_, drawn in shown(notebook)) > 1
    assert any(said for _, said, _ in shown(notebook))
