"""Answers as text: a table to be read, a JSON document, comma-separated values."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

from fsljax.data.folders.layouts import as_text
from fsljax.errors import first_few
from fsljax.reporting.tables import MISSING, aligned

Cell = str | int | float | None
_FAILURE = "error"


def as_json(document: Any) -> None:
    """Prints a JSON document in ASCII, so that it is one in every encoding, and of names every byte."""
    print(json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False))


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Prints comma-separated values; an empty one where there is none."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(header)
    table.writerows(["" if cell is None else cell for cell in row] for row in rows)


def as_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Prints aligned columns; the last, what went wrong, where anything did."""
    if header[-1] == _FAILURE and all(row[-1] is None for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    print(aligned([list(header), *([_shown(cell) for cell in row] for row in rows)]))


def rounded(number: float) -> float:
    """With as many digits as a float32 bears out."""
    return round(float(number), 6)


def _shown(cell: Cell) -> str:
    if cell is None:
        return MISSING
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return first_few([as_text(cell)]) if isinstance(cell, str) else str(cell)
