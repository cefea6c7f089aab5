"""The quickstart notebook is the example that it is made from, and runs from its first cell on."""

import re
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

from tests.commands import ROOT
from tests.examples.test_examples import OUTPUTS

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


def test_the_notebook_is_what_jupytext_makes_of_the_example() -> None:
    made, committed = jupytext.read(ROOT / "examples" / "quickstart.py"), jupytext.read(NOTEBOOK)

    cells, expected = (
        [(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (committed, made)
    )
    assert cells == expected, "make notebook"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in committed.cells)
    assert NOTEBOOK.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter about itself
def test_the_notebook_runs_shows_a_picture_and_plays(tmp_path: Path) -> None:
    notebook = jupytext.read(NOTEBOOK)
    folder = {"metadata": {"path": str(tmp_path)}}

    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()

    outputs: list[Any] = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    text = "".join(one.text for one in outputs if one.output_type == "stream")
    kinds = {kind for one in outputs for kind in one.get("data", ())}
    for line in OUTPUTS["quickstart"]:
        assert re.search(line, text), text
    assert {"image/png", "text/html"} <= kinds  # the waveform and its mel, players
