"""The notebook in docs runs from top to bottom in a kernel of its own, and stores no outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[3] / "docs" / "first-steps.ipynb"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    return cells


def test_it_stores_no_outputs() -> None:
    """They would hold paths of the machine that ran it, and grow old."""
    for cell in code_cells(json.loads(NOTEBOOK.read_text())):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = code_cells(notebook)
    (drawn,) = [cell for cell in cells if cell["source"].startswith("run.draw")]
    assert any(kind.startswith("image/") for output in drawn["outputs"] for kind in output["data"])
    assert json.loads((tmp_path / "runs" / "notebook" / "metrics.json").read_text())["bbox"]["AP"] > 0.3
    assert (tmp_path / "bundle" / "model.onnx").is_file()
    warned = [output["text"] for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"]
    assert not [text for text in warned if "tlvision" in text]
