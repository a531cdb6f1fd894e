"""docs/notebooks/own_images.ipynb runs from its first cell to its last, with smaller settings."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "own_images.ipynb"
SMALLER = {"IMAGES": 60, "SIDE": 16, "TRIALS": 1, "RUNGS": '"[2,4]"', "EPOCHS": 1}


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")  # of Jupyter, whose kernel would not start
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.source.startswith("IMAGES"))
    for name, value in SMALLER.items():
        settings.source, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", settings.source, flags=re.M)
        assert found == 1
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert json.loads((tmp_path / "runs" / "search" / "report.json").read_text())["counts"]["trained_over_budget"] == 0
    assert (tmp_path / "winner.onnx").stat().st_size > 100_000
