"""The tutorials run as they are, and say what their text says."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.py"))
LEAST_SHARES = {
    "own_photographs": {r"1 shot: (\d+) %": 80, r"5 shots: (\d+) %": 90, r"(\d+) of 15 photographs": 10},
    "one_box_detection": {r"5 boxes: (\d+) of 24": 20, r"one box and four views: (\d+) of 24": 12},
    "magnet_clusters": {r"magnet +([\d.]+) ±": 92, r"on average ([\d.]+) %": 95},
}  # fmt: skip


def printed(notebook: Any) -> str:
    cells = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.get("text", "") for output in cells)


def seconds_of_children() -> float:
    """Of computing, so that it does not matter what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def check(name: str, text: str) -> None:
    for pattern, least in LEAST_SHARES[name].items():
        found = re.search(pattern, text)
        assert found, f"{pattern} is not in:\n{text}"
        assert float(found[1]) >= least, found[0]


def test_there_are_three():
    assert set(NAMES) == set(LEAST_SHARES)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_and_script_are_one(name: str):
    jupytext = pytest.importorskip("jupytext")
    script, notebook = (jupytext.read(TUTORIALS / f"{name}.{kind}") for kind in ("py", "ipynb"))
    of_script, of_notebook = (
        [(cell.cell_type, cell.source) for cell in one.cells] for one in (script, notebook)
    )
    assert of_script == of_notebook, f"jupytext --sync docs/tutorials/{name}.py"
    check(name, printed(notebook))
    assert any(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())
    )


@pytest.mark.slow
def test_they_run_within_five_minutes(tmp_path: Path):
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    pytest.importorskip("skimage")
    began = seconds_of_children()
    for name in NAMES:
        notebook = jupytext.read(TUTORIALS / f"{name}.py")
        nbclient.NotebookClient(
            notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        check(name, printed(notebook))
    assert seconds_of_children() - began < 300
