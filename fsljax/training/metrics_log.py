"""What a run measured: `history.jsonl` for the report, and TensorBoard's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image
from tensorboardX import SummaryWriter

HISTORY = "history.jsonl"
METRICS = "metrics"
_SPRITE_SIDE = 32


class MetricsLog:
    """Scalars of a run; use as a context manager.

    A disk that is full costs the scalars, with one warning, and not the run.

    Args:
      workdir: the folder of the run.
      resume_step: rows beyond it, left by a run that was killed, are dropped.
    """

    def __init__(self, workdir: Path, *, resume_step: int = 0):
        self._path = Path(workdir) / HISTORY
        self._failed = False
        kept = [row for row in read_history(workdir) if row["step"] <= resume_step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._attempt(lambda: _replace(self._path, "".join(json.dumps(row) + "\n" for row in kept)))
        # TensorBoard hides what was written for the purged step and later ones.
        self._board = SummaryWriter(str(Path(workdir) / METRICS), purge_step=resume_step + 1, max_queue=1000)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes named figures of a step."""

        def write() -> None:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

        self._attempt(write)

    def flush(self) -> None:
        """Hands everything to the disk."""
        self._attempt(self._board.flush)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._attempt(self._board.close)

    def _attempt(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            if not self._failed:
                logging.warning("Metrics cannot be written to %s (%s): training goes on.", self._path, error)
            self._failed = True


def read_history(workdir: Path) -> list[dict[str, float]]:
    """The rows of a run's history, in order; a half-written last line is left out."""
    rows = []
    try:
        lines = (Path(workdir) / HISTORY).read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def write_embeddings(
    workdir: Path, embeddings: np.ndarray, labels: Sequence[str], images: np.ndarray
) -> None:
    """Writes the files of TensorBoard's embedding projector.

    Args:
      workdir: the files go to its `metrics` folder.
      embeddings: `[n, dim]`.
      labels: `[n]` names.
      images: uint8 `[n, height, width, channel]`.
    """
    folder = Path(workdir) / METRICS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / "tensors.tsv", embeddings, fmt="%.6g", delimiter="\t")
        safe = (str(label).replace("\t", " ").replace("\n", " ") for label in labels)
        (folder / "metadata.tsv").write_text("\n".join(safe) + "\n", encoding="utf-8")
        _sprite(images).save(folder / "sprite.png")
        (folder / "projector_config.pbtxt").write_text(
            'embeddings {\n  tensor_name: "test"\n  tensor_path: "tensors.tsv"\n'
            '  metadata_path: "metadata.tsv"\n  sprite {\n    image_path: "sprite.png"\n'
            f"    single_image_dim: {_SPRITE_SIDE}\n    single_image_dim: {_SPRITE_SIDE}\n  }}\n}}\n"
        )
    except OSError as error:
        logging.warning("The projector's files cannot be written to %s (%s).", folder, error)


def _sprite(images: np.ndarray) -> Image.Image:
    """All images in one square picture, row by row."""
    across = int(np.ceil(np.sqrt(len(images))))
    sheet = Image.new("RGB", (across * _SPRITE_SIDE,) * 2, "white")
    for index, pixels in enumerate(images):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        place = (index % across * _SPRITE_SIDE, index // across * _SPRITE_SIDE)
        sheet.paste(picture.convert("RGB").resize((_SPRITE_SIDE, _SPRITE_SIDE)), place)
    return sheet


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)
