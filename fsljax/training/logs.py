"""What a run measured: `history.jsonl` for the report, and TensorBoard's files."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from fsljax.reporting.pictures import to_uint8
from fsljax.reporting.trackers import Tracker
from fsljax.storage.json_files import parse_json, sealed, unsealed

HISTORY = "history.jsonl"
METRICS = "metrics"
_SPRITE_SIDE = 32
_LARGEST_SPRITE = 8192  # pixels; what TensorBoard shows
# A quote, too: spreadsheets take it off, and then look at what follows.
_BEGIN_FORMULAS = ("=", "+", "-", "@", '"', "＝", "＋", "－", "＠")  # full-width ones, too
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufeff]")
_BEYOND_STEPS = 2**53
_LARGEST = float(np.finfo(np.float32).max)


class MetricsLog:
    """Scalars of a run; use as a context manager.

    A disk that is full or cannot be written costs one warning and not the run: what could not be
    written is kept, and follows once there is room.

    Args:
      workdir: the folder of the run.
      resume_step: the step the run goes on from: rows beyond it, left by a run that was killed, are dropped.
        0 starts a new history; None drops nothing.
      writes: False: nothing is written.
      tracker: a service that gets the figures, too.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        resume_step: int | None = None,
        writes: bool = True,
        tracker: Tracker | None = None,
    ):
        self._writes, self._tracker = writes, tracker
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        self._history = _AppendedFile(Path(workdir) / HISTORY)
        self._events = _AppendedFile(Path(workdir) / METRICS / name)
        self._warned = False
        if not writes:
            return
        try:
            _cut(self._history.path, resume_step)
        except OSError as error:
            self._warn(self._history.path, error)
        # Not through SummaryWriter: its thread dies of a full disk, and its queue then blocks the run.
        self._events.add(_record(Event(wall_time=now, file_version="brain.Event:2")))
        if resume_step is not None:
            # TensorBoard hides what was written for this step and later ones.
            start = SessionLog(status=SessionLog.SessionStatus.START)
            self._events.add(_record(Event(wall_time=now, step=resume_step + 1, session_log=start)))

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes named figures of a step; those that are not finite are `null` in the history."""
        if not self._writes:
            return
        figures = {name: float(value) for name, value in values.items()}
        row = {"step": int(step)} | {n: v if math.isfinite(v) else None for n, v in figures.items()}
        self._history.add(json.dumps(sealed(row)).encode() + b"\n")
        now = time.time()
        for name, value in figures.items():
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            self._events.add(_record(Event(wall_time=now, step=int(step), summary=summary)))
        if self._tracker is not None:
            self._tracker.log(step, {name: value for name, value in figures.items() if math.isfinite(value)})
        self.flush()

    def flush(self) -> None:
        """Hands everything to the operating system."""
        for file in (self._history, self._events) if self._writes else ():
            try:
                file.flush()
            except OSError as error:
                self._warn(file.path, error)

    def close(self) -> None:
        """Flushes and closes the files."""
        self.flush()
        self._history.close()
        self._events.close()
        if self._tracker is not None:
            self._tracker.close()

    def _warn(self, path: Path, error: OSError) -> None:
        if not self._warned:
            logging.warning("Metrics cannot be written to %s (%s): training continues.", path, error)
        self._warned = True


class _AppendedFile:
    """Bytes added to the end of a file; what the disk refuses is kept for the next attempt."""

    def __init__(self, path: Path):
        self.path = path
        self._pending = bytearray()
        self._descriptor: int | None = None

    def add(self, data: bytes) -> None:
        self._pending += data

    def flush(self) -> None:
        """Writes what is pending; an OSError leaves all that was not written pending."""
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        while self._pending:
            # A disk that fills up takes a part; the rest must follow it without a seam.
            written = os.write(self._descriptor, self._pending)
            del self._pending[:written]

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def read_history(workdir: Path) -> list[dict[str, float]]:
    """The rows of a run's history, in order; of damaged ones a warning tells, but not of a half-written last.

    Figures that were not finite come back as NaN. Without a history there are no rows.
    """
    path = Path(workdir) / HISTORY
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        logging.warning("%s cannot be read (%s): the curves are skipped.", path, error.strerror or error)
        return []
    rows = [_parse(line) for line in lines]
    damaged = [
        number
        for number, (line, row) in enumerate(zip(lines, rows, strict=True), 1)
        if row is None and (line.endswith((b"\n", b"\r")) or number < len(lines))
    ]
    if damaged:
        logging.warning(
            "%s: %s rows of %s are damaged and skipped, the first of them in line %s.",
            path, len(damaged), len(lines), damaged[0],
        )  # fmt: skip
    return [row for row in rows if row is not None]


def validations(workdir: Path, last: float = math.inf) -> list[float]:
    """The figure of each validation up to a step that chose the best checkpoint, in order."""
    rows = [row for row in read_history(workdir) if row["step"] <= last]
    chosen_by = [[value for name, value in row.items() if name.startswith("validation/")] for row in rows]
    return [figures[0] for figures in chosen_by if figures]


def write_embeddings(
    workdir: Path, embeddings: np.ndarray, labels: Sequence[str], images: np.ndarray
) -> None:
    """Writes the files of TensorBoard's embedding projector.

    Args:
      workdir: the files go to its `metrics` folder.
      embeddings: `[n, dim]`.
      labels: `[n]` names.
      images: uint8, or float in [0, 1], `[n, height, width, channel]`.
    """
    folder = Path(workdir) / METRICS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / "tensors.tsv", embeddings, fmt="%.6g", delimiter="\t")
        table = "".join(f"{_cell(label)}\n" for label in labels)
        (folder / "metadata.tsv").write_text(table, encoding="utf-8", errors="backslashreplace")
        side = max(1, min(_SPRITE_SIDE, _LARGEST_SPRITE // _across(len(images))))
        _sprite(images, side).save(folder / "sprite.png")
        (folder / "projector_config.pbtxt").write_text(
            'embeddings {\n  tensor_name: "test"\n  tensor_path: "tensors.tsv"\n'
            '  metadata_path: "metadata.tsv"\n  sprite {\n    image_path: "sprite.png"\n'
            f"    single_image_dim: {side}\n    single_image_dim: {side}\n  }}\n}}\n",
            encoding="utf-8",
        )
    except OSError as error:
        logging.warning("The projector's files cannot be written to %s (%s).", folder, error)


def _cell(label: str) -> str:
    """A name as one cell of a table; an apostrophe keeps spreadsheets from running what is a formula."""
    text = " ".join(_CONTROL.sub(" ", str(label)).split())
    return f"'{text}" if text.startswith(_BEGIN_FORMULAS) else text


def _sprite(images: np.ndarray, side: int) -> Image.Image:
    """All images in one square picture, row by row, `side` pixels each."""
    across = _across(len(images))
    sheet = Image.new("RGB", (across * side,) * 2, "white")
    for index, pixels in enumerate(to_uint8(images)):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        place = (index % across * side, index // across * side)
        sheet.paste(picture.convert("RGB").resize((side, side)), place)
    return sheet


def _across(count: int) -> int:
    return math.isqrt(max(count - 1, 0)) + 1


def _cut(history: Path, resume_step: int | None) -> None:
    """Ends a history before its first row beyond `resume_step`, and before a line that was half-written.

    Shortening in place needs no room on the disk.
    """
    try:
        lines = history.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = 0
    for line in lines:
        row = _parse(line)
        beyond = row is not None and resume_step is not None and row["step"] > resume_step
        if beyond or not line.endswith(b"\n"):
            break
        kept += len(line)
    os.truncate(history, kept)


def _parse(line: bytes) -> dict[str, float] | None:
    """A row; None if it is damaged. Rows of earlier versions have no digest."""
    try:
        row = parse_json(line)
        if not isinstance(row, dict):
            return None
        row = unsealed(row)
    except (ValueError, RecursionError):
        return None
    step = row.pop("step", None)
    if not _is_number(step) or not 0 <= step < _BEYOND_STEPS or int(step) != step:
        return None
    if not all(value is None or _is_number(value) for value in row.values()):
        return None
    return {"step": step, **{name: math.nan if value is None else value for name, value in row.items()}}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _record(event: Event) -> bytes:
    """An event framed as TensorBoard reads it: length, checksum, content, checksum."""
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join(
        [length, struct.pack("<I", masked_crc32c(length)), content, struct.pack("<I", masked_crc32c(content))]
    )
